"""What a plugin tells about each thing it provides, and about what is installed, without importing it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import Any, Literal

import pluggy

__all__ = ["NAME", "Reference", "Support", "hookimpl", "installed_versions", "resolve", "torch_versions"]

NAME = "llem"
hookimpl = pluggy.HookimplMarker(NAME)
Support = Literal["supported", "unsupported", "unknown"]


class Reference:
    """A lazy pointer to a backend, meter, evaluator, launcher or workload.

    Plain class rather than attrs, because `llem --help` reads references and must not import attrs.

    Args:
        name: what a user writes in the configuration.
        target: `"module:Class"`, imported only when it is used.
        config: `"module:Class"` of the attrs class that types this plugin's own section; must import light.
        requires: modules that must be importable before `target` is imported.
        summary: one line for `llem plugins`.
        install: what to type when a requirement is missing.
        capabilities: name to supported, unsupported or unknown. `llem.plugins.names.CAPABILITIES` has the names that
            there are. What is not named is unknown.
        parameters: `"module:function"` that returns the `llem.backends.coverage.Coverage` of the engine's parameters,
            without importing the engine; for the coverage tables.
        deploy: `"module:function"`, of a backend: how to launch a configuration without llem. The function takes an
            Experiment and its ModelSpec and returns a `llem.backends.deployment.Deployment`. It imports no engine.
        start: `"module:function"`, of a backend: how to begin with it on this machine. The function takes whether there
            is a GPU, and the model's name, and returns a `llem.backends.start.Start`. It imports no engine.
        defaults: `"module:function"`, of a backend: what its experiments have where nobody says otherwise. The function
            takes the settings that are given, as nested mappings, and returns fields of an experiment, such as
            `{"dtype": "auto"}`. Settings that are given lie over these; where they are of another `kind` of a section
            such as `load`, nothing of it is taken. It is pure.
        found: `"module:function"`, of a backend that measures what runs already: the same, of what it finds on this
            machine, such as the model that is served. It raises LlemError where it cannot look.
        url: the setting in the backend's own section that holds the address of what it measures.
        status: a caveat shown beside the name, for example that it has not run on the real library.
    """

    __slots__ = (
        "capabilities",
        "config",
        "defaults",
        "deploy",
        "found",
        "install",
        "name",
        "parameters",
        "requires",
        "start",
        "status",
        "summary",
        "target",
        "url",
    )

    def __init__(
        self,
        name: str,
        target: str,
        *,
        config: str | None = None,
        requires: tuple[str, ...] = (),
        summary: str = "",
        install: str = "",
        capabilities: Mapping[str, Support] | None = None,
        status: str = "",
        parameters: str | None = None,
        deploy: str | None = None,
        start: str | None = None,
        defaults: str | None = None,
        found: str | None = None,
        url: str | None = None,
    ) -> None:
        self.name = name
        self.target = target
        self.config = config
        self.requires = requires
        self.summary = summary
        self.install = install
        self.capabilities: Mapping[str, Support] = dict(capabilities or {})
        self.status = status
        self.parameters = parameters
        self.deploy = deploy
        self.start = start
        self.defaults = defaults
        self.found = found
        self.url = url

    def __repr__(self) -> str:
        return f"Reference({self.name!r}, {self.target!r})"

    def missing(self) -> tuple[str, ...]:
        """Required modules that this environment cannot find."""
        return tuple(module for module in self.requires if not _is_there(module))

    def load(self) -> Any:
        """Import the target. Raises whatever its import raises."""
        return resolve(self.target)

    def load_config(self) -> Any:
        """Import the config class, or None where the plugin takes no settings."""
        return None if self.config is None else resolve(self.config)


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package above it is not there
        return False


def resolve(target: str) -> Any:
    """The object behind `"module:name"`."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def installed_versions(names: Iterable[str]) -> dict[str, str]:
    """Version by name, of those distributions that are installed."""
    found: dict[str, str] = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def torch_versions(names: Iterable[str]) -> dict[str, Any]:
    """As `installed_versions`, and `torch_cuda` where torch is imported already: importing it is not our call."""
    found: dict[str, Any] = installed_versions(names)
    torch = sys.modules.get("torch")
    if torch is not None:
        found["torch_cuda"] = torch.version.cuda
    return found
