"""Who else computes on the measured GPUs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

from llem.devices.nvml import Nvml

__all__ = ["Tenants"]


class Tenants:
    """Tells strangers on the GPUs from ourselves without relying on process ids being ours to see.

    In a container NVML shows the host's process ids, so "mine" is what appeared while the engine loaded, and this
    process, which a program that calls llem may have used on the GPU before.
    """

    def __init__(self, pids: Callable[[], set[int]]) -> None:
        self._pids = pids
        self._before = pids()
        self._own = {os.getpid()}

    @classmethod
    def on(cls, nvml: Nvml, uuids: Sequence[str]) -> Tenants:
        """Watch these GPUs."""
        return cls(lambda: {pid for uuid in uuids for pid in nvml.compute_pids(uuid)})

    def engine_loaded(self, pids: Iterable[int] = ()) -> None:
        """What is there now and was not before is the engine; and what it says are its own, however long they ran."""
        self._own |= (self._pids() - self._before) | set(pids)

    def strangers(self) -> tuple[int, ...]:
        """Process ids on the GPUs that are not the engine's."""
        return tuple(sorted(self._pids() - self._own))
