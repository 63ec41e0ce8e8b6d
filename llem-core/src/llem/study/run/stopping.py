"""What ends a study before it is done: the user, or ten failures in a row with one cause."""

from __future__ import annotations

import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from llem.errors import ExperimentFailed, LlemError

__all__ = ["Breaker", "stop_on_interrupt"]

#: SIGTERMs within this time are one: `timeout` sends one to its child and another one to the child's process group.
SAME_REQUEST_S = 1.0


class Breaker:
    """Stops a study after many failures in a row with one cause, which is then most likely the machine's.

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
        """An experiment failed, or an engine with all its experiments. Causes are equal if only digits differ."""
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
    """An event that the first Ctrl-C or SIGTERM sets; the second raises KeyboardInterrupt. Only in the main thread.

    `kill`, `timeout`, a container's stop and a batch system send SIGTERM. If the program has a handler for SIGTERM, the
    handler stays.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    asked: float | None = None

    def ask(number: int, _: object) -> None:
        nonlocal asked
        if asked is not None:
            if number == signal.SIGTERM and time.monotonic() - asked < SAME_REQUEST_S:
                return
            raise KeyboardInterrupt
        asked = time.monotonic()
        stop.set()
        again = "press Ctrl-C" if number == signal.SIGINT else "send SIGTERM"
        print(f"stopping after this trial; {again} again to stop at once", file=sys.stderr)

    numbers = [signal.SIGINT]
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        numbers.append(signal.SIGTERM)
    before = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
