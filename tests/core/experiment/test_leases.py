"""A worker's leases, within one process: in which order they are had, what is told meanwhile, and how loss ends it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llem.errors import ExperimentFailed, StoreError
from llem.experiment import leases
from llem.experiment.leases import leased, not_stored
from llem.plugins.registry import registry
from llem.protocol.events import Event
from llem.protocol.order import WorkOrder
from llem.protocol.study_events import Left, Waited, Waiting
from llem.store.lease import Claim, Holder, Lease, revoke
from llem.store.store import Store

pytestmark = pytest.mark.timeout(60)

LONG_S = 600.0
NAMES = tuple("abcdefgh")


@pytest.fixture
def empty(tmp_path: Path) -> Store:
    """A store with a folder for each of some experiments."""
    made = Store.create(tmp_path / "out", {"name": "leases", "experiments": list(NAMES)})
    for name in NAMES:
        made.folder(name).mkdir(parents=True)
    return made


def order(store: Store, names: tuple[str, ...] = NAMES, **changes: Any) -> WorkOrder:
    """Of worker 0: one trial of each."""
    return WorkOrder(str(store.path), 0, 0, names, tuple((name, 0) for name in names), **changes)


def of_another(store: Store, name: str) -> Lease:
    """A lease that another worker has, which lives."""
    lease = Claim(store.folder(name), "0", Holder.here(9)).attempt()
    assert lease is not None
    return lease


def has(store: Store, name: str) -> bool:
    """Whether anybody has the lease."""
    return any(store.folder(name).glob(".lease-0/*"))


def until(condition: Callable[[], object]) -> None:
    """Wait until it holds."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_who_waits_has_none_of_those_that_come_later(empty: Store) -> None:
    """Leases are had in one order: of two workers with the same experiments, neither waits for the other's."""
    of_another(empty, "a")
    stop, seen = threading.Event(), []

    def emit(event: Event) -> None:
        if isinstance(event, Waiting):
            seen.extend(name for name in NAMES if has(empty, name))
            stop.set()

    todo = order(empty, tuple(reversed(NAMES)), lease_s=LONG_S)
    with pytest.raises(ExperimentFailed) as caught, leased(todo, empty, emit, stop):
        pass
    assert caught.value.code == "interrupted"
    assert seen == ["a"]


def test_who_waits_keeps_those_that_it_has(empty: Store) -> None:
    """It shows signs of life from the beginning; and has none afterwards."""
    of_another(empty, "b")
    stop = threading.Event()

    def emit(event: Event) -> None:
        if isinstance(event, Waiting):
            [file] = empty.folder("a").glob(".lease-0/*/holder.json")
            os.utime(file, (1, 1))
            until(lambda: file.stat().st_mtime > 1)
            stop.set()

    with pytest.raises(ExperimentFailed), leased(order(empty, lease_s=0.6), empty, emit, stop):
        pass
    assert [name for name in NAMES if has(empty, name)] == ["b"]


def test_waiting_is_told_again_and_its_end_once(empty: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that says nothing for long is taken for dead."""
    monkeypatch.setattr(leases, "SIGNS", 300)
    other, told = of_another(empty, "a"), []

    def emit(event: Event) -> None:
        told.append(type(event))
        if len(told) == 2:
            other.let_go()

    with leased(order(empty, ("a",), lease_s=30.0), empty, emit, threading.Event()):
        assert told == [Waiting, Waiting, Waited]
    assert not has(empty, "a")


def test_who_lost_a_lease_is_ended_after_some_seconds(empty: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it is at; it says why."""
    monkeypatch.setattr(leases, "GRACE_S", 0.1)
    told: list[Event] = []
    ended = threading.Event()
    with leased(order(empty, lease_s=0.06), empty, told.append, threading.Event(), ended.set):
        revoke(empty.folder("c"), 0)
        assert ended.wait(30)
        with pytest.raises(StoreError, match="taken over experiment c"):
            empty.leases.check()
    assert [type(one) for one in told] == [Left]


def test_who_heeds_the_loss_is_not_ended(empty: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has some seconds to be done by itself."""
    monkeypatch.setattr(leases, "GRACE_S", LONG_S)
    told: list[Event] = []
    ended = threading.Event()
    with leased(order(empty, lease_s=0.06), empty, told.append, threading.Event(), ended.set):
        revoke(empty.folder("c"), 0)
        until(lambda: _lost(empty))
    assert not ended.is_set()
    assert told == []


def _lost(store: Store) -> bool:
    try:
        store.leases.check()
    except StoreError:
        return True
    return False


def test_what_another_worker_has_done_is_left_out(store: Store, make: Any) -> None:
    """Trials that are stored, and experiments of which nothing is missing; the engine's number is a new one."""
    make.fill(store, "exp-two", per_process=2)
    names = ("exp-one", "exp-two")
    turns = tuple((name, index) for index in range(3) for name in names)
    found = not_stored(WorkOrder(str(store.path), 0, 0, names, turns), store, registry())
    assert (found.experiments, found.turns, found.process) == (("exp-two",), (("exp-two", 2),), 1)
    whole = not_stored(WorkOrder(str(store.path), 0, 5, names, turns[:4]), store, registry())
    assert (whole.experiments, whole.turns, whole.process) == ((), (), 5)


def test_tasks_that_another_worker_has_scored_are_left_out(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """An experiment of which a task is missing stays, though its trials are stored."""
    monkeypatch.setattr(leases, "_absent", lambda *_: ("two",))
    tasks = (("exp-one", "one"), ("exp-one", "two"))
    todo = WorkOrder(str(store.path), 0, 0, ("exp-one",), (("exp-one", 0),), tasks=tasks)
    found = not_stored(todo, store, registry())
    assert (found.experiments, found.turns, found.tasks) == (("exp-one",), (), (("exp-one", "two"),))
