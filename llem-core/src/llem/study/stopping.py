"""What ends a study before it is done: the user, or ten failures in a row with one cause."""

from __future__ import annotations

import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from llem.errors import ExperimentFailed, LlemError

__all__ = ["Breaker", "stop_on_interrupt"]


class Breaker:
    """Stops a study whose every experiment fails for one reason: the machine's fault, most likely, and not theirs.

    Attributes:
        tripped: the error that ended the study, once it has.
    """

    def __init__(self, limit: int, stop: threading.Event) -> None:
        self._limit, self._stop = limit, stop
        self._lock = threading.Lock()
        self._cause, self._count = "", 0
        self.tripped: LlemError | None = None

    def success(self) -> None:
        """A trial was measured."""
        with self._lock:
            self._count = 0

    def failure(self, code: str, message: str) -> None:
        """An experiment failed, or an engine with all its experiments. Figures in the message make no other cause."""
        cause = f"{code}: {re.sub(r'[0-9]+', '#', message)}"
        with self._lock:
            self._count = self._count + 1 if cause == self._cause else 1
            self._cause = cause
            if self._count < self._limit or self.tripped:
                return
            self.tripped = ExperimentFailed(
                f"the study was stopped after {self._count} failures in a row with one cause: {message}",
                "mend the cause and go on with `--resume`, or raise `limits.failures_in_a_row`",
                "failures_in_a_row",
            )
        self._stop.set()


@contextmanager
def stop_on_interrupt() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets; the second raises KeyboardInterrupt. Only in the main thread."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    asked = False

    def first(*_: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        stop.set()
        print("stopping after this trial; press Ctrl-C again to stop at once", file=sys.stderr)

    before = signal.signal(signal.SIGINT, first)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
