"""The meter `zeus`: windows of Zeus' monitor, each figure under its GPU's UUID or its CPU package's number."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import attrs

from llem.devices.nvml import Nvml
from llem.errors import MachineError
from llem.meters.base import Domain, Scope, WindowMeter
from llem_zeus.config import ZeusOptions

__all__ = ["Source", "ZeusMeter", "cpu_sources", "energies", "gpu_sources"]

INSTRUMENTS: Mapping[Scope, str] = {
    "gpu": "Zeus: NVML total energy counter",
    "cpu": "Zeus: RAPL package counter",
    "dram": "Zeus: RAPL memory counter",
}


@attrs.frozen
class Source:
    """Where a domain's energy stands in a Zeus measurement: `<scope>_energy[index]`."""

    domain: str
    scope: Scope
    index: int


def gpu_sources(gpus: Sequence[Any], uuid_by_index: Mapping[int, str]) -> list[Source]:
    """GPUs of the experiment among those Zeus tracks.

    Zeus counts positions among the GPUs it sees; each of its GPU objects knows its NVML index.

    Args:
        gpus: Zeus' GPU objects, in Zeus' order.
        uuid_by_index: NVML index to UUID, of the experiment's GPUs only.
    """
    return [
        Source(f"gpu:{uuid_by_index[gpu.gpu_index]}", "gpu", position)
        for position, gpu in enumerate(gpus)
        if gpu.gpu_index in uuid_by_index and gpu.supports_get_total_energy_consumption()
    ]


def cpu_sources(cpus: Sequence[Any]) -> list[Source]:
    """CPU packages and their memory among the power zones Zeus tracks.

    Zeus also counts the zone `psys` (the whole platform) as a CPU; it contains the packages and is left out.
    """
    found = []
    for position, cpu in enumerate(cpus):
        zone = getattr(cpu, "rapl_file", None)
        if zone is not None and not zone.name.startswith("package"):
            continue
        found.append(Source(f"cpu:{cpu.cpu_index}", "cpu", position))
        if cpu.supports_get_dram_energy_consumption():
            found.append(Source(f"dram:{cpu.cpu_index}", "dram", position))
    return found


def energies(measurement: Any, sources: Sequence[Source]) -> dict[str, float | None]:
    """Joules by domain; None where Zeus gave none, or where the counter did not advance or went backwards."""
    found: dict[str, float | None] = {}
    for source in sources:
        by_index = getattr(measurement, f"{source.scope}_energy") or {}
        value = by_index.get(source.index)
        found[source.domain] = float(value) if value is not None and value > 0 else None
    return found


