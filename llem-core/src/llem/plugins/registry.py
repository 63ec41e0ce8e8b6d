"""Finding plugins so that a broken one breaks only itself; and from a name a user wrote to the thing a plugin
provides, with an error that says what to do.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

import pluggy

from llem.plugins.claims import LoadFailure, Offer, Plugin, claimed
from llem.plugins.faults import hook_fault, reference_fault, target_fault
from llem.plugins.names import BUILTIN, CORE, KNOWN_NAMES, KNOWN_PACKAGES, NAME_RULE, Claim, canonical, is_name
from llem.plugins.reference import NAME, Reference
from llem.plugins.specs import Hooks

if TYPE_CHECKING:
    import click

# llem.errors is imported where it is raised: `llem --help` asks plugins for commands and need not wait for attrs.

__all__ = ["KINDS", "Kind", "PluginSet", "Registry", "discover", "registry"]

Kind = Literal["backend", "meter", "evaluator", "launcher", "workload"]
KINDS: tuple[Kind, ...] = get_args(Kind)
T = TypeVar("T")


class Registry:
    """Names of every kind, each with its reference and the plugin it came from."""

    def __init__(self, found: PluginSet) -> None:
        self.found = found
        self.failures: list[LoadFailure] = list(found.failures)
        self._entries = {kind: self._claimed(kind, self._references(kind)) for kind in KINDS}

    def _references(self, kind: Kind) -> Iterator[Offer[Reference]]:
        for plugin, references in self.ask(f"llem_{kind}s"):
            for reference in _listed(references):
                if not isinstance(reference, Reference):
                    wrong = f"llem_{kind}s must return a list of llem.plugins.Reference, got {reference!r}"
                    self.failures.append(LoadFailure(plugin, "call", wrong))
                elif (problem := reference_fault(reference)) is not None:
                    self.failures.append(LoadFailure(plugin, "register", problem, (kind, reference.name)))
                else:
                    yield reference.name, reference, plugin

    def _claimed(self, kind: Claim, offers: Iterable[Offer[T]]) -> dict[str, tuple[T, Plugin]]:
        found, failures = claimed(kind, offers)
        self.failures += failures
        return found

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

    def _offered_commands(self) -> Iterator[Offer[click.Command]]:
        for plugin, added in self.ask("llem_commands"):
            for name, command in added.items() if isinstance(added, Mapping) else [("", added)]:
                # by what click calls, not by class: click is not imported where no command line is
                if not (hasattr(command, "main") and hasattr(command, "invoke")):
                    problem = f"llem_commands must return a mapping of names to click commands, got {command!r}"
                    self.failures.append(LoadFailure(plugin, "call", problem))
                elif not is_name(name):
                    problem = f"{name!r} is no name of a command: {NAME_RULE}"
                    self.failures.append(LoadFailure(plugin, "register", problem))
                else:
                    yield name, command, plugin

    @functools.cached_property
    def _commands(self) -> dict[str, click.Command]:
        found = self._claimed("command", self._offered_commands())
        return {name: command for name, (command, _) in found.items()}

    def commands(self) -> dict[str, click.Command]:
        """Commands that plugins add to `llem`, by name."""
        return self._commands

    def examine(self) -> Sequence[LoadFailure]:
        """Every failure there is, also those that show only once commands are asked for and targets are looked for."""
        self.commands()
        known = {failure.claim for failure in self.failures}
        for kind in KINDS:
            for reference, plugin in self.entries(kind):
                if (kind, reference.name) not in known and (problem := target_fault(reference)) is not None:
                    self.failures.append(LoadFailure(plugin, "register", problem, (kind, reference.name)))
        return self.failures

    def _others(self, plugin: Plugin) -> list[Any]:
        pm = self.found.pm
        return [module for key, module in pm.list_name_plugin() if key != plugin.key and module is not None]

    def names(self, kind: Kind) -> tuple[str, ...]:
        """Every name of one kind, sorted."""
        return tuple(sorted(self._entries[kind]))

    def entries(self, kind: Kind) -> Sequence[tuple[Reference, Plugin]]:
        """Every reference of one kind with its plugin, sorted by name."""
        return [self._entries[kind][name] for name in self.names(kind)]

    def reference(self, kind: Kind, name: str) -> Reference:
        """The reference for a name. Raises UnknownPlugin, or BrokenPlugin with the recorded cause."""
        entry = self._entries[kind].get(name)
        if entry is not None:
            return entry[0]
        from llem.errors import UnknownPlugin

        self.refuse_broken(kind, name)
        raise UnknownPlugin(f"unknown {kind} {name!r}", self._advice(kind, name))

    def refuse_broken(self, kind: Claim, name: str) -> None:
        """Raise BrokenPlugin, with the recorded cause, for a name that a plugin gives, or would have given."""
        from llem.errors import BrokenPlugin

        for failure in self.failures:
            if failure.claim == (kind, name):
                ours = KNOWN_PACKAGES.get(name) if name in KNOWN_NAMES.get(kind, ()) else None
                remove = f"remove {failure.distribution}, or what else gives it; `llem plugins` lists them"
                raise BrokenPlugin(
                    f"{kind} {name!r} cannot be used: {failure.distribution} {failure.version}: {failure.error}",
                    f"pip install {ours}, and remove {failure.distribution}" if ours else remove,
                )
        for failure in self.failures:
            if failure.claim is None and name in (failure.name, _known_as(failure.distribution)):
                raise BrokenPlugin(
                    f"{kind} {name!r} comes from {failure.distribution} {failure.version}, "
                    f"which failed at {failure.stage}: {failure.error}",
                    "run `llem plugins` for the details, then reinstall or remove that package",
                )

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
            gone = target_fault(reference) if isinstance(error, AttributeError | ImportError) else None
            told = gone or f"{type(error).__name__}: {error}"
            raise BrokenPlugin(
                f"{kind} {name!r} failed to import: {told}",
                reference.install or "reinstall the package that provides it",
            ) from error


def _known_as(distribution: str) -> str | None:
    """The name by which one of our own packages is known."""
    return next((name for name, ours in KNOWN_PACKAGES.items() if ours == canonical(distribution)), None)


def _listed(answer: Any) -> Sequence[Any]:
    """A hook's answer as a list; one that is no list is reported by whoever looks at its items."""
    return answer if isinstance(answer, (list, tuple)) else [answer]


