"""Fakes with a known truth: a clock that a test moves, an NVML whose true energy is known at every moment, and meters
of a steady power for what runs in processes of its own and in real time.
"""

from __future__ import annotations

import bisect
import random
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import attrs

from llem.config.fields import at_least, option
from llem.errors import MachineError
from llem.meters.base import CounterMeter, Domain

__all__ = ["FailingMeter", "FakeClock", "FakeGpu", "FakeNvml", "Load", "SteadyMeter", "SteadyOptions"]


class FakeClock:
    """Monotonic nanoseconds that pass only when told."""

    def __init__(self, now_ns: int = 1_000_000_000) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        return self.now_ns

    def advance(self, ns: int) -> None:
        """Let time pass."""
        self.now_ns += max(ns, 0)


class Load:
    """Power over time as steps, with its exact integral. The last step goes on for ever.

    Args:
        steps: (seconds, watts), from time 0 on.
    """

    def __init__(self, steps: Sequence[tuple[float, float]]) -> None:
        self._starts, self._watts, self._joules = [0.0], [], [0.0]
        for seconds, watts in steps:
            self._watts.append(watts)
            self._starts.append(self._starts[-1] + seconds)
            self._joules.append(self._joules[-1] + seconds * watts)

    def _step(self, t: float) -> int:
        return min(max(bisect.bisect_right(self._starts, t) - 1, 0), len(self._watts) - 1)

    def watts(self, t: float) -> float:
        """Power at t seconds."""
        return self._watts[self._step(t)]

    def joules(self, t: float) -> float:
        """Energy from 0 to t seconds."""
        i = self._step(t)
        return self._joules[i] + (t - self._starts[i]) * self._watts[i]


@attrs.frozen
class FakeGpu:
    """One GPU of a `FakeNvml`.

    Attributes:
        load: its true power.
        period_s, jitter: update period, and by what share of it single ticks come early or late.
        delay_s: the sensor shows the world of this long ago.
        uuid, mig, has_counter: identity and faults.
        stuck_from_s: the counter stands still from then on.
        reset_at_s: the driver is reloaded then: the counter starts at 0.
        pids: processes with a compute context.
    """

    load: Load
    uuid: str = "GPU-fake-0"
    period_s: float = 0.1
    jitter: float = 0.03
    delay_s: float = 0.0
    mig: bool = False
    has_counter: bool = True
    stuck_from_s: float = float("inf")
    reset_at_s: float = float("inf")
    power_limit_w: float = 700.0
    pids: tuple[int, ...] = ()

    def tick_before(self, t: float) -> float:
        """Time of the last tick at or before t."""
        k = int(t / self.period_s) + 1
        while self._tick(k) > t:
            k -= 1
        return min(self._tick(k), self.stuck_from_s)

    def _tick(self, k: int) -> float:
        return (k + self.jitter * random.Random(k).uniform(-0.5, 0.5)) * self.period_s

    def counter_mj(self, t: float) -> int:
        """What the counter shows at t: the energy up to its last tick, whole millijoules."""
        tick = self.tick_before(t) - self.delay_s
        start = self.reset_at_s if t >= self.reset_at_s else 0.0
        return round((self.load.joules(tick) - self.load.joules(start)) * 1000) if tick > start else 0


