"""Which GPUs a worker gets: locked by UUID, so that no two workers, of whichever study, measure on one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import attrs

from llem.config.models import Experiment
from llem.devices.locks import Lock, lock_gpus
from llem.errors import ExperimentFailed, MachineError
from llem.experiment.events import Emit
from llem.experiment.placement import Candidates, candidates

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
        """GPUs for an experiment if they are free now. Raises MachineError as `candidates`."""
        return self._lock(self._candidates(experiment))

    def _candidates(self, experiment: Experiment) -> Candidates:
        return candidates(experiment, spread=self._several)

    def _lock(self, found: Candidates) -> Allocation | None:
        locks = lock_gpus(found.uuids, found.count, self._holder)
        return None if locks is None else Allocation(tuple(locks), tuple(locks.values()))

    @contextmanager
    def taken(self, experiment: Experiment, stop: threading.Event, emit: Emit) -> Iterator[tuple[str, ...]]:
        """Wait for GPUs and hold them; the wait is told as the event `waiting`.

        Raises:
            MachineError: another study has them for too long (gpu_busy); or as `candidates`.
            ExperimentFailed: interrupted while it waited.
        """
        since, told = time.monotonic(), False
        while (got := self._lock(found := self._candidates(experiment))) is None:
            if self._wait_s is not None and time.monotonic() - since >= self._wait_s:
                hint = "wait for it, choose another GPU with `gpus`, or raise `limits.gpu_wait_s`"
                raise MachineError(f"another study measures there: {found.who}", hint, "gpu_busy")
            if not told:
                emit({"event": "waiting", "for": found.who})
                told = True
            if stop.wait(POLL_S):
                raise ExperimentFailed("stopped by the user", "go on with `--resume`", "interrupted")
        try:
            yield got.uuids
        finally:
            got.let_go()
