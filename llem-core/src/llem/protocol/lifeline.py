"""No worker outlives the process that launched it, and nothing that a worker started outlives the worker.

A guard beside the worker, in its process group, holds the line: a pipe on its standard input, which ends when the
launching process does, however it ends. The worker itself cannot look: it may hang in a library for minutes. What left
the worker's session, and so its process group, is ended by the worker once its engine is closed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
from collections.abc import Collection

import psutil

__all__ = ["children", "end_strays", "guard"]

#: Standard input: a pipe whose other end the launching process holds.
LINE = 0
PR_SET_PDEATHSIG = 1
#: How often the guard looks for the worker where the system does not tell it that the worker died.
POLL_S = 1.0


def guard() -> None:
    """Fork the guard of this process. Call it before any thread is started.

    Raises OSError where the process does not lead its process group, which the guard is to kill.
    """
    worker = os.getpid()
    if os.getpgrp() != worker:
        raise OSError("a worker on a lifeline has to lead its process group")
    if os.fork():
        return
    try:
        _watch(worker)
    finally:
        os._exit(0)


def _watch(worker: int) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 1)  # else the worker's events would not end with the worker
    os.dup2(nothing, 2)
    poll_s: float | None = POLL_S
    if sys.platform == "linux":
        signal.signal(signal.SIGTERM, lambda *_: _end(worker))
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        poll_s = None  # sleeps for as long as both live
    else:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while os.getppid() == worker:
        ready, _, _ = select.select([LINE], [], [], poll_s)
        if ready and not os.read(LINE, 1024):
            break
    _end(worker)


def _end(group: int) -> None:
    os.killpg(group, signal.SIGKILL)  # the guard is of the group too


def children() -> frozenset[psutil.Process]:
    """Processes that this one began, or that these did."""
    return frozenset(psutil.Process().children(recursive=True))


def end_strays(before: Collection[psutil.Process]) -> list[str]:
    """End what began since and lives in another session, where no signal to the process group reaches it; its names.

    Args:
        before: `children` then.
    """
    ended = []
    for child in children().difference(before):
        with contextlib.suppress(psutil.Error, OSError):  # it ended by itself
            if os.getsid(child.pid) != os.getsid(0) and child.status() != psutil.STATUS_ZOMBIE:
                name = child.name()
                child.kill()
                ended.append(name)
    return ended
