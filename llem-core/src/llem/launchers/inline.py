"""The worker in this very process: for debugging, and for programs that measure between the trials of a run."""

from __future__ import annotations

import threading
from pathlib import Path

from llem.experiment.events import Emit
from llem.experiment.order import WorkOrder
from llem.experiment.worker import work
from llem.launchers.base import Launcher
from llem.plugins.registry import registry

__all__ = ["InlineLauncher"]


class InlineLauncher(Launcher):
    """No isolation: the engine's library stays imported, and a crash of it takes the caller along."""

    name = "inline"

    def launch(self, order: Path, emit: Emit, stop: threading.Event) -> int:
        return 0 if work(WorkOrder.read(order), registry(), emit, stop) == "done" else 1
