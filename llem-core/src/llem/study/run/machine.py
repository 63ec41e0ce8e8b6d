"""What the GPUs of this machine are, for estimates."""

from __future__ import annotations

import contextlib

from llem.study.plan.memory import GpuKind

__all__ = ["this_gpu"]


def this_gpu() -> GpuKind | None:
    """The GPU with the most memory that this process may see; None where there is none, or none can be reached."""
    from llem.devices.nvml import Nvml
    from llem.errors import MachineError

    try:
        nvml = Nvml.open()
    except MachineError:  # no driver or no permission: nothing is known, which is no mistake of a plan
        return None
    with contextlib.closing(nvml):
        found = [GpuKind(gpu.memory_bytes, gpu.name) for gpu in nvml.gpus() if gpu.memory_bytes is not None]
    return max(found, key=lambda gpu: gpu.memory_bytes, default=None)
