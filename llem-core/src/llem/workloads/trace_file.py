"""Reading a trace: columns by name, errors with file, row and column. The header is row 1, as spreadsheets count."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

import attrs

from llem.errors import ConfigError, nearest

__all__ = ["COLUMNS", "Trace", "parse_offsets", "parse_trace"]

#: Names that columns are looked for by, in this order: llem's own, the Azure traces', BurstGPT's.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "input": ("input_tokens", "ContextTokens", "Request tokens"),
    "output": ("output_tokens", "GeneratedTokens", "Response tokens"),
    "arrival": ("timestamp", "TIMESTAMP", "Timestamp"),
}
#: The longest context of any model; a cell with more is no length, and ids of that many would fill the memory.
MOST_TOKENS = 10_000_000


@attrs.frozen
class Trace:
    """A trace as read.

    Attributes:
        name: of the file, without its folder.
        sha256: of its bytes.
        columns: "input", "output" and "arrival" to the column's name; None for no arrivals.
        lengths: tokens in and out of each request, both at least 1; at least one request.
        arrivals: what stands in the arrival column, as text; empty where there is none.
        rows: the row of each request, for messages.
        skipped: rows left out because they have no tokens.
    """

    name: str
    sha256: str
    columns: Mapping[str, str | None]
    lengths: tuple[tuple[int, int], ...]
    arrivals: tuple[str, ...]
    rows: tuple[int, ...]
    skipped: int


def parse_trace(
    name: str, sha256: str, content: bytes, asked: Mapping[str, str | None], *, skip_empty: bool = False
) -> Trace:
    """The requests in a CSV's bytes; blank rows are skipped.

    Args:
        name: of the file, for messages.
        content: UTF-8.
        asked: "input", "output" and "arrival" to the name of the column, None to look for the known names.
        skip_empty: leave out rows with 0 tokens instead of refusing them.

    Raises:
        ConfigError: file, row and column, and what is wrong there.
    """
    table = _table(name, content)
    _, header = next(table, (1, []))
    if not header:
        raise _error(f"{name}: is empty", "a header and one request a row are expected")
    columns = {part: _column(name, header, part, asked.get(part)) for part in COLUMNS}
    places = {part: header.index(column) for part, column in columns.items() if column is not None}
    lengths, arrivals, rows, skipped = [], [], [], 0
    for row, cells in table:
        cell = {part: _cell(name, row, cells, place, header[place]) for part, place in places.items()}
        pair = (
            _length(name, row, columns["input"], cell["input"]),
            _length(name, row, columns["output"], cell["output"]),
        )
        if 0 in pair:
            if not skip_empty:
                column = columns["input"] if pair[0] == 0 else columns["output"]
                raise _wrong(name, row, column, "is 0", "remove the row, or set `skip_empty: true`")
            skipped += 1
            continue
        lengths.append(pair)
        rows.append(row)
        if "arrival" in cell:
            arrivals.append(cell["arrival"])
    if not lengths:
        raise _error(f"{name}: no requests", "one request a row is expected below the header")
    return Trace(name, sha256, columns, tuple(lengths), tuple(arrivals), tuple(rows), skipped)


def parse_offsets(trace: Trace) -> tuple[float, ...]:
    """Arrival times of the requests in seconds after the first, ascending. Raises ConfigError."""
    column = trace.columns["arrival"]
    if column is None:
        raise _error(
            f"{trace.name}: no column of arrival times ({', '.join(COLUMNS['arrival'])})",
            "name it with `arrival_column`, or use a load with a rate of its own",
        )
    read = [_seconds(trace.name, row, column, text) for row, text in zip(trace.rows, trace.arrivals, strict=True)]
    times, dated = [at for at, _ in read], [is_date for _, is_date in read]
    if len(set(dated)) > 1:
        row = trace.rows[dated.index(not dated[0])]
        kinds = ("a number of seconds", "a date")
        message = f"is {kinds[not dated[0]]}, and the row above has {kinds[dated[0]]}"
        raise _wrong(trace.name, row, column, message, "write all of them alike")
    for row, before, at in zip(trace.rows[1:], times, times[1:], strict=False):
        if at < before:
            raise _wrong(trace.name, row, column, "is before the time of the row above", "sort the trace by time")
    return tuple(at - times[0] for at in times)


def _table(name: str, content: bytes) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not blank, each with its number."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _error(f"{name}: not UTF-8 ({error.reason})", "save the file as UTF-8") from error
    try:
        for number, cells in enumerate(csv.reader(io.StringIO(text, newline=""), strict=True), start=1):
            if any(cell.strip() for cell in cells):
                yield number, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise _error(f"{name}: not a CSV ({error})", "quote cells that hold commas, quotes or line ends") from error


def _column(name: str, header: Sequence[str], part: str, asked: str | None) -> str | None:
    """The column of one part. Arrivals alone may be missing, unless they were asked for."""
    found = next((one for one in ((asked,) if asked is not None else COLUMNS[part]) if one in header), None)
    if found is not None:
        if header.count(found) > 1:
            raise _error(f"{name}: there are {header.count(found)} columns {found!r}", "rename all but one")
        return found
    if asked is None and part == "arrival":
        return None
    wanted = repr(asked) if asked is not None else f"named one of {', '.join(COLUMNS[part])}"
    near = nearest(asked or COLUMNS[part][0], header)
    if len(header) == 1 and any(mark in header[0] for mark in ";\t"):
        hint = "cells must be separated by commas"
    else:
        hint = f"name it with `{part}_column`" + (f"; did you mean {near!r}?" if near else "")
    raise _error(f"{name}: no column {wanted}; columns here: {', '.join(header)}", hint)


def _cell(name: str, row: int, cells: Sequence[str], place: int, column: str) -> str:
    if place >= len(cells) or not cells[place]:
        raise _wrong(name, row, column, "is empty", "every request needs a value")
    return cells[place]


def _length(name: str, row: int, column: str | None, text: str) -> int:
    """A whole number of tokens; 128.0, as some programs write it, is one."""
    whole, _, fraction = text.partition(".")
    if not (whole.isascii() and whole.isdecimal()) or fraction.strip("0"):
        raise _wrong(name, row, column, f"must be a whole number of tokens, got {text!r}", "0 or more, digits alone")
    digits = whole.lstrip("0") or "0"
    if len(digits) > len(str(MOST_TOKENS)) or int(digits) > MOST_TOKENS:
        message = f"is {digits[:20]}{'…' * (len(digits) > 20)} tokens, more than any model takes"
        raise _wrong(name, row, column, message, f"at most {MOST_TOKENS}")
    return int(digits)


def _seconds(name: str, row: int, column: str, text: str) -> tuple[float, bool]:
    """Seconds from anywhere: of a number, or of a date with a time; and whether it is a date."""
    try:
        value = float(text)
    except ValueError:
        try:
            at = datetime.fromisoformat(text)
        except ValueError as error:
            message = f"must be a number of seconds or a date with a time, got {text!r}"
            raise _wrong(name, row, column, message, "such as 12.5 or 2023-11-16 18:15:46.68") from error
        # without a zone it is read as UTC: the machine's own would put a gap where clocks change
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp(), True
    if not math.isfinite(value):
        raise _wrong(name, row, column, f"must be a finite number of seconds, got {text!r}", "such as 12.5")
    return value, False


def _wrong(name: str, row: int, column: str | None, message: str, hint: str) -> ConfigError:
    return _error(f"{name}: row {row}, column {column!r}: {message}", hint)


def _error(message: str, hint: str) -> ConfigError:
    return ConfigError(message, hint, code="trace_unreadable")
