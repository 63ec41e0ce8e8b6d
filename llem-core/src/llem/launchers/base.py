"""What a launcher implements, and how one is made from its name."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import attrs

from llem.config.converter import structure
from llem.config.models import Experiment, config_class
from llem.config.user import named_user_config
from llem.errors import ConfigError, Problem, UnknownPlugin
from llem.plugins.registry import Registry
from llem.protocol.events import Emit

__all__ = ["Launcher", "make_launcher"]


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


def make_launcher(name: str, registry: Registry, sections: Mapping[str, Any]) -> Launcher:
    """The launcher of this name.

    Args:
        sections: `launchers` of the user configuration: settings by launcher.

    Raises:
        UnknownPlugin, BrokenPlugin: no such launcher, also among the sections, or it does not import.
        ConfigError: its settings are wrong, or it takes none.
    """
    for other in sections:
        _refuse_unknown(other, registry)
    made: type[Launcher] = registry.load("launcher", name)
    section, config = sections.get(name), config_class(registry, "launcher", name)
    if section is None:
        return made()
    if config is None:
        problem = Problem(f"launchers.{name}", "this launcher takes no settings", "remove the section")
        raise ConfigError(f"invalid settings in {named_user_config()}", problems=(problem,))
    return made(structure(config, section, f"launchers.{name}", source=named_user_config()))


def _refuse_unknown(name: str, registry: Registry) -> None:
    try:
        registry.reference("launcher", name)
    except UnknownPlugin as error:
        raise attrs.evolve(error, message=f"launchers.{name} in {named_user_config()}: {error.message}") from None
