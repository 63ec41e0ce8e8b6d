"""What a launcher implements."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from llem.config.models import Experiment
from llem.protocol.events import Emit

__all__ = ["Launcher"]


class Launcher(ABC):
    """Runs one worker at a time, each to its end. Constructed with its own section of the configuration, or None.

    Attributes:
        same_machine: the worker runs on this machine, so that its GPUs and meters can be looked at beforehand and
            locked. Else it waits for its turn somewhere, and the watch over it begins with its first event.
        same_packages: it uses this very installation, so that its backend has to be installed here.
        side_by_side: several workers may run at once, each with a launcher of its own.
    """

    name: ClassVar[str]
    same_machine: ClassVar[bool] = True
    same_packages: ClassVar[bool] = True
    side_by_side: ClassVar[bool] = True

    def __init__(self, options: Any = None) -> None:
        self.options = options

    def check(self, experiments: Sequence[Experiment]) -> None:  # noqa: B027
        """Refuse what no worker could be launched for: an image that is not there, a queue that nobody knows.

        Called once for a study, before anything is written. The default finds nothing.

        Raises:
            ConfigError: the launcher's settings, or what an experiment asks of it, are wrong.
            MachineError: something is missing on this machine.
        """

    @abstractmethod
    def launch(self, order: Path, emit: Emit, stop: threading.Event) -> int:
        """Run `llem worker ORDER`, passing on each event; return its exit status.

        `WorkOrder.read(order)` says which experiments of which store it is about, and on which GPUs. When `stop` is
        set, ask the worker to end its trial and stop. KeyboardInterrupt during the call kills it.
        """

    def kill(self) -> None:  # noqa: B027
        """End at once what `launch` runs, with all its processes; `launch` then returns. Called from another thread.

        Safe to call when nothing runs. The default does nothing, so that a worker that hangs is waited for.
        """
