"""The load generator: requests on their way from clients to one engine, all in one event loop.

Nothing is done per token but to append what arrived; everything else is computed when the load has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import statistics
import time
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from itertools import takewhile
from typing import Any

import attrs

from llem.backends.base import Chunk, Request
from llem.errors import ExperimentFailed, LlemError
from llem.experiment.serving.stock import Stock

__all__ = ["Flight", "Traffic", "no_collection", "usual_time"]

#: How often a waiting load looks whether it shall stop.
POLL_S = 0.2
SETTLE_POLL_S = 0.02
#: A load whose first tokens do not come within this time will not settle any more.
SETTLE_LIMIT_S = 600.0
#: A client waits this long after a failure, so that an engine that refuses everything is not kept busy refusing.
FAILURE_PAUSE_S = 0.1
#: Failures in a row, beside two for each request in flight, after which the engine counts as dead.
FAILURES = 10
#: An engine has this long to let go of requests that are aborted.
ABORT_LIMIT_S = 30.0
#: Failures whose traceback goes to the log; the rest are alike.
TOLD = 3


@attrs.define(eq=False)
class Flight:
    """One request on its way.

    Attributes:
        scheduled_ns: when it should have been sent; None in a closed load.
        sent_ns: when it was.
        chunks: as they arrived.
        ended_ns: when the last chunk, the failure or the abortion came; 0 while it is in flight.
        outcome: "" while in flight, then "done", "error" or "unfinished" (aborted).
    """

    request: Request
    scheduled_ns: int | None
    sent_ns: int
    chunks: list[Chunk] = attrs.field(factory=list)
    ended_ns: int = 0
    outcome: str = ""

    def end(self, outcome: str, at_ns: int | None = None) -> None:
        """The request is on its way no more."""
        self.outcome, self.ended_ns = outcome, time.monotonic_ns() if at_ns is None else at_ns


class Traffic:
    """One load from its first request to its last.

    Args:
        stream: gives the engine a request, as `Engine.stream`.
        stock: where requests come from.
        check_stop: raises when the user wants to stop.

    Attributes:
        flights: every request, in the order they were sent.
        begun: how many of those that the load waits for before it is settled have had a first token, or failed.
    """

    def __init__(
        self, stream: Callable[[Request], AsyncIterator[Chunk]], stock: Stock, check_stop: Callable[[], None]
    ) -> None:
        self._stream, self._stock, self._check_stop = stream, stock, check_stop
        self.flights: list[Flight] = []
        self.begun = 0
        self._sending = True
        self._source: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._fatal: BaseException | None = None
        self._failures = 0
        self._in_a_row = 0

    # loads: each of these begins one, and returns at once

    def sequence(self, count: int) -> None:
        """One request after the other, this many."""
        self._source = self._spawn(self._sequence(count))

    def closed(self, concurrency: int, ramp_s: float) -> None:
        """So many clients, started one by one over `ramp_s`; each sends again when its request has ended."""
        self._source = self._spawn(self._clients(concurrency, ramp_s))

    def open(self, offsets: Iterable[float]) -> None:
        """A request at each of these times in seconds from now."""
        self._source = self._spawn(self._dispatch(offsets, time.monotonic_ns()))

    async def _sequence(self, count: int) -> None:
        for _ in range(count):
            await self._send(None)

    async def _clients(self, concurrency: int, ramp_s: float) -> None:
        for number in range(concurrency):
            self._spawn(self._client())
            if ramp_s and number + 1 < concurrency:
                await asyncio.sleep(ramp_s / concurrency)

    async def _client(self) -> None:
        first = True
        while self._sending:
            flight = await self._send(None, awaited=first)
            first = False
            # 0 lets the others have their turn even where a stream never waits
            await asyncio.sleep(FAILURE_PAUSE_S if flight.outcome == "error" else 0)

    async def _dispatch(self, offsets: Iterable[float], origin_ns: int) -> None:
        for offset in offsets:
            at_ns = origin_ns + round(offset * 1e9)
            await asyncio.sleep(max(at_ns - time.monotonic_ns(), 0) / 1e9)
            self._spawn(self._send(at_ns))

    async def _send(self, scheduled_ns: int | None, *, awaited: bool = True) -> Flight:
        """One request from its sending to its end, however it ends. `awaited`: the load is not settled before it."""
        request = self._stock.take()
        flight = Flight(request, scheduled_ns, time.monotonic_ns())
        self.flights.append(flight)
        stream = self._stream(request)
        append = flight.chunks.append
        try:
            async for chunk in stream:  # the first alone, so that nothing need be asked at the others
                append(chunk)
                self.begun += awaited
                break
            async for chunk in stream:
                append(chunk)
            if not flight.chunks:
                raise RuntimeError("the stream ended without a chunk")
            flight.end("done", flight.chunks[-1].time_ns)
            self._in_a_row = 0
        except asyncio.CancelledError:
            flight.end("unfinished")
            raise
        except (LlemError, MemoryError):  # the engine says of itself that it cannot go on
            flight.end("error")
            raise
        except Exception as error:  # a request may fail in any way without the engine being at its end
            flight.end("error")
            self.begun += awaited and not flight.chunks  # nothing more will come that could be waited for
            self._failed(error)
        finally:
            close = getattr(stream, "aclose", None)
            if close is not None:
                await close()
        return flight

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        self._in_a_row += 1
        if self._failures <= TOLD:
            traceback.print_exception(error)
        if self._in_a_row >= FAILURES + 2 * len(self._tasks):
            message = f"{self._in_a_row} requests failed in a row, the last with {type(error).__name__}: {error}"
            dead = ExperimentFailed(message, "see the worker's log")
            dead.__cause__ = error
            raise dead

    def _spawn(self, act: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(act)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._fatal = self._fatal or task.exception()

    def sent_lately(self, seconds: float) -> int:
        """Requests sent in the last so many seconds: while a load grows, its mean since the start says too little."""
        since = time.monotonic_ns() - round(seconds * 1e9)
        return sum(1 for _ in takewhile(lambda flight: flight.sent_ns >= since, reversed(self.flights)))

    # waiting: each of these raises what ended the load, within `POLL_S`

    def check(self) -> None:
        """Raise what ended the load, or ExperimentFailed (interrupted) when the user wants to stop."""
        if self._fatal is not None:
            raise self._fatal
        self._check_stop()

    async def rest(self, seconds: float) -> None:
        """Let the load run for this long."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            await asyncio.sleep(min(left, POLL_S))
            self.check()

    async def settle(self, first_tokens: int, least_s: float) -> None:
        """Let the load run until so many requests have had a first token, and `least_s` at least."""
        since = time.monotonic()
        while self.begun < first_tokens or time.monotonic() - since < least_s:
            if time.monotonic() - since > SETTLE_LIMIT_S:
                message = f"{self.begun} of {first_tokens} first tokens came within {SETTLE_LIMIT_S:g} s"
                raise ExperimentFailed(message, "lower the load", "timeout")
            await asyncio.sleep(SETTLE_POLL_S)
            self.check()

    async def finish(self) -> None:
        """Wait until a load that ends by itself has ended."""
        while self._tasks:
            await asyncio.wait(self._tasks, timeout=POLL_S)
            self.check()

    async def drain(self, seconds: float) -> None:
        """Send no more, and let what is in flight end; what has not ended in time is aborted."""
        self.stop()
        until = time.monotonic() + seconds
        while self._tasks and (left := until - time.monotonic()) > 0:
            await asyncio.wait(self._tasks, timeout=min(left, POLL_S))
            self.check()
        await self.abort()

    def stop(self) -> None:
        """Send no more."""
        self._sending = False
        if self._source is not None:
            self._source.cancel()

    async def abort(self) -> None:
        """End everything now. Raises ExperimentFailed when the engine does not let go of its requests."""
        self.stop()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=ABORT_LIMIT_S)
        if self._tasks:
            raise ExperimentFailed(f"the engine does not let go of {len(self._tasks)} aborted requests", "", "timeout")


def usual_time(flights: Sequence[Flight]) -> float:
    """Median seconds from sending to the last token."""
    return statistics.median((flight.ended_ns - flight.sent_ns) / 1e9 for flight in flights)


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """No garbage collection: a full one stops every client for as long as it takes to look at all that is kept."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
