"""Times with a begin and an end, monotonic ns."""

from __future__ import annotations

import math
from collections.abc import Iterable

__all__ = ["covered"]


def covered(spans: Iterable[tuple[int, int]], begin: float = -math.inf, end: float = math.inf) -> float:
    """Nanoseconds of the time from `begin` to `end` that lie within a span; where several overlap, once."""
    length, reached = 0.0, begin
    for since, until in sorted(spans):
        first, last = max(since, reached), min(until, end)
        if last > first:
            length, reached = length + (last - first), last
    return length
