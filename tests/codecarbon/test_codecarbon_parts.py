"""Which of CodeCarbon's readings is measured, which modelled, and which is none. Stand-ins, since devices lack here."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from llem_codecarbon.parts import J_PER_KWH, energies, find_parts, gpu_marks


class CPU:
    """CodeCarbon's CPU, narrowed to what is read."""

    _model, _tdp = "Some CPU", 120

    def __init__(self, mode: str, skipped: bool = False) -> None:
        self._mode = mode
        self._intel_interface = SimpleNamespace(_rapl_files=[SimpleNamespace(sample_skipped=skipped)])


class RAM:
    """CodeCarbon's memory."""

    _force_ram_power = None
    machine_memory_GB = 64.0  # noqa: N815 - CodeCarbon's name

    def total_power(self) -> Any:
        return SimpleNamespace(W=20.0)


class GPU:
    """CodeCarbon's GPUs: always all of the machine."""

    def __init__(self, *devices: Any) -> None:
        self.devices = SimpleNamespace(devices=list(devices))


class Other:
    """Hardware of a kind that is not read."""


def device(uuid: str, kwh: float = 1.0, counter: bool = True, fallback: bool = False) -> Any:
    """One GPU of CodeCarbon's."""
    last = SimpleNamespace(kWh=kwh)
    return SimpleNamespace(_uuid=uuid, _has_counter=counter, _use_power_fallback=fallback, last_energy=last)


def task(cpu: float = 0.0, ram: float = 0.0) -> Any:
    """A task's result in kWh."""
    return SimpleNamespace(cpu_energy=cpu / J_PER_KWH, ram_energy=ram / J_PER_KWH)


@pytest.mark.parametrize(
    ("mode", "kind", "words"),
    [
        ("intel_rapl", "measured", "RAPL"),
        ("windows_emi", "measured", "Energy Meter"),
        ("intel_power_gadget", "measured", "Power Gadget"),
        ("cpu_load", "modelled", "120 W at full load of Some CPU, by load"),
        ("constant", "modelled", "whatever the load"),
    ],
)
def test_cpu_says_whether_a_sensor_is_behind_it(mode: str, kind: str, words: str) -> None:
    """Only CodeCarbon's sensor modes are measured, and the instrument names the assumption otherwise."""
    (part,) = find_parts([CPU(mode)], ())
    assert (part.domain.name, part.domain.scope, part.domain.kind) == ("cpu:0", "cpu", kind)
    assert words in part.domain.instrument


def test_memory_is_modelled() -> None:
    """Memory has no sensor in CodeCarbon; the instrument names the watts and the guess."""
    (part,) = find_parts([RAM()], ())
    assert (part.domain.name, part.domain.kind) == ("dram:0", "modelled")
    assert "20 W for modules guessed from 64 GiB" in part.domain.instrument


def test_gpus_of_the_experiment_only() -> None:
    """Of all the machine's GPUs those given are listed, if they have a counter; other hardware is not read."""
    gpus = GPU(device("GPU-a"), device("GPU-b"), device("GPU-c", counter=False))
    found = find_parts([gpus, Other()], ["GPU-b", "GPU-c"])
    assert [part.domain.name for part in found] == ["gpu:GPU-b"]
    assert find_parts([gpus], ()) == []


def test_energies_in_joules() -> None:
    """kWh become joules, and each GPU's are its own counter's."""
    mine, other = device("GPU-a", 2.0), device("GPU-b", 5.0)
    parts = find_parts([CPU("intel_rapl"), RAM(), GPU(mine, other)], ["GPU-a", "GPU-b"])
    marks = gpu_marks(parts)
    mine.last_energy, other.last_energy = SimpleNamespace(kWh=2.5), SimpleNamespace(kWh=5.25)
    assert energies(parts, task(cpu=30, ram=40), marks) == pytest.approx(
        {"cpu:0": 30, "dram:0": 40, "gpu:GPU-a": 0.5 * J_PER_KWH, "gpu:GPU-b": 0.25 * J_PER_KWH}
    )


def test_zero_is_none() -> None:
    """CodeCarbon writes 0 for what it could not read."""
    parts = find_parts([CPU("cpu_load"), RAM(), GPU(device("GPU-a"))], ["GPU-a"])
    assert set(energies(parts, task(), gpu_marks(parts)).values()) == {None}


def test_no_result_is_none() -> None:
    """Where the tracker gives no result there is no energy."""
    parts = find_parts([CPU("cpu_load"), RAM()], ())
    assert energies(parts, None, {}) == {"cpu:0": None, "dram:0": None}


def test_unreadable_rapl_is_none() -> None:
    """A RAPL file that could not be read at the end leaves no energy, even where another file gave some."""
    parts = find_parts([CPU("intel_rapl", skipped=True)], ())
    assert energies(parts, task(cpu=30), {}) == {"cpu:0": None}


@pytest.mark.parametrize("when", ["begin", "end"])
def test_gpu_counter_lost_is_none(when: str) -> None:
    """Where CodeCarbon fell back on power readings, at either end of a window, there is no counter difference."""
    gpu = device("GPU-a", 2.0, fallback=when == "begin")
    parts = find_parts([GPU(gpu)], ["GPU-a"])
    marks = gpu_marks(parts)
    gpu.last_energy, gpu._use_power_fallback = SimpleNamespace(kWh=3.0), when == "end"
    assert energies(parts, task(), marks) == {"gpu:GPU-a": None}
