"""Leases: one holder at a time, taken over from the dead and the silent, who can write nothing any more."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import linecache
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import attrs
import pytest

from llem.errors import MachineError, StoreError
from llem.store import lease as lease_module
from llem.store import lease_places
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
    """On their machine, however long silence may last; of another machine's, or of another start, nobody knows."""
    with forsaken(folder):
        for changes in ({"host": "another"}, {"boot": "another"}):
            elsewhere = claim(folder, **changes)
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


def test_who_is_given_up_comes_to_hold_nothing_meanwhile(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lease that it waits for is let go while its own are looked for."""
    first, waiting = had(claim(folder, 4)), claim(folder, 3)
    looks: list[re.Pattern[str]] = []

    def folders(where: Path, names: re.Pattern[str]) -> list[Path]:
        if names in (lease_places.PLACE, lease_places.ASIDE):
            looks.append(names)
            if len(looks) == 2:
                first.let_go()
                with contextlib.suppress(StoreError):
                    waiting.attempt()
        return lease_places.folders(where, names)

    monkeypatch.setattr(lease_module, "folders", folders)
    revoke(folder, 3)
    assert len(looks) == 2
    assert list(folder.iterdir()) == []


def test_what_a_killed_waiter_leaves_is_cleared(folder: Path) -> None:
    """The lease that it waited for stays."""
    lease = had(claim(folder))
    claim(folder, 1)
    clear_left(folder.parents[1])
    assert [path.name for path in folder.iterdir()] == [".lease-0"]
    assert lease.beat()


def dead(folder: Path, worker: int = 7) -> None:
    """The lease is of a process of this machine that is no more, as its lock says."""
    os.close(had(claim(folder, worker))._lock)


#: Lines of these modules between which another process can see, or make, a difference.
ASKS = re.compile(r"\b(?:os|fcntl|shutil)\.\w+\(|iterdir|read_text\(|\.rmdir\(|is_dir\(|is_symlink\(")


class Stopped(threading.Thread):
    """One that tries for a lease once, and is stopped before a line that asks the system until it may go on.

    Attributes:
        got: what it had in the end.
        lines: how many such lines it came to.
    """

    def __init__(self, one: Claim, line: int) -> None:
        super().__init__()
        self.one, self.line, self.lines = one, line, 0
        self.got: Lease | None = None
        self.stands, self.may = threading.Event(), threading.Event()

    def run(self) -> None:
        sys.settrace(self._trace)
        try:
            self.got = self.one.attempt()
        finally:
            sys.settrace(None)
            self.stands.set()

    def _trace(self, frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:
        file = frame.f_code.co_filename
        if file not in (lease_module.__file__, lease_places.__file__):
            return None
        if event == "line" and ASKS.search(linecache.getline(file, frame.f_lineno)):
            self.lines += 1
            if self.lines == self.line:
                self.stands.set()
                assert self.may.wait(10)
        return self._trace

    def to_its_line(self) -> None:
        self.start()
        assert self.stands.wait(10)

    def to_its_end(self) -> None:
        self.may.set()
        self.join(10)
        self.one.close()


@pytest.mark.parametrize("silent", [False, True], ids=["dead", "silent"])
def test_two_that_wait_are_stopped_at_any_line(folder: Path, silent: bool) -> None:
    """The first stops before a line, then the second before a line, and both go on: one has the lease, and keeps it."""
    first_line = most = 1
    while first_line <= most:
        second_line, many = 1, 1
        while second_line <= many:
            if silent:
                had(claim(folder, 7))
            else:
                dead(folder)
            waiting = [claim(folder, worker, 0.0 if silent else LONG_S) for worker in (1, 2)]
            if silent:
                assert [one.attempt() for one in waiting] == [None, None]
            first, second = Stopped(waiting[0], first_line), Stopped(waiting[1], second_line)
            for one in (first, second):
                one.to_its_line()
            for one in (first, second):
                one.to_its_end()
            leases = [one.got for one in (first, second) if one.got is not None]
            assert len(leases) == 1, (first_line, second_line)
            assert leases[0].beat()
            leases[0].let_go()
            assert list(folder.iterdir()) == []
            most, many = max(most, first.lines), max(many, second.lines)
            second_line += 1
        first_line += 1
    assert most > 10, "the lines were not seen"


def test_of_many_behind_a_dead_holder_one_gets_it(folder: Path) -> None:
    """They try until one has it, all at once; no other has it before or after, and it keeps it."""
    for _ in range(20):
        dead(folder)
        claims = [claim(folder, worker) for worker in range(8)]
        got: list[Lease] = []
        start, over = threading.Barrier(len(claims)), threading.Event()

        def attempt(one: Claim, got=got, start=start, over=over) -> None:
            start.wait()
            for _ in range(200):
                if (lease := one.attempt()) is not None:
                    got.append(lease)
                    over.set()
                    return
                if over.is_set():
                    break
            one.attempt()

        threads = [threading.Thread(target=attempt, args=(one,)) for one in claims]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [lease.beat() for lease in got] == [True]
        for one in claims:
            one.close()
        got[0].let_go()
        assert list(folder.iterdir()) == []


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder that is none of llem's, with a file, and with one named as that of a holder."""
    path = tmp_path / "home"
    (path / "0123456789abcdef").mkdir(parents=True)
    for name in ("letter", "0123456789abcdef/holder.json"):
        (path / name).write_text("mine")
    return path


def _link(at: Path, outside: Path) -> None:
    at.symlink_to(outside)


STRANGE: dict[str, Callable[[Path, Path], object]] = {
    "link": _link,
    "file": lambda at, _: at.write_text("notes"),
    "pipe": lambda at, _: os.mkfifo(at),
    "file in it": lambda at, _: (at.mkdir(), (at / "notes").write_text("notes")),
    "link in it": lambda at, outside: (at.mkdir(), _link(at / ("f" * 16), outside)),
    "folder in it": lambda at, _: (at / "notes").mkdir(parents=True),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", STRANGE)
@pytest.mark.parametrize("name", [".lease-0", ".lease-0.0123456789abcdef", ".lease-0.old"])
def test_what_is_no_lease_is_told_and_never_removed(folder: Path, outside: Path, kind: str, name: str) -> None:
    """A link, file or pipe in the place of a lease or within it, and what a link there leads to."""
    STRANGE[kind](folder / name, outside)
    clear_left(folder.parents[1])
    revoke(folder, 0)
    made = claim(folder)
    if name == ".lease-0":
        with pytest.raises(StoreError, match="is in the place of a lease, and is none") as caught:
            made.attempt()
        assert caught.value.code == "store_corrupt"
        made.close()
        assert os.path.lexists(folder / name)
    else:
        had(made).let_go()
    assert sorted(path.name for path in outside.rglob("*")) == ["0123456789abcdef", "holder.json", "letter"]


@pytest.mark.parametrize("removed", [clear_left, lambda _: None], ids=["clear_left", "let_go"])
def test_a_link_in_a_holders_folder_is_removed_and_not_followed(folder: Path, outside: Path, removed) -> None:
    """Whoever removes the lease."""
    lease = had(claim(folder))
    _link(lease.folder / "aside", outside)
    if removed is clear_left:
        os.close(lease._lock)
        clear_left(folder.parents[1])
    else:
        lease.let_go()
    assert list(folder.iterdir()) == []
    assert (outside / "letter").read_text() == "mine"


def test_the_lock_is_free_before_its_file_is_removed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network file system keeps a file that is open, and the folder that it is in."""
    lease = had(claim(folder))
    removed: list[Path] = []

    def rmtree(path: Path, **_: object) -> None:
        with (path / "holder.json").open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        removed.append(path)

    monkeypatch.setattr(lease_places.shutil, "rmtree", rmtree)
    lease.let_go()
    assert len(removed) == 1
    monkeypatch.undo()
    had(claim(folder, 1)).let_go()


def test_a_lease_that_cannot_be_let_go_keeps_no_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor itself on this machine, where its lock is free."""
    leases = held(had(claim(folder)))
    leases.add("abc", "1", had(Claim(folder, "1", Holder.here(0))))
    rename = os.rename

    def refused(source: Path, target: Path) -> None:
        if Path(source).parent.name == ".lease-0":
            raise OSError(errno.ESTALE, "stale file handle")
        rename(source, target)

    monkeypatch.setattr(os, "rename", refused)
    leases.let_go()
    assert [path.name for path in folder.iterdir()] == [".lease-0"]
    monkeypatch.undo()
    had(claim(folder, 1)).let_go()


def _refused(number: int) -> Callable[..., None]:
    """A call of the system that is refused so."""

    def refused(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return refused


@pytest.mark.parametrize(
    ("number", "code"), [(errno.EACCES, "permission"), (errno.ENOSPC, "disk_full"), (errno.EIO, "machine")]
)
def test_what_the_file_system_refuses_is_told_and_not_waited_for(folder: Path, monkeypatch, number, code) -> None:
    """Nobody has the lease that would ever let it go."""
    made = claim(folder)
    monkeypatch.setattr(os, "rename", _refused(number))
    with pytest.raises(MachineError) as caught:
        made.attempt()
    assert caught.value.code == code
    made.close()


def test_a_file_system_that_does_not_answer_takes_no_lease_away(folder: Path, monkeypatch) -> None:
    """The next sign of life may get through."""
    leases = held(had(claim(folder)))
    monkeypatch.setattr(os, "utime", _refused(errno.ESTALE))
    assert leases.beat()
    leases.check()


def test_without_locks_only_silence_tells(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system may have none."""
    monkeypatch.setattr(fcntl, "flock", _refused(errno.ENOLCK))
    lease, waiting = had(claim(folder)), claim(folder, 1)
    assert [waiting.attempt(), waiting.attempt()] == [None, None]
    waiting.close()
    had(claim(folder, 2, silence_s=0.0))
    assert not lease.beat()


@pytest.mark.timeout(20)
@pytest.mark.parametrize("there", [os.mkfifo, Path.mkdir, lambda _: None], ids=["pipe", "folder", "nothing"])
def test_a_holder_without_its_file_is_followed_after_its_silence(folder: Path, there) -> None:
    """Whatever is in the place of the file keeps nobody waiting. Nobody knows that the holder is dead."""
    file = had(claim(folder)).folder / "holder.json"
    file.unlink()
    there(file)
    clear_left(folder.parents[1])
    other = claim(folder, 1, silence_s=0.0)
    assert other.attempt() is None
    assert had(other).beat()


def test_a_link_in_the_place_of_a_holders_file_tells_nothing(folder: Path, tmp_path: Path) -> None:
    """What it leads to shows neither life nor death, and is not locked; silence alone tells."""
    lease = had(claim(folder))
    os.close(lease._lock)
    foreign = (lease.folder / "holder.json").rename(tmp_path / "foreign.json")
    _link(lease.folder / "holder.json", foreign)
    patient, other = claim(folder, 1), claim(folder, 2, silence_s=0.0)
    assert patient.attempt() is None  # the lock on the file is free
    patient.close()
    assert other.attempt() is None
    os.utime(foreign, (1, 1))
    assert other.attempt() is not None
    other.close()


def test_a_place_that_nobody_came_into_is_cleared(folder: Path) -> None:
    """Who had the lease was killed while it let go."""
    (folder / ".lease-0").mkdir()
    clear_left(folder.parents[1])
    assert list(folder.iterdir()) == []
