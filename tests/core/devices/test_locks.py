"""Locks that end with their holder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llem.devices.locks import Lock, gpu_lock, held_gpus, is_held, lock_gpus
from llem.errors import MachineError

HOLD = "import sys; from llem.devices.locks import Lock; l = Lock(__import__('pathlib').Path(sys.argv[1])); print(l.take('me'), flush=True); sys.stdin.read()"  # fmt: skip  # noqa: E501


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    """Who has it is told to whoever does not get it; afterwards it is free."""
    first, second = Lock(tmp_path / "lock"), Lock(tmp_path / "lock")

    assert first.take("process 7")
    assert not second.take("process 8")
    assert second.holder() == "process 7"
    first.let_go()
    first.let_go()
    assert second.take("process 8")
    assert first.holder() == "process 8"
    second.let_go()


def test_whether_it_is_held_is_told_and_changes_nothing(tmp_path: Path) -> None:
    """Of a lock that was never made, none is made."""
    path = tmp_path / "lock"
    holder = Lock(path)

    assert not is_held(Lock(path))
    assert not path.exists()
    assert holder.take("process 7")
    assert is_held(Lock(path))
    assert is_held(Lock(path, shared=True))
    assert holder.holder() == "process 7"
    holder.let_go()
    assert not is_held(Lock(path))
    assert holder.take()
    holder.let_go()


def test_several_share_and_one_alone_waits_for_all(tmp_path: Path) -> None:
    """As many workers as there are, and then the one that goes on with the study."""
    shared = [Lock(tmp_path / "lock", shared=True) for _ in range(2)]
    alone = Lock(tmp_path / "lock")

    assert all(lock.take() for lock in shared)
    assert not alone.take()
    shared[0].let_go()
    assert not alone.take()
    shared[1].let_go()
    assert alone.take()
    assert not shared[0].take()
    alone.let_go()


def a_folder(path: Path) -> None:
    path.mkdir()


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_link_to_nothing(path: Path) -> None:
    path.symlink_to(path.with_name("elsewhere"))


def a_link(path: Path) -> None:
    path.with_name("other").write_text("kept")
    path.symlink_to(path.with_name("other"))


@pytest.mark.parametrize("make", [a_folder, a_pipe, a_link_to_nothing, a_link])
def test_what_is_no_lock_is_told(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """With its path, which is to be removed; nothing is made or changed where a link leads."""
    path = tmp_path / "lock"
    make(path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(MachineError) as caught:
        Lock(path).take("process 7")

    assert caught.value.hint == f"remove {path}"
    assert not is_held(Lock(path))
    assert sorted(tmp_path.iterdir()) == before
    assert all(one.read_text() == "kept" for one in tmp_path.glob("other"))


def test_who_may_take_it_is_as_for_other_files_of_its_maker(tmp_path: Path) -> None:
    """Locks of GPUs alone are everybody's."""
    old = os.umask(0o077)
    try:
        lock = Lock(tmp_path / "lock")
        assert lock.take()
    finally:
        os.umask(old)
    lock.let_go()
    assert lock.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.process
def test_a_holder_that_is_killed_holds_no_more(tmp_path: Path) -> None:
    """Nothing has to be cleaned up by hand."""
    path = tmp_path / "lock"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    assert not Lock(path).take()
    process.kill()
    process.communicate()

    lock = Lock(path)
    assert lock.take()
    lock.let_go()


def test_gpus_have_a_lock_each_which_every_user_may_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By UUID, in a folder that all may write."""
    monkeypatch.setattr("llem.devices.locks.LOCKS", tmp_path / "locks")
    one, other, same = gpu_lock("GPU-1"), gpu_lock("GPU-2"), gpu_lock("GPU-1")

    assert one.take()
    assert other.take()
    assert not same.take()
    assert one.path.stat().st_mode & 0o777 == 0o666
    assert one.path.parent.stat().st_mode & 0o7777 == 0o1777
    for lock in (one, other):
        lock.let_go()


def test_which_gpus_somebody_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking takes none, and leaves the holder's own words as they are."""
    monkeypatch.setattr("llem.devices.locks.LOCKS", tmp_path / "locks")
    taken, free = gpu_lock("GPU-1"), gpu_lock("GPU-2")
    assert taken.take("process 7")
    assert held_gpus(["GPU-1", "GPU-2"]) == {"GPU-1"}
    assert taken.holder() == "process 7"
    assert free.take()
    for lock in (taken, free):
        lock.let_go()
    assert held_gpus(["GPU-1", "GPU-2"]) == set()


def test_so_many_of_several_gpus_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first that are free, in the order given; where they are too few, those that were free stay free."""
    monkeypatch.setattr("llem.devices.locks.LOCKS", tmp_path / "locks")
    taken = gpu_lock("GPU-2")
    assert taken.take("process 7")
    assert lock_gpus([], 0, "me") == {}
    assert lock_gpus(["GPU-3", "GPU-2", "GPU-1"], 3, "me") is None
    got = lock_gpus(["GPU-3", "GPU-2", "GPU-1", "GPU-0"], 2, "me")

    assert got is not None
    assert list(got) == ["GPU-3", "GPU-1"]
    assert gpu_lock("GPU-1").holder() == "me"
    free = lock_gpus(["GPU-1", "GPU-0"], 1, "me")
    assert free is not None
    assert list(free) == ["GPU-0"]
    for lock in (taken, *got.values(), *free.values()):
        lock.let_go()
    both = lock_gpus(["GPU-2", "GPU-1"], 2, "me")
    assert both is not None
    assert list(both) == ["GPU-2", "GPU-1"], "named GPUs keep their order"
    for lock in both.values():
        lock.let_go()
