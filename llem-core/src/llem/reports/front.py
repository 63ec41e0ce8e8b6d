"""A Pareto front as plain data: what no other configuration beats in two metrics. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from llem.analysis.collection import Front
from llem.analysis.overview import Overview, basis_of
from llem.metrics.catalogue import PRICED, lower_is_better
from llem.metrics.metric import Basis
from llem.reports.configurations import configuration, in_common, own_columns, point_text, varied
from llem.reports.notes import interval_notes, price_note, rests_on_text
from llem.reports.views import Column, unit_of_column

__all__ = ["FrontRow", "FrontView", "front_document", "front_view"]


@attrs.frozen
class FrontRow:
    """A configuration that is not dominated with a probability of 0.95.

    Attributes:
        values: of the study's axes. words: the configuration in words, where no axis has a column.
        dominated: the greatest probability with which another one dominates it. by: id of that one; None for none.
    """

    overview: Overview
    values: Mapping[str, Any]
    words: str
    dominated: float
    by: str | None


@attrs.frozen
class FrontView:
    """The front in two metrics, the best in the first one first.

    Attributes:
        columns: of the two metrics.
        axes: paths that vary over the study and have a column each.
        same: what all results of the front have in common, in words.
        count: of all results of the folder.
    """

    columns: tuple[Column, Column]
    axes: tuple[str, ...]
    same: str
    rows: tuple[FrontRow, ...]
    count: int
    notes: tuple[str, ...]


def front_view(front: Front, x: str, y: str, *, count: int) -> FrontView:
    """The view of a front. `count`: of the results of the folder."""
    study = front.study
    points = study.get("points", {})
    found = list(front.overviews((x, y)))
    values = {one.id: points.get(one.id, {}).get("values", {}) for one in found}
    axes = [path for path in varied(study, points) if any(path in one for one in values.values())]
    rows = [
        FrontRow(
            one,
            values[one.id],
            point_text(values[one.id], axes) if axes else configuration(one),
            front.dominated[one.id],
            front.by.get(one.id),
        )
        for one in found
    ]
    metrics = [front.metric_of(name) for name in (x, y)]
    columns = [Column(one, _basis(rows, one.name), *unit_of_column(one, found)) for one in metrics]
    return FrontView(
        columns=(columns[0], columns[1]),
        axes=own_columns(axes),
        same=in_common(found, load=not any(path.startswith("load") for path in axes)) if axes else "",
        rows=tuple(rows),
        count=count,
        notes=(*_notes(rows, columns, count), *_prices(front, rows, (x, y))),
    )


def _basis(rows: Sequence[FrontRow], name: str) -> Basis | None:
    """What the energies of a column cover; all of a front cover the same."""
    return next((basis for row in rows if (basis := basis_of(row.overview.metrics[name]))), None)


def _notes(rows: Sequence[FrontRow], columns: Sequence[Column], count: int) -> Iterator[str]:
    x, y = (f"{'less' if _lower(rows, column) else 'more'} of {column.metric.label}" for column in columns)
    yield f"{x} and {y} are better"
    of = f"{len(rows):,} of {count:,} results"
    yield f"{of}: every other one is dominated with a probability of 0.95 or more, or cannot be ranked"
    names = [column.metric.name for column in columns]
    rests_on = {row.overview.id: rests_on_text(row.overview.metrics[name] for name in names) for row in rows}
    yield from interval_notes(rests_on)


def _prices(front: Front, rows: Sequence[FrontRow], metrics: Sequence[str]) -> Iterator[str]:
    """What amounts were computed with, where a metric is one."""
    if front.prices is not None and any(name in PRICED for name in metrics):
        yield price_note(front.prices, [row.overview for row in rows])


def _lower(rows: Sequence[FrontRow], column: Column) -> bool:
    name = column.metric.name
    return lower_is_better(name, [row.overview.metrics[name] for row in rows])


def front_document(view: FrontView) -> dict[str, Any]:
    """The front as JSON values."""
    x, y = (column.metric.name for column in view.columns)
    rows = [
        {
            "id": row.overview.id,
            "values": dict(row.values),
            "x": attrs.asdict(row.overview.metrics[x]),
            "y": attrs.asdict(row.overview.metrics[y]),
            "dominated": row.dominated,
            "by": row.by,
        }
        for row in view.rows
    ]
    return {"x": x, "y": y, "results": view.count, "front": rows}
