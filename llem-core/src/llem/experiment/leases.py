"""A worker's leases: had before anything is loaded, kept by signs of life, and heeded when they are lost."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import attrs

from llem.config.load import stored_experiment
from llem.errors import ExperimentFailed
from llem.plugins.registry import Registry
from llem.protocol.events import Emit
from llem.protocol.order import WorkOrder
from llem.protocol.study_events import Left, Waited, Waiting
from llem.store.evaluations import remaining_tasks
from llem.store.lease import Claim, Holder, Lease
from llem.store.leases import QUALITY
from llem.store.store import Store

__all__ = ["leased", "not_stored"]

#: Signs of life in the time after which a lease may be taken over. Few: nothing shall wake up while a worker measures.
SIGNS = 6
#: How often a worker that waits looks whether a lease is to be had.
LOOK_S = 1.0
#: How long a worker without its lease may take to be gone before it is ended at once.
GRACE_S = 5.0


@contextlib.contextmanager
def leased(
    order: WorkOrder, store: Store, emit: Emit, stop: threading.Event, end: Callable[[], None] | None = None
) -> Iterator[None]:
    """Within it this worker alone measures, and may write, what its order says. Waits for others that are at it.

    Args:
        end: ends this process at once; called if it is still here some seconds after it lost a lease.

    Raises:
        ExperimentFailed: stopped while it waited (interrupted).
        StoreError: this worker was given up while it waited (lease_lost).
    """
    over = threading.Event()
    holder, taken = Holder.here(order.worker), store.leases
    signs = threading.Thread(target=_signs, args=(order.lease_s, store, emit, over, end), daemon=True)
    signs.start()  # before all are had: the first must not be lost while the last is waited for
    try:
        for name, part in sorted(_parts(order)):  # in one order: two workers never wait for each other
            taken.add(name, part, _lease(Claim(store.folder(name), part, holder, order.lease_s), emit, stop))
        yield
    finally:
        over.set()
        signs.join()
        taken.let_go()


def not_stored(order: WorkOrder, store: Store, registry: Registry) -> WorkOrder:
    """What of an order is still to be done. Another worker may have done the rest since it was written.

    Its engine process has a number that no engine has, though another worker may have got the same one meanwhile.
    """
    stored = {name: store.trial_indices(name) for name in order.experiments}
    absent = {name: _absent(store, registry, name) for name, _ in order.tasks}
    turns = tuple((name, index) for name, index in order.turns if index not in stored[name])
    tasks = tuple((name, task) for name, task in order.tasks if task in absent[name])
    wanted = {name for name, _ in (*turns, *tasks)}
    names = tuple(name for name in order.experiments if name in wanted)
    process = max([order.process, *(store.next_process(name) for name in names)])
    return attrs.evolve(order, turns=turns, tasks=tasks, experiments=names, process=process)


def _absent(store: Store, registry: Registry, name: str) -> tuple[str, ...]:
    return tuple(remaining_tasks(store, name, stored_experiment(store.read_experiment(name), registry).quality))


def _parts(order: WorkOrder) -> set[tuple[str, str]]:
    """What an order is about: trials of one of the engine processes of each experiment, and tasks."""
    trials = {(name, str(order.part)) for name, _ in order.turns}
    return trials | {(name, QUALITY) for name, _ in order.tasks}


def _lease(claim: Claim, emit: Emit, stop: threading.Event) -> Lease:
    told = float("-inf")
    with contextlib.closing(claim):
        while (lease := claim.attempt()) is None:
            if time.monotonic() - told >= claim.silence_s / SIGNS:  # not only once: who is silent is taken for dead
                emit(Waiting(what=f"{claim.held_by or 'another worker'}, which measures this experiment"))
                told = time.monotonic()
            if stop.wait(min(LOOK_S, claim.silence_s / SIGNS)):
                raise ExperimentFailed("stopped by the user", "go on with `--resume`", "interrupted")
        if told > float("-inf"):
            emit(Waited())
        return lease


def _signs(silence_s: float, store: Store, emit: Emit, over: threading.Event, end: Callable[[], None] | None) -> None:
    while store.leases.beat():
        if over.wait(silence_s / SIGNS):
            return
    if not over.wait(GRACE_S) and end is not None:
        emit(Left(why="another worker has taken over its experiments"))
        end()
