"""What a meter implements. One of three kinds, by what it can do:

    counter   cumulative joules (NVML, RAPL): llem finds the ticks and reads a window off them
    power     watts now: llem integrates
    window    a library that measures between begin and end (Zeus, CodeCarbon)

Counter and power meters are read in a process of their own, so that reading never takes the engine's time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import attrs

__all__ = [
    "LEAD_S",
    "CounterMeter",
    "Domain",
    "EnergyReading",
    "ErrorBudget",
    "Meter",
    "PowerMeter",
    "Scope",
    "WindowMeter",
    "lead_s",
]

Scope = Literal["gpu", "cpu", "dram", "node"]

#: Power sensors of H100 lagged by 23 to 311 ms (Yang, Adámek, Armour, SC'24, table of results).
SENSOR_DELAY_S = 0.32
#: Lead-in and lead-out last at least this long: longer than that delay and three ticks of 0.1 s.
LEAD_S = 0.5
#: What a lead lasts after a sensor has settled: two updates of 0.1 s.
LEAD_MARGIN_S = 0.2


@attrs.frozen
class Domain:
    """A part of the machine whose energy a meter reads.

    Attributes:
        name: `gpu:<uuid>`, `cpu:<n>`, `dram:<n>`, `node`; `cpu:<n>.<m>` for a die with a counter of its own.
        scope: what the energy covers.
        kind: "measured" by a sensor, or "modelled" by a formula. llem never adds the two.
        instrument: the source of the energy, in words.
        method: how the meter reads: "counter", "power" or "window", as the meter's kind.
        period_s: nominal time between two updates of the reading; None for window meters.
        sensor_relative: relative uncertainty that the sensor's maker states; None if the maker states none.
        power_limit_w: greatest power of the domain, if known. It bounds the power between two updates.
        delay_s: how long ago, at most, was what the reading shows now: the sensor's lag.
        average_s: time that a reading of power averages over, or the power that a counter adds up.
        coverage: share of the time that the sensor looks at: 1 if it integrates, or averages over its whole period;
            0.25 for 25 of 100 ms. None: not known; a counter is then taken to integrate without pause, and readings
            of power are taken for samples.
    """

    name: str
    scope: Scope
    kind: Literal["measured", "modelled"]
    instrument: str
    method: Literal["counter", "power", "window"] = "counter"
    period_s: float | None = None
    sensor_relative: float | None = None
    power_limit_w: float | None = None
    delay_s: float = SENSOR_DELAY_S
    average_s: float = 0.0
    coverage: float | None = None

    @property
    def settle_s(self) -> float:
        """Time after which a reading shows nothing of the load before: lead-in and lead-out last longer."""
        return self.delay_s + self.average_s


def lead_s(domains: Iterable[Domain]) -> float:
    """How long a lead-in and a lead-out last, so that every reading has settled when a window opens and closes."""
    return max([LEAD_S, *(domain.settle_s + LEAD_MARGIN_S for domain in domains)])


class Meter(ABC):
    """Base of all meters. Constructing one must be cheap and touch no device; `open` does.

    Args:
        options: the meter's own section of the configuration, or None.
        gpu_uuids: the GPUs of the experiment; a meter reads these GPUs and no others.
    """

    name: ClassVar[str]

    def __init__(self, options: Any = None, gpu_uuids: Sequence[str] = ()) -> None:
        self.options = options
        self.gpu_uuids = tuple(gpu_uuids)

    @abstractmethod
    def open(self) -> Sequence[Domain]:
        """Reach the device and say what can be read. Raises MachineError when nothing can, with what to do."""

    def close(self) -> None:
        """Let the device go. Called in a `finally`, also after a failed `open`."""
        return None


class CounterMeter(Meter):
    """Cumulative joules per domain, and watts as a second instrument where the device has them."""

    @abstractmethod
    def read_counter(self, domain: str) -> float:
        """Joules since some fixed moment. Raises MachineError when the reading fails."""

    def read_power(self, domain: str) -> float | None:
        """Watts now, from another sensor path than the counter; None where there is none."""
        return None


class PowerMeter(Meter):
    """Watts per domain."""

    @abstractmethod
    def read_power(self, domain: str) -> float:
        """Watts now. Raises MachineError when the reading fails."""


class WindowMeter(Meter):
    """A library that measures between two calls, in the worker's process."""

    @abstractmethod
    def begin(self) -> None:
        """Begin a window. Slow work belongs in `open`."""

    @abstractmethod
    def end(self) -> Mapping[str, float | None]:
        """End the window. Returns joules by domain name; None for a domain without a reading, never 0."""


@attrs.frozen
class ErrorBudget:
    """The uncertainty of one energy, in joules. Each part is a bound or a 95 % half-width.

    Attributes:
        tick_j: uncertainty at the window's two edges, which lie between updates of the reading (interpolation, read
            time, sensor delay).
        gap_j: missing updates of the reading.
        repeat_j: for one window: what a sensor that looks at samples of power may have missed in between; 0 for a
            counter that integrates without pause. For a mean: scatter between trials.
        sensor_j: calibration uncertainty that the sensor's maker states; None if the maker states none. It is the same
            for all windows on one GPU, so it does not affect comparisons on this GPU.
        baseline_j: what idle power may be off by over the window. It is of the energy net of idle alone, and no part of
            `bound_j`. None for a single reading, and without a baseline.
    """

    tick_j: float
    gap_j: float
    repeat_j: float
    sensor_j: float | None = None
    baseline_j: float | None = None

    @property
    def bound_j(self) -> float:
        """Sum of the parts that differ from window to window: tick, gap and repeat."""
        return self.tick_j + self.gap_j + self.repeat_j


@attrs.frozen
class EnergyReading:
    """Energy of one window in one domain by one meter.

    Attributes:
        meter, domain, scope, kind, instrument: as in `llem.meters.base.Domain`.
        energy_j: gross joules, or None with a `reason`.
        budget: error budget; None where the meter is a library that states none.
        period_s: update period seen in this window (median), counter and power meters only.
        updates: updates of the reading that were seen within the window (of a slow counter every tenth is looked for).
        cross_energy_j: the same window by the second instrument (integrated instantaneous power).
        reason: a code of `llem.findings.REASONS` when energy_j is None.
    """

    meter: str
    domain: str
    scope: str
    kind: Literal["measured", "modelled"]
    instrument: str
    energy_j: float | None
    budget: ErrorBudget | None = None
    period_s: float | None = None
    updates: int | None = None
    cross_energy_j: float | None = None
    reason: str | None = None

    @classmethod
    def of(cls, meter: str, domain: Domain, energy_j: float | None, **rest: Any) -> EnergyReading:
        """A reading of this domain by this meter; `rest` are the fields from `budget` on."""
        return cls(meter, domain.name, domain.scope, domain.kind, domain.instrument, energy_j, **rest)
