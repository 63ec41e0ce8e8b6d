"""The worker in this very process: for debugging, and for programs that measure between the trials of a run."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from llem.experiment.placement import VISIBLE_DEVICES
from llem.experiment.worker import work
from llem.launchers.base import Launcher
from llem.plugins.registry import registry
from llem.protocol.events import Emit, Started
from llem.protocol.lines import kept
from llem.protocol.order import WorkOrder

__all__ = ["InlineLauncher"]


class InlineLauncher(Launcher):
    """No isolation: the engine's library stays imported, and a crash of it takes the caller along."""

    name = "inline"
    side_by_side = False  # the environment and the engine's library are of the whole process

    def launch(self, order: Path, emit: Emit, stop: threading.Event) -> int:
        before = os.environ.get(VISIBLE_DEVICES)
        try:
            with kept(order.parent / "events.jsonl", emit) as told:
                told(Started(pid=os.getpid()))
                return 0 if work(WorkOrder.read(order), registry(), told, stop) == "done" else 1
        finally:  # the worker lets its process see the experiment's GPUs alone; the caller's next may want others
            if before is None:
                os.environ.pop(VISIBLE_DEVICES, None)
            else:
                os.environ[VISIBLE_DEVICES] = before
