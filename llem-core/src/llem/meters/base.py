"""What a meter implements. One of three kinds, by what it can do:

    counter   cumulative joules (NVML, RAPL): llem finds the ticks and reads a window off them
    power     watts now: llem integrates
    window    a library that measures between begin and end (Zeus, CodeCarbon)

Counter and power meters are read in a process of their own, so that reading never takes the engine's time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import attrs

__all__ = ["CounterMeter", "Domain", "EnergyReading", "ErrorBudget", "Meter", "PowerMeter", "Scope", "WindowMeter"]

Scope = Literal["gpu", "cpu", "dram", "node"]


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
    """

    name: str
    scope: Scope
    kind: Literal["measured", "modelled"]
    instrument: str
    method: Literal["counter", "power", "window"] = "counter"
    period_s: float | None = None
    sensor_relative: float | None = None
    power_limit_w: float | None = None


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
        repeat_j: scatter of the reading: within the window for one trial, between trials for a mean.
        sensor_j: calibration uncertainty that the sensor's maker states; None if the maker states none. It is the same
            for all windows on one GPU, so it does not affect comparisons on this GPU.
    """

    tick_j: float
    gap_j: float
    repeat_j: float
    sensor_j: float | None = None

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
