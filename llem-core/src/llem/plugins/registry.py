"""Finding plugins so that a broken one breaks only itself; and from a name a user wrote to the thing a plugin
provides, with an error that says what to do.
"""

from __future__ import annotations

import functools
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any, Literal

import pluggy

from llem.plugins.reference import NAME, Reference
from llem.plugins.specs import Hooks

if TYPE_CHECKING:
    import click

# llem.errors is imported where it is raised: `llem --help` asks plugins for commands and need not wait for attrs.

__all__ = ["Kind", "LoadFailure", "Plugin", "PluginSet", "Registry", "discover", "registry"]

Kind = Literal["backend", "meter", "evaluator", "launcher", "workload"]

KNOWN_PACKAGES = {
    "pytorch": "llem-pytorch",
    "vllm": "llem-vllm",
    "tensorrt": "llem-tensorrt",
    "openai": "llem-openai",
    "zeus": "llem-zeus",
    "codecarbon": "llem-codecarbon",
    "lmeval": "llem-lmeval",
    "slurm": "llem-slurm",
}
#: Which of these names are of which kind. A hint never crosses kinds.
KNOWN_NAMES: Mapping[str, frozenset[str]] = {
    "backend": frozenset({"pytorch", "vllm", "tensorrt", "openai"}),
    "meter": frozenset({"zeus", "codecarbon"}),
    "evaluator": frozenset({"lmeval"}),
    "launcher": frozenset({"slurm"}),
}


class Registry:
    """Names of every kind, each with its reference and the plugin it came from."""

    def __init__(self, found: PluginSet) -> None:
        self.found = found
        self.failures: list[LoadFailure] = list(found.failures)
        self._entries: dict[str, dict[str, tuple[Reference, Plugin]]] = {}
        for kind in ("backend", "meter", "evaluator", "launcher", "workload"):
            self._entries[kind] = dict(self._collect(kind))

    def _collect(self, kind: str) -> Iterator[tuple[str, tuple[Reference, Plugin]]]:
        seen: dict[str, Plugin] = {}
        for plugin, references in self.ask(f"llem_{kind}s"):
            for reference in _listed(references):
                if not isinstance(reference, Reference):
                    problem = f"llem_{kind}s must return a list of llem.plugins.Reference, got {reference!r}"
                    self.failures.append(LoadFailure(plugin, "call", problem))
                    continue
                if reference.name in seen:
                    first = seen[reference.name].distribution
                    clash = f"{kind} {reference.name!r} is already provided by {first}"
                    self.failures.append(LoadFailure(plugin, "register", clash))
                    continue
                seen[reference.name] = plugin
                yield reference.name, (reference, plugin)

    def ask(
        self, hook: str, failures: list[LoadFailure] | None = None, /, **arguments: Any
    ) -> Iterator[tuple[Plugin, Any]]:
        """Call one hook of each plugin by itself, so that one that raises does not silence the others.

        A plugin that raises is recorded in `failures`, the registry's own where none are given, and skipped; plugins
        without this hook are left out.
        """
        failures = self.failures if failures is None else failures
        for plugin in self.found.plugins:
            try:
                answers = self.found.pm.subset_hook_caller(hook, self._others(plugin))(**arguments)
            except (Exception, SystemExit) as error:  # a stranger's hook may raise anything; it is recorded
                failures.append(LoadFailure(plugin, "call", error))
                continue
            yield from ((plugin, answer) for answer in answers)

    @functools.cached_property
    def _commands(self) -> dict[str, click.Command]:
        commands: dict[str, click.Command] = {}
        for plugin, added in self.ask("llem_commands"):
            for name, command in added.items() if isinstance(added, Mapping) else [("", added)]:
                # by what click calls, not by class: click is not imported where no command line is
                if not (hasattr(command, "main") and hasattr(command, "invoke")):
                    problem = f"llem_commands must return a mapping of names to click commands, got {command!r}"
                    self.failures.append(LoadFailure(plugin, "call", problem))
                elif name in commands:
                    self.failures.append(LoadFailure(plugin, "register", f"command {name!r} is already provided"))
                else:
                    commands[name] = command
        return commands

    def commands(self) -> dict[str, click.Command]:
        """Commands that plugins add to `llem`, by name."""
        return self._commands

    def _others(self, plugin: Plugin) -> list[Any]:
        pm = self.found.pm
        return [module for name, module in pm.list_name_plugin() if name != plugin.name and module is not None]

    def names(self, kind: Kind) -> tuple[str, ...]:
        """Every name of one kind, sorted."""
        return tuple(sorted(self._entries[kind]))

    def entries(self, kind: Kind) -> Sequence[tuple[Reference, Plugin]]:
        """Every reference of one kind with its plugin, sorted by name."""
        return [self._entries[kind][name] for name in self.names(kind)]

    def reference(self, kind: Kind, name: str) -> Reference:
        """The reference for a name. Raises UnknownPlugin, or BrokenPlugin with the recorded cause."""
        from llem.errors import BrokenPlugin, UnknownPlugin

        entry = self._entries[kind].get(name)
        if entry is not None:
            return entry[0]
        for failure in self.failures:
            if name == failure.name or KNOWN_PACKAGES.get(name) == failure.distribution:
                raise BrokenPlugin(
                    f"{kind} {name!r} comes from {failure.distribution} {failure.version}, "
                    f"which failed at {failure.stage}: {failure.error}",
                    "run `llem plugins` for the details, then reinstall or remove that package",
                )
        raise UnknownPlugin(f"unknown {kind} {name!r}", self._advice(kind, name))

    def _advice(self, kind: Kind, name: str) -> str:
        from llem.errors import nearest

        names = self.names(kind)
        parts = [f"installed: {', '.join(names)}"]
        near = nearest(name, {*names, *KNOWN_NAMES.get(kind, ())})
        if near in names:
            parts.insert(0, f"did you mean {near!r}?")
        elif near is not None:
            meant = "" if near == name else f"did you mean {near!r}? "
            parts.insert(0, f"{meant}{near!r} is not installed: pip install {KNOWN_PACKAGES[near]}")
        return "; ".join(parts)

    def load(self, kind: Kind, name: str, *, unmet: bool = False) -> Any:
        """Import the class behind a name, after checking that what it needs is there.

        Args:
            unmet: import it although what it needs is missing, to ask it what needs no engine.

        Raises:
            UnknownPlugin, BrokenPlugin: as `reference`, or when its import fails.
            MachineError: a required module is missing.
        """
        from llem.errors import BrokenPlugin, MachineError

        reference = self.reference(kind, name)
        missing = () if unmet else reference.missing()
        if missing:
            raise MachineError(
                f"{kind} {name!r} needs {', '.join(missing)}, which is not installed",
                reference.install or f"pip install {' '.join(missing)}",
                code="requirement_missing",
            )
        try:
            return reference.load()
        except (Exception, SystemExit) as error:
            raise BrokenPlugin(
                f"{kind} {name!r} failed to import: {type(error).__name__}: {error}",
                reference.install or "reinstall the package that provides it",
            ) from error


def _listed(answer: Any) -> Sequence[Any]:
    """A hook's answer as a list; one that is no list is reported by whoever looks at its items."""
    return answer if isinstance(answer, (list, tuple)) else [answer]


@functools.cache
def registry() -> Registry:
    """The registry of this environment; discovery runs once per process."""
    return Registry(discover())


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
