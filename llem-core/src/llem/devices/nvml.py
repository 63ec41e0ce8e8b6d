"""NVML, narrowed to what llem reads. GPUs are named by UUID, never by a position that others may count anew."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import attrs

from llem.errors import MachineError

__all__ = ["THROTTLE_BITS", "Gpu", "Nvml"]

T = TypeVar("T")

# Field identifiers that nvidia-ml-py names NVML_FI_DEV_*; written out because older releases lack the names.
POWER_INSTANT = 186

#: Bits of the clocks event reasons mask (NVML header) that llem tells apart.
THROTTLE_BITS: Mapping[int, str] = {
    0x004: "sw_power_cap",
    0x008: "hw_slowdown",
    0x020: "sw_thermal_slowdown",
    0x040: "hw_thermal_slowdown",
    0x080: "hw_power_brake",
}


@attrs.frozen
class Gpu:
    """One GPU as NVML describes it; `mig` tells whether MIG mode is on.

    `memory_bytes` is None where the GPU has no memory of its own (it shares the host's).
    """

    index: int
    uuid: str
    name: str
    memory_bytes: int | None
    mig: bool


class Nvml:
    """An open NVML library. Close it in a `finally`.

    Args:
        library: the `pynvml` module, or anything with the same functions.
    """

    def __init__(self, library: Any) -> None:
        self._nvml = library
        self._handles: dict[str, Any] = {}

    @classmethod
    def open(cls, library: Any = None) -> Nvml:
        """Initialise NVML. Raises MachineError (code no_gpu) where there is no driver or no permission."""
        chosen = _pynvml() if library is None else library
        try:
            chosen.nvmlInit()
        except chosen.NVMLError as error:
            raise MachineError(
                f"no NVIDIA GPU can be reached: {error}",
                "install the NVIDIA driver, or give the container access to the GPU; `llem doctor` shows what is there",
                code="no_gpu",
            ) from error
        return cls(chosen)

    def close(self) -> None:
        """Let NVML go; never raises, because it runs in a `finally`."""
        with contextlib.suppress(self._nvml.NVMLError):
            self._nvml.nvmlShutdown()

    def gpus(self) -> tuple[Gpu, ...]:
        """Every GPU this process may see, in NVML's order."""
        found = []
        for index in range(self._nvml.nvmlDeviceGetCount()):
            try:
                handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
            except self._nvml.NVMLError:  # fallen off the bus, or withheld from this container: not ours to use
                continue
            uuid = _text(self._nvml.nvmlDeviceGetUUID(handle))
            self._handles[uuid] = handle
            name = _text(self._nvml.nvmlDeviceGetName(handle))
            memory = self._optional(uuid, lambda handle: int(self._nvml.nvmlDeviceGetMemoryInfo(handle).total))
            found.append(Gpu(index, uuid, name, memory, self._mig(handle)))
        return tuple(found)

    def _mig(self, handle: Any) -> bool:
        try:
            current, _ = self._nvml.nvmlDeviceGetMigMode(handle)
        except self._nvml.NVMLError:  # GPUs without MIG answer "not supported"
            return False
        return bool(current)

    def _handle(self, uuid: str) -> Any:
        if uuid not in self._handles:
            try:
                self._handles[uuid] = self._nvml.nvmlDeviceGetHandleByUUID(uuid)
            except self._nvml.NVMLError as error:
                message = f"no GPU with UUID {uuid}: {error}"
                raise MachineError(message, "see `llem doctor`", code="gpu_missing") from error
        return self._handles[uuid]

    def energy_j(self, uuid: str) -> float:
        """Joules since the driver was loaded (total energy counter, Volta and newer)."""
        millijoules: int = self._read(uuid, "energy counter", self._nvml.nvmlDeviceGetTotalEnergyConsumption)
        return millijoules / 1000

    def power_instant_w(self, uuid: str) -> float | None:
        """Instantaneous watts (field 186), None where this GPU or driver has no such reading."""
        values = self._read(uuid, "instant power", lambda h: self._nvml.nvmlDeviceGetFieldValues(h, [POWER_INSTANT]))
        if values[0].nvmlReturn != 0:
            return None
        return int(values[0].value.uiVal) / 1000

    def power_limit_w(self, uuid: str) -> float | None:
        """The enforced power limit in watts."""
        value = self._optional(uuid, self._nvml.nvmlDeviceGetEnforcedPowerLimit)
        return None if value is None else value / 1000

    def temperature_c(self, uuid: str) -> int | None:
        """Temperature of the GPU die in degrees Celsius."""
        sensor = self._nvml.NVML_TEMPERATURE_GPU
        return self._optional(uuid, lambda handle: int(self._nvml.nvmlDeviceGetTemperature(handle, sensor)))

    def sm_clock_mhz(self, uuid: str) -> int | None:
        """Clock of the multiprocessors in MHz."""
        clock = self._nvml.NVML_CLOCK_SM
        return self._optional(uuid, lambda handle: int(self._nvml.nvmlDeviceGetClockInfo(handle, clock)))

    def utilisation_percent(self, uuid: str) -> int | None:
        """Percent of the driver's last sampling period in which any kernel ran."""
        return self._optional(uuid, lambda handle: int(self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu))

    def throttle_bits(self, uuid: str) -> int | None:
        """The clocks event reasons mask; see `THROTTLE_BITS`."""
        # renamed by NVIDIA: the older name is what older drivers' bindings have
        name = "nvmlDeviceGetCurrentClocksEventReasons"
        function = getattr(self._nvml, name, None) or self._nvml.nvmlDeviceGetCurrentClocksThrottleReasons
        return self._optional(uuid, lambda handle: int(function(handle)))

    def compute_pids(self, uuid: str) -> tuple[int, ...]:
        """Process ids with a compute context on the GPU."""
        found = self._optional(uuid, self._nvml.nvmlDeviceGetComputeRunningProcesses)
        return tuple(sorted(int(process.pid) for process in found or ()))

    def facts(self, uuid: str) -> dict[str, Any]:
        """What to store about one GPU with each result."""
        gpu = next(gpu for gpu in self.gpus() if gpu.uuid == uuid)
        n = self._nvml
        default = self._optional(uuid, n.nvmlDeviceGetPowerManagementDefaultLimit)
        ecc = self._optional(uuid, n.nvmlDeviceGetEccMode)
        persistence = self._optional(uuid, n.nvmlDeviceGetPersistenceMode)
        return {
            **attrs.asdict(gpu),
            "power_limit_w": self.power_limit_w(uuid),
            "default_power_limit_w": None if default is None else default / 1000,
            "persistence_mode": None if persistence is None else bool(persistence),
            "ecc": None if ecc is None else bool(ecc[0]),
        }

    def driver_version(self) -> str:
        """The driver's version."""
        return _text(self._nvml.nvmlSystemGetDriverVersion())

    def _read(self, uuid: str, what: str, function: Callable[[Any], T]) -> T:
        handle = self._handle(uuid)
        try:
            return function(handle)
        except self._nvml.NVMLError as error:
            raise MachineError(
                f"the {what} of GPU {uuid} cannot be read: {error}",
                "energy counters need Volta or newer; see `llem doctor`",
                code="counter_missing",
            ) from error

    def _optional(self, uuid: str, function: Callable[[Any], T]) -> T | None:
        """None where this GPU does not have the reading: many boards lack one or another."""
        handle = self._handle(uuid)
        try:
            return function(handle)
        except self._nvml.NVMLError:
            return None


def _pynvml() -> Any:
    import pynvml

    return pynvml


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
