"""Which points no other one beats, with a probability. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from llem.analysis.ranking import SURE, deviation
from llem.store.models import Quantity

__all__ = ["Candidate", "non_dominated", "of_draws"]

#: Pairs of points that are held in memory at once.
AT_ONCE = 2_000_000
#: Standard errors that stand for two exact and equal values: neither is worse, with certainty.
EQUAL = 40.0


@attrs.frozen
class Candidate:
    """One point with two metrics that have values, and whether less of each is better."""

    id: str
    x: Quantity
    y: Quantity
    lower: tuple[bool, bool]


def non_dominated(candidates: Sequence[Candidate]) -> dict[str, float]:
    """The points that no other one dominates with a probability of 0.95 or more, best x first.

    Each with the greatest probability with which another one dominates it. One dominates another if it is better in
    both metrics, or better in one and exactly equal in the other. The errors of the two metrics and of any two points
    count as independent and normal (see `llem.analysis.ranking.deviation`).

    Takes n² steps of numpy: 10,000 points take a few seconds.
    """
    import numpy as np

    if not candidates:
        return {}
    axes = [_axis([(one.x, one.y)[axis] for one in candidates], candidates[0].lower[axis]) for axis in (0, 1)]
    count, greatest = len(candidates), np.zeros(len(candidates))
    step = max(1, AT_ONCE // count)
    for start in range(0, count, step):
        greatest[start : start + step] = _greatest(axes, start, min(start + step, count))
    kept = [int(i) for i in np.flatnonzero(greatest < SURE)]
    order = sorted(kept, key=lambda i: (axes[0][0][i], axes[1][0][i], candidates[i].id))
    return {candidates[i].id: float(greatest[i]) for i in order}


def of_draws(ids: Sequence[str], x: Any, y: Any) -> tuple[dict[str, float], dict[str, str]]:
    """The points that no other one dominates with a probability of 0.95 or more, best x first, from joint draws.

    Each with the greatest probability with which another one dominates it; and which one that is, where it is not 0.

    Args:
        x, y: draws of both metrics, turned so that less is better (draws, k).
    """
    import numpy as np

    count = len(ids)
    greatest, by = np.zeros(count), np.full(count, -1)
    for j in range(count):
        ahead = (x[:, [j]] <= x) & (y[:, [j]] <= y) & ((x[:, [j]] < x) | (y[:, [j]] < y))
        chance = ahead.mean(axis=0)
        by = np.where(chance > greatest, j, by)
        greatest = np.maximum(greatest, chance)
    middle = np.median(x, axis=0), np.median(y, axis=0)
    kept = sorted(np.flatnonzero(greatest < SURE).tolist(), key=lambda i: (middle[0][i], middle[1][i], ids[i]))
    return {ids[i]: float(greatest[i]) for i in kept}, {ids[i]: ids[by[i]] for i in kept if by[i] >= 0}


def _axis(quantities: Sequence[Quantity], lower: bool) -> tuple[Any, Any]:
    """Values, turned so that less is better, and variances."""
    import numpy as np

    values = np.asarray([one.value for one in quantities], dtype=float)
    return values if lower else -values, np.asarray([deviation(one) for one in quantities]) ** 2


def _greatest(axes: Sequence[tuple[Any, Any]], start: int, end: int) -> Any:
    """For each point from `start` to before `end`, the greatest probability with which any other one dominates it.

    The product of two probabilities lies between the square of the lesser and the lesser itself. So only pairs whose
    lesser one reaches the greatest such square need be looked at closely.
    """
    import numpy as np
    from scipy.special import ndtr, ndtri

    z = [_distances(values, variances, start, end) for values, variances in axes]
    rows = np.arange(end - start)
    for one in z:
        one[rows, rows + start] = -np.inf
    both = np.minimum(*z)
    both[(z[0] == EQUAL) & (z[1] == EQUAL)] = -np.inf  # then none is better
    most = both.max(axis=1)
    least = np.minimum(ndtri(ndtr(most) ** 2), most)
    places = np.nonzero((both >= least[:, None]) & (both > -np.inf))
    found = np.zeros(end - start)
    np.maximum.at(found, places[0], _probability(z[0][places]) * _probability(z[1][places]))
    return found


def _distances(values: Any, variances: Any, start: int, end: int) -> Any:
    """How much better each point (columns) is than those from `start` on (rows), in standard errors; exact: ±inf."""
    import numpy as np

    ahead = values[start:end, None] - values[None, :]
    errors = np.sqrt(variances[start:end, None] + variances[None, :])
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(errors > 0, ahead / errors, np.where(ahead == 0, EQUAL, np.copysign(np.inf, ahead)))


def _probability(z: Any) -> Any:
    from scipy.special import ndtr

    return ndtr(z)
