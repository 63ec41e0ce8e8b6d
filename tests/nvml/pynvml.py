"""Stands in for NVIDIA's module where PYTHONPATH has this folder: four GPUs, GPU-A to GPU-D, in real time."""

from __future__ import annotations

import sys
import time
from typing import Any

from llem.testing.fakes import FakeClock, FakeGpu, FakeNvml, Load


class _RealClock(FakeClock):
    """Nanoseconds that pass by themselves."""

    now_ns = property(lambda self: time.monotonic_ns(), lambda self, _: None)  # type: ignore[assignment]

    def advance(self, ns: int) -> None:
        """Reading took its own time."""


_steady: list[Any] = [FakeGpu(Load([(1.0, 100.0)]), uuid=f"GPU-{name}") for name in "ABCD"]
sys.modules[__name__] = FakeNvml(_RealClock(), _steady)  # type: ignore[assignment]
