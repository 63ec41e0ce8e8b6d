"""Numbers of workers and of engine processes. Each is given once, though the documents that bear it come later."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from llem.store.store import Store

__all__ = ["Numbers"]


class Numbers:
    """Those of one store. Several threads may ask.

    The store says which numbers engine processes have; what it does not know yet are those of workers that have not
    stored anything: they load an engine, or wait for their turn, or their scheduler has lost sight of them.
    """

    def __init__(self, store: Store) -> None:
        self._store, self._lock = store, threading.Lock()
        self._worker = store.next_worker()
        self._given: dict[str, int] = {}

    def worker(self) -> int:
        """Of the next worker."""
        with self._lock:
            number, self._worker = self._worker, self._worker + 1
            return number

    def process(self, names: Sequence[str]) -> int:
        """Of an engine process of these experiments, which no other has until `over`."""
        with self._lock:
            number = max(max(self._store.next_process(name), self._given.get(name, -1) + 1) for name in names)
            self._given.update(dict.fromkeys(names, number))
            return number

    def over(self, names: Sequence[str], number: int) -> None:
        """The process is gone: what it has not stored will not come, so that others may have its number."""
        with self._lock:
            for name in names:
                if self._given.get(name) == number:
                    del self._given[name]
