"""Which GPUs a worker gets: locked by UUID, so that no two workers, of whichever study, measure on one.

And several workers at once, each on GPUs of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import attrs

from llem.config.models import Experiment
from llem.devices.locks import Lock, held_gpus, lock_gpus
from llem.errors import ExperimentFailed, MachineError
from llem.experiment.placement import Candidates, candidates
from llem.protocol.events import Emit
from llem.protocol.study_events import Waited, Waiting
from llem.study.plan.schedule import Job, next_job

__all__ = ["Gpus", "side_by_side"]

#: How often a worker that waits for GPUs looks whether they are free.
POLL_S = 0.5
#: How long the waiting thread sleeps before Ctrl-C can reach it.
JOIN_S = 0.2


class Gpus:
    """Gives GPUs to workers.

    Args:
        holder: what another study is told of who has a GPU.
        wait_s: how long to wait for one that another study has; None for ever. While a worker of this study has one
            that would do, the wait has not begun.
        several: several workers run at once: one that needs any GPU takes whichever is free.
    """

    def __init__(self, holder: str, wait_s: float | None, *, several: bool = False) -> None:
        self._holder, self._wait_s, self._several = holder, wait_s, several
        self._ran_on: dict[int, frozenset[str]] = {}
        self._at_work: dict[tuple[int, int], frozenset[str]] = {}
        self._held: set[str] = set()
        self._known = threading.Lock()

    def remember(self, group: int, uuids: Iterable[str]) -> None:
        """A group of experiments ran on these; its further engine processes get them again if they are free then."""
        with self._known:
            self._ran_on[group] = self._ran_on.get(group, frozenset()) | frozenset(uuids)

    def choose(self, waiting: Sequence[Job]) -> Job:
        """Which of these a worker takes that is free now; the boards that it hopes for are spoken for.

        Boards that another study has count as taken: what ran on others comes first.
        """
        with self._known:
            hoped_for = {board for job in waiting for board in self._ran_on.get(job.group, ())}
            others = held_gpus(hoped_for.difference(*self._at_work.values()))
            job = next_job(waiting, self._ran_on, self._at_work, others)
            self._at_work[job.group, job.process] = self._ran_on.get(job.group, frozenset())
            return job

    def over(self, job: Job) -> None:
        """Nobody works at this job any more."""
        with self._known:
            self._at_work.pop((job.group, job.process), None)

    def _works(self, job: Job, uuids: tuple[str, ...]) -> None:
        self.remember(job.group, uuids)
        with self._known:
            self._at_work[job.group, job.process] = frozenset(uuids)

    def _candidates(self, experiment: Experiment, job: Job | None) -> Candidates:
        found = candidates(experiment, spread=self._several)
        before = self._ran_on.get(job.group, frozenset()) if job is not None else frozenset()
        if found.count == len(found.uuids) or not before:
            return found
        return attrs.evolve(found, uuids=tuple(sorted(found.uuids, key=lambda uuid: uuid not in before)))

    @contextmanager
    def taken(
        self, experiment: Experiment, stop: threading.Event, emit: Emit, job: Job | None = None
    ) -> Iterator[tuple[str, ...]]:
        """Wait for GPUs and hold them; none for the CPU.

        A wait is told as the event `waiting`, and `waited` when it is over, with the `job` that waits.

        Of those that are free the job's group gets the ones that it ran on before.

        Raises:
            MachineError: another study has them for too long (gpu_busy); or as `candidates`.
            ExperimentFailed: interrupted while it waited.
        """
        locks = self._lock(experiment, stop, emit, job)
        if job is not None:
            self._works(job, tuple(locks))
        try:
            yield tuple(locks)
        finally:
            with self._known:
                self._held -= locks.keys()
                for lock in locks.values():
                    lock.let_go()

    def _lock(self, experiment: Experiment, stop: threading.Event, emit: Emit, job: Job | None) -> Mapping[str, Lock]:
        which = None if job is None else (job.group, job.process)
        since, told = time.monotonic(), False
        try:
            while True:
                found = self._candidates(experiment, job)
                with self._known:  # not while `choose` looks which are free
                    locks = lock_gpus(found.uuids, found.count, self._holder)
                    ours = not self._held.isdisjoint(found.uuids)
                    self._held.update(locks or ())
                if locks is not None:
                    return locks
                if ours:
                    since = time.monotonic()
                elif self._wait_s is not None and time.monotonic() - since >= self._wait_s:
                    hint = "wait for it, choose another GPU with `gpus`, or raise `limits.gpu_wait_s`"
                    raise MachineError(f"another study measures there: {found.who}", hint, "gpu_busy")
                if not told:
                    emit(Waiting(what=found.who, job=which))
                    told = True
                if stop.wait(POLL_S):
                    raise ExperimentFailed("stopped by the user", "go on with `--resume`", "interrupted")
        finally:
            if told:
                emit(Waited(job=which))


def side_by_side(
    jobs: Sequence[Job],
    workers: int,
    carry_out: Callable[[Job], None],
    gpus: Gpus,
    kill_all: Callable[[], None],
    stop: threading.Event,
) -> None:
    """Carry out all jobs, so many at a time, in their order as far as GPUs are free that they may want again.

    Args:
        kill_all: ends every worker at once.

    Raises KeyboardInterrupt after every worker was killed and what became of it written down; and what `carry_out`
    raised, once the others have ended.
    """
    waiting = list(jobs)
    errors: list[BaseException] = []
    lock = threading.Lock()

    def work() -> None:
        while not stop.is_set():
            with lock:
                if not waiting:
                    return
                job = gpus.choose(waiting)
                waiting.remove(job)
            try:
                carry_out(job)
            except BaseException as error:  # it is raised again below, by the thread that can tell of it
                errors.append(error)
                stop.set()
            finally:
                with lock:
                    gpus.over(job)

    threads = [threading.Thread(target=work, name=f"worker {number}") for number in range(min(workers, len(jobs)))]
    for thread in threads:
        thread.start()
    try:
        _wait(threads)
    except KeyboardInterrupt:
        stop.set()
        kill_all()
        _wait(threads)
        raise
    if errors:
        raise errors[0]


def _wait(threads: Sequence[threading.Thread]) -> None:
    for thread in threads:
        while thread.is_alive():  # in pieces: a lock that is waited for without end keeps Ctrl-C out
            thread.join(JOIN_S)
