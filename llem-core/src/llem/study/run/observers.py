"""Telling plugins what happens: one by one, and none can disturb the study."""

from __future__ import annotations

import sys
from typing import Any

from llem.findings import finding
from llem.plugins.registry import Registry

__all__ = ["notify"]


def notify(registry: Registry, hook: str, **arguments: Any) -> None:
    """Call observers one by one; one that raises is named on standard error and stops nobody else."""
    pm = registry.found.pm
    for implementation in getattr(pm.hook, hook).get_hookimpls():
        wanted = {name: arguments[name] for name in implementation.argnames}
        try:
            implementation.function(**wanted)
        except Exception as error:  # a stranger's observer may raise anything; the measurement goes on
            told = finding("plugin_observer_failed", f"{implementation.plugin_name}: {type(error).__name__}: {error}")
            print(f"warning: {hook}: {told.message}", file=sys.stderr)
