"""The load that a fleet of replicas must serve: a constant rate of arrivals, or a trace of rates over a day. Pure but
for the reading of the file."""

from __future__ import annotations

import csv
import io
import itertools
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

from llem.analysis.limits import parse_rate
from llem.errors import ConfigError
from llem.foreign.files import Unread, read

__all__ = ["DAY_S", "Demand", "parse_rates", "read_load"]

#: Seconds of a day.
DAY_S = 86_400.0
COLUMNS = ("seconds", "requests_per_s")
EXAMPLES = "such as 50/s, 1200/min, 90000/h or 2e6/day, or the path of a CSV with the columns seconds,requests_per_s"
#: What begins with a number is a rate.
_NUMBER = re.compile(r"\s*[-+.\d]")


@attrs.frozen
class Demand:
    """Arrivals over one period, which repeats.

    Attributes:
        text: as the user wrote it.
        pieces: length in seconds and requests per second of each piece, in order. The rate is constant within a piece.
    """

    text: str
    pieces: tuple[tuple[float, float], ...]

    @property
    def period_s(self) -> float:
        """Seconds until it repeats."""
        return math.fsum(seconds for seconds, _ in self.pieces)

    @property
    def peak(self) -> float:
        """The greatest rate, requests/s."""
        return max(rate for _, rate in self.pieces)

    @property
    def mean(self) -> float:
        """Requests over the period, divided by its length."""
        return math.fsum(seconds * rate for seconds, rate in self.pieces) / self.period_s


def read_load(text: str) -> Demand:
    """A load as a user writes it: a rate (`50/s`, `/min`, `/h`, `/day`), or the path of a CSV (see `parse_rates`).

    Raises:
        ConfigError: it is neither, the rate is not above 0, or the file does not hold a trace of rates.
    """
    path = Path(text)
    try:
        is_file = path.is_file()
    except (OSError, ValueError):  # no path can be so long, or have such a character
        is_file = False
    if not is_file and _NUMBER.match(text):
        return Demand(text, ((DAY_S, parse_rate(text)),))
    if not is_file:
        raise ConfigError(f"load {text!r}: neither a rate nor a file", EXAMPLES)
    try:
        content = read(path).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError, Unread) as error:
        raise ConfigError(f"load {text}: cannot be read ({error})", EXAMPLES) from error
    return Demand(text, parse_rates(path.name, content))


def parse_rates(name: str, content: str) -> tuple[tuple[float, float], ...]:
    """The pieces of a trace of rates: the length in seconds and the requests per second of each.

    Each row of the CSV says from which second on, counted from the first row, which rate holds: until the next row
    begins. The last row lasts as long as the row before it, so there must be two. The period is a day or any other
    length; it repeats.

    Args:
        name: of the file, for messages. content: of the file.

    Raises:
        ConfigError: with the file, the row (the header is row 1) and the column.
    """
    table = csv.reader(io.StringIO(content, newline=""))
    try:
        rows = [(number, cells) for number, cells in enumerate(table, start=1) if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise ConfigError(f"{name}: not a CSV ({error})", EXAMPLES) from error
    header = [cell.strip() for cell in rows[0][1]] if rows else []
    if any(column not in header for column in COLUMNS):
        raise ConfigError(f"{name}: the header is {','.join(header)!r}", f"it must have {' and '.join(COLUMNS)}")
    places = [header.index(column) for column in COLUMNS]
    read = [tuple(_cells(name, number, cells, places)) for number, cells in rows[1:]]
    if len(read) < 2:
        raise ConfigError(f"{name}: {len(read)} rows below the header", "a trace of rates has two rows at least")
    starts, rates = [start for start, _ in read], [rate for _, rate in read]
    lengths = [after - before for before, after in itertools.pairwise(starts)]
    for (number, _), length in zip(rows[2:], lengths, strict=True):
        if length <= 0:
            raise ConfigError(f"{name}: row {number}: seconds must be above those of the row before", "sort the rows")
    if max(rates) <= 0:
        raise ConfigError(f"{name}: every rate is 0", "a load to serve has some requests")
    return tuple(zip([*lengths, lengths[-1]], rates, strict=True))


def _cells(name: str, row: int, cells: Sequence[str], places: Sequence[int]) -> Iterator[float]:
    """The two numbers of a row: finite, not below 0."""
    for column, place in zip(COLUMNS, places, strict=True):
        text = cells[place].strip() if place < len(cells) else ""
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (0 <= value < math.inf):
            raise ConfigError(f"{name}: row {row}, column {column}: {text!r}", "a finite number, 0 or above, is needed")
        yield value
