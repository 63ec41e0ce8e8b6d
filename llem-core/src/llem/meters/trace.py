"""What the instruments said and when: the raw rows that every energy is computed from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import attrs

__all__ = ["ReadingName", "TraceRow", "series"]

ReadingName = Literal["counter_j", "power_w", "temperature_c", "throttle_bits", "utilisation_percent", "sm_clock_mhz"]


@attrs.frozen
class TraceRow:
    """One new value of one reading.

    Attributes:
        meter: the meter it came through; "health" for temperature, clocks and the like.
        domain: as in `llem.meters.base.Domain`.
        reading: what the value is; its unit stands in the name.
        t_from_ns, t_ns: monotonic clock; the value became the current one somewhere in between.
        value: the reading.
    """

    meter: str
    domain: str
    reading: ReadingName
    t_from_ns: int
    t_ns: int
    value: float


def series(rows: Iterable[TraceRow], meter: str, domain: str, reading: ReadingName) -> list[TraceRow]:
    """The rows of one reading, in time."""
    return [row for row in rows if (row.meter, row.domain, row.reading) == (meter, domain, reading)]
