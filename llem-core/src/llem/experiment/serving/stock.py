"""Requests made before they are needed, so that none is made while something is measured."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from llem.backends.base import Request
from llem.experiment.serving.dispatch import used_up

__all__ = ["Stock"]

#: Requests made at once: few, because nothing else happens in the event loop meanwhile.
PORTION = 8


class Stock:
    """A store of requests that fills itself, except while it is sealed.

    Args:
        make: `make(start, count)` gives these requests of the workload's sequence.
    """

    def __init__(self, make: Callable[[int, int], Sequence[Request]]) -> None:
        self._make = make
        self._next = 0
        self._ready: deque[Request] = deque()
        self.sealed = False

    @property
    def next(self) -> int:
        """Index of the request that is taken next."""
        return self._next - len(self._ready)

    def begin_at(self, first: int) -> None:
        """Go on with request `first` of the sequence; what is ready is thrown away."""
        self._ready.clear()
        self._next = first

    def take(self) -> Request:
        """The next request. Raises ExperimentFailed when a sealed stock is used up."""
        if not self._ready:
            if self.sealed:
                raise used_up()
            self._more()
        return self._ready.popleft()

    async def fill(self, count: int, check: Callable[[], None] = lambda: None) -> None:
        """Have at least this many ready; what else runs in the loop has its turns in between, and `check` may raise."""
        portion = PORTION
        while (ready := len(self._ready)) < count:
            self._more(portion)
            await asyncio.sleep(0)
            check()
            if len(self._ready) <= ready:  # an engine that does nothing takes them as fast as they are made
                portion *= 2

    def _more(self, portion: int = PORTION) -> None:
        self._ready.extend(self._make(self._next, portion))
        self._next += portion
