"""Results as columns: one row per experiment. Pure; the table libraries are imported where one is asked for."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from llem.analysis.overview import Overview
from llem.analysis.prices import Prices
from llem.errors import MachineError
from llem.metrics.catalogue import METRICS, is_metric, metric_of
from llem.metrics.quality import is_score

__all__ = ["columns", "pandas_frame", "polars_frame"]

#: What every row says of its experiment, after the axes; those that are an axis stand there.
_FACTS = ("outcome", "trials", "valid", "publishable", "findings", "error", "backend", "model", "dtype")
#: Parts of a metric: the ending of the column's name, and the field. Only energies have scope and kind.
_PARTS = {
    "": "value",
    "_low": "low",
    "_high": "high",
    "_n": "n",
    "_processes": "processes",
    "_covers": "covers",
    "_reason": "reason",
}
_SCOPED = {**_PARTS, "_scope": "scope", "_kind": "kind"}
_SCORED = {**_PARTS, "_score": "score", "_better": "better"}
_TEXTS = ("_covers", "_reason", "_scope", "_kind", "_score", "_better")
#: Reasons that nobody needs a column for: the number was not to be expected.
_EXPECTED = frozenset({"not_requested", "no_gpu", "offline_load", "closed_load", "no_price", "no_grid"})
#: Begins the names of columns that say what amounts were computed with.
_PRICES = "prices_"


def columns(
    rows: Iterable[Overview],
    points: Mapping[str, Mapping[str, Any]],
    axes: Sequence[str],
    *,
    everything: bool = False,
    prices: Prices | None = None,
) -> dict[str, list[Any]]:
    """Columns of equal length, by name.

    `id`; each axis by its path; `outcome`, `trials`, `valid`, `publishable`, `findings` (codes), `error`, `backend`,
    `model`, `dtype`; then for each metric its value, `_low` and `_high` (the 95 % interval), `_n` and `_processes`
    (trials, or what the method counts, and engine processes), `_covers` (what the interval covers), `_reason`, of an
    energy `_scope` and `_kind`, and of an evaluator's score `_score` (its name) and `_better` ("lower" or "higher").
    None where a point sets no such axis, or nothing was measured. Values of an axis that are not all numbers, or not
    all text, become text.

    A part that no row has is left out, and so is a metric that no row has and none was to be expected (offline loads
    have no `ttft_s`). A metric without any value keeps its column and `_reason`.

    With prices, `prices_gpus` is the number of GPUs that a cost counts, and `prices_currency`, `prices_pue` and so on
    are the inputs, alike in all rows.

    Args:
        points: what each experiment sets, by id.
        everything: leave nothing out, so that every table has the same columns.
        prices: that the rows have metrics of cost and carbon by.
    """
    head: dict[str, list[Any]] = {name: [] for name in ("id", *axes)}
    facts: dict[str, list[Any]] = {name: [] for name in _FACTS if name not in head}
    metrics: dict[str, dict[str, list[Any]]] = {}
    gpus: list[int | None] = []
    length = 0
    for length, row in enumerate(rows, 1):
        values = {**points.get(row.id, {}), "id": row.id}
        for name, column in head.items():
            column.append(values.get(name))
        for name, column in facts.items():
            column.append(list(row.codes) if name == "findings" else getattr(row, name))
        _add_metrics(metrics, row, length - 1)
        gpus.append(row.gpus)
    found: dict[str, list[Any]] = {}
    for metric in dict.fromkeys([*(name for name in METRICS if name in metrics), *metrics]):
        for ending, column in metrics[metric].items() if everything else _of_use(metrics[metric]):
            column.extend([None] * (length - len(column)))
            found[metric + ending] = column
    if prices is not None:
        inputs = attrs.asdict(prices).items()
        told = {name: [value] * length for name, value in inputs if everything or value is not None}
        found |= {f"{_PRICES}{name}": column for name, column in {"gpus": gpus, **told}.items()}
    return {**{name: _one_kind(column) for name, column in head.items()}, **facts, **found}


def _of_use(parts: Mapping[str, list[Any]]) -> Iterator[tuple[str, list[Any]]]:
    """The parts of a metric that some row has; none of a metric that was not to be expected in any."""
    told = {ending for ending, column in parts.items() if any(value not in (None, "") for value in column)}
    if "" not in told and set(parts["_reason"]) <= _EXPECTED | {None}:
        return
    for ending, column in parts.items():
        if ending == "" or (ending == "_reason" and ending in told) or (ending in told and "" in told):
            yield ending, column


def _add_metrics(found: dict[str, dict[str, list[Any]]], row: Overview, before: int) -> None:
    """`before`: rows before this one."""
    for metric, quantity in row.metrics.items():
        parts = found.setdefault(metric, {})
        for ending, part in _parts(metric).items():
            column = parts.setdefault(ending, [])
            column.extend([None] * (before - len(column)))  # rows that lack the metric
            value = getattr(quantity, part)
            if (quantity.value is None and part in ("n", "processes")) or value == "":
                value = None
            column.append(sys.intern(value) if isinstance(value, str) else value)


def _parts(metric: str) -> Mapping[str, str]:
    if is_score(metric):
        return _SCORED
    return _SCOPED if is_metric(metric) and metric_of(metric).scoped else _PARTS


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
