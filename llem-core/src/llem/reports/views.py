"""What is shown of results, as plain data: tables, notes and warnings, without their layout. Pure.

Every view keeps what a number is of: scope, kind (measured or modelled), model, backend, validity and the reasons why
something is missing. Renderers (`console` and `tables` for a terminal, `export` for files) only lay out what is here
and in `ratios`.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from llem.analysis.overview import Overview, comparable, latency_energy_curve, overview_of
from llem.analysis.prices import Prices
from llem.config.arrival import GREATEST
from llem.metrics.catalogue import shown
from llem.metrics.metric import Basis, Metric, Place
from llem.reports.notes import absence_notes, absent, findings_text, interval_notes, price_note, rests_on_text
from llem.store.models import Quantity, Result

__all__ = [
    "Column",
    "CurveView",
    "ResultView",
    "StudyView",
    "configuration",
    "counts",
    "curve_views",
    "in_common",
    "load_text",
    "metrics_shown",
    "rated",
    "result_view",
    "study_view",
    "varied",
]

#: Reasons that need no line of their own, because the reader does not expect the number.
QUIET = frozenset({"not_requested", "no_gpu", "offline_load", "closed_load", "too_few_values"})


def metrics_shown(*places: Place, prices: Prices | None = None) -> list[str]:
    """Names of what is shown at these places by default; with prices, also of cost and carbon."""
    rows = (metric for place in places for metric in (*shown(place), *(prices.shown(place) if prices else ())))
    return list(dict.fromkeys(metric.name for metric in rows))


def rated(metric: Metric) -> str:
    """Name of a metric in words; of a rate "a second" stands in it."""
    return f"{metric.label}/s" if metric.unit.endswith("/s") else metric.label


def load_text(load: Mapping[str, Any]) -> str:
    """How requests arrive, in few words."""
    kind = load.get("kind", "offline")
    if kind == "closed":
        return f"{load.get('concurrency', '?')} clients"
    if kind == "open":
        share = load.get("capacity_share")
        if load.get("request_rate") == GREATEST:
            return "greatest rate under the SLO"
        return f"{load['request_rate']:g} requests/s" if share is None else f"{share:.0%} of capacity"
    if kind == "replay":
        return "trace" + ("" if load["speed"] == 1 else f" × {load['speed']:g}")
    if kind == "command":
        return str(load.get("name") or shlex.join(load.get("argv", ())))
    return f"batch {load.get('batch_size', '?')}"


def configuration(row: Overview, *, load: bool = True) -> str:
    """Backend, model, dtype and load in a line."""
    asked = (row.backend, row.model, row.dtype, load_text(row.load) if load else None)
    return " · ".join(str(part) for part in asked if part)


def _parts(row: Overview) -> dict[str, str]:
    """What `configuration` says, by the setting that it is of."""
    found = {"backend": row.backend, "model": row.model, "dtype": row.dtype, "load": load_text(row.load)}
    return {name: part for name, part in found.items() if part}


def varied(study: Mapping[str, Any], ids: Iterable[str]) -> list[str]:
    """Paths that are not the same for all these experiments, in the study's order."""
    values = [study.get("points", {}).get(name, {}).get("values", {}) for name in ids]
    return [path for path in study.get("axes", ()) if len({repr(one.get(path)) for one in values}) > 1]


# one result


@attrs.frozen
class ResultView:
    """One experiment at length.

    Attributes:
        state: whether it may be relied on, in words.
        figures: what is shown of its metrics; of those that are missing for one reason, the first.
        latencies: by label the mean and the percentiles; nothing for an offline load.
        latencies_rest_on: what their intervals rest on, in words.
        prices: what amounts were computed with, in words; "" where there are none.
    """

    result: Result
    configuration: str
    state: str
    figures: tuple[tuple[Metric, Quantity], ...]
    latencies: Mapping[str, Mapping[str, Quantity | None]]
    latencies_rest_on: str
    prices: str = ""


def result_view(result: Result, prices: Prices | None = None, gpus: int | None = None) -> ResultView:
    """The view of a Result.

    Args:
        prices: that it has metrics of cost and carbon by; and the number of GPUs that a cost counts.
    """
    overview = overview_of(result, ())
    state = "publishable" if result.publishable else "valid, not publishable" if result.valid else "not valid"
    latencies: dict[str, dict[str, Quantity | None]] = {}
    if result.trials and overview.load.get("kind", "offline") != "offline":
        for metric in shown("latencies"):
            label, part = metric.part
            latencies.setdefault(label, {})[part] = result.metrics.get(metric.name)
    found = [one for parts in latencies.values() for one in parts.values()]
    if not any(one is not None and one.value is not None for one in found):  # of a command that told of no request
        latencies = {}
    rests_on = rests_on_text(found)
    priced = prices.shown("result") if prices else []
    note = price_note(prices, [attrs.evolve(overview_of(result), gpus=gpus)]) if prices else ""
    figures = tuple(_figures(result, [*shown("result", result.metrics), *priced]))
    return ResultView(result, configuration(overview), state, figures, latencies, rests_on, note)


def _figures(result: Result, metrics: Iterable[Metric]) -> Iterable[tuple[Metric, Quantity]]:
    told: set[str | None] = set(QUIET)
    for metric in metrics:
        quantity = result.metrics.get(metric.name)
        if quantity is None or (quantity.value is None and quantity.reason in told):
            continue
        if quantity.value is None:
            told.add(quantity.reason)
        yield metric, quantity


# many results


@attrs.frozen
class Column:
    """A metric over the rows of a table. `basis`: what all of them cover; None for no energy, or where they differ."""

    metric: Metric
    basis: Basis | None

    @property
    def heading(self) -> str:
        words = self.metric.heading or self.metric.label
        return words if self.basis is None else f"{words} ({self.basis})"


