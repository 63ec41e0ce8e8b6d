"""What a launcher implements."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from llem.experiment.events import Emit

__all__ = ["Launcher"]


class Launcher(ABC):
    """Runs one worker to its end. Constructed with its own section of the configuration, or None."""

    name: ClassVar[str]

    def __init__(self, options: Any = None) -> None:
        self.options = options

    @abstractmethod
    def launch(self, order: Path, emit: Emit, stop: threading.Event) -> int:
        """Run `llem worker ORDER`, passing on each event; return its exit status.

        When `stop` is set, ask the worker to end its trial and stop. KeyboardInterrupt during the call kills it.
        """
