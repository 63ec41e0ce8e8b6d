"""The worker as a fresh process on this machine, in a process group of its own, with its log in the store."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from llem.experiment.events import Emit
from llem.launchers.base import Launcher

__all__ = ["ProcessLauncher"]

#: How long a killed process may take to be gone.
GRACE_S = 10.0
#: How often the watching thread looks whether the worker is still there.
WATCH_S = 1.0


class ProcessLauncher(Launcher):
    """`python -m llem worker ORDER`; events come over its standard output, everything else goes to log.txt.

    Its standard input is a pipe that nobody writes to: when this process dies, the pipe ends, and so does the worker.
    """

    name = "process"

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self._process: subprocess.Popen[bytes] | None = None

    def launch(self, order: Path, emit: Emit, stop: threading.Event) -> int:
        log_path = order.parent / "log.txt"
        # -P: as with the script `llem`, a module in the current folder must not stand in for one that is installed
        command = [sys.executable, "-P", "-m", "llem", "worker", "--lifeline", str(order)]
        with log_path.open("ab") as log:
            process = self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True
            )
        watcher = threading.Thread(target=_stop_when_told, args=(process, stop), daemon=True)
        watcher.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:  # blocks: the parent sleeps while the worker measures
                if line.endswith(b"\n"):  # else its writer was killed within it
                    emit(json.loads(line))
            return process.wait()
        finally:
            self._process = None
            _end_group(process)

    def kill(self) -> None:
        """SIGKILL to the worker's process group."""
        if (process := self._process) is not None:
            _kill_group(process)


def _stop_when_told(process: subprocess.Popen[bytes], stop: threading.Event) -> None:
    while not stop.wait(WATCH_S):
        if process.poll() is not None:  # without this the thread would outlive the worker
            return
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Nothing of the worker outlives the call: what is left of its group is killed."""
    for pipe in (process.stdout, process.stdin):
        if pipe is not None:
            pipe.close()
    _kill_group(process)
    process.wait(timeout=GRACE_S)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
