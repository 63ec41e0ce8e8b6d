"""Traces and requests as compressed CSV: times in whole nanoseconds, values by their shortest exact form."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from llem.foreign.values import finite, whole
from llem.meters.trace import ReadingName, TraceRow
from llem.store.files import corrupt, gzip_bytes, read_gzip
from llem.store.models import RequestRow

__all__ = ["power_columns", "read_requests", "read_trace", "requests_bytes", "trace_bytes"]

TRACE = "meter,domain,reading,t_from_ns,t_ns,value"
REQUESTS = (
    "index,batch,input_tokens,output_tokens,start_ns,end_ns,token_times_ns,"
    "scheduled_ns,chunk_tokens,finish_reason,engine_metrics"
)
READINGS = frozenset(get_args(ReadingName))
#: Readings of energy and power.
POWER = ("counter_j", "power_w")


def _compressed(header: str, lines: Iterable[str]) -> bytes:
    return gzip_bytes(("\n".join([header, *lines]) + "\n").encode())


def trace_bytes(rows: Iterable[TraceRow]) -> bytes:
    """A trace as stored.

    Raises ValueError for a name that holds a comma or a line break, StoreError for too many rows.
    """
    return _compressed(TRACE, map(_trace_line, rows))


def _trace_line(row: TraceRow) -> str:
    line = f"{row.meter},{row.domain},{row.reading},{row.t_from_ns},{row.t_ns},{float(row.value)!r}"
    if line.count(",") != 5 or not line.isprintable() or not math.isfinite(row.value):
        raise ValueError(f"cannot be stored: {row}")
    return line


def requests_bytes(rows: Iterable[RequestRow]) -> bytes:
    """Requests as stored. Entries of a list end with a semicolon each, so that none and an empty list differ.

    Raises ValueError for a finish reason, or a name of a metric, that holds a separator; StoreError for too many rows.
    """
    return _compressed(REQUESTS, map(_request_line, rows))


def _request_line(row: RequestRow) -> str:
    numbers = (row.index, row.batch, row.input_tokens, row.output_tokens, row.start_ns, row.end_ns)
    metrics = row.engine_metrics
    cells = [
        *("" if number is None else str(number) for number in numbers),
        _list_cell(row.token_times_ns),
        "" if row.scheduled_ns is None else str(row.scheduled_ns),
        _list_cell(row.chunk_tokens),
        "" if row.finish_reason is None else row.finish_reason,
        _list_cell(None if metrics is None else [f"{name}={float(value)!r}" for name, value in metrics.items()]),
    ]
    line = ",".join(cells)
    broken = line.count(",") != REQUESTS.count(",") or not line.isprintable() or row.finish_reason == ""
    if broken or any(set(name) & set("=;") or not math.isfinite(value) for name, value in (metrics or {}).items()):
        raise ValueError(f"cannot be stored: request {row.index}, {row.finish_reason!r}, {metrics}")
    return line


def _list_cell(values: Iterable[object] | None) -> str:
    return "" if values is None else ";".join(map(str, values)) + ";"  # () is ";"


def _lines(path: Path, header: str) -> Sequence[list[str]]:
    """The cells of every line after the header."""
    lines = read_gzip(path, header).split("\n")
    if lines[0] != header or lines[-1]:
        raise corrupt(path, f"line 1: expected the columns {header}, and a line break at the end")
    columns = header.count(",") + 1
    found = [line.split(",") for line in lines[1:-1]]
    for number, cells in enumerate(found, start=2):
        if len(cells) != columns:
            raise corrupt(path, f"line {number}: {len(cells)} columns where {columns} are expected")
    return found


def read_trace(path: Path) -> tuple[TraceRow, ...]:
    """Rows of a stored trace. Raises StoreError (store_corrupt) naming file and line."""
    rows = []
    for number, (meter, domain, reading, begin, at, value) in enumerate(_lines(path, TRACE), start=2):
        try:
            if reading not in READINGS:
                raise ValueError(f"unknown reading {reading!r}")
            rows.append(TraceRow(meter, domain, reading, whole(begin), whole(at), finite(value)))  # type: ignore[arg-type]
        except ValueError as error:
            raise corrupt(path, f"line {number}: {error}") from error
    return tuple(rows)


def power_columns(path: Path, *, first: bool = False) -> dict[tuple[str, str, str], Any]:
    """What a stored trace says of energy and power: by meter, domain and reading an array of t_from_ns, t_ns and value,
    a row each. Faster than `read_trace`. Raises StoreError (store_corrupt) naming the file.

    Args:
        first: read the first of `POWER` alone that the trace has.
    """
    import numpy as np

    lines = read_gzip(path, TRACE).split("\n")
    if lines[0] != TRACE or lines[-1]:
        raise corrupt(path, f"line 1: expected the columns {TRACE}, and a line break at the end")
    groups: dict[str, list[str]] = {}
    wanted = next((f",{one}," for one in POWER if any(f",{one}," in line for line in lines)), "") if first else ""
    for line in lines[1:-1]:
        if wanted not in line:
            continue
        named, *cells = line.rsplit(",", 3)
        groups.setdefault(named, []).extend(cells)
    found = {}
    for named, cells in groups.items():
        try:
            meter, domain, reading = named.split(",")
            if reading in POWER:
                found[meter, domain, reading] = np.fromiter(map(finite, cells), np.float64).reshape(-1, 3)
        except ValueError as error:
            raise corrupt(path, f"rows of {named!r} are not three numbers each: {error}") from error
    return found


def _listed(cell: str) -> list[str] | None:
    """The entries of a list; None for an empty cell."""
    if not cell:
        return None
    if not cell.endswith(";"):
        raise ValueError(f"a list ends with a semicolon: {cell[-20:]!r}")
    return cell[:-1].split(";") if cell != ";" else []


def _whole(cell: str) -> tuple[int, ...] | None:
    entries = _listed(cell)
    return None if entries is None else tuple(map(whole, entries))


def _metrics(cell: str) -> Mapping[str, float] | None:
    entries = _listed(cell)
    return None if entries is None else {name: finite(value) for name, value in (one.split("=") for one in entries)}


def read_requests(path: Path) -> tuple[RequestRow, ...]:
    """Rows of stored requests. Raises StoreError (store_corrupt) naming file and line."""
    rows = []
    for number, cells in enumerate(_lines(path, REQUESTS), start=2):
        try:
            index, batch, outputs, start, end = map(whole, (*cells[:2], *cells[3:6]))
            inputs = whole(cells[2]) if cells[2] else None
            times, scheduled, chunks, reason, metrics = cells[6:]
            rows.append(
                RequestRow(
                    index, batch, inputs, outputs, start, end,
                    token_times_ns=_whole(times),
                    scheduled_ns=whole(scheduled) if scheduled else None,
                    chunk_tokens=_whole(chunks),
                    finish_reason=reason or None,
                    engine_metrics=_metrics(metrics),
                )
            )  # fmt: skip
        except ValueError as error:
            raise corrupt(path, f"line {number}: {error}") from error
    return tuple(rows)
