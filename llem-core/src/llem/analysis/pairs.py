"""The pairs that effects pool, one by one, each with the interval that its own trials give. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import attrs

from llem.analysis.background import Background
from llem.analysis.compare import Comparison, compare, verdict_of
from llem.analysis.effects import Effect
from llem.analysis.sides import Side
from llem.metrics.metric import Basis
from llem.metrics.statistics import holm

__all__ = ["PairEffect", "pair_effects"]


@attrs.frozen
class PairEffect:
    """Two experiments that differ in one axis alone.

    Attributes:
        ratio: `value` over `reference`; None where their energies cover different things. low, high: from the trials
            of both, as `llem compare` has them; None where one has too few trials, or a trial without the metric.
        p_adjusted: after Holm's correction over all pairs and metrics shown.
        method: of the interval, as of a Comparison; empty for none. assumed, covers: as of a Comparison.
        bases: as of an Effect.
        verdict: "better" or "worse" than the reference where `p_adjusted` is 0.05 or less, else "". None of a fake.
    """

    axis: str
    metric: str
    reference: Any
    value: Any
    reference_id: str
    value_id: str
    ratio: float | None
    low: float | None = None
    high: float | None = None
    p_adjusted: float | None = None
    method: str = ""
    covers: str = ""
    assumed: tuple[str, ...] = ()
    bases: tuple[Basis, ...] = ()
    verdict: str = ""


def pair_effects(
    effects: Iterable[Effect], sides: Callable[[str], Side], background: Background | None = None
) -> list[PairEffect]:
    """Every pair of single experiments, in the order of the effects; pairs of averaged groups are none.

    Args:
        sides: an experiment's side of a comparison, with the metrics of the effects, by its id.
        background: of the study.
    """
    found: list[tuple[PairEffect, Comparison | None]] = []
    for effect in effects:
        for pair in effect.pairs:
            if len(pair.reference) == len(pair.value) == 1:
                (first,), (second,) = pair.reference, pair.value
                plain = PairEffect(
                    effect.axis, effect.metric, effect.reference, effect.value, first, second, pair.ratio,
                    bases=pair.bases,
                )  # fmt: skip
                found.append((plain, _compared(sides(first), sides(second), effect.metric, background)))
    return _adjusted(found)


def _compared(first: Side, second: Side, metric: str, background: Background | None) -> Comparison | None:
    """None without an interval: too few trials, trials that do not have the metric, or energies of different things."""
    if any(metric not in side.values or len(side.runs) < 2 for side in (first, second)):
        return None
    if first.basis_of(metric) != second.basis_of(metric):
        return None
    return compare(first, second, [metric], background)[0]


def _adjusted(found: list[tuple[PairEffect, Comparison | None]]) -> list[PairEffect]:
    tested = [one.ratio.p_value or 0.0 for _, one in found if one is not None]
    corrected = iter(holm(tested)) if tested else iter(())
    return [plain if one is None else _with(plain, one, next(corrected)) for plain, one in found]


def _with(plain: PairEffect, found: Comparison, p_adjusted: float) -> PairEffect:
    fake = found.probability_better is None
    return attrs.evolve(
        plain,
        ratio=found.ratio.value,
        low=found.ratio.low,
        high=found.ratio.high,
        p_adjusted=p_adjusted,
        method=found.method,
        covers=found.covers,
        assumed=found.assumed,
        verdict="" if fake else verdict_of(found.ratio.value, p_adjusted, lower=found.lower_is_better),
    )
