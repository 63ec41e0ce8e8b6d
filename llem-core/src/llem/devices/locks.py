"""Locks that are held by being alive: the system lets them go when their holder dies, however it dies."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from llem.errors import MachineError

__all__ = ["Lock", "gpu_lock", "held_gpus", "is_held", "lock_gpus"]

#: Where the locks of GPUs lie. Not in TMPDIR, which differs by user or by job, and the GPUs do not.
LOCKS = Path("/tmp/llem-locks")
#: What file systems answer that know no locks.
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)
#: Nothing but the file itself: a link could lead to any other, and a pipe would keep us waiting.
_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
#: What opening answers where a folder, a link or a socket is in the place of a file.
_NO_FILE = (errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.EMLINK)


class Lock:
    """A lock on a file, of one holder or, `shared`, of several at once.

    On a file system without locks everybody gets it, which a warning on standard error says.

    Args:
        everyone: other users may take it too; else those who may write files of its maker.
    """

    def __init__(self, path: Path, *, shared: bool = False, everyone: bool = False) -> None:
        self.path, self._everyone = path, everyone
        self._how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        self._handle: int | None = None

    def take(self, holder: str = "") -> bool:
        """Try once, without waiting. `holder` says who has it, for those who do not get it.

        Raises MachineError (lock) where something else is in the place of its file, OSError as the system refuses it.
        """
        handle = self._open()
        try:
            fcntl.flock(handle, self._how | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES):
                os.close(handle)
                return False
            if error.errno not in _NO_LOCKS:
                os.close(handle)
                raise
            print(f"warning: {self.path.parent} has a file system without locks", file=sys.stderr)
        self._handle = handle
        if holder:
            os.ftruncate(handle, 0)
            os.pwrite(handle, holder.encode(), 0)
        return True

    def _open(self) -> int:
        try:  # without O_CREAT, which Linux refuses for another user's file in a folder such as /tmp
            handle = os.open(self.path, _FLAGS)
        except FileNotFoundError:
            handle = self._made()
        except OSError as error:
            if error.errno in _NO_FILE:
                raise self._no_file() from error
            raise
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise self._no_file()
        return handle

    def _made(self) -> int:
        try:
            handle = os.open(self.path, _FLAGS | os.O_CREAT, 0o666)
        except OSError as error:
            if error.errno in _NO_FILE:  # a link that leads nowhere
                raise self._no_file() from error
            raise
        if self._everyone:
            os.fchmod(handle, 0o666)
        return handle

    def _no_file(self) -> MachineError:
        what = "is a link, which leads elsewhere" if self.path.is_symlink() else "is no regular file, as a lock is"
        return MachineError(f"{self.path} {what}", f"remove {self.path}", "lock")

    def holder(self) -> str:
        """Who has it, by their own words."""
        try:
            return self.path.read_text(encoding="utf-8")
        except OSError:
            return ""

    def let_go(self) -> None:
        """Let others have it. Safe to call twice."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def is_held(lock: Lock) -> bool:
    """Whether somebody else has it, this process or another. `lock` is not held; free, it is taken for an instant.

    False also where that cannot be told: there is no such file, or it is none, or it may only be read.
    """
    try:
        return lock.path.exists() and not lock.take()
    except (OSError, MachineError):
        return False
    finally:
        lock.let_go()


def gpu_lock(uuid: str) -> Lock:
    """The lock of one GPU of this machine, the same for every user."""
    with contextlib.suppress(FileExistsError):
        LOCKS.mkdir()
        LOCKS.chmod(0o1777)
    return Lock(LOCKS / uuid, everyone=True)


def held_gpus(uuids: Iterable[str]) -> frozenset[str]:
    """Those of these GPUs that somebody has locked, this process or another. Each free one is held for an instant."""
    return frozenset(uuid for uuid in uuids if is_held(gpu_lock(uuid)))


def lock_gpus(uuids: Sequence[str], count: int, holder: str) -> Mapping[str, Lock] | None:
    """Locks of the first `count` of these GPUs that are free, by UUID; None, and none is kept, where fewer are free."""
    got: dict[str, Lock] = {}
    for uuid in sorted(uuids) if count == len(uuids) else uuids:  # who wants the same ones in another order waits
        lock = gpu_lock(uuid)
        if len(got) < count and lock.take(holder):
            got[uuid] = lock
    if len(got) < count:
        for lock in got.values():
            lock.let_go()
        return None
    return {uuid: got[uuid] for uuid in uuids if uuid in got}
