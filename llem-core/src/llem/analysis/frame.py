"""Results as columns: one row per experiment. Pure; the table libraries are imported where one is asked for."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llem.analysis.overview import Overview
from llem.errors import MachineError
from llem.metrics.catalogue import METRICS

__all__ = ["columns", "pandas_frame", "polars_frame"]

#: What every row says of its experiment, after the axes; those that are an axis stand there.
_FACTS = ("outcome", "trials", "valid", "publishable", "findings", "error", "backend", "model", "dtype")
#: Parts of a metric: the ending of the column's name, and the field. Only energies have scope and kind.
_PARTS = {"": "value", "_low": "low", "_high": "high", "_n": "n", "_reason": "reason"}
_SCOPED = {**_PARTS, "_scope": "scope", "_kind": "kind"}
_TEXTS = ("_reason", "_scope", "_kind")


def columns(
    rows: Iterable[Overview], points: Mapping[str, Mapping[str, Any]], axes: Sequence[str]
) -> dict[str, list[Any]]:
    """Columns of equal length, by name.

    `id`; each axis by its path; `outcome`, `trials`, `valid`, `publishable`, `findings` (codes), `error`, `backend`,
    `model`, `dtype`; then for each metric its value, `_low`, `_high`, `_n` and `_reason`, and of an energy `_scope` and
    `_kind`. None where a point sets no such axis, or nothing was measured. Values of an axis that are not all numbers,
    or not all text, become text.

    Args:
        points: what each experiment sets, by id.
    """
    head: dict[str, list[Any]] = {name: [] for name in ("id", *axes)}
    facts: dict[str, list[Any]] = {name: [] for name in _FACTS if name not in head}
    metrics: dict[str, list[Any]] = {}
    length = 0
    for length, row in enumerate(rows, 1):
        values = {**points.get(row.id, {}), "id": row.id}
        for name, column in head.items():
            column.append(values.get(name))
        for name, column in facts.items():
            column.append(list(row.codes) if name == "findings" else getattr(row, name))
        _add_metrics(metrics, row, length - 1)
    for column in metrics.values():
        column.extend([None] * (length - len(column)))
    known = (metric + ending for metric in METRICS for ending in _SCOPED)
    ordered = dict.fromkeys([*(name for name in known if name in metrics), *metrics])
    return {
        **{name: _one_kind(column) for name, column in head.items()},
        **facts,
        **{name: metrics[name] for name in ordered},
    }


def _add_metrics(found: dict[str, list[Any]], row: Overview, before: int) -> None:
    """`before`: rows before this one."""
    for metric, quantity in row.metrics.items():
        scoped = metric in METRICS and METRICS[metric].scoped
        for ending, part in (_SCOPED if scoped else _PARTS).items():
            column = found.setdefault(metric + ending, [])
            column.extend([None] * (before - len(column)))  # rows that lack the metric
            value = getattr(quantity, part)
            column.append(sys.intern(value) if isinstance(value, str) else value)


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
    empty = [name for name, column in found.items() if all(value is None for value in column)]
    text = (*_TEXTS, *_FACTS)
    kinds = {name: polars.String if name.endswith(text) else polars.Float64 for name in empty}
    return polars.DataFrame(dict(found), schema_overrides=kinds, strict=False, infer_schema_length=None)


def pandas_frame(found: Mapping[str, Sequence[Any]]) -> Any:
    """A `pandas.DataFrame`. Raises MachineError (requirement_missing) without pandas."""
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise _missing("pandas", "pip install pandas") from error
    return pandas.DataFrame(dict(found))


def _missing(name: str, install: str) -> MachineError:
    return MachineError(f"this table needs {name}, which is not installed", install, "requirement_missing")
