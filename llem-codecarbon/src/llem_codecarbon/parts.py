"""What a CodeCarbon tracker reads on this machine, and the energy of one task by domain.

The tracker's result carries one sum for all CPUs and one for all GPUs, and zero where a reading failed. The parts
behind those sums tell a sensor from a model, one GPU from another, and a missing reading from none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import attrs

from llem.meters.base import Domain, Scope

__all__ = ["J_PER_KWH", "Part", "energies", "find_parts", "gpu_marks"]

J_PER_KWH = 3.6e6
SENSORS = {"intel_rapl": "RAPL", "windows_emi": "Energy Meter Interface", "intel_power_gadget": "Power Gadget"}
CPU = "cpu:0"
DRAM = "dram:0"


@attrs.frozen
class Part:
    """One domain and the CodeCarbon object behind it (a CPU, a RAM, or one GPU device)."""

    domain: Domain
    device: Any


def find_parts(hardware: Sequence[Any], gpu_uuids: Sequence[str]) -> list[Part]:
    """Domains of a tracker's hardware. GPUs are those of the experiment that have an energy counter."""
    found: list[Part] = []
    for item in hardware:
        kind = type(item).__name__
        if kind == "CPU":
            found.append(Part(_cpu(item), item))
        elif kind == "RAM":
            found.append(Part(_ram(item), item))
        elif kind == "GPU":
            found += [_gpu(d) for d in item.devices.devices if d._uuid in gpu_uuids and d._has_counter]
    return found


def _cpu(cpu: Any) -> Domain:
    if cpu._mode in SENSORS:
        return _domain(CPU, "cpu", "measured", f"{SENSORS[cpu._mode]}, all packages together")
    share = "half of it, whatever the load" if cpu._mode == "constant" else "by load"
    return _domain(CPU, "cpu", "modelled", f"no sensor, {cpu._tdp:g} W at full load of {cpu._model}, {share}")


def _ram(ram: Any) -> Domain:
    if ram._force_ram_power is not None:
        return _domain(DRAM, "dram", "modelled", f"no sensor, {ram._force_ram_power:g} W as configured")
    guess = f"{ram.total_power().W:g} W for modules guessed from {ram.machine_memory_GB:.0f} GiB"
    return _domain(DRAM, "dram", "modelled", f"no sensor, {guess}")


def _gpu(device: Any) -> Part:
    return Part(_domain(f"gpu:{device._uuid}", "gpu", "measured", "NVML total energy counter"), device)


def _domain(name: str, scope: Scope, kind: Literal["measured", "modelled"], instrument: str) -> Domain:
    return Domain(name, scope, kind, f"CodeCarbon: {instrument}", method="window")


def gpu_marks(parts: Sequence[Part]) -> dict[str, float | None]:
    """The GPUs' counters in kWh as the tracker last read them; None where it fell back on power readings."""
    return {
        part.domain.name: None if part.device._use_power_fallback else part.device.last_energy.kWh
        for part in parts
        if part.domain.scope == "gpu"
    }


def energies(parts: Sequence[Part], task: Any, marks: Mapping[str, float | None]) -> dict[str, float | None]:
    """Joules by domain of one ended task.

    Args:
        task: the tracker's result for the task, or None when it gave none.
        marks: `gpu_marks` at the task's beginning.

    A reading that failed is None; so is zero, since nothing that is switched on uses no energy.
    """
    ends = gpu_marks(parts)
    found: dict[str, float | None] = {}
    for part in parts:
        kwh: float | None = None
        if task is not None and part.domain.scope == "cpu":
            kwh = None if _rapl_skipped(part.device) else task.cpu_energy
        elif task is not None and part.domain.scope == "dram":
            kwh = task.ram_energy
        elif task is not None:
            first, last = marks[part.domain.name], ends[part.domain.name]
            kwh = None if first is None or last is None else last - first
        found[part.domain.name] = kwh * J_PER_KWH if kwh is not None and kwh > 0 else None
    return found


def _rapl_skipped(cpu: Any) -> bool:
    """Whether a RAPL file could not be read at the task's end: CodeCarbon then counts it as zero."""
    if cpu._mode != "intel_rapl":
        return False
    return any(file.sample_skipped for file in cpu._intel_interface._rapl_files)
