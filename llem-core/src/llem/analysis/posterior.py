"""Joint draws of what all configurations of a study are worth, in any of its metrics. Pure.

The errors of the estimates are those of `llem.analysis.evidence`. What differs between configurations has the prior of
`llem.analysis.clusters`: without one, the best of several estimates is taken for better than it is.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from llem.analysis.background import Background
from llem.analysis.clusters import shrunk
from llem.analysis.correlation import Correlation, correlation_of
from llem.analysis.difference import BOARD_SD
from llem.analysis.evidence import Evidence, evidence_of
from llem.analysis.sides import Side
from llem.analysis.units import Part
from llem.analysis.variance import ASSUMED_FREEDOM, LEAST_ERROR
from llem.metrics.statistics import CONFIDENCE

__all__ = ["CENTRES", "Posterior", "draws"]

#: How many sets of variances are drawn; each has many draws of the configurations.
SETS = 48
#: Innovations of the centres of two clusters, of units and of the configurations within these.
CENTRES = 4
#: Of the draws from which critical values are taken.
CRITICAL = 2_000


class Posterior:
    """Joint draws of every configuration's true value, over configurations and metrics.

    Draw d of one metric and draw d of another one belong together: their errors are correlated as the residuals of the
    study's trials are.

    Args:
        sides: by id.
        background: what the study says of the variance between engine processes.
        count: of draws. seed: of them; the same seed and the same sides give the same draws.
    """

    def __init__(
        self, sides: Mapping[str, Side], background: Background, *, count: int = 10_000, seed: int = 0
    ) -> None:
        self._sides, self._background = dict(sides), background
        self._count, self._seed = count, seed
        self._evidence: dict[str, Evidence] = {}
        self._logs: dict[str, Any] = {}

    @property
    def ids(self) -> tuple[str, ...]:
        """Of the configurations, in the order of the columns."""
        return tuple(self._sides)

    def having(self, metric: str) -> tuple[str, ...]:
        """Ids of those that have the metric."""
        return tuple(name for name, side in self._sides.items() if metric in side.values)

    def logs(self, metric: str) -> Any:
        """Draws of the natural logarithm of each one's true value, expected over engine processes: (count, k).

        Configurations that lack the metric have NaN. Raises KeyError where none has it.
        """
        import numpy as np

        if metric not in self._logs:
            columns = self._columns(metric)
            self._logs[metric] = np.full((self._count, len(self._sides)), np.nan)
            if self.evidence(metric).is_exact:
                self._logs[metric][:, columns] = self.evidence(metric).values
                return self._logs[metric]
            taken = [*columns, *range(len(self._sides), len(self._sides) + CENTRES)]
            rng = self._rng(metric, "draws")
            own = rng.standard_normal((self._count, len(taken)))
            factors = (factor[:, taken] for factor in self._factors)  # each is large
            drawn = draws(self.evidence(metric), self._correlation.innovations(metric, factors, own), rng)
            self._logs[metric][:, columns] = drawn
        return self._logs[metric]

    def predicted(self, metric: str, processes: int) -> Any:
        """Draws of the logarithm of the mean over so many new engine processes of each: (count, k); as `logs`."""
        import numpy as np

        found, columns, rng = self.logs(metric).copy(), self._columns(metric), self._rng(metric, "new")
        variances = _drawn(self.evidence(metric).fresh, self._count, len(columns), rng)
        variances = np.maximum(variances, LEAST_ERROR**2 / 2)
        found[:, columns] += np.sqrt(variances / processes) * rng.standard_normal(variances.shape)
        return found

    def _columns(self, metric: str) -> list[int]:
        return [number for number, side in enumerate(self._sides.values()) if metric in side.values]

    @property
    def count(self) -> int:
        """Number of draws."""
        return self._count

    def guaranteed(
        self, metric: str, lower: bool, among: Collection[str] | None = None, against: Collection[str] | None = None
    ) -> tuple[str, ...]:
        """Those that Hsu's multiple comparisons with the best cannot rule out (95 %, without a prior).

        Source: J. Hsu, Multiple Comparisons, 1996, chapter 4. A configuration stays if it is not worse than any other
        one by the critical value times the error of their difference; the critical values are quantiles of the greatest
        of correlated Student's t, from seeded draws of the errors.

        Args:
            lower: whether less is better.
            among: ids to compare; None takes all that have the metric.
            against: those of them that rule others out; None takes all. What may break a limit rules out nothing.
        """
        import numpy as np

        names = self.having(metric)
        if len(names) == 1:
            return names
        evidence = self.evidence(metric)
        rng = self._rng(metric, "critical")
        errors = _errors(evidence, rng, CRITICAL).astype(np.float32)
        values = np.asarray(evidence.values) * (1 if lower else -1)
        scale = np.sqrt(_differences(evidence))
        compared = [number for number, name in enumerate(names) if among is None or name in among]
        if len(compared) == 1:
            return (names[compared[0]],)
        values, scale, errors = values[compared], scale[np.ix_(compared, compared)], errors[:, compared]
        ruling = np.array([against is None or names[number] in against for number in compared])
        behind = _behind(values, scale, ruling)
        # what is worse than the best by the critical value of all pairs is out by any one's
        every = np.quantile(errors.max(axis=1) - errors.min(axis=1), CONFIDENCE) / _least(scale)
        near = [i for i in range(len(compared)) if behind[i] < every]
        by_row = np.ascontiguousarray(errors.T)
        return tuple(names[compared[i]] for i in near if behind[i] < _critical(i, by_row, scale, ruling))

    def evidence(self, metric: str) -> Evidence:
        """Estimates and errors of those that have the metric. Raises KeyError where none has it."""
        if metric not in self._evidence:
            sides = [self._sides[name] for name in self.having(metric)]
            if not sides:
                raise KeyError(metric)
            self._evidence[metric] = evidence_of(sides, metric, self._background)
        return self._evidence[metric]

    @functools.cached_property
    def _correlation(self) -> Correlation:
        return correlation_of(list(self._sides.values()))

    @functools.cached_property
    def _factors(self) -> list[Any]:
        """Standard normal draws that all metrics have in common: (count, k + CENTRES) of each factor."""
        shape = self._count, len(self._sides) + CENTRES
        return [self._rng("factor", str(n)).standard_normal(shape) for n in range(self._correlation.loadings.shape[1])]

    def _rng(self, *what: str) -> Any:
        import numpy as np

        return np.random.default_rng([self._seed, *(zlib.crc32(one.encode()) for one in what)])


def _behind(values: Any, scale: Any, ruling: Any) -> Any:
    """By how many errors of the difference each value is worse than that of any other ruling one, at most: (k,)."""
    import numpy as np

    with np.errstate(divide="ignore", invalid="ignore"):
        found = (values[:, None] - values) / scale
    np.fill_diagonal(found, -np.inf)
    found[:, ~ruling] = -np.inf
    return found.max(axis=1)


def _least(scale: Any) -> float:
    import numpy as np

    return float(scale[~np.eye(len(scale), dtype=bool)].min())


def _critical(number: int, errors: Any, scale: Any, ruling: Any) -> float:
    """What the greatest studentised difference to other ruling ones stays below with 95 %; errors: (k, draws)."""
    import numpy as np

    others = ruling & (np.arange(len(errors)) != number)
    if not others.any():
        return float("inf")
    found = errors[number] - errors
    found *= (1 / scale[number]).astype(errors.dtype)[:, None]
    found[~others] = -np.inf
    return float(np.quantile(found.max(axis=0), CONFIDENCE))


def draws(evidence: Evidence, innovations: Any, rng: Any) -> Any:
    """Draws of the true values: (count, k).

    Args:
        innovations: standard normal, of the k configurations and of the centres of their clusters (count, k + CENTRES).
    """
    import numpy as np

    values, units = np.asarray(evidence.values), np.asarray(evidence.units)
    count, k = len(innovations), len(values)
    innovations, centred = innovations[:, :k], np.split(innovations[:, k:], 2, axis=1)
    own = _drawn(evidence.within, SETS, k, rng)
    sizes = np.bincount(units)
    first = np.unique(units, return_index=True)[1]
    rest = np.stack([np.bincount(units, weights=row) for row in own]) / sizes**2
    between = _drawn(evidence.between, SETS, len(sizes), rng) + rest
    centres = np.bincount(units, weights=values) / sizes
    levels = shrunk(centres, between, innovations[:, first], centred[0], rng)
    found = levels[:, units]
    shared = np.flatnonzero(sizes[units] > 1)
    if shared.size:
        inside = shrunk((values - centres[units])[shared], own[:, shared], innovations[:, shared], centred[1], rng)
        for unit in np.flatnonzero(sizes > 1):
            here = units[shared] == unit
            found[:, shared[here]] += inside[:, here] - inside[:, here].mean(axis=1, keepdims=True)
    return found + _elsewhere(evidence, count, rng)


def _drawn(parts: Sequence[Part], count: int, k: int, rng: Any) -> Any:
    """Draws of the variance of each of k estimates, the sum of its parts: (count, k).

    Each part is its estimate over chi-squared by degrees of freedom, which is the posterior under the usual prior.
    """
    import numpy as np
    from scipy.special import chdtri

    found = np.zeros((count, k))
    for part in parts:
        drawn = (part.freedom / chdtri(part.freedom, _tails(count, rng)))[:, None] * np.asarray(part.variances)
        if part.least:
            factors = part.least_freedom / chdtri(part.least_freedom, _tails(count, rng))
            drawn = np.maximum(drawn, factors[:, None] * np.asarray(part.least))
        found += drawn
    return found


def _tails(count: int, rng: Any) -> Any:
    """The middles of equal shares of a distribution, in random order: they hold it with few draws."""
    return (rng.permutation(count) + 0.5) / count


def _elsewhere(evidence: Evidence, count: int, rng: Any) -> Any:
    """Draws of what drift, places and the common level may have added: (count, k)."""
    import numpy as np

    k = len(evidence.values)
    found = np.zeros((count, k))
    if evidence.steps:
        walk = np.cumsum(np.sqrt(evidence.steps) * rng.standard_normal((count, k - 1)), axis=1)
        walk = np.concatenate([np.zeros((count, 1)), walk], axis=1) * _heavy(count, rng)
        found[:, list(evidence.sequence)] += walk - walk.mean(axis=1, keepdims=True)
    if evidence.places:
        boards = BOARD_SD * rng.standard_normal((count, max(evidence.places) + 1)) * _heavy(count, rng)
        found += boards[:, list(evidence.places)]
    variance, freedom = evidence.common
    if variance:
        found += np.sqrt(variance * freedom / rng.chisquare(freedom, (count, 1))) * rng.standard_normal((count, 1))
    return found


def _heavy(count: int, rng: Any) -> Any:
    """Factors that make normal draws Student's t with the degrees of freedom of what is assumed: (count, 1)."""
    import numpy as np

    return np.sqrt(ASSUMED_FREEDOM / rng.chisquare(ASSUMED_FREEDOM, (count, 1)))


