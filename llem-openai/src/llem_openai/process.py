"""The server's process, where llem starts it, and when it is ready to serve."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from llem.errors import ExperimentFailed, LlemError
from llem.foreign.files import end_of
from llem.foreign.secrets import without_key, without_secrets
from llem_openai.guard import GRACE_S
from llem_openai.server import Site

__all__ = ["Started", "until_ready"]

POLL_S = 0.2
TAIL_LINES = 20
#: Of its output, the end that is looked at.
OUTPUT_BYTES = 2**22


class Started:
    """A server as a child of ours, in a process group of its own; see `llem_openai.guard`.

    Its output goes to a file, whose name is told on standard error, and at the end to standard error itself: the
    worker's log. Close it in a `finally`.
    """

    def __init__(self, command: Sequence[str], key: str | None = None) -> None:
        self._key = key
        with tempfile.NamedTemporaryFile(prefix="llem-server-", suffix=".log", delete=False) as log:
            self._log = Path(log.name)
            self._guard = subprocess.Popen(
                [sys.executable, "-P", "-m", "llem_openai.guard", *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        print(f"the server's output: {self._log}", file=sys.stderr, flush=True)

    @property
    def pid(self) -> int:
        """Of the group's leader."""
        return self._guard.pid

    def exit_status(self) -> int | None:
        """None while it runs."""
        return self._guard.poll()

    def tail(self) -> str:
        """The end of its output."""
        return "\n".join(self._output().splitlines()[-TAIL_LINES:])

    def _output(self) -> str:
        """What it wrote last, the key aside, and what else looks like one."""
        return without_secrets(without_key(end_of(self._log, OUTPUT_BYTES), self._key))

    def close(self) -> None:
        """End the whole group: politely, then not. May be called twice."""
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._guard.wait(timeout=GRACE_S + 5)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._guard.pid, signal.SIGKILL)
        self._guard.wait(timeout=GRACE_S)
        if self._log.exists():
            if not sys.stderr.isatty():  # it would bury the result of a user who looks on
                sys.stderr.write(self._output())
            self._log.unlink()


def until_ready(started: Started, site: Site, timeout_s: float, wait: Callable[[float, str], None]) -> None:
    """Return when the started server is ready.

    Args:
        wait: see `llem.backends.base.Backend.wait`.

    Raises:
        ExperimentFailed: it ended, or took too long (both with the end of its output), or the worker is to stop.
        ConfigError: it wants another key.
    """
    end = time.monotonic() + timeout_s
    reason: str | None = "it was not asked yet"
    asked: Future[str | None] | None = None
    asking = ThreadPoolExecutor(1)  # a server that takes connections and is silent keeps nobody from stopping
    try:
        while reason is not None:
            status = started.exit_status()
            if status is not None:
                raise _failed(f"the server ended with exit status {status} before it was ready", started)
            if time.monotonic() > end:
                raise _failed(f"the server was not ready after {timeout_s:g} s: {reason}", started, "timeout")
            asked = asked or asking.submit(site.not_ready)
            wait(POLL_S, f"the server is not ready yet: {reason}")
            if asked.done():
                reason, asked = asked.result(), None
    finally:
        asking.shutdown(wait=False)


def _failed(message: str, started: Started, code: str = "crash") -> LlemError:
    tail = started.tail()
    hint = "mend openai.command; it must serve at openai.base_url, and within openai.ready_timeout_s"
    return ExperimentFailed(f"{message}\n{tail}" if tail else message, hint, code)
