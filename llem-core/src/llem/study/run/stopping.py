"""What ends a worker or a study before it is done: limits of time, the user, ten failures in a row with one cause."""

from __future__ import annotations

import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from llem.config.study.order import Limits
from llem.errors import ExperimentFailed, LlemError
from llem.protocol.events import Emit, Ended, Event, Failure, Outcome, Phase, Power
from llem.protocol.study_events import Left, OutOfMemory, Waiting

__all__ = ["Breaker", "Watchdog", "stop_on_interrupt"]

#: When a run ends that is asked to: a load of requests in flight is no trial any more once it is broken off, and of a
#: task that is evaluated in part nothing is stored.
SOON = "when this trial ends, a serving load and all else within seconds"
#: How long a worker that is to stop may take for what is of no use any more: to load, to warm up, to evaluate, to close
#: an engine. Elsewhere the wish reaches it by a scheduler. A trial that is under way may take twice its planned time
#: before that.
STOP_S, STOP_ELSEWHERE_S = 5.0, 30.0
#: How long a worker may take to leave once its work is done, and for it to be known: libraries have to be let go of.
LEAVE_S, LEAVE_ELSEWHERE_S = 10.0, 120.0
#: How often the wish to stop is looked for.
LOOK_S = 1.0
#: SIGTERMs within this time are one: `timeout` sends one to its child and another one to the child's process group.
SAME_REQUEST_S = 1.0


class Breaker:
    """Stops a study after many failures in a row with one cause, which is then most likely the machine's.

    Attributes:
        tripped: the error that ended the study, once it has.
    """

    def __init__(self, limit: int, stop: threading.Event) -> None:
        self._limit, self._stop = limit, stop
        self._lock = threading.Lock()
        self._cause, self._count = "", 0
        self.tripped: LlemError | None = None

    def success(self) -> None:
        """A trial was measured."""
        with self._lock:
            self._count = 0

    def failure(self, code: str, message: str) -> None:
        """An experiment failed, or an engine with all its experiments. Causes are equal if only digits differ."""
        cause = f"{code}: {re.sub(r'[0-9]+', '#', message)}"
        with self._lock:
            self._count = self._count + 1 if cause == self._cause else 1
            self._cause = cause
            if self._count < self._limit or self.tripped:
                return
            self.tripped = ExperimentFailed(
                f"the study was stopped after {self._count} failures in a row with one cause: {message}",
                "mend the cause and go on with `--resume`, or raise `limits.failures_in_a_row`",
                "failures_in_a_row",
            )
        self._stop.set()


@contextmanager
def stop_on_interrupt(when: str = SOON) -> Iterator[threading.Event]:
    """An event that the first Ctrl-C or SIGTERM sets; the second raises KeyboardInterrupt. Only in the main thread.

    `kill`, `timeout`, a container's stop and a batch system send SIGTERM. If the program has a handler for SIGTERM, the
    handler stays.

    Args:
        when: the run will end, in the message.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    asked: float | None = None

    def ask(number: int, _: object) -> None:
        nonlocal asked
        if asked is not None:
            if number == signal.SIGTERM and time.monotonic() - asked < SAME_REQUEST_S:
                return
            raise KeyboardInterrupt
        asked = time.monotonic()
        stop.set()
        again = "press Ctrl-C" if number == signal.SIGINT else "send SIGTERM"
        print(f"stopping {when}; {again} again to stop at once", file=sys.stderr)

    numbers = [signal.SIGINT]
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        numbers.append(signal.SIGTERM)
    before = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Watchdog:
    """What is known of a worker from its events. A context manager: within it the worker is watched.

    Args:
        limits: `timeout_s` must be settled.
        kill: ends the worker at once.
        stop: the worker was asked to stop. If it is in a library that does not listen, it is ended.
        from_start: the worker starts when the watch does; else with its first event.
        on_event: gets each event.

    Attributes:
        outcomes: what the worker said of each experiment.
        current: the experiment that it is at.
        phase: the phase that it is in.
        task: the task of quality that it evaluates, or evaluated last.
        begun: experiments that it was at.
        ended: it took its leave.
        lingered: it did not go afterwards, and was ended: a thread that a plugin left holds a process for good.
        left: it was given up, by no fault of its experiments: what it has not measured is for another.
        out_of_memory: who ended it for want of memory; "" if nobody did.
        gone: it does not live any more, as far as anybody knows.
        verdict: why it was ended; "" while it was not.
    """

    def __init__(
        self, limits: Limits, kill: Callable[[], None], stop: threading.Event, *, from_start: bool, on_event: Emit
    ) -> None:
        self._limits, self._kill, self._stop, self._on_event = limits, kill, stop, on_event
        self._stop_s = STOP_S if from_start else STOP_ELSEWHERE_S
        self._leave_s = LEAVE_S if from_start else LEAVE_ELSEWHERE_S
        self._asked: float | None = None
        self._trial_s = 0.0
        self.outcomes: dict[str, Failure | None] = {}
        self.current: str | None = None
        self.phase = ""
        self.task: str | None = None
        self.begun: set[str] = set()
        self.ended = self.left = self.lingered = False
        self.gone = True
        self.verdict = self.out_of_memory = ""
        self._over = threading.Event()
        self._started: float | None = time.monotonic() if from_start else None
        self._heard, self._allowed_s = time.monotonic(), limits.silence_s
        self._thread = threading.Thread(target=self._guard, daemon=True)

    def __call__(self, event: Event) -> None:
        """Take an event from the worker, and pass it on."""
        if self._started is None and not isinstance(event, Waiting):  # for its turn somewhere else
            self._started = time.monotonic()
        if not isinstance(event, Power):  # that comes from beside the engine, which may hang all the same
            self._heard = time.monotonic()
        if isinstance(event, Phase):
            self._allowed_s = self._limits.silence_s + 2 * (event.seconds or 0.0)
            self._trial_s = 2 * (event.seconds or 0.0) if event.phase == "trial" else 0.0
            self.phase, self.current, self.task = event.phase, event.id, event.task
            if self.current is not None:
                self.begun.add(self.current)
        elif isinstance(event, Outcome):
            self.outcomes[event.id] = event.error
            self.current = None
        elif isinstance(event, Ended):
            self.ended = True
        elif isinstance(event, Left):
            self.left, self.gone = True, event.gone
        elif isinstance(event, OutOfMemory):
            self.out_of_memory = event.why
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
            self.lingered = self.ended and time.monotonic() > self._heard + self._leave_s
            self.verdict = "" if self.ended else self._judge()
            if self.verdict or self.lingered or self._is_deaf():
                self._kill()
                return

    def _is_deaf(self) -> bool:
        """Whether it was asked to stop, and does what is of no use any more, or a trial for twice its time."""
        if self._asked is None and self._stop.is_set():
            self._asked = time.monotonic()
        return self._asked is not None and time.monotonic() > max(
            self._asked + self._stop_s, self._heard + self._stop_s + self._trial_s
        )

    def _deadlines(self) -> tuple[float, float]:
        """When it will have run for too long, and when it will have been silent for too long."""
        started = time.monotonic() if self._started is None else self._started
        return started + (self._limits.timeout_s or float("inf")), max(self._heard, started) + self._allowed_s

    def _next_look_s(self) -> float:
        """Few looks: nothing shall wake up often while a worker measures."""
        return min(max(min(self._deadlines()) - time.monotonic(), 0.05), LOOK_S)

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