@functools.cache
def registry() -> Registry:
    """The registry of this environment; discovery runs once per process."""
    return Registry(discover())


class PluginSet:
    """What discovery found: pluggy's manager, the plugins that loaded, and those that did not."""

    def __init__(self) -> None:
        self.pm = pluggy.PluginManager(NAME)
        self.pm.add_hookspecs(Hooks)
        self.plugins: list[Plugin] = []
        self.failures: list[LoadFailure] = []

    def add(self, plugin: Plugin, module: object) -> None:
        """Register a loaded module, recording what goes wrong. A hook that llem would never call is a failure too."""
        try:
            self.pm.register(module, name=plugin.key)
        except (
            Exception
        ) as error:  # a stranger's module may raise anything; it is recorded, and shown by `llem plugins`
            if self.pm.get_plugin(plugin.key) is module:  # pluggy keeps what it refused half-way through its hooks
                self.pm.unregister(name=plugin.key)
            self.failures.append(LoadFailure(plugin, "register", error))
            return
        if (problem := hook_fault(module)) is not None:
            self.pm.unregister(name=plugin.key)
            self.failures.append(LoadFailure(plugin, "hooks", problem))
            return
        self.plugins.append(plugin)


def discover(entry_points: Iterable[metadata.EntryPoint] | None = None) -> PluginSet:
    """Load the built-in plugin and every entry point of the group `llem`. Never raises for a broken plugin."""
    import importlib

    from llem import __version__

    found = PluginSet()
    found.add(Plugin("builtin", BUILTIN, CORE, __version__), importlib.import_module(BUILTIN))
    points = metadata.entry_points(group=NAME) if entry_points is None else entry_points
    # ours first: whoever names the module of one of our packages as their own comes second
    for point in sorted(points, key=lambda p: (_known_as(p.dist.name if p.dist else "") is None, p.name)):
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
