"""Reading a trace: columns of a CSV or fields of JSON rows by name, errors with file, row and column.

The header of a CSV is row 1, as spreadsheets count; the row of a line of JSON is the number of its line.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import attrs

from llem.errors import ConfigError, nearest
from llem.workloads.foreign import JSON_SUFFIXES, ForeignFile, whole_tokens

__all__ = [
    "BLOCK_TOKENS",
    "COLUMNS",
    "FORMATS",
    "Trace",
    "Unit",
    "parse_trace",
    "trace_error",
    "unit_in",
    "wrong_cell",
]

#: Names that columns are looked for by, in this order: llem's own, the Azure traces', BurstGPT's, Mooncake's.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "input": ("input_tokens", "ContextTokens", "Request tokens", "input_length"),
    "output": ("output_tokens", "GeneratedTokens", "Response tokens", "output_length"),
    "arrival": ("timestamp", "TIMESTAMP", "Timestamp", "arrival", "arrival_time", "time"),
}
Unit: TypeAlias = Literal["s", "ms", "us", "ns"]
#: How names of columns write units.
WORDS: Mapping[str, Unit] = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("ms", "msec", "millis", "millisecond", "milliseconds"), "ms"),
    **dict.fromkeys(("us", "µs", "usec", "micros", "microsecond", "microseconds"), "us"),
    **dict.fromkeys(("ns", "nsec", "nanos", "nanosecond", "nanoseconds"), "ns"),
}
HASHES = "hash_ids"
#: Tokens of a block whose hash a Mooncake trace has.
BLOCK_TOKENS = 512


@attrs.frozen
class Format:
    """A published form of traces.

    Attributes:
        names: columns by which it is known.
        only: whether it has no others.
        arrival, unit: its column of times, and the unit of their numbers where the format says it.
    """

    names: frozenset[str]
    only: bool = False
    arrival: str | None = None
    unit: Unit | None = None


#: "own" is any other. Mooncake's times are in milliseconds, by its definition; but others write the same fields, and
#: more, with times in seconds, so that more fields are none of it.
FORMATS: Mapping[str, Format] = {
    "mooncake": Format(
        frozenset(("timestamp", "input_length", "output_length", HASHES)), only=True, arrival="timestamp", unit="ms"
    ),
    "burstgpt": Format(frozenset(("Timestamp", "Request tokens", "Response tokens")), arrival="Timestamp", unit="s"),
    "azure": Format(frozenset(("TIMESTAMP", "ContextTokens", "GeneratedTokens")), arrival="TIMESTAMP"),
    "own": Format(frozenset()),
}


@attrs.frozen
class Trace:
    """A trace as read.

    Attributes:
        name: of the file, without its folder.
        sha256: of its bytes.
        format: a name in `FORMATS`.
        columns: "input", "output" and "arrival" to the column's name; None for no arrivals.
        lengths: tokens in and out of each request, both at least 1; at least one request.
        arrivals: what stands in the arrival column, as text; empty where there is none.
        rows: the row of each request, for messages.
        skipped: rows left out because they have no tokens.
        hashes: of the blocks of each prompt, where the trace has them; else empty.
    """

    name: str
    sha256: str
    format: str
    columns: Mapping[str, str | None]
    lengths: tuple[tuple[int, int], ...]
    arrivals: tuple[str, ...]
    rows: tuple[int, ...]
    skipped: int
    hashes: tuple[tuple[str, ...], ...] = ()


def parse_trace(
    file: ForeignFile,
    asked: Mapping[str, str | None],
    *,
    skip_empty: bool = False,
    block_tokens: int | None = None,
) -> Trace:
    """The requests in a CSV, or in rows of JSON; blank rows are skipped.

    Args:
        asked: "input", "output" and "arrival" to the name of the column, None to look for the known names.
        skip_empty: leave out rows with 0 tokens instead of refusing them.
        block_tokens: of each hash in `hash_ids`; None takes Mooncake's.

    Raises:
        ConfigError: file, row and column, and what is wrong there.
    """
    name = file.name
    header, table = _json(file) if file.suffix in JSON_SUFFIXES else _csv(file)
    columns = {part: _column(name, header, part, asked.get(part)) for part in COLUMNS}
    hashed = HASHES in header and file.suffix in JSON_SUFFIXES
    if block_tokens is not None and not hashed:
        raise trace_error(f"{name}: `block_tokens` has no effect without {HASHES}", "remove it")
    lengths, arrivals, rows, hashes, skipped = [], [], [], [], 0
    for row, cells in table:
        pair = (_length(name, row, columns["input"], cells), _length(name, row, columns["output"], cells))
        if 0 in pair:
            if not skip_empty:
                column = columns["input"] if pair[0] == 0 else columns["output"]
                raise wrong_cell(name, row, column, "is 0", "remove the row, or set `skip_empty: true`")
            skipped += 1
            continue
        lengths.append(pair)
        rows.append(row)
        if columns["arrival"] is not None:
            arrivals.append(_cell(name, row, columns["arrival"], cells))
        if hashed:
            hashes.append(_hashes(name, row, cells.get(HASHES), pair[0], block_tokens))
    if not lengths:
        raise trace_error(f"{name}: no requests", "one request a row is expected")
    return Trace(
        name, file.sha256, _format(header, json=file.suffix in JSON_SUFFIXES), columns,
        tuple(lengths), tuple(arrivals), tuple(rows), skipped, tuple(hashes),
    )  # fmt: skip


def _format(header: Sequence[str], *, json: bool) -> str:
    there = set(header)
    return next(
        name
        for name, known in FORMATS.items()
        if known.names <= there and (not known.only or (json and there == known.names))
    )


def _csv(file: ForeignFile) -> tuple[list[str], Iterator[tuple[int, Mapping[str, Any]]]]:
    """The header, and rows by column."""
    table = file.table()
    _, header = next(table, (1, []))
    if not header:
        raise trace_error(f"{file.name}: is empty", "a header and one request a row are expected")
    header = [cell.strip() for cell in header]
    # of columns of one name, which are refused where they are used, the last counts
    return header, ((row, dict(zip(header, map(str.strip, cells), strict=False))) for row, cells in table)


def _json(file: ForeignFile) -> tuple[list[str], Iterator[tuple[int, Mapping[str, Any]]]]:
    """The fields of the first row, and all rows; their numbers are texts, as in a table."""
    rows = file.json_rows(numbers_as_text=True)
    first = next(rows, None)
    if first is None:
        raise trace_error(f"{file.name}: is empty", "one JSON object a line is expected")

    def objects() -> Iterator[tuple[int, Mapping[str, Any]]]:
        for number, place, row in itertools.chain((first,), rows):
            if not isinstance(row, dict):
                hint = 'each row must look like {"input_tokens": 128, "output_tokens": 64}'
                raise file.error("not a JSON object", hint, place)
            yield number, row

    return list(first[2]) if isinstance(first[2], dict) else list(COLUMNS["input"] + COLUMNS["output"]), objects()


def _column(name: str, header: Sequence[str], part: str, asked: str | None) -> str | None:
    """The column of one part. Arrivals alone may be missing, unless they were asked for."""
    found = next((one for one in ((asked,) if asked is not None else COLUMNS[part]) if one in header), None)
    if found is None and asked is None and part == "arrival":
        found = next((one for base in COLUMNS[part] for one in header if _names(one, base)), None)
    if found is not None:
        if header.count(found) > 1:
            raise trace_error(f"{name}: there are {header.count(found)} columns {found!r}", "rename all but one")
        return found
    if asked is None and part == "arrival":
        return None
    wanted = repr(asked) if asked is not None else f"named one of {', '.join(COLUMNS[part])}"
    near = nearest(asked or COLUMNS[part][0], header)
    if len(header) == 1 and any(mark in header[0] for mark in ";\t"):
        hint = "cells must be separated by commas"
    else:
        hint = f"name it with `{part}_column`" + (f"; did you mean {near!r}?" if near else "")
    raise trace_error(f"{name}: no column {wanted}; columns here: {', '.join(header)[:500]}", hint)


def _names(column: str, base: str) -> bool:
    """Whether a column is a base with a unit: `timestamp_ms`, `Arrival (s)`, `timeNs`."""
    words = _words(column)
    return "".join(words[:-1]) == "".join(_words(base)) and unit_in(column) is not None


def unit_in(column: str) -> Unit | None:
    """The unit that the last word of a column's name says: of `time_ms`, `arrival (s)`, `timestampNs`; or None."""
    words = _words(column)
    return WORDS.get(words[-1]) if len(words) > 1 else None


