"""What each value of an axis does to a metric, all else equal: ratios over pairs of points with intervals. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from llem.errors import StoreError, nearest
from llem.metrics.statistics import holm, log_interval, mean
from llem.store.serial import canonical

__all__ = ["Effect", "Pair", "Sample", "axis_effects", "find_axis"]


@attrs.frozen
class Sample:
    """One measured point: the experiment, what it sets by axis, and one metric of it (above 0)."""

    id: str
    values: Mapping[str, Any]
    metric: float


@attrs.frozen
class Pair:
    """Two points, or two groups of them, that are equal in all other axes. `ratio` is value over reference.

    `reference` and `value` hold ids; a group (see `Effect.averaged`) enters by its geometric mean.
    """

    reference: tuple[str, ...]
    value: tuple[str, ...]
    ratio: float


@attrs.frozen
class Effect:
    """What one value of an axis does to a metric, against the reference value.

    Attributes:
        ratio: geometric mean over the pairs of value / reference; None where no pair exists.
        low, high: Student's t on the logarithms over the pairs; None for fewer than two pairs.
        p_value: of no difference. p_adjusted: after Holm's correction over the values of the axis.
        averaged: axes that only some values of this axis have, and over which points were averaged.
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
    return Pair(first, second, math.exp(logs[1] - logs[0]))


def _effect(
    axis: str, metric: str, reference: Any, value: Any, pairs: tuple[Pair, ...], averaged: tuple[str, ...]
) -> Effect:
    ratios = [pair.ratio for pair in pairs]
    if len(ratios) < 2:
        only = ratios[0] if ratios else None
        return Effect(axis, metric, reference, value, only, None, None, None, None, pairs, averaged)
    over = log_interval(ratios)
    return Effect(
        axis, metric, reference, value, over.value, over.low, over.high, over.p_value, None, pairs, averaged
    )  # fmt: skip
