"""What the other experiments of a study say of a comparison: how processes vary, how large differences are. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from llem.analysis.difference import PAIRED, Difference, difference
from llem.analysis.shrinkage import Prior, fit, moderated
from llem.analysis.sides import Side
from llem.analysis.variance import Estimate, Spread, spread
from llem.metrics.metric import Basis

__all__ = ["Background"]

#: Pairs of experiments that a prior is estimated from at most.
MOST_PAIRS = 2000


class Background:
    """What the other experiments of a study say of a comparison: how processes vary, and how large differences are.

    Args:
        sides: of valid experiments, those of them that are compared among them. One that is compared and is not among
            them says nothing of the others, and brings its own variance where it varies more, or nothing else is known.
    """

    def __init__(self, sides: Iterable[Side] = ()) -> None:
        self._sides = [side for side in sides if not side.fake]
        self._spreads: dict[Any, Spread | None] = {}
        self._priors: dict[Any, tuple[Prior, Callable[[Estimate], Estimate]]] = {}

    def spread(self, metric: str, side: Side) -> Spread | None:
        """How process means of this side's backend vary; see `llem.analysis.variance.spread`."""
        key = metric, side.backend, side.basis_of(metric)
        if key not in self._spreads:
            self._spreads[key] = spread(self._sides, *key)
        return self._spreads[key]

    def difference(self, a: Side, b: Side, metric: str) -> Difference:
        """As `llem.analysis.difference.difference`. Of two backends, the one whose processes vary more counts."""
        found = [
            self.spread(metric, side) or spread((a, b), metric, side.backend, side.basis_of(metric)) for side in (a, b)
        ]
        both = [one for one in found if one is not None]
        pooled = max(both, key=lambda one: one.variance) if len(both) == len(found) else None
        return difference(a, b, metric, pooled, [any(one is side for one in self._sides) for side in (a, b)])

    def probability_below(self, a: Side, b: Side, metric: str, found: Difference) -> tuple[float, Prior]:
        """P(b < a) with the study's prior, which is of experiments whose energies cover the same; and that prior.

        The variance of trials that took turns is moderated over all pairs of the study that did.
        """
        basis = a.basis_of(metric)
        if (metric, basis) not in self._priors:
            self._priors[metric, basis] = self._learnt(metric, basis)
        prior, draw = self._priors[metric, basis]
        return prior.below_zero(draw(found.estimate) if found.method == PAIRED else found.estimate), prior

    def _learnt(self, metric: str, basis: Basis | None) -> tuple[Prior, Callable[[Estimate], Estimate]]:
        having = [one for one in self._sides if metric in one.values and one.basis_of(metric) == basis]
        pairs = [(i, j) for i, j in _pairs(len(having)) if len(having[i].runs) > 1 < len(having[j].runs)]
        found = [self.difference(having[i], having[j], metric) for i, j in pairs]
        turns = [one.estimate for one in found if one.method == PAIRED]
        taking = {number for pair, one in zip(pairs, found, strict=True) if one.method == PAIRED for number in pair}
        each = min((one.freedom for one in turns), default=0.0)
        draw = moderated(turns, (len(taking) - 1) * each)
        drawn = [draw(one.estimate) if one.method == PAIRED else one.estimate for one in found]
        return fit(drawn, len(having)), draw


def _pairs(count: int) -> list[tuple[int, int]]:
    """All pairs of so many; of very many experiments, those with the least distances."""
    found: list[tuple[int, int]] = []
    for distance in range(1, count):
        found += [(i, i + distance) for i in range(count - distance)]
        if len(found) >= MOST_PAIRS:
            break
    return found
