"""When requests are sent, in one event loop: one after the other, by clients that wait for their answers, or on time.

The worker's loop (engines in its process) and the client processes (servers) share it. Only the sender differs.
"""

from __future__ import annotations

import asyncio
import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

import attrs

from llem.errors import ExperimentFailed
from llem.foreign.shown import visible

__all__ = ["FAILURES", "TOLD", "Dispatcher", "Ended", "Sender", "Sent", "Source", "starts", "used_up"]

#: A client waits this long after a failure, so that an engine that refuses everything is not kept busy refusing.
FAILURE_PAUSE_S = 0.1
#: Failures in a row, beside two for each client or request in flight, after which the engine counts as dead.
FAILURES = 10
#: Distinct messages of failures that are kept and go to the log; the rest are alike.
TOLD = 3


@attrs.define(eq=False)
class Sent:
    """One request on its way.

    Attributes:
        scheduled_ns: when it should have been sent; None in a closed load.
        sent_ns: when it was.
        ended_ns: when the last chunk, the failure or the abortion came; 0 while it is in flight.
        outcome: "" while in flight, then "done", "error" or "unfinished" (aborted).
        failure: why it failed, in words; "" otherwise.
        cause: the exception behind it, where there is one.
    """

    scheduled_ns: int | None
    sent_ns: int
    ended_ns: int = attrs.field(default=0, kw_only=True)
    outcome: str = attrs.field(default="", kw_only=True)
    failure: str = attrs.field(default="", kw_only=True)
    cause: BaseException | None = attrs.field(default=None, kw_only=True)

    def end(self, outcome: str, at_ns: int | None = None, failure: str = "") -> None:
        """The request is on its way no more."""
        self.outcome, self.failure = outcome, failure
        self.ended_ns = time.monotonic_ns() if at_ns is None else at_ns


A = TypeVar("A")
S = TypeVar("S", bound=Sent)
#: Called when a request has ended, with what ends the load besides; None mostly.
Ended = Callable[[S, BaseException | None], None]


class Sender(ABC, Generic[A, S]):
    """Gives requests to the engine, from the event loop that runs."""

    @abstractmethod
    def send(self, ask: A, scheduled_ns: int | None, ended: Ended[S]) -> S:
        """Send it now, and return at once; `ended` is called once its outcome is known, never within this call."""

    @abstractmethod
    def began(self, sent: S) -> bool:
        """Something of its answer has come."""

    @abstractmethod
    def abort(self, sent: S) -> None:
        """Let go of a request in flight. Its outcome is "unfinished"."""


class Source(ABC, Generic[A]):
    """Where requests come from.

    Attributes:
        exhausted: there will be no more.
    """

    exhausted = False

    @abstractmethod
    def due(self) -> float | None:
        """When the next request is to be sent, in seconds after the load began; None where none is ready."""

    @abstractmethod
    def take(self) -> A | None:
        """The next request; None where none is ready. Raises ExperimentFailed when there will be none."""


def starts(concurrency: int, ramp_s: float) -> list[float]:
    """When each client of a closed load begins, in seconds after its origin."""
    return [number * ramp_s / concurrency for number in range(concurrency)]


def used_up() -> ExperimentFailed:
    """What ends a load for which no more requests are ready while a window is open."""
    return ExperimentFailed(
        "the load used up the requests that were prepared for a window",
        "the engine is much faster than it was during the warm-up: lengthen `warmup.seconds`",
    )


@attrs.define(eq=False)
class _Client:
    ended: int = 0  # requests of it


