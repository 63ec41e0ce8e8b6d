"""Peak memory, and what it covers."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from llem.backends.base import MemoryReading

__all__ = ["PeakMemory"]

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")


class PeakMemory:
    """Peak of a device type: "cuda" or "cpu"."""

    def __init__(self, device: str) -> None:
        self.device = device
        self._can_reset = True

    def reset(self) -> None:
        """Start the peak anew. On the CPU this needs Linux: writing 5 resets the high-water mark (man 5 proc)."""
        if self.device == "cuda":
            for index in range(torch.cuda.device_count()):
                torch.cuda.reset_peak_memory_stats(index)
            return
        try:
            CLEAR_REFS.write_text("5")
        except OSError:
            self._can_reset = False

    def read(self) -> MemoryReading:
        """Peak in bytes since `reset`."""
        if self.device == "cuda":
            peak = sum(torch.cuda.max_memory_allocated(index) for index in range(torch.cuda.device_count()))
            return MemoryReading(peak, "tensors of PyTorch's allocator, all GPUs of the experiment")
        covers = "resident memory of the whole process: model, tensors, interpreter and libraries"
        peak_kib = _high_water_kib() if self._can_reset else None
        if peak_kib is None:
            return MemoryReading(None, covers, reason="not_supported")
        return MemoryReading(peak_kib * 1024, covers)


def _high_water_kib() -> int | None:
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB$", STATUS.read_text(), re.MULTILINE)
    except OSError:
        return None
    return None if found is None else int(found.group(1))
