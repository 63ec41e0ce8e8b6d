"""Two experiments against each other: ratios with intervals, verdicts, and how probable it is which is better. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import attrs

from llem.analysis.background import Background
from llem.analysis.difference import BOARD_BOUND, Between, Difference, other_places
from llem.analysis.shrinkage import Prior
from llem.analysis.sides import NOT_ABOVE_ZERO, Side
from llem.analysis.variance import ASSUMED_SD, chance_below_zero
from llem.display import Displayed
from llem.errors import StoreError
from llem.metrics.catalogue import lower_is_better
from llem.metrics.metric import Basis
from llem.metrics.statistics import Interval, holm, mean
from llem.store.models import HEADLINES

if TYPE_CHECKING:
    from llem.analysis.collection import Results

__all__ = ["HEADLINES", "LEVEL", "Compared", "Comparison", "compare", "verdict_of"]

#: A verdict needs an adjusted p-value of at most this.
LEVEL = 0.05


#: Why a side lacks a metric, where it does not say.
NOT_MEASURED = "not every trial has it"


@attrs.frozen(repr=False)
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

    def __repr__(self) -> str:
        one = self.ratio
        verdict, basis = f", B is {self.verdict}" if self.verdict else "", f", {self.basis}" if self.basis else ""
        figures = f"{one.value:.4g} ({one.low:.4g} to {one.high:.4g}, 95 %), p {self.p_adjusted:.2g}"
        return f"<Comparison {self.metric}: B / A {figures}{verdict}{basis}>"


class Compared(list[Comparison], Displayed):
    """The metrics of two experiments: a list, which a notebook shows as a table.

    Args:
        results: of the folder. a, b: ids of the two experiments.
    """

    def __init__(self, found: Iterable[Comparison], results: Results, a: str, b: str) -> None:
        super().__init__(found)
        self.results, self.a, self.b = results, a, b


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
    asked = dict.fromkeys((*a.values, *a.lacking) if metrics is None else metrics)
    common = [name for name in asked if name in a.values and name in b.values]
    lacking = list(_lacking(a, b, [name for name in asked if name not in common], every=metrics is not None))
    if not common:
        why = f": {'; '.join(lacking)}" if lacking else ""
        raise StoreError(f"the two experiments have no metric to compare{why}", "see `llem show`", "nothing_to_compare")
    left = _of_one_basis(a, b, common, asked=metrics is not None)
    study = Background((a, b)) if background is None else background
    found = {name: study.difference(a, b, name) for name in left}
    adjusted = _adjusted(a, b, {name: one.estimate.p_value for name, one in found.items()})
    warnings = [*_warnings(a, b), *lacking]
    warnings += [] if len(left) == len(common) else [_energies_differ(a, b, "they are left out")]
    below = {name: study.probability_below(a, b, name, found[name]) for name in left}
    return [_comparison(name, a, b, found[name], adjusted[name], below[name], tuple(warnings)) for name in left]


def _lacking(a: Side, b: Side, names: Iterable[str], *, every: bool) -> Iterator[str]:
    """Which metrics are left out, and why.

    Args:
        every: also those that a side did not measure; else only those that both measured, and that have no ratio.
    """
    for name in names:
        why = {letter: side.lacking.get(name, NOT_MEASURED) for letter, side in (("A", a), ("B", b))
               if name not in side.values}  # fmt: skip
        verb = "does not have" if len(why) == 1 else "do not have"
        if set(why.values()) == {NOT_ABOVE_ZERO}:
            yield f"{name} has no ratio: a ratio needs values above 0 in every trial, which {' and '.join(why)} {verb}"
        elif every:
            yield f"{name} is left out: " + ", ".join(f"of {letter} {one}" for letter, one in why.items())


def _of_one_basis(a: Side, b: Side, names: Sequence[str], *, asked: bool) -> list[str]:
    """All names, or those that are no energies where energies cover different things."""
    others = [name for name in names if a.basis_of(name) == b.basis_of(name)]
    if len(others) == len(names):
        return list(names)
    if not (asked and others):
        hint = "compare something else: `--metric output_tokens_per_s`"
        raise StoreError(_energies_differ(a, b, "their ratio says nothing"), hint, "energies_differ")
    return others


def _energies_differ(a: Side, b: Side, so: str) -> str:
    return f"energies of A and B differ in what they cover (A: {a.basis}, B: {b.basis}): {so}"


def _adjusted(a: Side, b: Side, p_values: Mapping[str, float]) -> dict[str, tuple[str, float]]:
    """Role and adjusted p-value of each metric; tested is the first of the headlines that both have."""
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
    estimate, lower, basis = found.estimate, lower_is_better(name), a.basis_of(name)
    fake, half = a.fake or b.fake, estimate.half_width
    ratio, low, high = (math.exp(estimate.value + shift) for shift in (0.0, -half, half))
    chances = (below[0], chance_below_zero(estimate))
    better = [None if fake else (one if lower else 1 - one) for one in chances]
    role, p_adjusted = adjusted
    return Comparison(
        metric=name,
        unit=a.unit_of(name),
        a=mean(a.values[name]),
        b=mean(b.values[name]),
        ratio=Interval(ratio, low, high, found.n, estimate.p_value),
        covers=found.covers,
        method=found.method,
        between=found.between,
        assumed=found.assumed,
        role=role,
        p_adjusted=p_adjusted,
        verdict="" if fake else verdict_of(ratio, p_adjusted, lower=lower),
        probability_better=better[0],
        probability_flat=better[1],
        prior=str(below[1]),
        lower_is_better=lower,
        basis=basis,
        notes=tuple(_assumptions(found, basis)),
        warnings=warnings,
    )


def verdict_of(ratio: float, p_adjusted: float, *, lower: bool) -> str:
    """What a ratio says of the value that stands above: "better", "worse", or "" where it may be chance.

    Args:
        lower: whether less of the metric is better.
    """
    if p_adjusted > LEVEL:
        return ""
    return "better" if (ratio < 1) == lower else "worse"


def _assumptions(found: Difference, basis: Basis | None) -> Iterator[str]:
    """What is in the interval by assumption alone. `basis`: of an energy."""
    if "processes" in found.assumed:
        yield (
            f"what differs between engine processes is not measured: a standard deviation of {ASSUMED_SD:.0%} between "
            "processes is assumed; `processes: 2` or more measures it"
        )
    if "drift" in found.assumed:
        yield (
            "the trials of one lie before those of the other, so drift is not separated: a standard deviation of "
            f"{ASSUMED_SD:.0%} is assumed, in a study that is not in random order the more, the longer the distance; "
            "the order `blocks` and `processes: 2` or more, or a `reference`, separate it"
        )
    if "boards" in found.assumed and basis is not None and basis.kind == "measured":
        yield f"± {BOARD_BOUND:.0%} is assumed for the calibration of each board"
    elif "boards" in found.assumed or "machines" in found.assumed:
        what = "boards of one kind differ" if "boards" in found.assumed else "machines of one kind differ"
        yield f"± {BOARD_BOUND:.0%} is assumed for each, by which {what}; of different kinds nothing is known"


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
