"""Sees what a piece of code reaches for, through the interpreter's audit events."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["touches"]

ALWAYS = ("ctypes.dlopen", "subprocess.Popen", "os.system", "os.posix_spawn", "os.fork", "socket.connect")
OF_PATHS = ("open", "os.listdir", "os.scandir", "glob.glob")
DEVICES = ("/dev/", "/sys/")
HARMLESS = ("/dev/null", "/dev/urandom")


class _Watch:
    """The one audit hook of this process: hooks cannot be removed, so it is told when to look."""

    def __init__(self) -> None:
        self.seen: list[str] | None = None
        self.modules: frozenset[str] = frozenset()
        self.installed = False

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if self.seen is None:
            return
        if event in ALWAYS:
            self.seen.append(event)
        elif event in OF_PATHS and str(args[0]).startswith(DEVICES) and args[0] not in HARMLESS:
            self.seen.append(str(args[0]))
        elif event == "import" and str(args[0]).partition(".")[0] in self.modules:
            self.seen.append(f"import {args[0]}")


_watch = _Watch()


def touches(act: Callable[[], object], modules: Sequence[str] = ()) -> list[str]:
    """Devices, libraries, processes and connections that `act` reaches for, and the named modules it imports."""
    if not _watch.installed:
        sys.addaudithook(_watch)
        _watch.installed = True
    _watch.seen, _watch.modules = [], frozenset(name.partition(".")[0] for name in modules)
    try:
        act()
        return list(_watch.seen)
    finally:
        _watch.seen = None
