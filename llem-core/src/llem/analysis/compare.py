"""Two experiments against each other: ratios with intervals, verdicts, and how probable it is which is better. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from llem.analysis.difference import BOARD_BOUND, PAIRED, Between, Difference, difference, other_places
from llem.analysis.shrinkage import Prior, fit, moderated
from llem.analysis.sides import Side
from llem.analysis.variance import ASSUMED_SD, Estimate, Spread, chance_below_zero, spread
from llem.errors import StoreError
from llem.metrics.catalogue import lower_is_better, metric_of
from llem.metrics.metric import Basis
from llem.metrics.statistics import Interval, holm, mean

__all__ = ["HEADLINES", "LEVEL", "Background", "Comparison", "compare", "verdict_of"]

#: The metric that is tested is the first of these that both experiments have.
HEADLINES = ("energy_per_output_token_j", "output_tokens_per_s")
#: A verdict needs an adjusted p-value of at most this.
LEVEL = 0.05
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
        key = metric, side.backend, _basis(side, metric)
        if key not in self._spreads:
            self._spreads[key] = spread(self._sides, *key)
        return self._spreads[key]

    def difference(self, a: Side, b: Side, metric: str) -> Difference:
        """As `llem.analysis.difference.difference`. Of two backends, the one whose processes vary more counts."""
        found = [
            self.spread(metric, side) or spread((a, b), metric, side.backend, _basis(side, metric)) for side in (a, b)
        ]
        both = [one for one in found if one is not None]
        pooled = max(both, key=lambda one: one.variance) if len(both) == len(found) else None
        return difference(a, b, metric, pooled, [any(one is side for one in self._sides) for side in (a, b)])

    def probability_below(self, a: Side, b: Side, metric: str, found: Difference) -> tuple[float, Prior]:
        """P(b < a) with the study's prior, which is of experiments whose energies cover the same; and that prior.

        The variance of trials that took turns is moderated over all pairs of the study that did.
        """
        basis = _basis(a, metric)
        if (metric, basis) not in self._priors:
            self._priors[metric, basis] = self._learnt(metric, basis)
        prior, draw = self._priors[metric, basis]
        return prior.below_zero(draw(found.estimate) if found.method == PAIRED else found.estimate), prior

    def _learnt(self, metric: str, basis: Basis | None) -> tuple[Prior, Callable[[Estimate], Estimate]]:
        having = [one for one in self._sides if metric in one.values and _basis(one, metric) == basis]
        pairs = [(i, j) for i, j in _pairs(len(having)) if len(having[i].runs) > 1 < len(having[j].runs)]
        found = [self.difference(having[i], having[j], metric) for i, j in pairs]
        turns = [one.estimate for one in found if one.method == PAIRED]
        taking = {number for pair, one in zip(pairs, found, strict=True) if one.method == PAIRED for number in pair}
        each = min((one.freedom for one in turns), default=0.0)
        draw = moderated(turns, (len(taking) - 1) * each)
        drawn = [draw(one.estimate) if one.method == PAIRED else one.estimate for one in found]
        return fit(drawn, len(having)), draw


def _basis(side: Side, metric: str) -> Basis | None:
    return side.basis if metric_of(metric).scoped else None


def _pairs(count: int) -> list[tuple[int, int]]:
    """All pairs of so many; of very many experiments, those with the least distances."""
    found: list[tuple[int, int]] = []
    for distance in range(1, count):
        found += [(i, i + distance) for i in range(count - distance)]
        if len(found) >= MOST_PAIRS:
            break
    return found


@attrs.frozen
class Comparison:
    """One metric of two experiments.

    Attributes:
        a, b: means over trials.
        ratio: b / a with its interval and two-sided p-value of "no difference".
        covers: what the interval covers. method, between, assumed: see `llem.analysis.difference.Difference`.
        role: "headline" for the one metric that is tested; "secondary" for all others.
        p_adjusted: of the headline its p-value; of a secondary metric after Holm's correction over all metrics
            compared. Metrics whose logarithms differ by a constant in all trials count once.
        verdict: "better" or "worse" of b where `p_adjusted` is 0.05 or less, else "".
        probability_better: P(b is better than a) with the prior. None of a fake.
        probability_flat: the same with a flat prior: every difference as likely as any other.
        prior: which prior, in words.
        basis: of an energy, what it covers and whether it is measured or modelled; else None.
        notes: what is in the interval by assumption, in sentences.
        warnings: what A and B do not have in common beside their settings, in sentences.
    """

    metric: str
    unit: str
    a: float
    b: float
    ratio: Interval
    covers: str
    method: str
    between: Between
    assumed: tuple[str, ...]
    role: str
    p_adjusted: float
    verdict: str
    probability_better: float | None
    probability_flat: float | None
    prior: str
    lower_is_better: bool
    basis: Basis | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def compare(
    a: Side, b: Side, metrics: Sequence[str] | None = None, background: Background | None = None
) -> list[Comparison]:
    """Every metric that both have, or those of them that are named; b over a.

    Args:
        background: of the study; None takes the two experiments alone.

    Raises:
        StoreError: fewer than two trials on a side, nothing in common, or energies that cover different things (unless
            other metrics are named too, which are compared then).
    """
    if min(len(a.runs), len(b.runs)) < 2:
        raise StoreError(
            f"a comparison needs two trials at least of each experiment; there are {len(a.runs)} and {len(b.runs)}",
            "measure with `preset: standard`, or set `trials`",
            "too_few_trials",
        )
    common = [name for name in (a.values if metrics is None else metrics) if name in a.values and name in b.values]
    if not common:
        raise StoreError("the two experiments have no metric in common", "see `llem show`", "nothing_to_compare")
    left = _of_one_basis(a, b, common, asked=metrics is not None)
    study = Background((a, b)) if background is None else background
    found = {name: study.difference(a, b, name) for name in left}
    adjusted = _adjusted(a, b, {name: one.estimate.p_value for name, one in found.items()})
    warnings = (*_warnings(a, b), *([] if len(left) == len(common) else [_energies_differ(a, b, "they are left out")]))
    below = {name: study.probability_below(a, b, name, found[name]) for name in left}
    return [_comparison(name, a, b, found[name], adjusted[name], below[name], warnings) for name in left]


def _of_one_basis(a: Side, b: Side, names: Sequence[str], *, asked: bool) -> list[str]:
    """All names, or those that are no energies where energies cover different things."""
    others = [name for name in names if not metric_of(name).scoped]
    if a.basis == b.basis or len(others) == len(names):
        return list(names)
    if not (asked and others):
        hint = "compare something else: `--metric output_tokens_per_s`"
        raise StoreError(_energies_differ(a, b, "their ratio says nothing"), hint, "energies_differ")
    return others


def _energies_differ(a: Side, b: Side, so: str) -> str:
    return f"energies of A and B differ in what they cover (A: {a.basis}, B: {b.basis}): {so}"


def _adjusted(a: Side, b: Side, p_values: Mapping[str, float]) -> dict[str, tuple[str, float]]:
    """Role and adjusted p-value of each metric."""
    names = list(p_values)
    headline = next((name for name in HEADLINES if name in p_values), names[0])
    same: dict[str, str] = {}
    logs: dict[str, list[float]] = {}
    for name in [headline, *names]:
        own = _centred(a.logs(name) + b.logs(name))
        same[name] = next((other for other, known in logs.items() if _alike(own, known)), name)
        logs.setdefault(same[name], own)
    distinct = list(logs)
    corrected = dict(zip(distinct, holm([p_values[name] for name in distinct]), strict=True))
    return {
        name: ("headline" if name == headline else "secondary", p_values[name])
        if same[name] == headline
        else ("secondary", corrected[same[name]])
        for name in names
    }


def _centred(values: Sequence[float]) -> list[float]:
    centre = mean(values)
    return [value - centre for value in values]


def _alike(first: Collection[float], second: Collection[float]) -> bool:
    """Whether two metrics are one: their logarithms differ by a constant, or add up to one (a time and its rate)."""
    pairs = list(zip(first, second, strict=True))
    return any(max(abs(x - sign * y) for x, y in pairs) < 1e-9 for sign in (1, -1))


def _comparison(
    name: str,
    a: Side,
    b: Side,
    found: Difference,
    adjusted: tuple[str, float],
    below: tuple[float, Prior],
    warnings: tuple[str, ...],
) -> Comparison:
    metric, estimate, lower = metric_of(name), found.estimate, lower_is_better(name)
    fake, half = a.fake or b.fake, estimate.half_width
    ratio, low, high = (math.exp(estimate.value + shift) for shift in (0.0, -half, half))
    chances = (below[0], chance_below_zero(estimate))
    better = [None if fake else (one if lower else 1 - one) for one in chances]
    role, p_adjusted = adjusted
    return Comparison(
        metric=name,
        unit=metric.unit,
        a=mean(a.values[name]),
        b=mean(b.values[name]),
        ratio=Interval(ratio, low, high, found.n, estimate.p_value),
        covers=found.covers,
        method=found.method,
        between=found.between,
        assumed=found.assumed,
        role=role,
        p_adjusted=p_adjusted,
        verdict="" if fake else verdict_of(name, ratio, p_adjusted),
        probability_better=better[0],
        probability_flat=better[1],
        prior=str(below[1]),
        lower_is_better=lower,
        basis=a.basis if metric.scoped else None,
        notes=tuple(_assumptions(found)),
        warnings=warnings,
    )


def verdict_of(metric: str, ratio: float, p_adjusted: float) -> str:
    """What a ratio says of the value that stands above: "better", "worse", or "" where it may be chance."""
    if p_adjusted > LEVEL:
        return ""
    return "better" if (ratio < 1) == lower_is_better(metric) else "worse"


def _assumptions(found: Difference) -> Iterator[str]:
    """What is in the interval by assumption alone."""
    if "processes" in found.assumed:
        yield (
            f"what differs between engine processes is not measured: a standard deviation of {ASSUMED_SD:.0%} between "
            "processes is assumed; `processes: 2` or more measures it"
        )
    if "drift" in found.assumed:
        yield (
            "the trials of one lie before those of the other, so drift is not separated: a standard deviation of "
            f"{ASSUMED_SD:.0%} is assumed between neighbours in time, and more over a longer distance; the order "
            "`blocks` and `processes: 2` or more, or a `reference`, separate it"
        )
    if "boards" in found.assumed:
        yield f"± {BOARD_BOUND:.0%} is assumed for the calibration of each board"


def _warnings(a: Side, b: Side) -> Iterator[str]:
    """What is not the same of both experiments, so that the comparison is of more than one thing."""
    if other_places(a, b):
        told = [" and ".join(sorted(map(str, side.places))) for side in (a, b)]
        yield f"A and B ran in different places (A: {told[0]}, B: {told[1]}), which differ by themselves"
    if a.fake or b.fake:
        yield "echo is a fake, whose figures mean nothing: there is no verdict"
    names = dict.fromkeys((*a.work, *b.work))
    other = [name for name in names if a.work.get(name) != b.work.get(name)]
    if other:
        work = ", ".join(f"{name} {a.work.get(name)} and {b.work.get(name)}" for name in other)
        yield f"A and B do different work ({work}): their tokens and requests are not the same"