@attrs.frozen
class CurveView:
    """Experiments that differ in the rate of arrivals alone, by it. `rests_on`: as of `StudyView`."""

    configuration: str
    columns: tuple[Column, ...]
    rows: tuple[Overview, ...]
    mixed: bool
    rests_on: Mapping[str, str]


@attrs.frozen
class StudyView:
    """Experiments in a line each.

    Attributes:
        axes: paths that vary; none where no study says so.
        values: what each experiment sets, by id and path.
        configurations: what rows differ in beside the axes, by id; nothing where the axes say it all.
        mixed: energies of the rows cover different things, or are measured in some and modelled in others.
        rests_on: what the intervals of a row rest on, by id: `n = 5, one process`.
        unlike: metrics that rows lack for different reasons.
        notes: what all rows have in common, what the intervals cover, why figures are missing (each reason once), how
            many rows are valid, and their findings.
    """

    axes: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[Overview, ...]
    values: Mapping[str, Mapping[str, Any]]
    configurations: Mapping[str, str]
    mixed: bool
    rests_on: Mapping[str, str]
    unlike: frozenset[str]
    notes: tuple[str, ...]
    curves: tuple[CurveView, ...]


def study_view(
    rows: Iterable[Overview], study: Mapping[str, Any], further: Iterable[str] = (), prices: Prices | None = None
) -> StudyView:
    """The view of experiments in the order given, which have the metrics of "study" and "curve"; of study.json.

    Args:
        further: notes beside its own.
        prices: that rows have metrics of cost and carbon by.
    """
    listed = tuple(rows)
    points = study.get("points", {})
    axes = varied(study, [row.id for row in listed])
    place: Place = "study" if axes else "effects"  # a configuration in words leaves less room
    columns = _columns([*shown(place), *(prices.shown(place) if prices else ())], listed)
    rests_on = _rows_rest_on(listed, columns)
    lacking = absent(listed, [column.metric for column in columns])
    same = in_common(listed, load=not any(path.startswith("load") for path in axes))
    notes = [f"all: {same}"] if axes and same else []
    notes += [*interval_notes(rests_on), *absence_notes(lacking), *further]
    if _mixed(listed):
        notes.append("energies differ in what they cover, or some are measured and others modelled: see `energy`")
    valid, publishable = (sum(getattr(row, name) for row in listed) for name in ("valid", "publishable"))
    codes = findings_text(counts(code for row in listed for code in row.codes))
    notes.append(f"{valid} of {len(listed)} valid, {publishable} publishable{codes}")
    notes += [price_note(prices, listed)] if prices else []
    return StudyView(
        axes=tuple(axes),
        columns=columns,
        rows=listed,
        values={row.id: points.get(row.id, {}).get("values", {}) for row in listed},
        configurations=_configurations(listed, axes),
        mixed=_mixed(listed),
        rests_on=rests_on,
        unlike=frozenset(metric.name for metric, reasons in lacking.items() if len(reasons) > 1),
        notes=tuple(notes),
        curves=curve_views(listed),
    )


def counts(found: Iterable[str], most: int | None = None) -> dict[str, int]:
    """How often each comes, the commonest first."""
    return dict(Counter(found).most_common(most))


def in_common(rows: Iterable[Overview], *, load: bool = False) -> str:
    """What of backend, model and dtype (and load) all rows have alike."""
    found = [_parts(row) for row in rows]
    names = ("backend", "model", "dtype", *(("load",) if load else ()))
    return " · ".join(found[0][name] for name in names if name in found[0] and _alike(found, name)) if found else ""


def _alike(found: Iterable[Mapping[str, str]], name: str) -> bool:
    return len({parts.get(name) for parts in found}) < 2


def _configurations(rows: Sequence[Overview], axes: Sequence[str]) -> dict[str, str]:
    found = {row.id: _parts(row) for row in rows}
    if not axes:
        return {name: " · ".join(parts.values()) for name, parts in found.items()}
    told = {path.partition(".")[0] for path in axes}
    apart = [name for name in ("backend", "model", "dtype", "load") if not _alike(found.values(), name)]
    kept = [name for name in apart if name not in told]
    return {one: " · ".join(parts.get(name, "–") for name in kept) for one, parts in found.items()} if kept else {}


def _rows_rest_on(rows: Iterable[Overview], columns: Sequence[Column]) -> dict[str, str]:
    return {row.id: rests_on_text(row.metrics.get(column.metric.name) for column in columns) for row in rows}


def _mixed(rows: Iterable[Overview]) -> bool:
    return len({row.basis for row in rows if row.basis is not None}) > 1


def _columns(metrics: Iterable[Metric], rows: Sequence[Overview]) -> tuple[Column, ...]:
    found = {row.basis for row in rows if row.basis is not None}
    shared = found.pop() if len(found) == 1 else None
    return tuple(Column(metric, shared if metric.scoped else None) for metric in metrics)


def curve_views(rows: Iterable[Overview]) -> tuple[CurveView, ...]:
    """A curve for every group of experiments that differ in the rate of arrivals alone."""
    found = []
    for group in comparable(rows):
        points = latency_energy_curve(group)
        if len(points) > 1:
            metrics = sorted(shown("curve"), key=lambda metric: metric.direction is not None)  # what was asked is first
            name = configuration(points[0], load=False)
            columns = _columns(metrics, points)
            rests_on = _rows_rest_on(points, columns)
            found.append(CurveView(name, columns, points, _mixed(points), rests_on))
    return tuple(found)
