"""Leases: one holder at a time, taken over from the dead and the silent, who can write nothing any more."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from llem.errors import StoreError
from llem.store.journal import Journal
from llem.store.lease import Claim, Holder, Lease, clear_left, revoke
from llem.store.leases import Leases
from llem.store.manifest import JOURNAL

LONG_S = 600.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An experiment's."""
    path = tmp_path / "experiments" / "abc"
    path.mkdir(parents=True)
    return path


def claim(folder: Path, worker: int = 0, silence_s: float = LONG_S, **changes: object) -> Claim:
    """Of the part 0, by a worker that runs here unless `changes` say otherwise."""
    return Claim(folder, "0", attrs.evolve(Holder.here(worker), **changes), silence_s)


def had(made: Claim) -> Lease:
    """The lease that a claim gets, at the second look where its holder is silent."""
    lease = made.attempt() or made.attempt()
    assert lease is not None
    made.close()
    return lease


def held(lease: Lease) -> Leases:
    """What a worker has that has this lease."""
    leases = Leases(Journal(lease.folder.parents[3]))
    leases.add("abc", "0", lease)
    return leases


@contextlib.contextmanager
def forsaken(folder: Path) -> Iterator[None]:
    """The lease is of a process that is killed within."""
    program = (
        "import pathlib, sys, time\n"
        "from llem.store.lease import Claim, Holder\n"
        "kept = Claim(pathlib.Path(sys.argv[1]), '0', Holder.here(7)).attempt()\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.kill()
    yield


def test_one_at_a_time(folder: Path) -> None:
    """Who comes second waits and knows for whom; nothing is left of a lease that was let go."""
    first = had(claim(folder, 3))
    second = claim(folder, 4)
    assert second.attempt() is None
    assert str(second.held_by) == str(Holder.here(3))
    first.let_go()
    had(second).let_go()
    assert list(folder.iterdir()) == []


def test_parts_are_apart(folder: Path) -> None:
    """Two engine processes of one experiment, and its evaluation, have a worker each."""
    leases = [had(Claim(folder, part, Holder.here(0))) for part in ("0", "1", "quality")]
    assert all(lease.beat() for lease in leases)


def test_of_many_that_try_one_gets_it(folder: Path) -> None:
    """At first, and when a silent holder is followed by one of many."""
    for _ in range(20):
        claims = [claim(folder, worker, silence_s=0.0) for worker in range(8)]
        got: list[Lease] = []
        start = threading.Barrier(len(claims))

        def attempt(one: Claim, got=got, start=start) -> None:
            start.wait()
            lease = one.attempt() or one.attempt()
            if lease is not None:
                got.append(lease)

        threads = [threading.Thread(target=attempt, args=(one,)) for one in claims]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [lease.beat() for lease in got].count(True) == 1  # others had it before, and know that they lost it
        for one in claims:
            one.close()
        for lease in got:
            lease.let_go()
        assert list(folder.iterdir()) == []


@pytest.mark.process
def test_the_dead_are_followed_at_once(folder: Path) -> None:
    """On their machine, however long silence may last; of another machine's nobody knows."""
    with forsaken(folder):
        elsewhere = claim(folder, host="another", boot="another")
        assert elsewhere.attempt() is None
        assert elsewhere.held_by.worker == 7
        elsewhere.close()
        assert had(claim(folder)).beat()


def test_a_living_holder_is_waited_for(folder: Path) -> None:
    """A sign of life since the last look is enough, whatever the clocks say; without one the lease is taken over."""
    lease = had(claim(folder))
    other = claim(folder, 1, silence_s=0.0)
    for second in range(5):
        os.utime(lease.folder / "holder.json", (second, second))  # as by a clock that is years behind
        assert other.attempt() is None
    assert had(other).beat()
    assert not lease.beat()


def test_who_was_silent_has_lost_it(folder: Path) -> None:
    """And can write nothing, neither a new file nor in place of one; what it was at is gone."""
    leases = held(had(claim(folder)))
    leases.write(folder / "a", b"before")
    had(claim(folder, 1, silence_s=0.0))
    for path, replace in ((folder / "a", True), (folder / "b", False)):
        with pytest.raises(StoreError) as caught:
            leases.write(path, b"after", replace=replace)
        assert caught.value.code == "lease_lost"
    assert (folder / "a").read_bytes() == b"before"
    assert not (folder / "b").exists()
    assert leases.beat() is False
    with pytest.raises(StoreError, match="taken over"):
        leases.check()


@pytest.mark.parametrize("synced", [1, 2, 3], ids=["journal's folder", "journal", "file"])
@pytest.mark.parametrize("replace", [False, True])
def test_stopped_between_any_two_lines_of_writing(folder: Path, monkeypatch, replace: bool, synced: int) -> None:
    """The file is written beside, and not moved to its place once another has the lease; nor does a journal name it."""
    leases = held(had(claim(folder)))
    fsync, calls = os.fsync, iter(range(1, 9))

    def overtaken(handle: int) -> None:
        fsync(handle)
        if next(calls) == synced:
            had(claim(folder, 1, silence_s=0.0))

    monkeypatch.setattr(os, "fsync", overtaken)
    with pytest.raises(StoreError) as caught:
        leases.write(folder / "trial-0.json", b"{}", replace=replace)
    assert caught.value.code == "lease_lost"
    assert not (folder / "trial-0.json").exists()
    assert (folder.parents[1] / JOURNAL).read_text() == ""


def test_a_worker_that_is_given_up_writes_no_more(folder: Path) -> None:
    """Nor one that waits; the leases of other workers stay."""
    leases, other = held(had(claim(folder, 3))), had(Claim(folder, "1", Holder.here(4)))
    waiting = claim(folder, 3)
    revoke(folder, 3)
    with pytest.raises(StoreError) as caught:
        leases.write(folder / "a", b"after")
    assert caught.value.code == "lease_lost"
    with pytest.raises(StoreError) as caught:
        waiting.attempt()
    assert caught.value.code == "lease_lost"
    assert other.beat()
    assert [path.name for path in folder.iterdir()] == [".lease-1"]


def test_what_a_killed_waiter_leaves_is_cleared(folder: Path) -> None:
    """The lease that it waited for stays."""
    lease = had(claim(folder))
    claim(folder, 1)
    clear_left(folder.parents[1])
    assert [path.name for path in folder.iterdir()] == [".lease-0"]
    assert lease.beat()
