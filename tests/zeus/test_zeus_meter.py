"""The meter `zeus`: which reading belongs to which device, and what happens where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from llem.errors import MachineError
from llem_zeus import meter as zeus_meter
from llem_zeus.config import ZeusOptions
from llem_zeus.meter import Source, ZeusMeter, cpu_sources, energies, gpu_sources


def gpu(index: int, counter: bool = True) -> Any:
    """A GPU object of Zeus, narrowed to what is read."""
    return SimpleNamespace(gpu_index=index, supports_get_total_energy_consumption=lambda: counter)


def package(index: int, name: str = "", dram: bool = False) -> Any:
    """A CPU object of Zeus, narrowed to what is read."""
    zone = SimpleNamespace(name=name or f"package-{index}")
    return SimpleNamespace(cpu_index=index, rapl_file=zone, supports_get_dram_energy_consumption=lambda: dram)


def measurement(**energy: Any) -> Any:
    """A measurement of Zeus; what is not given is None, as there."""
    return SimpleNamespace(**{"gpu_energy": {}, "cpu_energy": None, "dram_energy": None, **energy})


def test_gpu_is_found_by_uuid() -> None:
    """Zeus' position is not NVML's index: only the experiment's GPUs are read, each under its own UUID."""
    found = gpu_sources([gpu(3), gpu(1), gpu(2)], {2: "GPU-b", 3: "GPU-a"})
    assert found == [Source("gpu:GPU-a", "gpu", 0), Source("gpu:GPU-b", "gpu", 2)]


def test_gpu_without_counter_is_not_listed() -> None:
    """For GPUs without an energy counter Zeus starts a process that polls; they are left to other meters."""
    assert gpu_sources([gpu(0, counter=False)], {0: "GPU-a"}) == []


def test_packages_and_memory() -> None:
    """Each package is a domain, and its memory where there is a counter for it."""
    found = cpu_sources([package(0, dram=True), package(1)])
    assert [(source.domain, source.scope, source.index) for source in found] == [
        ("cpu:0", "cpu", 0),
        ("dram:0", "dram", 0),
        ("cpu:1", "cpu", 1),
    ]


def test_psys_is_not_a_package() -> None:
    """The platform zone contains the packages, so counting it as a CPU would count them twice."""
    assert [source.domain for source in cpu_sources([package(0), package(1, name="psys")])] == ["cpu:0"]


def test_package_read_through_the_daemon() -> None:
    """Zeus' daemon gives no zone name; its packages are taken as such."""
    remote = SimpleNamespace(cpu_index=0, supports_get_dram_energy_consumption=lambda: False)
    assert [source.domain for source in cpu_sources([remote])] == ["cpu:0"]


SOURCES = [Source("gpu:GPU-a", "gpu", 1), Source("cpu:0", "cpu", 0), Source("dram:0", "dram", 0)]


def test_energies_by_domain() -> None:
    """Joules go to the domain of their position; what belongs to no domain is left out."""
    found = energies(measurement(gpu_energy={0: 9.0, 1: 12.5}, cpu_energy={0: 3}, dram_energy={0: 0.25}), SOURCES)
    assert found == {"gpu:GPU-a": 12.5, "cpu:0": 3.0, "dram:0": 0.25}


@pytest.mark.parametrize(
    "given",
    [
        {"gpu_energy": {}},
        {"gpu_energy": {1: 0.0}, "cpu_energy": {0: 0.0}, "dram_energy": {0: 0.0}},
        {"gpu_energy": {1: -2.0}, "cpu_energy": {0: -4.0}, "dram_energy": {0: -1.0}},
        {"gpu_energy": {1: None}, "cpu_energy": {}, "dram_energy": None},
    ],
    ids=["absent", "counter stood still", "counter went backwards", "none"],
)
def test_no_reading_is_none(given: dict[str, Any]) -> None:
    """A reading that is missing or cannot be true is None, never 0."""
    assert energies(measurement(**given), SOURCES) == {"gpu:GPU-a": None, "cpu:0": None, "dram:0": None}


