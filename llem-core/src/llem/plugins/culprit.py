"""Which plugin an unexpected error comes from, by the lines that it went through."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from typing import get_args

from llem.errors import TELL_AUTHORS, BrokenCheck, LlemError, described
from llem.plugins.claims import Plugin
from llem.plugins.names import BUILTIN
from llem.plugins.registry import Kind, Registry

__all__ = ["asking", "culprit"]


def culprit(error: BaseException, registry: Registry) -> str:
    """`the meter 'zeus' of llem-zeus 0.3.0`, as exactly as can be told; "" where no plugin is involved.

    Of the lines in plugins the last one counts: what it called, a library or llem itself, is used by it.
    """
    provided = [
        (f"the {kind} {reference.name!r} of {_named(plugin)}", reference.target, plugin)
        for kind in get_args(Kind)
        for reference, plugin in registry.entries(kind)
    ]
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        module = str(frame.f_globals.get("__name__", ""))
        own = {f"{module}:{one.__name__}" for one in type(frame.f_locals.get("self")).__mro__}  # several in one module
        exact = [(what, plugin) for what, target, plugin in provided if target in own]
        there = exact or [(what, plugin) for what, target, plugin in provided if target.partition(":")[0] == module]
        plugins = [plugin for _, plugin in there] or [one for one in registry.found.plugins if _has(one, module)]
        if plugins:
            of_it = there or [(what, plugin) for what, _, plugin in provided if plugin is plugins[0]]
            return of_it[0][0] if len(of_it) == 1 else f"the plugin {_named(plugins[0])}"
    return ""


def _named(plugin: Plugin) -> str:
    return f"{plugin.distribution} {plugin.version}"


def _has(plugin: Plugin, module: str) -> bool:
    """Whether a module is of a plugin's package. The core is no plugin, though it provides much."""
    return plugin.module != BUILTIN and module.partition(".")[0] == plugin.module.partition(".")[0]


#: Characters of what it raised that are told.
TOLD = 1000


@contextlib.contextmanager
def asking(kind: Kind, name: str, registry: Registry) -> Iterator[None]:
    """Within it a plugin is asked. Raises BrokenCheck for whatever it raises that is not llem's own error.

    Out of memory, and Ctrl-C, are not the plugin's.
    """
    try:
        yield
    except (LlemError, MemoryError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a stranger's method may raise anything
        who = culprit(error, registry) or f"the {kind} {name!r}"
        raise BrokenCheck(
            f"{who} failed to check this configuration: {described(error)[:TOLD]}", TELL_AUTHORS
        ) from error
