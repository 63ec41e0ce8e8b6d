"""Asking a plugin about one configuration: what it fails with is told with its name, and costs this configuration."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from llem.errors import TELL_AUTHORS, BrokenCheck, LlemError, described
from llem.plugins.culprit import culprit
from llem.plugins.registry import Kind, Registry

__all__ = ["asking"]

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
