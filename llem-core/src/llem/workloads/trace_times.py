"""Arrival times of a trace: dates, or numbers whose unit the format, the column's name or a setting says. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime

from llem.config.fields import YEAR_S
from llem.workloads.trace_file import FORMATS, Trace, Unit, trace_error, unit_in, wrong_cell

__all__ = ["parse_offsets"]

PER_SECOND: Mapping[Unit, int] = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
#: A trace that lasts longer is read in a unit that it is not written in.
MOST_S = 10 * YEAR_S


def parse_offsets(trace: Trace, asked: Unit | None = None) -> tuple[float, ...]:
    """Arrival times of the requests in seconds after the first, ascending.

    Args:
        asked: the unit of numbers, as a setting says it.

    Raises:
        ConfigError: there is no column of times, one cannot be read or is before the one above, or nothing says in
            which unit they are.
    """
    column = trace.columns["arrival"]
    if column is None:
        hint = "name it with `arrival_column`, or use a load with a rate of its own"
        raise trace_error(f"{trace.name}: no column of arrival times, such as timestamp or arrival_s", hint)
    read = [_time(trace.name, row, column, text) for row, text in zip(trace.rows, trace.arrivals, strict=True)]
    dated = [is_date for _, is_date in read]
    if len(set(dated)) > 1:
        row = trace.rows[dated.index(not dated[0])]
        kinds = ("a number", "a date")
        message = f"is {kinds[not dated[0]]}, and the row above has {kinds[dated[0]]}"
        raise wrong_cell(trace.name, row, column, message, "write all of them alike")
    scale = PER_SECOND[_unit(trace, column, asked, is_date=dated[0])]
    for row, (before, _), (at, _) in zip(trace.rows[1:], read, read[1:], strict=False):
        if at < before:
            raise wrong_cell(trace.name, row, column, "is before the time of the row above", "sort the trace by time")
    offsets = tuple((at - read[0][0]) / scale for at, _ in read)
    if offsets[-1] > MOST_S:
        message = f"is {offsets[-1] / YEAR_S:.3g} years after the first"
        raise wrong_cell(trace.name, trace.rows[-1], column, message, "check the unit of the times (`arrival_unit`)")
    return offsets


def _unit(trace: Trace, column: str, asked: Unit | None, *, is_date: bool) -> Unit:
    """Of the numbers in the column; dates are read as seconds."""
    if is_date:
        if asked is not None:
            raise trace_error(f"{trace.name}: column {column!r} has dates, which have no unit", "remove `arrival_unit`")
        return "s"
    named = unit_in(column)
    if named is not None and asked not in (None, named):
        message = f"{trace.name}: column {column!r} says {named}, and `arrival_unit` says {asked}"
        raise trace_error(message, "remove `arrival_unit`, or rename the column")
    known = FORMATS[trace.format].unit if column == FORMATS[trace.format].arrival else None
    if (unit := asked or named or known) is None:
        message = f"{trace.name}: column {column!r} has numbers, and nothing says in which unit"
        raise trace_error(message, "set `workload.arrival_unit` to s, ms, us or ns, or end the column's name in it")
    return unit


def _time(name: str, row: int, column: str, text: str) -> tuple[int | float, bool]:
    """A number, or the seconds of a date with a time; and whether it is a date.

    Whole numbers stay whole: as floats, nanoseconds since 1970 would be off by up to 128.
    """
    try:
        value = float(text)
    except ValueError:
        try:
            at = datetime.fromisoformat(text)
            # without a zone it is read as UTC: the machine's own would put a gap where clocks change
            return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp(), True
        except (ValueError, OverflowError) as error:
            message = f"must be a number or a date with a time, got {text[:40]!r}"
            raise wrong_cell(name, row, column, message, "such as 12.5 or 2023-11-16 18:15:46.68") from error
    if not math.isfinite(value):
        raise wrong_cell(name, row, column, f"must be a finite number, got {text[:40]!r}", "such as 12.5")
    if value < 0:
        raise wrong_cell(
            name, row, column, f"is negative: {text[:40]!r}", "times count from any moment before the first"
        )
    return (int(text) if text.isascii() and text.isdecimal() else value), False
