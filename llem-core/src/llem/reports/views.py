"""What is shown of results, as plain data: tables, notes and warnings, without their layout. Pure.

Every view keeps what a number is of: scope, kind (measured or modelled), model, backend, validity and the reasons why
something is missing. Renderers (`console` and `tables` for a terminal, `export` for files) only lay out what is here
and in `ratios`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from llem.analysis.overview import Overview, comparable, latency_energy_curve, overview_of
from llem.analysis.prices import Prices
from llem.config.load import COMMAND
from llem.metrics.catalogue import shown
from llem.metrics.metric import Basis, Metric, Place
from llem.reports.configurations import configuration, in_common, load_text, own_columns, own_words, varied
from llem.reports.figures import scaled
from llem.reports.notes import (
    absence_notes,
    absent,
    failure_notes,
    findings_text,
    interval_notes,
    price_note,
    rests_on_text,
)
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
    "unit_of_column",
    "varied",
]

#: Reasons that need no line of their own, because the reader does not expect the number.
QUIET = frozenset(
    {
        *("not_requested", "no_gpu", "offline_load", "closed_load", "too_few_values", "cache_not_told"),
        "phases_side_by_side",
    }
)


def metrics_shown(*places: Place, prices: Prices | None = None) -> list[str]:
    """Names of what is shown at these places by default; with prices, also of cost and carbon."""
    rows = (metric for place in places for metric in (*shown(place), *(prices.shown(place) if prices else ())))
    return list(dict.fromkeys(metric.name for metric in rows))


def rated(metric: Metric) -> str:
    """Name of a metric in words; of a rate "a second" stands in it."""
    return f"{metric.label}/s" if metric.unit.endswith("/s") else metric.label


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
    """A metric over the rows of a table.

    Attributes:
        basis: what all of them cover; None for no energy, or where they differ.
        unit, divisor: the unit that the heading says of a metric whose name in tables says none, and what values are
            divided by for it. Empty: each cell says its own.
    """

    metric: Metric
    basis: Basis | None
    unit: str = ""
    divisor: float = 1.0

    @property
    def heading(self) -> str:
        words = self.metric.heading or self.metric.label
        words = f"{words}, {self.unit}" if self.unit else words
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
        axes: paths that have a column each; none where many vary, or where no study says what does.
        same: what all rows have in common, in words; "" for nothing.
        values: what each experiment sets, by id and path.
        configurations: what rows differ in beside these axes, in words, by id; nothing where the axes say it all.
        mixed: energies of the rows cover different things, or are measured in some and modelled in others.
        rests_on: what the intervals of a row rest on, by id: `n = 5, one process`.
        unlike: metrics that rows lack for different reasons.
        notes: what the intervals cover, why figures are missing (each reason once), why experiments failed, how many
            rows are valid, and their findings.
    """

    axes: tuple[str, ...]
    same: str
    columns: tuple[Column, ...]
    rows: tuple[Overview, ...]
    values: Mapping[str, Mapping[str, Any]]
    configurations: Mapping[str, str]
    mixed: bool
    rests_on: Mapping[str, str]
    unlike: frozenset[str]
    notes: tuple[str, ...]
    curves: tuple[CurveView, ...]


#: Groups of metrics that a table has a column of only where some row has a value.
WHERE_KNOWN = ("latency", "hardware", "phases")
#: The metric that a table leaves out where latencies, or configurations in words alone, take its room.
GIVES_WAY = "power_w"


def study_view(
    rows: Iterable[Overview],
    study: Mapping[str, Any],
    further: Iterable[str] = (),
    prices: Prices | None = None,
    metrics: Sequence[Metric] | None = None,
) -> StudyView:
    """The view of experiments in the order given, which have the metrics of "study" and "curve"; of study.json.

    Args:
        further: notes beside its own.
        prices: that rows have metrics of cost and carbon by.
        metrics: the columns, which rows have; None takes those of "study".
    """
    listed = tuple(rows)
    points = study.get("points", {})
    values = {row.id: points.get(row.id, {}).get("values", {}) for row in listed}
    axes = varied(study, values)
    usual = [*_usual(listed, bool(axes)), *(prices.shown("study") if prices else ())]
    columns = _columns(usual if metrics is None else metrics, listed, scaling=True)
    rests_on = _rows_rest_on(listed, columns)
    lacking = absent(listed, [column.metric for column in columns])
    notes = [*interval_notes(rests_on), *absence_notes(lacking), *failure_notes(listed), *further]
    if _mixed(listed):
        notes.append("energies differ in what they cover, or some are measured and others modelled: see `energy`")
    valid, publishable = (sum(getattr(row, name) for row in listed) for name in ("valid", "publishable"))
    codes = findings_text(counts(code for row in listed for code in row.codes))
    notes.append(f"{valid} of {len(listed)} valid, {publishable} publishable{codes}")
    notes += [price_note(prices, listed)] if prices else []
    return StudyView(
        axes=own_columns(axes),
        same=in_common(listed, load=not any(path.startswith("load") for path in axes)),
        columns=columns,
        rows=listed,
        values=values,
        configurations=own_words(listed, axes, values),
        mixed=_mixed(listed),
        rests_on=rests_on,
        unlike=frozenset(metric.name for metric, reasons in lacking.items() if len(reasons) > 1),
        notes=tuple(notes),
        curves=curve_views(listed),
    )


def _usual(rows: Sequence[Overview], has_axes: bool) -> list[Metric]:
    """The columns of a table by default: of metered commands also what needs no tokens."""
    found = [
        metric
        for metric in shown("study")
        if metric.group not in WHERE_KNOWN or any(row.value(metric.name) is not None for row in rows)
    ]
    if rows and all(row.load.get("kind") == COMMAND for row in rows):
        return [*shown("commands"), *(one for one in found if any(row.value(one.name) is not None for row in rows))]
    full = not has_axes or any(metric.group == "latency" for metric in found)
    return [metric for metric in found if not (full and metric.name == GIVES_WAY)]


def counts(found: Iterable[str], most: int | None = None) -> dict[str, int]:
    """How often each comes, the commonest first."""
    return dict(Counter(found).most_common(most))


def _rows_rest_on(rows: Iterable[Overview], columns: Sequence[Column]) -> dict[str, str]:
    return {row.id: rests_on_text(row.metrics.get(column.metric.name) for column in columns) for row in rows}


def _mixed(rows: Iterable[Overview]) -> bool:
    return len({row.basis for row in rows if row.basis is not None}) > 1


def _columns(metrics: Iterable[Metric], rows: Sequence[Overview], *, scaling: bool = False) -> tuple[Column, ...]:
    """The columns of these metrics. `scaling`: units stand in headings, so that a column has one."""
    found = {row.basis for row in rows if row.basis is not None}
    shared = found.pop() if len(found) == 1 else None
    return tuple(
        Column(metric, shared if metric.scoped else None, *(unit_of_column(metric, rows) if scaling else ()))
        for metric in metrics
    )


def unit_of_column(metric: Metric, rows: Iterable[Overview]) -> tuple[str, float]:
    """The unit of a column by its middle value, and what values are divided by. None where its name says a unit."""
    if metric.says_unit or not metric.unit:
        return "", 1.0
    values = sorted(abs(value) for row in rows if (value := row.value(metric.name)) is not None)
    return scaled(values[len(values) // 2], metric.unit) if values else (metric.unit, 1.0)


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