class FakeMonitor:
    """Zeus' monitor, narrowed to windows: a name that is open cannot be opened again."""

    def __init__(self) -> None:
        self.open_windows: set[str] = set()
        self.synchronised: list[bool] = []

    def begin_window(self, key: str, sync_execution: bool = True) -> None:
        if key in self.open_windows:
            raise ValueError(f"Measurement window '{key}' already exists")
        self.open_windows.add(key)
        self.synchronised.append(sync_execution)

    def end_window(self, key: str, sync_execution: bool = True) -> Any:
        self.open_windows.remove(key)
        self.synchronised.append(sync_execution)
        return measurement(gpu_energy={1: 5.0})


def test_window_that_was_never_ended() -> None:
    """After a window broken off, the next one begins and ends as usual; Zeus never synchronises the device."""
    meter = ZeusMeter(None, ["GPU-a"])
    monitor = FakeMonitor()
    meter._monitor, meter._sources = monitor, SOURCES[:1]
    meter.begin()
    meter.begin()
    assert meter.end() == {"gpu:GPU-a": 5.0}
    assert monitor.synchronised == [False, False, False]


def test_window_before_open_is_refused() -> None:
    """A window on a meter that is not open says so."""
    with pytest.raises(MachineError, match="not open"):
        ZeusMeter().begin()


class FakeNvml:
    """Stands for the core's NVML: two GPUs, the second cut in slices."""

    @classmethod
    def open(cls) -> FakeNvml:
        return cls()

    def gpus(self) -> list[Any]:
        return [
            SimpleNamespace(index=0, uuid="GPU-a", mig=False),
            SimpleNamespace(index=1, uuid="GPU-b", mig=False),
            SimpleNamespace(index=2, uuid="GPU-sliced", mig=True),
        ]

    def close(self) -> None:
        return None


@pytest.mark.parametrize(
    ("uuid", "code"), [("GPU-sliced", "mig"), ("MIG-0123", "mig"), ("GPU-c", "gpu_missing")], ids=str
)
def test_unusable_gpu_is_refused(uuid: str, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sliced or missing GPU is an error with a hint, before Zeus is imported."""
    monkeypatch.setattr(zeus_meter, "Nvml", FakeNvml)
    with pytest.raises(MachineError) as caught:
        ZeusMeter(None, ["GPU-a", uuid]).open()
    assert caught.value.code == code
    assert caught.value.hint


def test_experiments_gpus_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The indices asked of Zeus are those of the experiment's UUIDs."""
    monkeypatch.setattr(zeus_meter, "Nvml", FakeNvml)
    assert zeus_meter._uuid_by_index(["GPU-b"]) == {1: "GPU-b"}


def test_refused_rapl_says_how_to_grant_it() -> None:
    """Where RAPL is there and may not be read, the error is about permission and holds the command."""
    error = zeus_meter._nothing(True, ())
    assert error.code == "permission"
    assert "chmod" in error.hint


@pytest.mark.process
def test_real_zeus_with_uuids_in_cuda_visible_devices() -> None:
    """The real library, in a fresh process: nothing to read is an error with a hint, whatever the GPUs' names are.

    Zeus itself fails on UUIDs in CUDA_VISIBLE_DEVICES, and a library of its prints on standard output.
    """
    code = (
        "from llem.errors import MachineError\n"
        "from llem_zeus.config import ZeusOptions\n"
        "from llem_zeus.meter import ZeusMeter\n"
        "import os, sys\n"
        "try:\n"
        "    ZeusMeter(ZeusOptions(cpu=False)).open()\n"
        "except MachineError as error:\n"
        "    print(error.code, bool(error.hint), os.environ['CUDA_VISIBLE_DEVICES'], 'zeus' in sys.modules)\n"
    )
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "GPU-0123,GPU-4567"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.split() == ["no_gpu", "True", "GPU-0123,GPU-4567", "True"], done.stderr


def test_options_default_reads_cpu() -> None:
    """Without a section of settings the CPU is read too."""
    assert ZeusMeter().options == ZeusOptions(cpu=True)