class FakeNvml:
    """The functions of `pynvml` that llem calls, over `FakeGpu`s.

    Args:
        clock: time 0 of the loads is time 0 of this clock.
        gpus: what is installed.
        counter_cost_ns: how long one read of the energy counter takes (3.2 ms was seen under load on an H200).
    """

    NVML_TEMPERATURE_GPU = 0
    NVML_CLOCK_SM = 1

    class NVMLError(Exception):
        """As in pynvml."""

    def __init__(self, clock: FakeClock, gpus: Sequence[FakeGpu], counter_cost_ns: int = 3_200_000) -> None:
        self._clock, self._gpus, self._cost_ns = clock, gpus, counter_cost_ns

    def _seconds(self) -> float:
        return self._clock.now_ns / 1e9

    def nvmlInit(self) -> None:
        if not self._gpus:
            raise self.NVMLError("driver not loaded")

    def nvmlShutdown(self) -> None:
        return None

    def nvmlSystemGetDriverVersion(self) -> str:
        return "000.00"

    def nvmlDeviceGetCount(self) -> int:
        return len(self._gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:
        return self._gpus[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> FakeGpu:
        for gpu in self._gpus:
            if gpu.uuid == uuid:
                return gpu
        raise self.NVMLError("not found")

    def nvmlDeviceGetUUID(self, gpu: FakeGpu) -> str:
        return gpu.uuid

    def nvmlDeviceGetName(self, gpu: FakeGpu) -> str:
        return "Fake GPU"

    def nvmlDeviceGetMemoryInfo(self, gpu: FakeGpu) -> Any:
        return SimpleNamespace(total=2**36, used=0, free=2**36)

    def nvmlDeviceGetMigMode(self, gpu: FakeGpu) -> tuple[int, int]:
        return int(gpu.mig), int(gpu.mig)

    def nvmlDeviceGetTotalEnergyConsumption(self, gpu: FakeGpu) -> int:
        if not gpu.has_counter:
            raise self.NVMLError("Not Supported")
        self._clock.advance(self._cost_ns // 2)
        value = gpu.counter_mj(self._seconds())
        self._clock.advance(self._cost_ns - self._cost_ns // 2)
        return value

    def nvmlDeviceGetFieldValues(self, gpu: FakeGpu, fields: Sequence[int]) -> list[Any]:
        watts = gpu.load.watts(max(gpu.tick_before(self._seconds()) - gpu.delay_s, 0.0))
        self._clock.advance(3_000)
        return [SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(uiVal=round(watts * 1000))) for _ in fields]

    def nvmlDeviceGetEnforcedPowerLimit(self, gpu: FakeGpu) -> int:
        return round(gpu.power_limit_w * 1000)

    def nvmlDeviceGetPowerManagementDefaultLimit(self, gpu: FakeGpu) -> int:
        return round(gpu.power_limit_w * 1000)

    def nvmlDeviceGetComputeRunningProcesses(self, gpu: FakeGpu) -> list[Any]:
        return [SimpleNamespace(pid=pid) for pid in gpu.pids]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("nvmlDeviceGet"):
            return self._unsupported
        raise AttributeError(name)

    def _unsupported(self, *_: Any) -> Any:
        raise self.NVMLError("Not Supported")


@attrs.frozen(kw_only=True)
class SteadyOptions:
    """The section of a `SteadyMeter` or `FailingMeter`."""

    watts: float = option(40.0, help="The true power.", unit="W", validator=at_least(0))
    period_s: float = option(0.05, help="Time between two updates of the counter.", unit="s", validator=at_least(0.001))
    reads: int = option(20, help="A `FailingMeter` reads its counter this often, and then no more.")


class SteadyMeter(CounterMeter):
    """A counter of steady power in real time: between t0 and t1 the true energy is `watts` * (t1 - t0).

    It counts from the zero of the monotonic clock in every process, so that a test knows what a child process reads.
    A plugin provides it by `Reference("steady", "llem.testing.fakes:SteadyMeter", config=
    "llem.testing.fakes:SteadyOptions")`.
    """

    name = "steady"

    def __init__(self, options: SteadyOptions | None = None, gpu_uuids: Sequence[str] = ()) -> None:
        super().__init__(options or SteadyOptions(), gpu_uuids)

    def open(self) -> Sequence[Domain]:
        return [Domain("node", "node", "measured", "a fake of steady power", period_s=self.options.period_s)]

    def read_counter(self, domain: str) -> float:
        """Joules at the last tick; ticks are whole periods of the monotonic clock."""
        period_ns = round(self.options.period_s * 1e9)
        return float(time.monotonic_ns() // period_ns * period_ns / 1e9 * self.options.watts)

    def read_power(self, domain: str) -> float | None:
        return float(self.options.watts)


class FailingMeter(SteadyMeter):
    """A counter that fails after some reads, as one does whose driver goes away."""

    name = "failing"

    def __init__(self, options: SteadyOptions | None = None, gpu_uuids: Sequence[str] = ()) -> None:
        super().__init__(options, gpu_uuids)
        self._reads = 0

    def read_counter(self, domain: str) -> float:
        self._reads += 1
        if self._reads > self.options.reads:
            raise MachineError(f"{domain} gives no more readings", "this fake fails on purpose", "meter_failed")
        return super().read_counter(domain)
