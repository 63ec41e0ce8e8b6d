"""Times in which a signal had stopped a child process: SIGSTOP, or a terminal's Ctrl-Z.

waitid(2) tells each change of a child once. Asked for stops and continuations alone, it leaves the exit to who waits
for it. Looks come from time to time, and a stop counts from the first that finds the child stopped to the last: it
lasted so long at least, and one between two looks is none. Not seen are stops of processes that the child started, and
a frozen container.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence

from llem.findings import Finding, finding
from llem.metrics.checks.pauses import too_long
from llem.metrics.spans import covered

__all__ = ["Halts", "halted"]


class Halts:
    """What has become of one child since it was started."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._seen = 0
        self._since: int | None = None
        self._ended: list[tuple[int, int]] = []

    def look(self) -> None:
        """See whether the child was stopped or continued since the last look."""
        now = time.monotonic_ns()
        while (change := self._change()) is not None:
            if self._since is not None:  # it went on, though it may have been stopped again
                self._ended.append((self._since, self._seen))
            self._since = None if change == os.CLD_CONTINUED else now
        self._seen = now

    def _change(self) -> int | None:
        try:
            told = os.waitid(os.P_PID, self._pid, os.WSTOPPED | os.WCONTINUED | os.WNOHANG)
        except ChildProcessError:
            return None
        return None if told is None else told.si_code

    def until(self, end: int) -> tuple[tuple[int, int], ...]:
        """Begin and end of all stops, monotonic ns. One that nobody ended lasts until `end`."""
        return (*self._ended, *([] if self._since is None else [(self._since, end)]))


def halted(halts: Sequence[tuple[int, int]], window: tuple[int, int]) -> Iterator[Finding]:
    """`paused` where a signal had stopped a command within its window, monotonic ns."""
    halted_s, window_s = covered(halts, *window) / 1e9, (window[1] - window[0]) / 1e9
    if too_long(halted_s, window_s):
        message = f"a signal stopped the command for at least {halted_s:.2f} s of a window of {window_s:.2f} s"
        reasons = ["the command was stopped by a signal"]
        yield finding("paused", message, paused_s=halted_s, window_s=window_s, reasons=reasons)