def _words(column: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[A-Z]?[a-zµ]+|[A-Z]+|\d+", column)]


def _cell(name: str, row: int, column: str | None, cells: Mapping[str, Any]) -> str:
    """A cell that is a number or a text, as text."""
    value = cells.get(str(column))
    if value is None or value == "":
        raise wrong_cell(name, row, column, "is empty", "every request needs a value")
    if not isinstance(value, str):
        raise wrong_cell(name, row, column, f"holds {type(value).__name__}", "a number is expected")
    return value


def _length(name: str, row: int, column: str | None, cells: Mapping[str, Any]) -> int:
    """A number of tokens; 0 where the row has none."""
    found = whole_tokens(_cell(name, row, column, cells))
    if isinstance(found, str):
        raise wrong_cell(name, row, column, found, "0 or more, digits alone")
    return found


def _hashes(name: str, row: int, value: Any, length: int, block_tokens: int | None) -> tuple[str, ...]:
    """A hash for each block of the prompt, the last of which may be shorter."""
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise wrong_cell(name, row, HASHES, "is no array of numbers", "every request needs the hashes of its blocks")
    size = block_tokens or BLOCK_TOKENS
    blocks = -(-length // size)
    if len(value) != blocks:
        message = f"has {len(value)} hashes, and a prompt of {length} tokens has {blocks} blocks of {size}"
        raise wrong_cell(name, row, HASHES, message, "set `block_tokens` to what a hash stands for in this trace")
    return tuple(value)


def wrong_cell(name: str, row: int, column: str | None, message: str, hint: str) -> ConfigError:
    """The error for one value."""
    return trace_error(f"{name}: row {row}, column {column!r}: {message}", hint)


def trace_error(message: str, hint: str) -> ConfigError:
    """The error for a trace."""
    return ConfigError(message, hint, code="trace_unreadable")
