"""From a launcher's name to the launcher, with its section of the user configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llem.config.converter import structure
from llem.config.sections import config_class
from llem.errors import ConfigError, Problem
from llem.launchers.base import Launcher
from llem.plugins.registry import Registry

__all__ = ["make_launcher"]


def make_launcher(name: str, registry: Registry, sections: Mapping[str, Any]) -> Launcher:
    """The launcher of this name.

    Args:
        sections: `launchers` of the user configuration: settings by launcher.

    Raises:
        UnknownPlugin, BrokenPlugin: no such launcher, also among the sections, or it does not import.
        ConfigError: its settings are wrong, or it takes none.
    """
    for other in sections:
        registry.reference("launcher", other)
    made: type[Launcher] = registry.load("launcher", name)
    section, config = sections.get(name), config_class(registry, "launcher", name)
    if section is None:
        return made()
    if config is None:
        problem = Problem(f"launchers.{name}", "this launcher takes no settings", "remove the section")
        raise ConfigError("invalid user configuration", problems=(problem,))
    return made(structure(config, section, source=f"launchers.{name} of the user configuration"))
