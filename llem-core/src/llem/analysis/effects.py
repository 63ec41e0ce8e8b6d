"""What each value of an axis does to a metric, all else equal: ratios over pairs of points, with intervals. Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence, Set
from typing import Any

import attrs

from llem.analysis.cells import Between, Cell, Kind, Sample, cell_of, pooled, sample_of
from llem.analysis.compare import verdict_of
from llem.analysis.overview import Overview, basis_of
from llem.analysis.ranking import only_fakes
from llem.analysis.sides import is_fake
from llem.errors import StoreError, nearest
from llem.metrics.catalogue import lower_is_better
from llem.metrics.metric import Basis
from llem.metrics.statistics import holm, mean
from llem.store.files import canonical

__all__ = ["Effect", "Pair", "adjusted", "axis_effects", "between", "effects_of", "find_axis"]


@attrs.frozen
class Pair:
    """Two points, or two groups of them, that are equal in all other axes. `ratio` is value over reference.

    `reference` and `value` hold ids; a group (see `Effect.averaged`) enters by its geometric mean. `bases`: as of an
    Effect. The ratio of different bases is None.
    """

    reference: tuple[str, ...]
    value: tuple[str, ...]
    ratio: float | None
    bases: tuple[Basis, ...] = ()


@attrs.frozen
class Effect:
    """What one value of an axis does to a metric, against the reference value.

    Attributes:
        ratio: geometric mean over the pairs of value / reference; None where no pair exists, or with several bases. It
            is of these pairs: if the effect depends on other axes, others that were not measured may have another one.
        low, high: from the scatter over the pairs and the errors of the trials (see `llem.analysis.cells.pooled`);
            None where neither is known.
        p_value: of no difference. p_adjusted: after Holm's correction over all effects of the study: every axis, every
            value, every metric.
        averaged: axes that only some values of this axis have, and over which points were averaged.
        bases: of an energy, what those of the pairs cover and whether they are measured or modelled, each once.
        between: what differs between engine processes, and is "shared", "measured" or "assumed"; see
            `llem.analysis.cells.Pooled`. assumed: what is in the interval by assumption alone: "processes", "drift".
        verdict: "better" or "worse" than the reference where `p_adjusted` is 0.05 or less, else "". None of a fake.
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
    assumed: tuple[str, ...] = ()
    verdict: str = ""
    between: str = ""


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


def between(samples: Iterable[Sample], spanning: Set[str] = frozenset()) -> dict[Kind, Between]:
    """What the points of each backend and basis measured; none where no point has two processes.

    Points that share their engine processes count as one, as in `llem.analysis.variance.spread`; its block effects are
    not removed here. Of an interval that has a part which all trials share, that part is in it.

    Args:
        spanning: ids of points that were measured from the study's beginning to its end.
    """
    groups: dict[Kind, dict[Hashable, list[Sample]]] = {}
    for one in samples:
        if one.error is not None and one.processes > 1:
            engine = min(one.workers) if one.workers else one.id
            groups.setdefault(one.kind, {}).setdefault(engine, []).append(one)
    return {kind: _between(list(engines.values()), spanning) for kind, engines in groups.items()}


def _between(engines: Sequence[Sequence[Sample]], spanning: Set[str]) -> Between:
    squares = freedom = 0.0
    for members in engines:
        squares += mean([one.error[0] ** 2 * one.processes * one.error[1] for one in members if one.error])
        freedom += mean([one.error[1] for one in members if one.error])
    return Between(squares / freedom, freedom, all(one.id in spanning for members in engines for one in members))


def axis_effects(
    samples: Iterable[Sample],
    axis: str,
    metric: str,
    reference: Any = None,
    *,
    sequential: bool = False,
    measured: Mapping[Kind, Between] | None = None,
) -> list[Effect]:
    """An effect for each value of the axis but the reference one, in the order in which the values come.

    Points are paired that are equal in all other axes, so that those axes cannot pass for this one. An axis that only
    some values of this one have (a backend's own) cannot be equal: points are averaged over it first, by their
    geometric mean. P-values are not adjusted yet; see `adjusted`.

    Args:
        reference: the value that others are divided by; None takes that of the first sample.
        sequential: whether the study ran all trials of one experiment before those of the next.
        measured: what the study says of engine processes; None takes these samples alone.

    Raises:
        StoreError: no point has the reference value (axis_unknown).
    """
    given = list(samples)
    known = between(given) if measured is None else measured
    having = [sample for sample in given if axis in sample.values]
    values = {_key(sample.values[axis]): sample.values[axis] for sample in having}
    if not values:
        return []
    base = next(iter(values)) if reference is None else _reference(values, axis, reference)
    averaged = _averaged(having, axis)
    groups: dict[str, dict[str, list[Sample]]] = {}
    for sample in having:
        rest = {path: v for path, v in sample.values.items() if path != axis and path not in averaged}
        groups.setdefault(_key(rest), {}).setdefault(_key(sample.values[axis]), []).append(sample)
    found = []
    for key in values:
        if key != base:
            cells = [cell_of(group[base], group[key]) for group in groups.values() if base in group and key in group]
            whole = Effect(
                axis, metric, values[base], values[key], None, None, None, None, None, (), tuple(sorted(averaged))
            )
            found.append(_with(whole, cells, sequential, known))
    return found


