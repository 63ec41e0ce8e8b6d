"""Gives GPUs to workers and locks them by UUID, so that no two workers of any study measure on one GPU.

`side_by_side` runs several workers at once, each on GPUs of its own. A study that goes on on
other GPUs is told of before anything is measured, because its trials are then a mixture.
"""

from __future__ import annotations

import functools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import attrs

from llem.config.models import Experiment
from llem.devices.host import probe_host
from llem.devices.locks import Lock, held_gpus, lock_gpus
from llem.errors import ExperimentFailed, LlemError, MachineError
from llem.experiment.placement import Candidates, candidates
from llem.metrics.result import Place
from llem.protocol.events import Emit
from llem.protocol.study_events import Waited, Waiting
from llem.store.store import Store
from llem.study.plan.schedule import Job, next_job

__all__ = ["Gpus", "moved_boards", "side_by_side"]

#: How often a worker that waits for GPUs looks whether they are free.
POLL_S = 0.5
#: How long the main thread waits at a time; Ctrl-C reaches it in between.
JOIN_S = 0.2


class Gpus:
    """Gives GPUs to workers.

    Args:
        holder: names this study to other studies that wait for its GPUs.
        wait_s: how long to wait for a GPU that another study has; None waits for ever. While a worker of this study
            has a GPU that would do, the time does not count.
        several: several workers run at once. A worker that needs any GPU takes one that is free.
    """

    def __init__(self, holder: str, wait_s: float | None, *, several: bool = False) -> None:
        self._holder, self._wait_s, self._several = holder, wait_s, several
        self._ran_on: dict[int, frozenset[str]] = {}
        self._at_work: dict[tuple[int, int], frozenset[str]] = {}
        self._held: set[str] = set()
        self._known = threading.Lock()

    def remember(self, group: int, uuids: Iterable[str]) -> None:
        """Note that a group ran on these GPUs. Its further engine processes get the same GPUs if those are free."""
        with self._known:
            self._ran_on[group] = self._ran_on.get(group, frozenset()) | frozenset(uuids)

    def choose(self, waiting: Sequence[Job]) -> Job:
        """The next job for a free worker. Other workers then treat the GPUs on which its group ran as taken.

        GPUs locked by other studies count as taken too, so jobs of groups that ran on other GPUs come first.
        """
        with self._known:
            wanted = {uuid for job in waiting for uuid in self._ran_on.get(job.group, ())}
            others = held_gpus(wanted.difference(*self._at_work.values()))
            job = next_job(waiting, self._ran_on, self._at_work, others)
            self._at_work[job.group, job.process] = self._ran_on.get(job.group, frozenset())
            return job

    def over(self, job: Job) -> None:
        """Note that the worker of this job has ended."""
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
        """Wait for GPUs and hold them; none for the CPU. Free GPUs on which the job's group ran before come first.

        A wait begins with the event `waiting` and ends with `waited`; both name the `job`.

        Raises:
            MachineError: another study had the GPUs for longer than `wait_s` (gpu_busy); or as `candidates`.
            ExperimentFailed: the user stopped the study during the wait (interrupted).
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
                with self._known:  # not while `choose` tries which GPUs are free
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
    """Carry out all jobs with this many workers at once. `Gpus.choose` says which job a free worker takes.

    Args:
        kill_all: ends every worker at once.

    Raises:
        KeyboardInterrupt: after `kill_all`, once `carry_out` has returned for every job.
        Exception: what `carry_out` raised first, once the other workers have ended.
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
            except BaseException as error:  # raised again below, in the caller's thread
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
        while thread.is_alive():  # in pieces: a join without a time limit keeps Ctrl-C out
            thread.join(JOIN_S)


def moved_boards(
    store: Store,
    experiments: Mapping[str, Experiment],
    places: Mapping[str, Iterable[Place]],
    *,
    spread: bool = False,
) -> Iterator[str]:
    """What to warn of, for experiments that have trials and get more of them here.

    A GPU is another one by its UUID. Without a GPU, a machine is another one by its processor and memory.

    Args:
        experiments: those that go on, by id; they run on this machine.
        places: where their trials were measured, by id.
        spread: as of `candidates`.
    """
    found: dict[tuple[Any, ...], tuple[str, ...] | None] = {}
    other: Counter[tuple[str, str]] = Counter()
    this_build = functools.cache(lambda: _build(attrs.asdict(probe_host())))  # asked for without GPUs alone
    for name, experiment in experiments.items():
        wanted = (experiment.device, experiment.gpus)
        if wanted not in found:
            found[wanted] = _here(experiment, spread)
        here = found[wanted]
        if here is not None:
            moves = {_move(store, place, here, this_build) for place in places[name]}
            other.update(move for move in moves if move is not None)
    for (was, now), count in other.items():
        yield (
            f"{count} experiment{' goes' if count == 1 else 's go'} on elsewhere: trials were measured on {was}, and "
            f"here is {now}; boards of one kind differ by several percent, and a result of several is marked "
            "`several_boards` and not publishable"
        )


def _here(experiment: Experiment, spread: bool) -> tuple[str, ...] | None:
    """UUIDs that it may get; None where it cannot run at all, which its worker's outcome will tell."""
    try:
        return candidates(experiment, spread=spread).uuids
    except LlemError:
        return None


def _move(store: Store, place: Place, here: tuple[str, ...], this_build: Callable[[], str]) -> tuple[str, str] | None:
    """From where to where, None where this is the same place."""
    if place.gpus:
        moved = not set(place.gpus) <= set(here)
        return (str(place), " or ".join(str(Place((one,), (), "")) for one in here) or "no GPU") if moved else None
    was, now = _build(store.read_environment(place.environment)["host"]), this_build()
    if was != now:
        return was, now
    return (f"{was}, without a GPU", str(Place(here[:1], (), ""))) if here else None


def _build(host: Mapping[str, Any]) -> str:
    """A machine by what does not change with its software; memory to the GiB, of which a kernel keeps more or less."""
    gib = float(host["memory_bytes"]) / 2**30
    return f"{host['cpu'] or 'an unknown processor'} with {host['threads']} threads and {gib:.0f} GiB"
