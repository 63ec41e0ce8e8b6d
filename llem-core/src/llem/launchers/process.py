"""The worker as a fresh process on this machine, in a process group of its own, with its log in the store."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llem.devices.memory import oom_kills
from llem.foreign.files import growing
from llem.launchers.base import Launcher
from llem.protocol.events import Emit
from llem.protocol.lines import from_json
from llem.protocol.study_events import OutOfMemory
from llem.store.files import machine_errors

__all__ = ["Child", "ProcessLauncher"]


class ProcessLauncher(Launcher):
    """`python -m llem worker ORDER`; events come over its standard output, everything else goes to log.txt.

    When this process dies, the worker's standard input ends, and so does the worker.
    """

    name = "process"

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self._child = Child()

    def launch(self, order: Path, emit: Emit, stop: threading.Event) -> int:
        self._child = Child()
        # -P: as with the script `llem`, a module in the current folder must not stand in for one that is installed
        command = [sys.executable, "-P", "-m", "llem", "worker", "--lifeline", str(order)]
        return self._child.run(command, order.parent / "log.txt", emit, stop)

    def kill(self) -> None:
        """SIGKILL to the worker's process group."""
        self._child.kill()


#: Exit statuses of a process that SIGKILL ended, and of a client whose container it ended.
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)
#: What is known when such a process ends while the system counts one more that it ended for want of memory. It counts
#: those of the control group or of the machine, where others run too.
MEMORY = "the worker was killed while the kernel ended a process for want of memory"
#: How long a killed process may take to be gone.
GRACE_S = 10.0
#: How often the watching thread looks whether the process is still there.
WATCH_S = 1.0


class Child:
    """One process, run once. Its standard input is a pipe that nobody writes to; it ends when this process does."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._killed = False

    def run(
        self,
        command: Sequence[str],
        log: Path,
        emit: Emit,
        stop: threading.Event,
        *,
        environ: Mapping[str, str] | None = None,
        contained: bool = False,
    ) -> int:
        """Run it to its end, passing on its events; what it writes elsewhere goes to the log. Its exit status.

        When `stop` is set it gets SIGTERM. That it was killed while the kernel ended a process for
        want of memory is told as an event.

        Args:
            contained: it stands for a process of a container.

        Raises MachineError (event_unknown) for a line that is no event; the process is ended then.
        """
        before = oom_kills(elsewhere=contained)
        with contextlib.ExitStack() as held:
            with machine_errors(log):
                written = held.enter_context(growing(log))
            process = self._process = subprocess.Popen(
                command,
                env=None if environ is None else dict(environ),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=written,
                start_new_session=True,
            )
        if self._killed:  # before it was there
            _kill_group(process)
        threading.Thread(target=_stop_when_told, args=(process, stop), daemon=True).start()
        try:
            assert process.stdout is not None
            for line in process.stdout:  # blocks: the parent sleeps while the worker measures
                if line.endswith(b"\n"):  # else its writer was killed within it
                    emit(from_json(line, log))
            status = process.wait()
            if status in KILLED and not self._killed and oom_kills(elsewhere=contained) != before:
                emit(OutOfMemory(why=MEMORY))
            return status
        finally:
            self._process = None
            _end_group(process)

    def kill(self) -> None:
        """SIGKILL to its process group, at once or as soon as it is there."""
        self._killed = True
        if (process := self._process) is not None:
            _kill_group(process)


def _stop_when_told(process: subprocess.Popen[bytes], stop: threading.Event) -> None:
    while not stop.wait(WATCH_S):
        if process.poll() is not None:  # without this the thread would outlive the process
            return
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """What is left of the group is killed."""
    for pipe in (process.stdout, process.stdin):
        if pipe is not None:
            pipe.close()
    _kill_group(process)
    process.wait(timeout=GRACE_S)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