class Dispatcher(Generic[A, S]):
    """One load in one event loop, which must run already.

    Attributes:
        sent: every request, in the order they were sent.
        in_flight: those that have not ended.
        ended: those that have, in the order in which they did.
        rounds: clients that have ended a request.
        fatal: what ends the load.
        messages: of failures, the first few that differ.
    """

    def __init__(self, sender: Sender[A, S], source: Source[A]) -> None:
        self._sender, self._source = sender, source
        self._loop = asyncio.get_running_loop()
        self.sent: list[S] = []
        self.in_flight: dict[S, _Client | None] = {}
        self.ended: list[S] = []
        self.rounds = 0
        self.fatal: BaseException | None = None
        self.messages: list[str] = []
        self._sending = True
        self._left: int | None = None  # to be sent; None: no end
        self._origin_ns = 0
        self._timers: list[asyncio.TimerHandle] = []
        self._idle: deque[_Client] = deque()  # clients for which no request is ready
        self._clients = 0
        self._in_a_row = 0
        self._open = False

    # loads

    def sequence(self, count: int) -> None:
        """One request after the other, this many."""
        self._left = count
        self.closed([0.0], time.monotonic_ns())

    def closed(self, starts: Iterable[float], origin_ns: int) -> None:
        """A client from each of these times on, in seconds after the origin; it sends again when its request ended."""
        self._origin_ns = origin_ns
        for start in starts:
            self._clients += 1
            self._at(origin_ns + round(start * 1e9), self._next, _Client())

    def open(self, origin_ns: int) -> None:
        """Each request when it is due, whether or not earlier ones have ended."""
        self._origin_ns, self._open = origin_ns, True
        self._when_due()

    def feed(self) -> None:
        """There are requests again."""
        if self._open:
            self._when_due()
        for _ in range(len(self._idle)):
            self._next(self._idle.popleft())

    def stop(self) -> None:
        """Send no more."""
        self._sending = False
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self._idle.clear()

    @property
    def over(self) -> bool:
        """Nothing is in flight, and nothing more will be sent."""
        return not self.in_flight and (self._left == 0 or not self._sending or self._source.exhausted)

    @property
    def begun(self) -> int:
        """Requests of which something has come, or that have ended."""
        return len(self.ended) + sum(map(self._sender.began, self.in_flight))

    def fail(self, error: BaseException) -> None:
        """The load has come to its end."""
        self.fatal = self.fatal or error
        self.stop()

    # sending

    def _at(self, at_ns: int, act: Callable[..., None], *args: Any) -> None:
        left_s = max(at_ns - time.monotonic_ns(), 0) / 1e9
        if len(self._timers) > 2 * self._clients + 2:
            now = self._loop.time()
            self._timers = [one for one in self._timers if not one.cancelled() and one.when() > now]
        self._timers.append(self._loop.call_later(left_s, act, *args))

    def _when_due(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        try:
            while self._sending and (due := self._source.due()) is not None:
                at_ns = self._origin_ns + round(due * 1e9)
                if at_ns > time.monotonic_ns():
                    self._timers = [self._loop.call_later((at_ns - time.monotonic_ns()) / 1e9, self._when_due)]
                    return
                self._send(at_ns, None)
        except Exception as error:
            self.fail(error)

    def _next(self, client: _Client) -> None:
        if not self._sending or self._left == 0:
            return
        try:
            if not self._send(None, client):
                self._idle.append(client)
        except Exception as error:
            self.fail(error)

    def _send(self, scheduled_ns: int | None, client: _Client | None) -> bool:
        ask = self._source.take()
        if ask is None:
            return False
        if self._left is not None:
            self._left -= 1
        sent = self._sender.send(ask, scheduled_ns, self._ended)
        self.sent.append(sent)
        self.in_flight[sent] = client
        return True

    def _ended(self, sent: S, fatal: BaseException | None) -> None:
        client = self.in_flight.pop(sent)
        self.ended.append(sent)
        if client is not None:
            client.ended += 1
            self.rounds += client.ended == 1
        if fatal is not None:
            self.fail(fatal)
        if sent.outcome == "error":
            self._failed(sent)
        elif sent.outcome == "done":
            self._in_a_row = 0
        if client is not None and self._sending:
            if sent.outcome == "error":
                self._at(time.monotonic_ns() + round(FAILURE_PAUSE_S * 1e9), self._next, client)
            else:  # in its turn: others go on even where an answer takes no time
                self._loop.call_soon(self._next, client)

    def note(self, failure: str) -> None:
        """Keep the message of a failure, and log it, where it is one of the first few that differ."""
        if failure not in self.messages and len(self.messages) < TOLD:
            self.messages.append(failure)
            print(f"a request failed: {visible(failure)}", file=sys.stderr, flush=True)

    def _failed(self, sent: S) -> None:
        failure = sent.failure
        self.note(failure)
        self._in_a_row += 1
        if self.fatal is None and self._in_a_row >= FAILURES + 2 * max(self._clients, len(self.in_flight)):
            message = f"{self._in_a_row} requests failed in a row, the last with {failure}"
            dead = ExperimentFailed(message, "see the worker's log")
            dead.__cause__ = sent.cause
            self.fail(dead)

    def abort(self) -> None:
        """Send no more, and let go of what is in flight."""
        self.stop()
        for sent in tuple(self.in_flight):
            self._sender.abort(sent)
