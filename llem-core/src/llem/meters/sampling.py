"""The loop that reads every instrument when it is due. The clock is given, so that tests bring their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llem.devices.nvml import Nvml
from llem.errors import MachineError
from llem.meters.base import CounterMeter, Domain, Meter, PowerMeter
from llem.meters.trace import ReadingName, TraceRow
from llem.meters.tracker import CounterTracker, SampleTracker

__all__ = ["Sampling"]

POWER_PACE_S = 0.02
HEALTH_PACE_S = 1.0

Tracker = CounterTracker | SampleTracker
Read = Callable[[], float | None]


class Sampling:
    """A set of instruments being read.

    Args:
        meters: opened counter and power meters, each with its domains.
        clock_ns: monotonic nanoseconds.
    """

    def __init__(self, meters: Sequence[tuple[Meter, Sequence[Domain]]], clock_ns: Callable[[], int]) -> None:
        self._clock_ns = clock_ns
        self._instruments: list[tuple[Tracker, Read]] = []
        self.rows: list[TraceRow] = []
        self.errors: list[tuple[str, str, str]] = []
        for meter, domains in meters:
            for domain in domains:
                self._add(meter, domain)

    def _add(self, meter: Meter, domain: Domain) -> None:
        name, period = domain.name, domain.period_s or 0.1
        if isinstance(meter, CounterMeter):
            counter = CounterTracker(meter.name, name, period, domain.settle_s)
            self._instruments.append((counter, lambda: meter.read_counter(name)))
            if counter.fast:
                return  # a counter that never stands still needs no second instrument to look between its ticks
        if isinstance(meter, CounterMeter | PowerMeter):
            sample = SampleTracker(meter.name, name, "power_w", POWER_PACE_S, period)
            self._instruments.append((sample, lambda: meter.read_power(name)))

    def add_health(self, nvml: Nvml, uuid: str) -> None:
        """Also read temperature, clock, utilisation and throttle reasons of a GPU."""
        reads: dict[ReadingName, Callable[[str], int | None]] = {
            "temperature_c": nvml.temperature_c,
            "throttle_bits": nvml.throttle_bits,
            "utilisation_percent": nvml.utilisation_percent,
            "sm_clock_mhz": nvml.sm_clock_mhz,
        }
        for reading, read in reads.items():
            # kept whether it changed or not: shares and means are over readings
            tracker = SampleTracker("health", f"gpu:{uuid}", reading, HEALTH_PACE_S, 0.0)
            self._instruments.append((tracker, _bound(read, uuid)))

    def step(self) -> int:
        """Read what is due; return when something is due next (monotonic ns)."""
        due = []
        for instrument in list(self._instruments):
            tracker, read = instrument
            now = self._clock_ns()
            if tracker.due_ns(now) <= now:
                self._read(instrument, tracker, read)
            due.append(tracker.due_ns(self._clock_ns()))
        return min(due, default=self._clock_ns() + 100_000_000)

    def _read(self, instrument: tuple[Tracker, Read], tracker: Tracker, read: Read) -> None:
        before = self._clock_ns()
        try:
            value = read()
        except (MachineError, OSError, ValueError) as error:
            message = error.message if isinstance(error, MachineError) else f"{type(error).__name__}: {error}"
            self.errors.append((tracker.meter, tracker.domain, message))
            self._instruments.remove(instrument)
            return
        if value is None:  # this device has no such reading
            self._instruments.remove(instrument)
            return
        row = tracker.update(before, self._clock_ns(), value)
        if row is not None:
            self.rows.append(row)

    def thin(self) -> None:
        """A window opens: read counters less often once its edge is well known."""
        for tracker, _ in self._instruments:
            if isinstance(tracker, CounterTracker):
                tracker.thin()

    def dense(self) -> None:
        """The window has closed: find every tick again."""
        for tracker, _ in self._instruments:
            if isinstance(tracker, CounterTracker):
                tracker.dense()

    def watts(self) -> dict[str, float]:
        """Latest power by domain, for the live display."""
        return {row.domain: row.value for row in self.rows[-200:] if row.reading == "power_w"}

    def take(self) -> tuple[list[TraceRow], list[tuple[str, str, str]]]:
        """Rows and errors since the last call."""
        rows, errors = self.rows, self.errors
        self.rows, self.errors = [], []
        return rows, errors


def _bound(read: Callable[[str], Any], uuid: str) -> Read:
    return lambda: read(uuid)
