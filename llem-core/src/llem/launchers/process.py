"""The worker as a fresh process on this machine, in a process group of its own, with its log in the store."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

from llem.launchers.base import Launcher
from llem.launchers.child import Child
from llem.protocol.events import Emit

__all__ = ["ProcessLauncher"]


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
