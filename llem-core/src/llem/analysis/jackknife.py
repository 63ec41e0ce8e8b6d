"""A score and its standard error from its items: each cluster is left out once. Pure.

For the mean of clusters of one size this is the sandwich estimator by clusters times G/(G - 1). With few clusters of
unequal size it is the one that covers best (CR3 of Bell and McCaffrey, Survey Methodology 28, 2002; simulated in
benchmarks/simulate_quality.py). Why to cluster, and to pair: Miller, "Adding Error Bars to Evals", 2024.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence

import attrs

from llem.evaluators.base import Item
from llem.metrics.statistics import mean

__all__ = ["Jackknife", "numbered", "of_items", "of_pairs"]

#: A standard error below this part of the values is rounding alone.
ROUNDING = 1e-12


@attrs.frozen
class Jackknife:
    """An estimate with its standard error.

    Attributes:
        error: standard error; 0 where nothing scatters, None for fewer than two clusters.
        clusters: how many there are; an item without a cluster is one.
        effective: how many of one size are worth as much (Kish, Survey Sampling, 1965): the sum of their weights,
            squared, by the sum of the squares. As many as there are, if they are of one size.
    """

    value: float
    error: float | None
    clusters: int
    effective: float

    @property
    def freedom(self) -> float:
        """Degrees of freedom of Student's t: one less than effective clusters, 1 at least.

        After Carter, Schnepel and Steigerwald (Review of Economics and Statistics 99, 2017). With one less than there
        are clusters, intervals of 5 or 10 clusters of unequal size cover 91 to 92 %.
        """
        return max(1.0, self.effective - 1.0)


def numbered(items: Iterable[Item]) -> dict[tuple[str, int], Item]:
    """Items by their id, with how often it came before: a task may have the same item twice."""
    found: dict[tuple[str, int], Item] = {}
    seen: dict[str, int] = {}
    for item in items:
        seen[item.id] = seen.get(item.id, -1) + 1
        found[item.id, seen[item.id]] = item
    return found


def of_items(items: Sequence[Item], *, exp: bool = False) -> Jackknife:
    """The score of one configuration: the weighted mean of its items, or e to it."""
    rows = [(_cluster(one, place), (one.weight, one.weight * one.value)) for place, one in enumerate(items)]
    scale = _exp if exp else _same
    return _left_out(rows, lambda sums: scale(sums[1] / sums[0]))


def of_pairs(pairs: Sequence[tuple[Item, Item]], *, exp: bool = False) -> Jackknife:
    """The second less the first on the same items, as of `of_items`. Clusters are those of the first."""
    rows = [
        (_cluster(one, place), (one.weight, one.weight * one.value, two.weight, two.weight * two.value))
        for place, (one, two) in enumerate(pairs)
    ]
    scale = _exp if exp else _same
    return _left_out(rows, lambda sums: scale(sums[3] / sums[2]) - scale(sums[1] / sums[0]))


def _same(value: float) -> float:
    return value


_exp = math.exp


def _cluster(item: Item, place: int) -> Hashable:
    return item.cluster or place


def _left_out(
    rows: Sequence[tuple[Hashable, tuple[float, ...]]], statistic: Callable[[Sequence[float]], float]
) -> Jackknife:
    """Rows are a cluster and columns to sum, the first of them the weight; the statistic is of the sums."""
    groups: dict[Hashable, list[tuple[float, ...]]] = {}
    for cluster, row in rows:
        groups.setdefault(cluster, []).append(row)
    sums = [[math.fsum(column) for column in zip(*group, strict=True)] for group in groups.values()]
    whole = [math.fsum(column) for column in zip(*sums, strict=True)]
    value, count = statistic(whole), len(sums)
    effective = whole[0] ** 2 / math.fsum(one[0] ** 2 for one in sums)
    if count < 2:
        return Jackknife(value, None, count, effective)
    without = [statistic([all_ - own for all_, own in zip(whole, one, strict=True)]) for one in sums]
    centre = mean(without)
    error = math.sqrt((count - 1) / count * math.fsum((one - centre) ** 2 for one in without))
    size = max(abs(value), *(abs(row[1] / row[0]) for _, row in rows))
    return Jackknife(value, 0.0 if error <= ROUNDING * size else error, count, effective)