def adjusted(effects: Sequence[Effect], lower: Mapping[str, bool], *, fake: bool = False) -> list[Effect]:
    """The same with `p_adjusted`, Holm's (1979) over all of them, and a verdict that follows from it alone.

    Args:
        lower: of each metric, whether less of it is better.
        fake: whether they are of a fake, so that there is no verdict.
    """
    tested = [effect.p_value for effect in effects if effect.p_value is not None]
    corrected = iter(holm(tested)) if tested else iter(())
    return [
        _judged(one, None if one.p_value is None else next(corrected), lower[one.metric], fake=fake) for one in effects
    ]


def _judged(effect: Effect, p_adjusted: float | None, lower: bool, *, fake: bool) -> Effect:
    if fake or p_adjusted is None or effect.ratio is None:
        return attrs.evolve(effect, p_adjusted=p_adjusted)
    verdict = verdict_of(effect.ratio, p_adjusted, lower=lower)
    return attrs.evolve(effect, p_adjusted=p_adjusted, verdict=verdict)


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


def _pair(cell: Cell) -> Pair:
    ratio = None if len(cell.bases) > 1 else math.exp(cell.log)
    return Pair(cell.reference, cell.value, ratio, cell.bases)


def _with(effect: Effect, cells: Sequence[Cell], sequential: bool, measured: Mapping[Kind, Between]) -> Effect:
    """The effect with what its cells say."""
    bases = tuple(dict.fromkeys(itertools.chain.from_iterable(cell.bases for cell in cells)))
    effect = attrs.evolve(effect, pairs=tuple(map(_pair, cells)), bases=bases)
    if not cells or len(bases) > 1:
        return effect
    whole = pooled(cells, sequential=sequential, measured=measured)
    estimate = whole.estimate
    ratio = math.exp(estimate.value)
    if math.isinf(estimate.error):
        return attrs.evolve(effect, ratio=ratio)
    low, high = (math.exp(estimate.value + side * estimate.half_width) for side in (-1, 1))
    return attrs.evolve(
        effect, ratio=ratio, low=low, high=high, p_value=estimate.p_value, assumed=whole.assumed, between=whole.between
    )


def effects_of(
    study: Mapping[str, Any],
    rows: Sequence[Overview],
    metrics: Sequence[str],
    workers: Callable[[str], frozenset[int]],
    references: Mapping[str, Any] | None = None,
) -> list[Effect]:
    """The effects of every axis on every metric, corrected as one family.

    Args:
        study: study.json. rows: overviews with these metrics.
        workers: of an experiment (see `llem.analysis.collection.workers_of`).
        references: by axis, the value that others are divided by.
    """
    points = study.get("points", {})
    placed = sorted(  # the file's order, so that the reference is the first value that the file gives
        ((points[row.id]["number"], row) for row in rows if row.valid and row.id in points),
        key=lambda pair: pair[0],
    )
    fake = only_fakes([row for _, row in placed])
    ranked = [row for _, row in placed if fake or not is_fake(row.backend)]
    engines = {row.id: workers(row.id) for row in ranked}
    sequential = (study.get("order") or {}).get("kind") == "sequential"
    named = study.get("reference")
    spanning = frozenset([named] if isinstance(named, str) else [])
    found = []
    for axis in study.get("axes", ()):
        for metric in metrics:
            samples = list(_samples(ranked, metric, points, engines))
            measured = between(samples, spanning)
            reference = (references or {}).get(axis)
            found += axis_effects(samples, axis, metric, reference, sequential=sequential, measured=measured)
    lower = {metric: lower_is_better(metric, [row.metrics.get(metric) for row in ranked]) for metric in metrics}
    return adjusted(found, lower, fake=fake)


def _samples(
    rows: Sequence[Overview], metric: str, points: Mapping[str, Any], engines: Mapping[str, frozenset[int]]
) -> Iterator[Sample]:
    """Of every row that has a value above 0."""
    for row in rows:
        one, point = row.metrics.get(metric), points[row.id]
        if one is not None and one.value is not None and one.value > 0:
            yield sample_of(row.id, point["values"], one, basis_of(one), engines[row.id], row.backend, point["number"])
