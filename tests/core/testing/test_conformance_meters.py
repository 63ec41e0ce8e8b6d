"""The meter suite passes for meters that are right: the built-in counter over a fake NVML, and the built-in RAPL."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import pytest

from llem.builtin import llem_meters
from llem.meters.base import Meter
from llem.meters.nvml import NvmlMeter
from llem.plugins import Reference
from llem.testing.conformance import MeterConformance
from llem.testing.fakes import FakeClock, FakeGpu, FakeNvml, Load

GPUS = [FakeGpu(Load([(1, 300.0)]), uuid=uuid) for uuid in ("GPU-mine", "GPU-of-another")]


def builtin(name: str) -> Reference:
    """A meter of the core, as its hook gives it."""
    return next(reference for reference in llem_meters() if reference.name == name)


class RunningClock(FakeClock):
    """Time passes by itself, as it does for a device."""

    @property  # type: ignore[override]
    def now_ns(self) -> int:
        return time.monotonic_ns()

    @now_ns.setter
    def now_ns(self, value: int) -> None:
        """The cost of a read is not waited for."""


class TestNvml(MeterConformance):
    """The built-in GPU meter, with a second GPU that belongs to someone else."""

    hooks = "llem.builtin"

    def reference(self) -> Reference:
        return builtin("nvml")

    @pytest.fixture(scope="class")
    @classmethod
    def gpu_uuids(cls) -> Sequence[str]:
        return ("GPU-mine",)

    @pytest.fixture(scope="class")
    @classmethod
    def make(cls) -> Callable[[Sequence[str]], Meter]:
        return lambda gpu_uuids: NvmlMeter(None, gpu_uuids, library=FakeNvml(RunningClock(), GPUS))


class TestRapl(MeterConformance):
    """The built-in CPU meter on whatever machine runs the tests."""

    def reference(self) -> Reference:
        return builtin("rapl")
