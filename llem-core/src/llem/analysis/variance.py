"""How much the mean of an engine process varies from process to process, pooled over the experiments of a study; and
the estimate that comparisons make of several such parts. Pure.

Model, on natural logarithms: value = configuration + block + process + residual. A block is the turn in which every
configuration gets one engine process: process 0 of all, then process 1, and so on.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence

import attrs

from llem.analysis.sides import ProcessMean, Side
from llem.metrics.metric import Basis
from llem.metrics.statistics import mean, t_quantile, two_sided

__all__ = [
    "ASSUMED_FREEDOM",
    "ASSUMED_SD",
    "LEAST_ERROR",
    "Estimate",
    "Spread",
    "chance_below_zero",
    "combined",
    "scatters_more",
    "spread",
]

#: The between-process sd that is assumed where none is measured, on the log scale (0.01 is 1 %), and for drift between
#: neighbours in time. Drift over a longer distance is that of a random walk: it grows with the root of the distance.
ASSUMED_SD = 0.01
#: Degrees of freedom of what is assumed: few, so that the tails are heavy.
ASSUMED_FREEDOM = 4.0
#: The standard error of a difference is this at least, on the log scale. Nothing that llem measures, with clocks and
#: counters that round, is known to better than a part in a million, however well a few values agree.
LEAST_ERROR = 1e-6
#: Own variance of two experiments that is greater than the pooled one with less chance than this is taken instead.
LEAST_CHANCE = 0.05
#: From so many degrees of freedom on, block effects are removed: before, they cost more than they give.
LEAST_BLOCKED = 4


@attrs.frozen
class Estimate:
    """A difference on the log scale with its standard error, and the degrees of freedom of its Student's t."""

    value: float
    error: float
    freedom: float

    @property
    def floored(self) -> Estimate:
        """The same with `LEAST_ERROR` at least, so that no scatter at all is no certainty."""
        return attrs.evolve(self, error=max(self.error, LEAST_ERROR))

    @property
    def half_width(self) -> float:
        """Of the 95 % interval."""
        return t_quantile(self.freedom) * self.error if self.error else 0.0

    @property
    def p_value(self) -> float:
        """Two-sided, of no difference."""
        if self.error == 0:
            return 1.0 if self.value == 0 else 0.0
        return two_sided(self.value / self.error, self.freedom)


def chance_below_zero(one: Estimate) -> float:
    """P(difference < 0) under a flat prior: half the two-sided p-value on the side where the estimate does not lie."""
    half = one.p_value / 2
    return 1 - half if one.value < 0 else half


def scatters_more(own: tuple[float, float], others: tuple[float, float]) -> bool:
    """Whether a variance is greater than that of others by more than chance (F test); each with its degrees of freedom.

    Of others without any scatter, every variance is.
    """
    from scipy.special import fdtrc

    return others[0] == 0 or float(fdtrc(own[1], others[1], own[0] / others[0])) < LEAST_CHANCE


def combined(value: float, parts: Iterable[tuple[float, float]]) -> Estimate:
    """The estimate whose variance is the sum of independent parts, each a variance and its degrees of freedom.

    The degrees of freedom of the sum are Satterthwaite's (1946).
    """
    known = [(variance, freedom) for variance, freedom in parts if variance > 0]
    total = math.fsum(variance for variance, _ in known)
    if total == 0:
        return Estimate(value, 0.0, 1.0)
    freedom = total**2 / math.fsum(variance**2 / freedom for variance, freedom in known)
    return Estimate(value, math.sqrt(total), freedom)


@attrs.frozen
class Spread:
    """Variance of the mean of one engine process, on the log scale, pooled over experiments of one backend.

    It has in it what varies between processes, and the residual of the process's own trials.

    Attributes:
        variance: with differences between blocks in it. freedom: its degrees of freedom.
        blocked: without them. None where processes do not come in blocks, or are too few.
        groups: how many engines (experiments that share one count once) it is pooled over.
        span: the time that all of them span, in seconds since 1970: drift within it is in the variance. None: unknown.
    """

    variance: float
    freedom: float
    blocked: tuple[float, float] | None
    groups: int
    span: tuple[float, float] | None = None


def spread(sides: Iterable[Side], metric: str, backend: str | None, basis: Basis | None) -> Spread | None:
    """What experiments of this backend with two processes or more say together; None where there is none.

    Experiments that share their engine processes share what differs between these, so they count as one: the mean of
    their sums of squares, with the degrees of freedom of one.

    Args:
        basis: of an energy; None for what is none.
    """
    groups: dict[Hashable, list[list[ProcessMean]]] = {}
    spans = []
    for number, side in enumerate(sides):
        if side.backend != backend or metric not in side.values or (basis is not None and side.basis != basis):
            continue
        means = side.process_means(metric)
        if len(means) > 1:
            groups.setdefault(min(side.workers) if side.workers else (number,), []).append(means)
            spans.append(side.span)
    if not groups:
        return None
    squares = freedom = 0.0
    for members in groups.values():
        squares += mean([math.fsum(one**2 for one in _centred(means)) for means in members])
        freedom += mean([len(means) - 1.0 for means in members])
    span = max(begin for begin, _ in spans), min(end for _, end in spans)
    return Spread(squares / freedom, freedom, _blocked(list(groups.values())), len(groups), span)


def _centred(means: Sequence[ProcessMean]) -> list[float]:
    centre = mean([one.mean for one in means])
    return [one.mean - centre for one in means]


def _blocked(groups: Sequence[Sequence[Sequence[ProcessMean]]]) -> tuple[float, float] | None:
    """Variance and degrees of freedom after the differences between blocks are removed.

    That is the residual of a two-way layout of engines and blocks. It needs every engine in every block.
    """
    numbers = {tuple(one.process for one in means) for members in groups for means in members}
    if len(numbers) > 1:
        return None
    blocks = len(next(iter(numbers)))
    freedom = (len(groups) - 1) * (blocks - 1)
    if freedom < LEAST_BLOCKED or not _in_blocks(means for members in groups for means in members):
        return None
    centred = [[_centred(means) for means in members] for members in groups]
    levels = [mean([mean([one[block] for one in members]) for members in centred]) for block in range(blocks)]
    squares = math.fsum(
        mean([math.fsum((x - level) ** 2 for x, level in zip(one, levels, strict=True)) for one in members])
        for members in centred
    )
    return squares / freedom, float(freedom)


def _in_blocks(found: Iterable[Sequence[ProcessMean]]) -> bool:
    """Whether each block had begun with every engine before the next one began with any."""
    columns = list(zip(*found, strict=True))
    latest = [max(one.first for one in column) for column in columns]
    earliest = [min(one.first for one in column) for column in columns]
    return all(last < first for last, first in zip(latest, earliest[1:], strict=False))
