"""Finding plugins so that a broken one breaks only itself."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from importlib import metadata

import pluggy

from llem.plugins.reference import NAME
from llem.plugins.specs import Hooks

__all__ = ["LoadFailure", "Plugin", "PluginSet", "discover"]

BUILTIN = "llem.builtin"


class Plugin:
    """One entry point that loaded: its name, distribution and version."""

    __slots__ = ("distribution", "module", "name", "version")

    def __init__(self, name: str, module: str, distribution: str, version: str) -> None:
        self.name, self.module, self.distribution, self.version = name, module, distribution, version


class LoadFailure(Plugin):
    """One entry point that did not: at which stage (import, register, hooks, call) and why."""

    __slots__ = ("error", "stage", "trace")

    def __init__(self, plugin: Plugin, stage: str, error: BaseException | str) -> None:
        super().__init__(plugin.name, plugin.module, plugin.distribution, plugin.version)
        self.stage = stage
        self.error = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        self.trace = "" if isinstance(error, str) else "".join(traceback.format_exception(error))


class PluginSet:
    """What discovery found: pluggy's manager, the plugins that loaded, and those that did not."""

    def __init__(self) -> None:
        self.pm = pluggy.PluginManager(NAME)
        self.pm.add_hookspecs(Hooks)
        self.plugins: list[Plugin] = []
        self.failures: list[LoadFailure] = []

    def add(self, plugin: Plugin, module: object) -> None:
        """Register a loaded module, recording what goes wrong. An unknown hook name is a failure too."""
        try:
            self.pm.register(module, name=plugin.name)
        except (
            Exception
        ) as error:  # a stranger's module may raise anything; it is recorded, and shown by `llem plugins`
            if self.pm.get_plugin(plugin.name) is module:  # pluggy keeps what it refused half-way through its hooks
                self.pm.unregister(name=plugin.name)
            self.failures.append(LoadFailure(plugin, "register", error))
            return
        unknown = _unknown_hooks(module)
        if unknown:
            self.pm.unregister(name=plugin.name)
            hint = f"unknown hook {', '.join(unknown)}; known: {', '.join(_known_hooks())}"
            self.failures.append(LoadFailure(plugin, "hooks", hint))
            return
        self.plugins.append(plugin)


def _known_hooks() -> tuple[str, ...]:
    return tuple(sorted(name for name in vars(Hooks) if name.startswith("llem_")))


def _unknown_hooks(module: object) -> tuple[str, ...]:
    marked = (name for name in dir(module) if hasattr(getattr(module, name, None), f"{NAME}_impl"))
    return tuple(sorted(set(marked) - set(_known_hooks())))


def discover(entry_points: Iterable[metadata.EntryPoint] | None = None) -> PluginSet:
    """Load the built-in plugin and every entry point of the group `llem`. Never raises for a broken plugin."""
    import importlib

    from llem import __version__

    found = PluginSet()
    found.add(Plugin("builtin", BUILTIN, "llem-core", __version__), importlib.import_module(BUILTIN))
    points = metadata.entry_points(group=NAME) if entry_points is None else entry_points
    for point in sorted(points, key=lambda p: p.name):
        dist = point.dist
        plugin = Plugin(point.name, point.value, dist.name if dist else "?", dist.version if dist else "?")
        try:
            module = point.load()
        except (
            Exception,
            SystemExit,
        ) as error:  # an accelerator package that will not import must not take `llem` down with it
            found.failures.append(LoadFailure(plugin, "import", error))
            continue
        found.add(plugin, module)
    return found
