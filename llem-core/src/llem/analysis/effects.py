"""What each value of an axis does to a metric, all else equal: ratios over pairs of points with intervals, and the
pairs one by one, each with the interval that its own trials give. Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs

from llem.analysis.compare import Comparison, Side, compare
from llem.errors import StoreError, nearest
from llem.metrics.metric import Basis
from llem.metrics.statistics import holm, log_interval, mean
from llem.store.files import canonical

__all__ = ["Effect", "Pair", "PairEffect", "Sample", "axis_effects", "find_axis", "pair_effects"]


@attrs.frozen
class Sample:
    """One measured point: the experiment, what it sets by axis, one metric of it (above 0) and what that covers."""

    id: str
    values: Mapping[str, Any]
    metric: float
    basis: Basis | None = None


@attrs.frozen
class Pair:
    """Two points, or two groups of them, that are equal in all other axes. `ratio` is value over reference.

    `reference` and `value` hold ids; a group (see `Effect.averaged`) enters by its geometric mean. `bases`: as of an
    Effect.
    """

    reference: tuple[str, ...]
    value: tuple[str, ...]
    ratio: float
    bases: tuple[Basis, ...] = ()


@attrs.frozen
class Effect:
    """What one value of an axis does to a metric, against the reference value.

    Attributes:
        ratio: geometric mean over the pairs of value / reference; None where no pair exists.
        low, high: Student's t on the logarithms over the pairs; None for fewer than two pairs.
        p_value: of no difference. p_adjusted: after Holm's correction over the values of the axis.
        averaged: axes that only some values of this axis have, and over which points were averaged.
        bases: of an energy, what those of the pairs cover and whether they are measured or modelled, each once; with
            more than one, the ratio is of different things.
    """

    axis: str
    metric: str
    reference: Any
    value: Any
    ratio: float | None
    low: float | None
    high: float | None
    p_value: float | None
    p_adjusted: float | None
    pairs: tuple[Pair, ...]
    averaged: tuple[str, ...]
    bases: tuple[Basis, ...] = ()


def find_axis(axes: Sequence[str], name: str) -> str:
    """The axis of this path, or the only one that ends with it. Raises StoreError (axis_unknown)."""
    if name in axes:
        return name
    ending = [axis for axis in axes if axis.endswith(f".{name}")]
    if len(ending) == 1:
        return ending[0]
    near = nearest(name, axes)
    known = f"known: {', '.join(axes)}" if axes else "nothing varies in this folder"
    hint = f"write one of {', '.join(ending)}" if ending else f"did you mean {near!r}?" if near else known
    raise StoreError(f"no axis {name!r}", hint, "axis_unknown")


def axis_effects(samples: Iterable[Sample], axis: str, metric: str, reference: Any = None) -> list[Effect]:
    """An effect for each value of the axis but the reference one, in the order in which the values come.

    Points are paired that are equal in all other axes, so that those axes cannot pass for this one. An axis that only
    some values of this one have (a backend's own) cannot be equal: points are averaged over it first, by their
    geometric mean.

    Args:
        reference: the value that others are divided by; None takes that of the first sample.

    Raises:
        StoreError: no point has the reference value (axis_unknown).
    """
    having = [sample for sample in samples if axis in sample.values]
    values = {_key(sample.values[axis]): sample.values[axis] for sample in having}
    if not values:
        return []
    base = next(iter(values)) if reference is None else _reference(values, axis, reference)
    averaged = _averaged(having, axis)
    cells: dict[str, dict[str, list[Sample]]] = {}
    for sample in having:
        rest = {path: v for path, v in sample.values.items() if path != axis and path not in averaged}
        cells.setdefault(_key(rest), {}).setdefault(_key(sample.values[axis]), []).append(sample)
    raw = []
    for key in values:
        if key != base:
            pairs = tuple(_pair(cell[base], cell[key]) for cell in cells.values() if base in cell and key in cell)
            raw.append(_effect(axis, metric, values[base], values[key], pairs, tuple(sorted(averaged))))
    tested = [effect.p_value for effect in raw if effect.p_value is not None]
    adjusted = iter(holm(tested)) if tested else iter(())
    return [attrs.evolve(one, p_adjusted=None if one.p_value is None else next(adjusted)) for one in raw]


def _key(value: Any) -> str:
    return canonical(value).decode()


def _reference(values: Mapping[str, Any], axis: str, wanted: Any) -> str:
    key = _key(wanted)
    if key in values:
        return key
    spelt = {value if isinstance(value, str) else key: key for key, value in values.items()}
    if str(wanted) in spelt:
        return spelt[str(wanted)]
    raise StoreError(f"no point has {axis} = {wanted}", f"its values: {', '.join(spelt)}", "axis_unknown")


def _averaged(samples: Sequence[Sample], axis: str) -> frozenset[str]:
    """Paths that the points of some values of the axis set, and the points of others never do."""
    by_value: dict[str, set[str]] = {}
    for sample in samples:
        by_value.setdefault(_key(sample.values[axis]), set()).update(sample.values)
    having = list(by_value.values())
    return frozenset(having[0].union(*having) - having[0].intersection(*having))


def _pair(reference: Sequence[Sample], value: Sequence[Sample]) -> Pair:
    logs = [mean([math.log(sample.metric) for sample in group]) for group in (reference, value)]
    first, second = (tuple(sample.id for sample in group) for group in (reference, value))
    bases = dict.fromkeys(sample.basis for sample in (*reference, *value) if sample.basis is not None)
    return Pair(first, second, math.exp(logs[1] - logs[0]), tuple(bases))


def _effect(
    axis: str, metric: str, reference: Any, value: Any, pairs: tuple[Pair, ...], averaged: tuple[str, ...]
) -> Effect:
    ratios = [pair.ratio for pair in pairs]
    bases = tuple(dict.fromkeys(itertools.chain.from_iterable(pair.bases for pair in pairs)))
    if len(ratios) < 2:
        only = ratios[0] if ratios else None
        return Effect(axis, metric, reference, value, only, None, None, None, None, pairs, averaged, bases)
    over = log_interval(ratios)
    return Effect(
        axis, metric, reference, value, over.value, over.low, over.high, over.p_value, None, pairs, averaged, bases
    )


@attrs.frozen
class PairEffect:
    """Two experiments that differ in one axis alone.

    Attributes:
        ratio: `value` over `reference`. low, high: from the trials of both, as `llem compare` has them; None where one
            has fewer than two trials, or a trial without the metric.
        p_adjusted: after Holm's correction over all pairs of the axis and the metric that have an interval.
        method: of the interval: "paired_by_block" or "welch"; empty for none.
        bases: as of an Effect.
    """

    axis: str
    metric: str
    reference: Any
    value: Any
    reference_id: str
    value_id: str
    ratio: float
    low: float | None = None
    high: float | None = None
    p_adjusted: float | None = None
    method: str = ""
    bases: tuple[Basis, ...] = ()


def pair_effects(effects: Iterable[Effect], sides: Callable[[str], Side]) -> list[PairEffect]:
    """Every pair of single experiments, in the order of the effects; pairs of averaged groups are none.

    Args:
        sides: an experiment's side of a comparison, with the metrics of the effects, by its id.
    """
    by_metric: dict[str, list[tuple[PairEffect, Comparison | None]]] = {}
    for effect in effects:
        for pair in effect.pairs:
            if len(pair.reference) == len(pair.value) == 1:
                (first,), (second,) = pair.reference, pair.value
                plain = PairEffect(
                    effect.axis, effect.metric, effect.reference, effect.value, first, second, pair.ratio,
                    bases=pair.bases,
                )  # fmt: skip
                found = _compared(sides(first), sides(second), effect.metric)
                by_metric.setdefault(effect.metric, []).append((plain, found))
    return [one for group in by_metric.values() for one in _adjusted(group)]


def _compared(first: Side, second: Side, metric: str) -> Comparison | None:
    """None without an interval: fewer than two trials, or trials that do not have the metric."""
    if any(metric not in side.values or len(side.trials) < 2 for side in (first, second)):
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