def _errors(evidence: Evidence, rng: Any, count: int) -> Any:
    """Draws of the errors of the estimates without a prior: (count, k)."""
    import numpy as np

    k, units = len(evidence.values), np.asarray(evidence.units)
    between = _drawn(evidence.between, count, units.max() + 1, rng)
    own = np.maximum(_drawn(evidence.within, count, k, rng), LEAST_ERROR**2 / 2)
    levels = np.sqrt(between) * rng.standard_normal(between.shape)
    return levels[:, units] + np.sqrt(own) * rng.standard_normal((count, k)) + _elsewhere(evidence, count, rng)


def _differences(evidence: Evidence) -> Any:
    """Variance of the difference of each pair of estimates: (k, k)."""
    import numpy as np

    units = np.asarray(evidence.units)
    between = sum((np.asarray(part.variances) for part in evidence.between), np.zeros(units.max() + 1))[units]
    own = sum((np.asarray(part.variances) for part in evidence.within), np.zeros(len(units)))
    own = np.maximum(own, LEAST_ERROR**2 / 2)
    found = own[:, None] + own + (units[:, None] != units) * (between[:, None] + between)
    if evidence.steps:
        times = np.zeros(len(units))
        times[list(evidence.sequence)] = np.concatenate([[0.0], np.cumsum(evidence.steps)])
        found += np.abs(times[:, None] - times)
    if evidence.places:
        places = np.asarray(evidence.places)
        found += 2 * BOARD_SD**2 * (places[:, None] != places)
    return found
