"""Words that messages of several checks share."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["in_trials"]


def in_trials(indices: Sequence[int], *, most: bool = False) -> str:
    """Where something was seen, at the end of a message; "" for no trial.

    Args:
        most: the message tells of the one that is worst.
    """
    if not indices:
        return ""
    several = f"{'the most of ' if most else ''}trials" if len(indices) > 1 else "trial"
    return f" ({several} {', '.join(map(str, indices))})"
