"""Zeus passes the meter suite: as it is on this machine, and its real monitor over stand-ins for the devices."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from llem.meters.base import Meter
from llem.plugins import Reference
from llem.testing.conformance import MeterConformance
from llem_zeus import meter as zeus_meter
from llem_zeus.hooks import llem_meters

pytestmark = pytest.mark.process  # older versions of Zeus ask `lscpu`


class TestZeus(MeterConformance):
    """No GPU is given: RAPL, or a clear refusal; the checks that read are skipped then."""

    hooks = "llem_zeus.hooks"

    def reference(self) -> Reference:
        return llem_meters()[0]


def _millijoules(watts: float) -> float:
    return watts * time.monotonic() * 1000


class Gpus:
    """Zeus' GPUs: two boards of 300 W, of which the second is the experiment's."""

    gpus = [SimpleNamespace(gpu_index=index, supports_get_total_energy_consumption=lambda: True) for index in (0, 1)]

    def supports_get_total_energy_consumption(self, index: int) -> bool:
        return True

    def get_total_energy_consumption(self, index: int) -> float:
        assert index == 1, "another's GPU was read"
        return _millijoules(300)


class Cpus:
    """Zeus' CPUs: a package of 100 W with memory of 10 W, and the platform zone that contains both."""

    cpus = [
        SimpleNamespace(
            cpu_index=index,
            rapl_file=SimpleNamespace(name=name),
            supports_get_dram_energy_consumption=lambda: True,
        )
        for index, name in enumerate(("package-0", "psys"))
    ]

    def get_total_energy_consumption(self, index: int) -> Any:
        from zeus.device.cpu.common import CpuDramMeasurement

        assert index == 0, "the platform zone was read"
        return CpuDramMeasurement(cpu_mj=_millijoules(100), dram_mj=_millijoules(10))


class TestZeusOverStandIns(MeterConformance):
    """The real `ZeusMonitor`, reading devices whose power is known."""

    def reference(self) -> Reference:
        return llem_meters()[0]

    @pytest.fixture(scope="class")
    @classmethod
    def gpu_uuids(cls) -> Sequence[str]:
        return ("GPU-b",)

    @pytest.fixture(scope="class")
    @classmethod
    def make(cls) -> Iterator[Callable[[Sequence[str]], Meter]]:
        import zeus.device.cpu
        import zeus.device.gpu

        nvml: Any = SimpleNamespace(
            gpus=lambda: [SimpleNamespace(index=i, uuid=f"GPU-{name}", mig=False) for i, name in enumerate("ab")],
            close=lambda: None,
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(zeus_meter.Nvml, "open", lambda: nvml)
            patch.setattr(zeus.device.gpu, "_gpus", Gpus())
            patch.setattr(zeus.device.cpu, "_cpus", Cpus())
            yield lambda gpu_uuids: zeus_meter.ZeusMeter(None, gpu_uuids)

    def test_energy_is_power_times_time(self, opened: tuple[Any, Any]) -> None:
        """Each domain's joules are its own device's, in joules and not millijoules."""
        meter, domains = opened
        assert [domain.name for domain in domains] == ["gpu:GPU-b", "cpu:0", "dram:0"]
        began = time.monotonic()
        meter.begin()
        time.sleep(0.5)
        found = meter.end()
        seconds = time.monotonic() - began
        watts = {name: joules / seconds for name, joules in found.items()}
        assert watts == pytest.approx({"gpu:GPU-b": 300, "cpu:0": 100, "dram:0": 10}, rel=0.05)