class ZeusMeter(WindowMeter):
    """Zeus' monitor without its synchronisation: an engine's call returns when all tokens are on the host."""

    name: ClassVar[str] = "zeus"

    def __init__(self, options: ZeusOptions | None = None, gpu_uuids: Sequence[str] = ()) -> None:
        super().__init__(options or ZeusOptions(), gpu_uuids)
        self._monitor: Any = None
        self._sources: list[Source] = []
        self._windows = 0

    def open(self) -> Sequence[Domain]:
        """Import Zeus and reach the devices; takes seconds.

        Raises MachineError: a GPU of the experiment is missing or in MIG mode (no_gpu, gpu_missing, mig), or nothing
        can be read (permission, no_gpu).
        """
        uuid_by_index = _uuid_by_index(self.gpu_uuids) if self.gpu_uuids else {}
        with _stdout_to_stderr(), _all_gpus_visible():
            from zeus.device import get_gpus
            from zeus.exception import ZeusBaseError
            from zeus.monitor import ZeusMonitor

            try:
                sources = gpu_sources(get_gpus().gpus, uuid_by_index) if uuid_by_index else []
                packages, refused = _packages() if self.options.cpu else ([], False)
                sources += packages
                if not sources:
                    raise _nothing(refused, self.gpu_uuids)
                self._monitor = ZeusMonitor(
                    gpu_indices=[source.index for source in sources if source.scope == "gpu"],
                    cpu_indices=[source.index for source in sources if source.scope == "cpu"],
                    approx_instant_energy=False,  # it would replace a missing reading by a guess
                )
            except ZeusBaseError as error:
                raise MachineError(
                    f"zeus cannot reach the devices: {error}", "run `python -m zeus.show_env`", code="no_gpu"
                ) from error
        self._sources = sources
        self._rehearse()
        return [Domain(s.domain, s.scope, "measured", INSTRUMENTS[s.scope], method="window") for s in sources]

    def _rehearse(self) -> None:
        """One window of no length: the first reading of RAPL starts Zeus' processes that watch for wrap-around."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that so short a window has no energy is no news
            self.begin()
            self.end()

    def begin(self) -> None:
        self._windows += 1  # a window that was never ended leaves its name taken
        self._opened().begin_window(f"llem-{self._windows}", sync_execution=False)

    def end(self) -> Mapping[str, float | None]:
        return energies(self._opened().end_window(f"llem-{self._windows}", sync_execution=False), self._sources)

    def _opened(self) -> Any:
        if self._monitor is None:
            raise MachineError("the zeus meter is not open", "call open() first")
        return self._monitor

    def close(self) -> None:
        """Forget the monitor; what Zeus keeps open for the process, it closes at the process' end."""
        self._monitor = None


def _uuid_by_index(wanted: Sequence[str]) -> dict[int, str]:
    """NVML index to UUID of the experiment's GPUs. Raises MachineError: no driver, MIG, or no such GPU."""
    nvml = Nvml.open()
    try:
        gpus = {gpu.uuid: gpu for gpu in nvml.gpus()}
    finally:
        nvml.close()
    for uuid in wanted:
        if uuid.startswith("MIG") or (uuid in gpus and gpus[uuid].mig):
            hint = "use a GPU without MIG: the counter covers the whole GPU, not a slice"
            raise MachineError(f"MIG is on for GPU {uuid}", hint, code="mig")
        if uuid not in gpus:
            hint = f"GPUs here: {', '.join(gpus) or 'none'}"
            raise MachineError(f"no GPU with UUID {uuid}", hint, code="gpu_missing")
    return {gpus[uuid].index: uuid for uuid in wanted}


def _packages() -> tuple[list[Source], bool]:
    """CPU packages and memory that can be read, and whether RAPL is there and refused."""
    from zeus.device import get_cpus
    from zeus.device.cpu.common import ZeusCPUNoPermissionError
    from zeus.device.exception import ZeusBaseCPUError

    try:
        return cpu_sources(get_cpus().cpus), False
    except ZeusCPUNoPermissionError:
        return [], True
    except ZeusBaseCPUError:  # no RAPL on this machine, or power zones that Zeus cannot parse
        return [], False


def _nothing(refused: bool, gpu_uuids: Sequence[str]) -> MachineError:
    if refused:
        return MachineError(
            "zeus may not read the RAPL counters, and there is nothing else for it to read",
            "run: sudo chmod -R a+r /sys/class/powercap/*/energy_uj (until the next restart), or start the Zeus daemon",
            code="permission",
        )
    what = "no GPU with an energy counter" if gpu_uuids else "the experiment uses no GPU"
    return MachineError(
        f"zeus has nothing to read: {what}, and this machine has no RAPL counters it may use",
        "leave `zeus` out of `meters`; `codecarbon` models the energy of a machine without sensors",
        code="no_gpu",
    )


@contextlib.contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """A dependency of Zeus prints when it does not find an AMD library; standard output belongs to the result."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


@contextlib.contextmanager
def _all_gpus_visible() -> Iterator[None]:
    """Zeus reads CUDA_VISIBLE_DEVICES as integers and fails on UUIDs; llem selects by UUID itself."""
    visible = os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    try:
        yield
    finally:
        if visible is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = visible
