"""Times with a begin and an end, monotonic ns."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["covered"]


def covered(spans: Iterable[tuple[int, int]], begin: int, end: int) -> int:
    """Nanoseconds of the time from `begin` to `end` that lie within a span; where several overlap, once."""
    length, reached = 0, begin
    for since, until in sorted(spans):
        since, until = max(since, reached), min(until, end)
        if until > since:
            length, reached = length + until - since, until
    return length
