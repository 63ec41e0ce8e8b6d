"""Results as columns: one row per experiment. Pure; the table libraries are imported where one is asked for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llem.analysis.overview import Overview
from llem.errors import MachineError

__all__ = ["columns", "pandas_frame", "polars_frame"]

#: Parts of a metric, and what they add to the column's name.
_PARTS = (("value", ""), ("low", "_low"), ("high", "_high"), ("n", "_n"))


def columns(
    rows: Iterable[Overview], points: Mapping[str, Mapping[str, Any]], axes: Sequence[str]
) -> dict[str, list[Any]]:
    """Columns of equal length, by name.

    `id`; each axis by its path; `outcome`, `trials`, `valid`, `publishable`, `findings` (codes); then for each metric
    its value, and `_low`, `_high`, `_n`. None where a point sets no such axis, or nothing was measured. Values of an
    axis that are not all numbers, or not all text, become text.

    Args:
        points: what each experiment sets, by id.
    """
    head: dict[str, list[Any]] = {"id": []}
    head |= {axis: [] for axis in axes}
    tail: dict[str, list[Any]] = {name: [] for name in ("outcome", "trials", "valid", "publishable", "findings")}
    metrics: dict[str, list[Any]] = {}
    for number, row in enumerate(rows):
        head["id"].append(row.id)
        values = points.get(row.id, {})
        for axis in axes:
            head[axis].append(values.get(axis))
        for name in ("outcome", "trials", "valid", "publishable"):
            tail[name].append(getattr(row, name))
        tail["findings"].append(list(row.codes))
        _add_metrics(metrics, row, number)
    length = len(head["id"])
    for column in metrics.values():
        column.extend([None] * (length - len(column)))
    return {**{name: _one_kind(column) for name, column in head.items()}, **tail, **metrics}


def _add_metrics(found: dict[str, list[Any]], row: Overview, number: int) -> None:
    for metric, quantity in row.metrics.items():
        for part, ending in _PARTS:
            name = metric + ending
            if name not in found:
                found[name] = []
            column = found[name]
            if len(column) < number:  # rows before this one that lack the metric
                column.extend([None] * (number - len(column)))
            column.append(getattr(quantity, part))


def _one_kind(column: list[Any]) -> list[Any]:
    kinds = {type(value) for value in column if value is not None}
    if len(kinds) <= 1 and kinds <= {str, bool, int, float}:
        return column
    if kinds <= {int, float}:
        return [None if value is None else float(value) for value in column]
    return [value if value is None or isinstance(value, str) else json.dumps(value) for value in column]


def polars_frame(found: Mapping[str, Sequence[Any]]) -> Any:
    """A `polars.DataFrame`. Raises MachineError (requirement_missing) without polars."""
    try:
        import polars
    except ModuleNotFoundError as error:
        raise _missing("polars", "pip install 'llem-core[frames]'") from error
    numbers = {name: polars.Float64 for name, column in found.items() if all(value is None for value in column)}
    return polars.DataFrame(dict(found), schema_overrides=numbers, strict=False, infer_schema_length=None)


def pandas_frame(found: Mapping[str, Sequence[Any]]) -> Any:
    """A `pandas.DataFrame`. Raises MachineError (requirement_missing) without pandas."""
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise _missing("pandas", "pip install pandas") from error
    return pandas.DataFrame(dict(found))


def _missing(name: str, install: str) -> MachineError:
    return MachineError(f"this table needs {name}, which is not installed", install, "requirement_missing")
