"""Which points no other one beats, with a probability. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs

from llem.analysis.posterior import Posterior
from llem.analysis.ranked import DRAWS, MOST_RANKED, drawn_of, real_ids
from llem.analysis.ranking import SURE, deviation, rankable
from llem.metrics.catalogue import lower_is_better
from llem.metrics.quality import is_score
from llem.store.models import Quantity

if TYPE_CHECKING:
    from llem.analysis.collection import Results
    from llem.analysis.overview import Overview

__all__ = ["Candidate", "front_of", "non_dominated", "of_draws"]

#: Pairs of points that are held in memory at once.
AT_ONCE = 2_000_000
#: Points of the front of the values that all others are first compared with, at most.
LEADERS = 200
#: Standard errors that stand for two exact and equal values: neither is worse, with certainty.
EQUAL = 40.0


@attrs.frozen
class Candidate:
    """One point with two metrics that have values, and whether less of each is better."""

    id: str
    x: Quantity
    y: Quantity
    lower: tuple[bool, bool]


def front_of(results: Results, x: str, y: str) -> tuple[dict[str, float], dict[str, str]]:
    """Which results no other one dominates; see `of_draws`.

    Of more than `MOST_RANKED` results only those are drawn that their own intervals leave; of more than that even
    then, the intervals decide alone.

    Raises StoreError as `llem.analysis.ranking.rankable`.
    """
    for metric in (x, y):
        lower_is_better(metric)
    return results.without_damaged(list(results.overviews((x, y))), lambda found: _front_of(results, found, x, y))


def _front_of(results: Results, found: Sequence[Overview], x: str, y: str) -> tuple[dict[str, float], dict[str, str]]:
    rows = rankable(found, [x, y])
    lower = (*(lower_is_better(metric, [row.metrics[metric] for row in rows]) for metric in (x, y)),)
    if len(rows) > MOST_RANKED:
        left = non_dominated([Candidate(one.id, one.metrics[x], one.metrics[y], (lower[0], lower[1])) for one in rows])
        if len(left) > MOST_RANKED:
            return left, {}
        rows = [row for row in rows if row.id in left]
    sides = results.sides([metric for metric in (x, y) if not is_score(metric)])
    names = tuple(row.id for row in rows)
    background = results.background(sides, names, real_ids(found))
    posterior = Posterior({name: sides(name) for name in names}, background, count=DRAWS)
    drawn = [
        drawn_of(metric, rows, posterior)[0] * (1 if less else -1) for metric, less in zip((x, y), lower, strict=True)
    ]
    return of_draws(names, *drawn)


def non_dominated(candidates: Sequence[Candidate]) -> dict[str, float]:
    """The points that no other one dominates with a probability of 0.95 or more, best x first.

    Each with the greatest probability with which another one dominates it. One dominates another if it is better in
    both metrics, or better in one and exactly equal in the other. The errors of the two metrics and of any two points
    count as independent and normal (see `llem.analysis.ranking.deviation`).

    Points that are dominated by one of the front of the values alone are out before all pairs are looked at; the
    others need a step of numpy for each of the n points.
    """
    import numpy as np

    if not candidates:
        return {}
    axes = [_axis([(one.x, one.y)[axis] for one in candidates], candidates[0].lower[axis]) for axis in (0, 1)]
    every = np.arange(len(candidates))
    left = every[_greatest(axes, every, _leaders(axes)) < SURE]
    greatest = dict(zip(left.tolist(), _greatest(axes, left, every).tolist(), strict=True))
    kept = [i for i, chance in greatest.items() if chance < SURE]
    order = sorted(kept, key=lambda i: (axes[0][0][i], axes[1][0][i], candidates[i].id))
    return {candidates[i].id: greatest[i] for i in order}


def of_draws(ids: Sequence[str], x: Any, y: Any) -> tuple[dict[str, float], dict[str, str]]:
    """The points that no other one dominates with a probability of 0.95 or more, best x first, from joint draws.

    Each with the greatest probability with which another one dominates it; and which one that is, where it is not 0.

    Args:
        x, y: draws of both metrics, turned so that less is better (draws, k).
    """
    import numpy as np

    count = len(ids)
    greatest, by = np.zeros(count), np.full(count, -1)
    first, second = (np.ascontiguousarray(drawn.T) for drawn in (x, y))  # (k, draws): each point's draws lie together
    for j in range(count):
        ahead = _ahead(first, second, j)
        chance = np.count_nonzero(ahead, axis=1) / ahead.shape[1]
        by = np.where(chance > greatest, j, by)
        greatest = np.maximum(greatest, chance)
    middle = np.median(x, axis=0), np.median(y, axis=0)
    kept = sorted(np.flatnonzero(greatest < SURE).tolist(), key=lambda i: (middle[0][i], middle[1][i], ids[i]))
    return {ids[i]: float(greatest[i]) for i in kept}, {ids[i]: ids[by[i]] for i in kept if by[i] >= 0}


def _ahead(x: Any, y: Any, number: int) -> Any:
    """In which draws one point is better than each in one metric, and not worse in the other one (k, draws)."""
    ahead = x[number] <= x
    ahead &= y[number] <= y
    better = x[number] < x
    better |= y[number] < y
    ahead &= better
    return ahead


def _axis(quantities: Sequence[Quantity], lower: bool) -> tuple[Any, Any]:
    """Values, turned so that less is better, and variances."""
    import numpy as np

    values = np.asarray([one.value for one in quantities], dtype=float)
    return values if lower else -values, np.asarray([deviation(one) for one in quantities]) ** 2


def _leaders(axes: Sequence[tuple[Any, Any]]) -> Any:
    """Points of the front of the values alone, at most `LEADERS` of them."""
    import numpy as np

    x, y = (values for values, _ in axes)
    order = np.lexsort((y, x))
    least = np.minimum.accumulate(y[order])
    front = order[np.concatenate([[True], y[order][1:] < least[:-1]])]
    return front[:: -(-len(front) // LEADERS)]


def _greatest(axes: Sequence[tuple[Any, Any]], points: Any, others: Any) -> Any:
    """For each of these points, by number, the greatest probability with which one of the others dominates it."""
    import numpy as np

    step = max(1, AT_ONCE // len(others))
    found = [_greatest_at_once(axes, points[at : at + step], others) for at in range(0, len(points), step)]
    return np.concatenate(found) if found else np.zeros(0)


def _greatest_at_once(axes: Sequence[tuple[Any, Any]], points: Any, others: Any) -> Any:
    """As `_greatest`, all pairs in memory.

    The product of two probabilities lies between the square of the lesser and the lesser itself. So only pairs whose
    lesser one reaches the greatest such square need be looked at closely.
    """
    import numpy as np
    from scipy.special import ndtr, ndtri

    z = [_distances(values, variances, points, others) for values, variances in axes]
    itself = points[:, None] == others
    for one in z:
        one[itself] = -np.inf
    both = np.minimum(*z)
    both[(z[0] == EQUAL) & (z[1] == EQUAL)] = -np.inf  # then none is better
    most = both.max(axis=1)
    least = np.minimum(ndtri(ndtr(most) ** 2), most)
    places = np.nonzero((both >= least[:, None]) & (both > -np.inf))
    found = np.zeros(len(points))
    np.maximum.at(found, places[0], _probability(z[0][places]) * _probability(z[1][places]))
    return found


def _distances(values: Any, variances: Any, points: Any, others: Any) -> Any:
    """How much better each of the others (columns) is than the points (rows), in standard errors; exact: ±inf."""
    import numpy as np

    ahead = values[points, None] - values[others]
    errors = np.sqrt(variances[points, None] + variances[others])
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(errors > 0, ahead / errors, np.where(ahead == 0, EQUAL, np.copysign(np.inf, ahead)))


def _probability(z: Any) -> Any:
    from scipy.special import ndtr

    return ndtr(z)
