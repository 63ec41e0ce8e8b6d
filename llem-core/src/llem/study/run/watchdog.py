"""Follows the events of one worker, and ends the worker if it is silent or runs for too long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

from llem.config.study.order import Limits
from llem.protocol.events import Emit, Ended, Event, Failure, Outcome, Phase, Power
from llem.protocol.study_events import Left, Waiting

__all__ = ["Watchdog"]


class Watchdog:
    """What is known of a worker from its events. A context manager: within it, a thread watches the worker.

    Args:
        limits: with a `timeout_s`.
        kill: ends the worker at once.
        from_start: the worker starts with the watch; otherwise its first event starts the watch.
        on_event: gets each event.

    Attributes:
        outcomes: by experiment, the error that the worker sent; None for none.
        current: the experiment of the current phase.
        phase: the current phase.
        begun: experiments that had a phase.
        ended: the worker sent its last event, `ended`.
        left: the worker is gone by no fault of its experiments; another worker measures the rest.
        verdict: why the watchdog ended the worker; "" if it did not.
    """

    def __init__(self, limits: Limits, kill: Callable[[], None], *, from_start: bool, on_event: Emit) -> None:
        self._limits, self._kill, self._on_event = limits, kill, on_event
        self.outcomes: dict[str, Failure | None] = {}
        self.current: str | None = None
        self.phase = ""
        self.begun: set[str] = set()
        self.ended = self.left = False
        self.verdict = ""
        self._over = threading.Event()
        self._started: float | None = time.monotonic() if from_start else None
        self._heard, self._allowed_s = time.monotonic(), limits.silence_s
        self._thread = threading.Thread(target=self._guard, daemon=True)

    def __call__(self, event: Event) -> None:
        """Take an event from the worker, and pass it on."""
        if self._started is None and not isinstance(event, Waiting):  # in a queue the worker has not started
            self._started = time.monotonic()
        if not isinstance(event, Power):  # the meter process sends it, also while the engine hangs
            self._heard = time.monotonic()
        if isinstance(event, Phase):
            self._allowed_s = self._limits.silence_s + 2 * (event.seconds or 0.0)
            self.phase, self.current = event.phase, event.id
            if self.current is not None:
                self.begun.add(self.current)
        elif isinstance(event, Outcome):
            self.outcomes[event.id] = event.error
            self.current = None
        elif isinstance(event, Ended):
            self.ended = True
        elif isinstance(event, Left):
            self.left = True
        self._on_event(event)

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _guard(self) -> None:
        while not self._over.wait(self._next_look_s()):
            self.verdict = self._judge()
            if self.verdict:
                self._kill()
                return

    def _deadlines(self) -> tuple[float, float]:
        """When the worker has run for too long, and when it has been silent for too long."""
        started = time.monotonic() if self._started is None else self._started
        return started + (self._limits.timeout_s or float("inf")), max(self._heard, started) + self._allowed_s

    def _next_look_s(self) -> float:
        """Look seldom, because waking up disturbs a measurement."""
        return min(max(min(self._deadlines()) - time.monotonic(), 0.05), 60.0)

    def _judge(self) -> str:
        now = time.monotonic()
        run, silent = self._deadlines()
        if self._started is None:
            return ""
        if now >= run:
            return f"the worker ran for more than {self._limits.timeout_s:g} s (`limits.timeout_s`)"
        if now >= silent:
            return f"the worker told nothing for more than {round(self._allowed_s, 2):g} s (`limits.silence_s`)"
        return ""
