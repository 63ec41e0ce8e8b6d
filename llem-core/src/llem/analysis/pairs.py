"""The pairs behind an axis's effects one by one, each with the interval that its own trials give. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs

from llem.analysis.compare import COMPARED, Comparison, compare, trial_values
from llem.analysis.effects import Effect
from llem.metrics.statistics import holm
from llem.store.models import Trial

__all__ = ["PairEffect", "pair_effects"]


@attrs.frozen
class PairEffect:
    """Two experiments that differ in one axis alone.

    Attributes:
        ratio: `value` over `reference`. low, high: from the trials of both, as `llem compare` has them; None where one
            has fewer than two trials, or a trial without the metric.
        p_adjusted: after Holm's correction over all pairs of the axis and the metric that have an interval.
        method: of the interval: "paired_by_block" or "welch"; empty for none.
    """

    axis: str
    metric: str
    reference: Any
    value: Any
    reference_id: str
    value_id: str
    ratio: float
    low: float | None
    high: float | None
    p_adjusted: float | None
    method: str


def pair_effects(effects: Iterable[Effect], trials: Callable[[str], Sequence[Trial]]) -> list[PairEffect]:
    """Every pair of single experiments, in the order of the effects; pairs of averaged groups are none.

    Args:
        trials: those of an experiment, by its id.
    """
    by_metric: dict[str, list[tuple[PairEffect, Comparison | None]]] = {}
    for effect in effects:
        for pair in effect.pairs:
            if len(pair.reference) == len(pair.value) == 1:
                (first,), (second,) = pair.reference, pair.value
                plain = PairEffect(
                    effect.axis, effect.metric, effect.reference, effect.value, first, second, pair.ratio,
                    None, None, None, "",
                )  # fmt: skip
                found = _compared(trials(first), trials(second), effect.metric)
                by_metric.setdefault(effect.metric, []).append((plain, found))
    return [one for group in by_metric.values() for one in _adjusted(group)]


def _compared(first: Sequence[Trial], second: Sequence[Trial], metric: str) -> Comparison | None:
    if metric not in COMPARED or min(len(first), len(second)) < 2:
        return None
    if any(trial_values(side, metric) is None for side in (first, second)):
        return None
    return compare(first, second, [metric])[0]


def _adjusted(group: Sequence[tuple[PairEffect, Comparison | None]]) -> list[PairEffect]:
    tested = [found.ratio.p_value or 0.0 for _, found in group if found is not None]
    adjusted = iter(holm(tested)) if tested else iter(())
    return [
        plain
        if found is None
        else attrs.evolve(
            plain,
            ratio=found.ratio.value,
            low=found.ratio.low,
            high=found.ratio.high,
            p_adjusted=next(adjusted),
            method=found.method,
        )
        for plain, found in group
    ]
