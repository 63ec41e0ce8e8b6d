"""Leases: which worker may measure a part of an experiment, whatever a scheduler believes of the others.

    experiments/<id>/.lease-<part>/<token>/holder.json

A lease is taken by renaming a ready folder to `.lease-<part>`, which succeeds only where there is none, or an empty
one. It is let go, and taken away, by renaming the holder's folder out of it. Whoever holds a lease writes each file in
that folder first and moves it to its place from there. A worker whose lease was taken over, and that was stopped in any
line of its program meanwhile, therefore finds no folder to write in, and none to move from.

Wherever those that wait are stopped, one has the lease, and keeps it:

- A holder's folder comes into its place with its `holder.json`, and never has another one. Its name is its own. So what
  was seen to be forsaken is what is taken away, or is gone: nobody takes away whoever has come in its stead.
- Of several that take it away, one rename succeeds. Then nobody has the lease. That one, or another that looks just
  then, comes into the empty place by a rename, which succeeds for one, since the place is not empty any more.
- Who finds the place taken after that has taken nothing of it, and waits on.

The holder shows signs of life by touching its file. Clocks of two machines are never compared: who waits looks whether
the file changes, and counts the time without a change by its own monotonic clock. On one machine the system tells at
once that a holder is dead, by a lock on its file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import shutil
import socket
import time
from datetime import UTC, datetime
from pathlib import Path

import attrs

from llem.devices.host import boot_id
from llem.errors import LlemError, StoreError
from llem.store.convert import load
from llem.store.files import machine_errors, make_folder, parsed, read_text
from llem.store.lease_places import ASIDE, PLACE, TOKEN, check_empty, folders, no_lease, remove, set_aside, take_away

__all__ = ["SILENCE_S", "Claim", "Holder", "Lease", "clear_left", "revoke"]

#: After so long without a sign of life of its holder, a lease may be taken over. More than the minute for which network
#: file systems may show what was.
SILENCE_S = 90.0
#: File of a lease by which its holder is known and shows that it lives.
HOLDER = "holder.json"
#: What a rename answers where the lease is held.
_HELD = (errno.ENOTEMPTY, errno.EEXIST)


@attrs.frozen
class Holder:
    """Who has a lease.

    Attributes:
        host, boot: the machine, and which start of it; a process id means something there alone.
        pid: the worker's process.
        worker: number of its folder in the store.
        taken_at: when it took the lease, for who reads the file.
    """

    host: str
    boot: str
    pid: int
    worker: int
    taken_at: str

    @classmethod
    def here(cls, worker: int) -> Holder:
        """This process, now."""
        return cls(
            socket.gethostname(), boot_id(), os.getpid(), worker, datetime.now(UTC).isoformat(timespec="seconds")
        )

    def __str__(self) -> str:
        return f"worker {self.worker} (process {self.pid} on {self.host})"


class Lease:
    """One that is held. `folder` is where its holder writes files before they are moved to their place."""

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        self._lock = lock

    def beat(self) -> bool:
        """Show a sign of life. False if the lease was taken over."""
        try:
            os.utime(self.folder / HOLDER)
        except FileNotFoundError:
            return False
        except OSError:  # a file system that does not answer takes no lease away, and the next sign may get through
            return True
        return True

    def let_go(self) -> None:
        """Let others have it. What another has taken over stays. Where the file system refuses, the free lock tells."""
        gone = None
        with contextlib.suppress(OSError):
            gone = set_aside(self.folder, self.folder.parents[1])
        os.close(self._lock)  # before its file is removed: a network file system keeps what is open
        if gone is not None:
            remove(gone, self.folder.parent)


class Claim:
    """The wish of one worker for a lease. Made ready beside it; `attempt` until it is had, `close` in any case.

    Args:
        folder: of the experiment.
        part: of its trials, or of its other work.
        silence_s: see `SILENCE_S`.

    Attributes:
        silence_s: as given.
        held_by: who had it when it was last tried; None while that is not known.
    """

    def __init__(self, folder: Path, part: str, holder: Holder, silence_s: float = SILENCE_S) -> None:
        self._token = secrets.token_hex(8)
        self._where = folder / f".lease-{part}"
        self._ready = folder / f".lease-{part}.{self._token}"
        self._holder, self.silence_s = holder, silence_s
        self._seen: tuple[Path, int | None] | None = None
        self._since = time.monotonic()
        self._lock: int | None = None
        self.held_by: Holder | None = None
        with machine_errors(self._ready):
            make_folder(self._ready / self._token)
            path = self._ready / self._token / HOLDER
            path.write_text(json.dumps(attrs.asdict(holder)) + "\n", encoding="utf-8")
            self._lock = os.open(path, os.O_RDWR)
            _lock(self._lock)

    def attempt(self) -> Lease | None:
        """Take the lease if nobody has it, or if who had it is dead or was silent for too long; None if it is held.

        Raises:
            StoreError: this worker is given up (lease_lost), or what is there is no lease (store_corrupt).
            MachineError: the file system refuses.
        """
        with machine_errors(self._where):
            return self._enter() or (self._over() if self._is_forsaken() else None)

    def close(self) -> None:
        """Remove what was made ready and is not used."""
        shutil.rmtree(self._ready, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _is_forsaken(self) -> bool:
        """Whether the present holder is dead, or showed no sign of life for too long."""
        sign = _sign(self._where)
        lives = sign != self._seen
        if lives:
            self._seen, self._since = sign, time.monotonic()
        self.held_by = None if sign is None else _holder(sign[0])
        if sign is None:
            check_empty(self._where)
            return False  # it was let go a moment ago
        silent = not lives and time.monotonic() - self._since >= self.silence_s
        return silent or _is_dead(sign[0], self.held_by, self._holder)

    def _enter(self) -> Lease | None:
        try:
            os.rename(self._ready, self._where)
        except FileNotFoundError:  # who launched this worker has given it up
            what = f"the worker that is to measure experiment {self._where.parent.name} is given up"
            raise StoreError(what, "another worker measures it", "lease_lost") from None
        except NotADirectoryError:
            raise no_lease(self._where) from None
        except OSError as error:
            if error.errno not in _HELD:
                raise
            return None
        assert self._lock is not None
        lock, self._lock = self._lock, None
        return Lease(self._where / self._token, lock)

    def _over(self) -> Lease | None:
        """Take the lease over, from that very holder; None if another one did."""
        assert self._seen is not None
        try:
            gone = set_aside(self._seen[0], self._where.parent)
        except FileNotFoundError:
            return None
        try:
            return self._enter()
        finally:
            shutil.rmtree(gone, ignore_errors=True)


def revoke(folder: Path, worker: int) -> None:
    """Take away what one worker holds of an experiment, so that it can write no more, should it live."""
    for names in (ASIDE, PLACE):  # what it waits for first: it may come to hold it meanwhile
        with machine_errors(folder):
            for where in folders(folder, names):
                sign = _sign(where)
                holder = None if sign is None else _holder(sign[0])
                if sign is not None and holder is not None and holder.worker == worker:
                    take_away(where if names is ASIDE else sign[0], folder)


def clear_left(store: Path) -> None:
    """Remove what dead workers left: leases of processes of this machine, and what was ready for those waited for.

    Only when no worker is left, as far as locks tell. A lease of another machine stays until it is silent, and so does
    one without its file. What is no lease stays too; who wants that lease tells of it.
    """
    here = Holder.here(0)
    for folder in store.glob("experiments/*"):
        with machine_errors(folder):
            for path in folders(folder, ASIDE):
                shutil.rmtree(path, ignore_errors=True)
            for where in folders(folder, PLACE):
                sign = _sign(where)
                if sign is None:  # killed while it let go: the folder was to be removed next
                    with contextlib.suppress(OSError):
                        where.rmdir()
                elif _is_dead(sign[0], _holder(sign[0]), here):
                    take_away(sign[0], folder)


def _sign(where: Path) -> tuple[Path, int | None] | None:
    """The holder's folder, and when it was last touched; None where nobody has the lease.

    The file is opened, since network file systems look whether it has changed only then.
    """
    inside = next(iter(folders(where, TOKEN)), None)
    if inside is None:
        return None
    try:
        handle = _open(inside, os.O_RDONLY)
    except OSError:
        return inside, None
    try:
        return inside, os.fstat(handle).st_mtime_ns
    finally:
        os.close(handle)


def _open(inside: Path, how: int) -> int:
    return os.open(inside / HOLDER, how | os.O_NONBLOCK | os.O_NOFOLLOW)


def _holder(inside: Path) -> Holder | None:
    try:
        return load(parsed(inside / HOLDER, read_text(inside / HOLDER)), Holder, str(inside / HOLDER))
    except LlemError:  # it is being taken over, or was let go
        return None


def _is_dead(inside: Path, holder: Holder | None, here: Holder) -> bool:
    """Whether the holder was a process of this machine that is no more, as its lock says."""
    if holder is None or (holder.host, holder.boot) != (here.host, here.boot):
        return False
    try:
        handle = _open(inside, os.O_RDWR)
    except OSError:
        return False
    try:
        return _lock(handle)
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    """Whether the lock could be had; False too on a file system without locks, where only silence tells."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
