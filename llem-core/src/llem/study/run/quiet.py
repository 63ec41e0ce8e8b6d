"""Windows are quiet: this process computes results and calls observers only while no worker runs on this machine."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from llem.findings import finding
from llem.foreign.shown import visible
from llem.plugins.registry import Registry

__all__ = ["Quiet", "notify"]


class Quiet:
    """Tasks that wait until no worker runs on this machine.

    This process learns of a window only when the window is over, and cannot know how long the next gap will be.
    Therefore no task begins while a worker runs, and no worker starts while a task runs.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tasks: deque[Callable[[], None]] = deque()
        self._workers = 0

    @contextmanager
    def worker(self) -> Iterator[None]:
        """Within it a worker runs on this machine. Waits until `settle`, if it runs in another thread, has ended."""
        with self._lock:
            self._workers += 1
        try:
            yield
        finally:
            with self._lock:
                self._workers -= 1

    def later(self, task: Callable[[], None]) -> None:
        """Queue a task for `settle`."""
        self._tasks.append(task)

    def settle(self) -> None:
        """Do the queued tasks in order, if no worker runs. Raises what a task raises; those after it stay queued."""
        with self._lock:
            while self._tasks and not self._workers:
                self._tasks.popleft()()


def notify(registry: Registry, hook: str, **arguments: Any) -> None:
    """Call observers one by one. If one raises, a warning on standard error names it, and the others still run."""
    pm = registry.found.pm
    for implementation in getattr(pm.hook, hook).get_hookimpls():
        wanted = {name: arguments[name] for name in implementation.argnames}
        try:
            implementation.function(**wanted)
        except Exception as error:  # a plugin's observer may raise anything; the measurement goes on
            told = finding("plugin_observer_failed", f"{implementation.plugin_name}: {type(error).__name__}: {error}")
            print(visible(f"warning: {hook}: {told.message}"), file=sys.stderr)
