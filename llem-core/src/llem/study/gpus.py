"""Which GPUs a worker gets: locked by UUID, so that no two workers, of whichever study, measure on one."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import attrs

from llem.config.models import Experiment
from llem.devices.locks import Lock, gpu_lock
from llem.devices.nvml import Nvml
from llem.errors import ExperimentFailed, MachineError
from llem.experiment.events import Emit
from llem.experiment.placement import VISIBLE_DEVICES, place, visible_gpus

__all__ = ["Allocation", "Gpus"]

POLL_S = 0.5


@attrs.frozen
class Allocation:
    """GPUs that are held by their locks; none for an experiment on the CPU."""

    uuids: tuple[str, ...]
    locks: tuple[Lock, ...]

    def let_go(self) -> None:
        for lock in self.locks:
            lock.let_go()


class Gpus:
    """Gives GPUs to workers.

    Args:
        holder: what another study is told of who has a GPU.
        wait_s: how long to wait for one that another study has; None for ever.
        several: several workers run at once: one that needs any GPU takes whichever is free.
    """

    def __init__(self, holder: str, wait_s: float | None, *, several: bool = False) -> None:
        self._holder, self._wait_s, self._several = holder, wait_s, several

    def try_take(self, experiment: Experiment) -> Allocation | None:
        """GPUs for an experiment if they are free now. Raises MachineError as `place`."""
        return next((got for uuids in self._choices(experiment) if (got := self._lock(uuids)) is not None), None)

    def _choices(self, experiment: Experiment) -> Sequence[tuple[str, ...]]:
        placement = place(experiment)
        if not placement.gpu_uuids or experiment.gpus or not self._several:
            return [placement.gpu_uuids]
        with contextlib.closing(Nvml.open()) as nvml:
            return [(gpu.uuid,) for gpu in visible_gpus(nvml.gpus(), os.environ.get(VISIBLE_DEVICES))]

    def _lock(self, uuids: Sequence[str]) -> Allocation | None:
        got: list[Lock] = []
        for uuid in sorted(uuids):
            lock = gpu_lock(uuid)
            if not lock.take(self._holder):
                Allocation((), tuple(got)).let_go()
                return None
            got.append(lock)
        return Allocation(tuple(uuids), tuple(got))

    @contextmanager
    def taken(self, experiment: Experiment, stop: threading.Event, emit: Emit) -> Iterator[tuple[str, ...]]:
        """Wait for GPUs and hold them; the wait is told as the event `waiting`.

        Raises:
            MachineError: another study has them for too long (gpu_busy); or as `place`.
            ExperimentFailed: interrupted while it waited.
        """
        since, told = time.monotonic(), False
        while (got := self.try_take(experiment)) is None:
            busy = ", ".join(_busy(uuids) for uuids in self._choices(experiment))
            if self._wait_s is not None and time.monotonic() - since >= self._wait_s:
                hint = "wait for it, choose another GPU with `gpus`, or raise `limits.gpu_wait_s`"
                raise MachineError(f"another study measures there: {busy}", hint, "gpu_busy")
            if not told:
                emit({"event": "waiting", "for": busy})
                told = True
            if stop.wait(POLL_S):
                raise ExperimentFailed("stopped by the user", "go on with `--resume`", "interrupted")
        try:
            yield got.uuids
        finally:
            got.let_go()


def _busy(uuids: Sequence[str]) -> str:
    return " and ".join(f"{uuid} ({gpu_lock(uuid).holder() or 'unknown holder'})" for uuid in uuids)
