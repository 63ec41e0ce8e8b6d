"""From a launcher's name to the launcher, with its section of the user configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from llem.config.converter import structure
from llem.config.sections import config_class
from llem.config.user import named_user_config
from llem.errors import ConfigError, Problem, UnknownPlugin
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
