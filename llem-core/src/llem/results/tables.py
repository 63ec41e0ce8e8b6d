"""Traces and requests as compressed CSV: times in whole nanoseconds, values by their shortest exact form."""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import get_args

from llem.meters.trace import ReadingName, TraceRow
from llem.results.files import corrupt, read_gzip
from llem.results.models import RequestRow

__all__ = ["read_requests", "read_trace", "requests_bytes", "trace_bytes"]

TRACE = "meter,domain,reading,t_from_ns,t_ns,value"
REQUESTS = "index,batch,input_tokens,output_tokens,start_ns,end_ns,token_times_ns"
READINGS = frozenset(get_args(ReadingName))


def _compressed(header: str, lines: Iterable[str]) -> bytes:
    text = "\n".join([header, *lines]) + "\n"
    return gzip.compress(text.encode(), compresslevel=6, mtime=0)  # no time stamp, so equal rows give equal bytes


def trace_bytes(rows: Iterable[TraceRow]) -> bytes:
    """A trace as stored. Raises ValueError for a name that holds a comma or a line break."""
    return _compressed(TRACE, map(_trace_line, rows))


def _trace_line(row: TraceRow) -> str:
    line = f"{row.meter},{row.domain},{row.reading},{row.t_from_ns},{row.t_ns},{float(row.value)!r}"
    if line.count(",") != 5 or not line.isprintable() or not math.isfinite(row.value):
        raise ValueError(f"cannot be stored: {row}")
    return line


def requests_bytes(rows: Iterable[RequestRow]) -> bytes:
    """Requests as stored; token times end with a semicolon each, so that none and an empty list differ."""
    return _compressed(REQUESTS, map(_request_line, rows))


def _request_line(row: RequestRow) -> str:
    times = "" if row.token_times_ns is None else ";".join(map(str, row.token_times_ns)) + ";"  # () is ";"
    numbers = (row.index, row.batch, row.input_tokens, row.output_tokens, row.start_ns, row.end_ns)
    return ",".join([*map(str, numbers), times])


def _lines(path: Path, header: str) -> Sequence[list[str]]:
    lines = read_gzip(path).split("\n")
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
            rows.append(TraceRow(meter, domain, reading, int(begin), int(at), float(value)))  # type: ignore[arg-type]
        except ValueError as error:
            raise corrupt(path, f"line {number}: {error}") from error
    return tuple(rows)


def _token_times(cell: str) -> tuple[int, ...] | None:
    if not cell:
        return None
    if not cell.endswith(";"):
        raise ValueError(f"token times end with a semicolon: {cell[-20:]!r}")
    return tuple(map(int, cell[:-1].split(";"))) if cell != ";" else ()


def read_requests(path: Path) -> tuple[RequestRow, ...]:
    """Rows of stored requests. Raises StoreError (store_corrupt) naming file and line."""
    rows = []
    for number, (*numbers, times) in enumerate(_lines(path, REQUESTS), start=2):
        try:
            index, batch, inputs, outputs, start, end = map(int, numbers)
            rows.append(RequestRow(index, batch, inputs, outputs, start, end, _token_times(times)))
        except ValueError as error:
            raise corrupt(path, f"line {number}: {error}") from error
    return tuple(rows)
