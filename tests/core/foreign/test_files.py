"""Files of others: regular ones, and no more of them than is asked for."""

from __future__ import annotations

import gzip
import os
import socket
import tracemalloc
from pathlib import Path

import pytest

from llem.foreign.files import Unread, end_of, growing, read, regular, unpacked

pytestmark = pytest.mark.timeout(20)

PACKED = gzip.compress(b"abc", mtime=0)


def _fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


def _socket(path: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as made:
        os.chdir(path.parent)  # the name of a socket is short
        made.bind(path.name)
    return path


def test_a_file_is_read_whole(tmp_path):
    """Also one that is longer than a piece."""
    path = tmp_path / "a"
    path.write_bytes(b"x" * 3_000_000)

    assert read(path) == b"x" * 3_000_000
    with regular(path) as file:
        assert file.read(2) == b"xx"


@pytest.mark.parametrize("make", [_fifo, lambda _: Path("/dev/zero"), lambda _: Path("/dev/null")])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, make):
    """A named pipe without a writer, and a device without an end."""
    with pytest.raises(Unread, match=r"^is no regular file$"):
        read(make(tmp_path / "a"))


def test_the_end_of_a_log_is_read(tmp_path):
    """So many bytes of it at most, and none from before; nothing where no file is."""
    path = tmp_path / "log.txt"
    path.write_bytes(b"one\n\xfftwo\n")

    assert end_of(path) == "one\n\ufffdtwo\n"
    assert end_of(path, 4) == "two\n"
    assert end_of(path, since=5) == "two\n"
    assert end_of(path, since=99) == ""
    assert end_of(tmp_path / "none") == end_of(_fifo(tmp_path / "pipe")) == end_of(tmp_path) == ""


def test_a_file_grows(tmp_path):
    """It is made where there is none, and read where it is."""
    for _ in range(2):
        with growing(tmp_path / "a") as file:
            file.write(b"one\n")
            assert os.get_blocking(file.fileno())
    with growing(tmp_path / "a") as file:
        file.seek(0)
        assert file.read() == b"one\none\n"


@pytest.mark.parametrize("make", [_fifo, _socket, lambda _: Path("/dev/null")])
def test_what_is_no_regular_file_does_not_grow(tmp_path, monkeypatch, make):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Unread, match="is no regular file"), growing(make(tmp_path / "a")):
        pass


@pytest.mark.parametrize("there", [True, False])
def test_what_a_link_leads_to_does_not_grow(tmp_path, there):
    """Nor is it made."""
    if there:
        (tmp_path / "b").write_text("of somebody else")
    (tmp_path / "a").symlink_to("b")
    with pytest.raises(Unread, match="is no regular file"), growing(tmp_path / "a"):
        pass
    assert (tmp_path / "b").exists() is there


def test_a_link_to_a_device_is_refused(tmp_path):
    """A link leads where it leads."""
    (tmp_path / "a").symlink_to("/dev/zero")
    with pytest.raises(Unread, match="no regular file"):
        read(tmp_path / "a")


def test_a_socket_and_a_folder_are_refused(tmp_path, monkeypatch):
    """By the system, or by us."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises((Unread, OSError)):
        read(_socket(tmp_path / "a"))
    with pytest.raises((Unread, OSError)):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", r"is a folder$"),
        ("pipe", r"is no regular file$"),
        ("ring", "is no regular file: too many"),
        ("n" * 300, "is no regular file: file name too long"),
    ],
)
def test_what_is_refused_is_told_and_closed(tmp_path, name, why):
    """A folder, a pipe, a link in a ring, a name that no file can have: each by what it is, and none stays open."""
    _fifo(tmp_path / "pipe")
    (tmp_path / "ring").symlink_to("ring")
    before = os.listdir("/proc/self/fd")
    with pytest.raises(Unread, match=f"^{why}"), regular(tmp_path / name):
        pass
    assert os.listdir("/proc/self/fd") == before


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    """Nothing of it: it has 1 TB, and no block on the disk."""
    with (tmp_path / "a").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(Unread, match=r"^has more than 256 MiB$"):
        read(tmp_path / "a")


def test_a_file_without_a_size_is_read_to_its_bound(tmp_path):
    """Files of /proc are regular and say that they have no byte."""
    assert read("/proc/self/stat").startswith(str(os.getpid()).encode())
    with pytest.raises(Unread, match="has more than 0 MiB"):
        read("/proc/self/stat", most=5)


def test_what_is_packed_is_unpacked():
    """Several members too, as other programs write them."""
    assert unpacked(gzip.compress(b"a" * 9) + gzip.compress(b"b")) == b"a" * 9 + b"b"


@pytest.mark.parametrize("content", [b"no gzip", PACKED[:-3], PACKED[:-8] + b"x" * 8], ids=["none", "cut", "changed"])
def test_what_is_damaged_is_not_unpacked(content):
    """Neither what is none, nor what is cut off or changed."""
    with pytest.raises(Unread, match=r"^is damaged: "):
        unpacked(content)


def test_a_bomb_is_not_unpacked():
    """Neither what is above the bound, nor what begins as no such file does; however dense it is otherwise."""
    bomb = gzip.compress(b"\0" * 2**24)
    with pytest.raises(Unread, match=r"^unpacks to more than is read of such a file$"):
        unpacked(bomb, most=2**24 - 1)
    tracemalloc.start()
    with pytest.raises(Unread, match=r"^is damaged: it does not begin with a,b$"):
        unpacked(bomb, begin=b"a,b")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2**20
    assert unpacked(bomb) == b"\0" * 2**24
    with pytest.raises(Unread, match=r"^unpacks to more"):
        unpacked(gzip.compress(b"\0" * 2**27))
    with pytest.raises(Unread, match=r"^unpacks to more"):
        unpacked(gzip.compress(os.urandom(100)), most=50)
    assert unpacked(gzip.compress(b"abc" * 10), most=30) == b"abc" * 10
