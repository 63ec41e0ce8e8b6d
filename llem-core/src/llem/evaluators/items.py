"""What follows from the items of a score: its value and its standard error. For evaluators, and to check them. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from llem.evaluators.base import Aggregation, Item, Score

__all__ = ["clusters_of", "follows", "right_or_wrong", "score_of", "standard_error", "value_of"]

#: By how much a score may differ from what its items make, in its share; near 0 also absolutely.
OF_ITEMS = 1e-9


def value_of(items: Sequence[Item], aggregation: Aggregation) -> float | None:
    """The score that items make; None without items, or where they make none ("other").

    "mean" is Σ weight · value / Σ weight; "exp" is e to that mean.
    """
    if not items or aggregation == "other":
        return None
    mean = _mean(items)
    return _exp(mean) if aggregation == "exp" else mean


def follows(score: Score) -> bool:
    """Whether a score is what its items make, within 1e-9: evaluators add up in their own way. True of "other"."""
    value = value_of(score.items, score.aggregation)
    return value is None or math.isclose(value, score.value, rel_tol=OF_ITEMS, abs_tol=OF_ITEMS)


def right_or_wrong(items: Sequence[Item]) -> bool:
    """Whether each item scores 1 or 0 and all weigh the same; False without items."""
    return len({item.weight for item in items}) == 1 and all(item.value in (0.0, 1.0) for item in items)


def clusters_of(items: Sequence[Item]) -> list[list[Item]]:
    """Items that are not independent, together; one without a cluster stands for itself."""
    groups: dict[tuple[str, str], list[Item]] = {}
    for item in items:
        groups.setdefault((item.cluster, "") if item.cluster else ("", item.id), []).append(item)
    return list(groups.values())


def standard_error(items: Sequence[Item], aggregation: Aggregation) -> float | None:
    """Standard error of the score over another draw of clusters; None for fewer than two, or "other".

    The weighted mean is a ratio of two sums over the clusters, R = Σ y / Σ w, with the variance
    G / (G − 1) · Σ (y − R w)² / (Σ w)² over the G clusters (Cochran, Sampling Techniques, 3rd ed., 1977, eq. 6.13 and
    9A.9, without the correction for a finite population). Items without a cluster stand for themselves. Of weights that
    are equal and items that stand for themselves this is s / √n. Of "exp" it is e^R times that: the first term of a
    Taylor series.
    """
    if aggregation == "other":
        return None
    groups = clusters_of(items)
    if len(groups) < 2:
        return None
    mean = _mean(items)
    squares = math.fsum(math.fsum(item.weight * (item.value - mean) for item in group) ** 2 for group in groups)
    whole = math.fsum(item.weight for item in items)
    error = math.sqrt(len(groups) / (len(groups) - 1) * squares) / whole
    return error * _exp(mean) if aggregation == "exp" else error


def score_of(
    task: str,
    metric: str,
    items: Sequence[Item],
    *,
    aggregation: Aggregation = "mean",
    higher_is_better: bool = True,
) -> Score:
    """The score of these items, with its standard error. Raises ValueError: no items, or an aggregation of "other"."""
    value = value_of(items, aggregation)
    if value is None:
        raise ValueError(
            f"no items of {task} make {metric}" if not items else "items make no score of the kind 'other'"
        )
    error = standard_error(items, aggregation)
    return Score(task, metric, value, error, len(items), higher_is_better, tuple(items), aggregation)


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


def _mean(items: Sequence[Item]) -> float:
    return math.fsum(item.weight * item.value for item in items) / math.fsum(item.weight for item in items)
