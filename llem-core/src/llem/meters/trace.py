"""What the instruments said and when: the raw rows that every energy is computed from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import attrs

from llem.devices.nvml import THROTTLE_BITS

__all__ = ["ReadingName", "TraceRow", "health_summary", "series"]

ReadingName = Literal["counter_j", "power_w", "temperature_c", "throttle_bits", "utilisation_percent", "sm_clock_mhz"]
HEALTH_READINGS: tuple[ReadingName, ...] = ("temperature_c", "throttle_bits", "utilisation_percent", "sm_clock_mhz")


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


def health_summary(rows: Sequence[TraceRow], t0_ns: int, t1_ns: int) -> Mapping[str, dict[str, Any]]:
    """Per GPU domain: temperature, clock, utilisation and throttle reasons seen within the window.

    `throttle` is each reason that was seen to the share of the `throttle_readings` that had it, in (0, 1]. Nothing is
    said of what no reading told.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        if row.reading in HEALTH_READINGS and t0_ns <= row.t_ns <= t1_ns:
            found.setdefault(row.domain, {}).setdefault(row.reading, []).append(row.value)
    return {domain: _summary(values) for domain, values in sorted(found.items())}


def _summary(values: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    summary: dict[str, Any] = {}
    if temperature := values.get("temperature_c"):
        summary["temperature_c"] = {"first": temperature[0], "last": temperature[-1], "max": max(temperature)}
    if clock := values.get("sm_clock_mhz"):
        summary["sm_clock_mhz"] = {"mean": sum(clock) / len(clock), "min": min(clock)}
    if busy := values.get("utilisation_percent"):
        summary["utilisation_percent"] = {"mean": sum(busy) / len(busy)}
    if masks := [int(mask) for mask in values.get("throttle_bits", ())]:
        counts = {name: sum(bool(mask & bit) for mask in masks) for bit, name in THROTTLE_BITS.items()}
        summary["throttle"] = {name: count / len(masks) for name, count in counts.items() if count}
        summary["throttle_readings"] = len(masks)
    return summary
