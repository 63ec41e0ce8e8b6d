"""The built-in GPU meter: NVML's energy counter, with timestamped instantaneous power as the second instrument."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llem.devices.nvml import Nvml
from llem.errors import MachineError
from llem.meters.base import CounterMeter, Domain

__all__ = ["NvmlMeter"]

#: Calibration offsets of single boards against an in-line meter were 4 to 6 % (Yang, Adámek, Armour, SC'24); NVIDIA
#: states no accuracy for the counter. A stated uncertainty, not a measured one.
SENSOR_RELATIVE = 0.05
PERIOD_S = 0.1


class NvmlMeter(CounterMeter):
    """Reads the GPUs it is given, by UUID. `library` stands in for `pynvml` where a test brings its own."""

    name = "nvml"

    def __init__(self, options: Any = None, gpu_uuids: Sequence[str] = (), *, library: Any = None) -> None:
        super().__init__(options, gpu_uuids)
        self._library = library
        self._nvml: Nvml | None = None

    def open(self) -> Sequence[Domain]:
        """One domain per GPU. Raises MachineError: no GPU, MIG on, or no energy counter."""
        if not self.gpu_uuids:
            message = "the experiment uses no GPU, so nvml has nothing to read"
            raise MachineError(message, "use `device: cuda`", "no_gpu")
        self._nvml = Nvml.open(self._library)
        slices = {gpu.uuid for gpu in self._nvml.gpus() if gpu.mig}
        for uuid in self.gpu_uuids:
            if uuid in slices or uuid.startswith("MIG"):
                hint = "use a GPU without MIG: the counter covers the whole GPU, not a slice"
                raise MachineError(f"MIG is on for GPU {uuid}", hint, "mig")
            self._nvml.energy_j(uuid)
        return [self._domain(self._nvml, uuid) for uuid in self.gpu_uuids]

    def _domain(self, nvml: Nvml, uuid: str) -> Domain:
        return Domain(
            name=f"gpu:{uuid}",
            scope="gpu",
            kind="measured",
            instrument="NVML total energy counter",
            period_s=PERIOD_S,
            sensor_relative=SENSOR_RELATIVE,
            power_limit_w=nvml.power_limit_w(uuid),
        )

    def _opened(self) -> Nvml:
        if self._nvml is None:
            raise MachineError("the nvml meter is not open", "call open() first")
        return self._nvml

    def read_counter(self, domain: str) -> float:
        return self._opened().energy_j(domain.removeprefix("gpu:"))

    def read_power(self, domain: str) -> float | None:
        return self._opened().power_instant_w(domain.removeprefix("gpu:"))

    def close(self) -> None:
        if self._nvml is not None:
            self._nvml.close()
            self._nvml = None
