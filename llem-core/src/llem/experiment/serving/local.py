"""Loads of engines in the worker's own process, sent from its event loop."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence

from llem.backends.base import Chunk, Request
from llem.backends.wire import Asked
from llem.errors import ExperimentFailed, LlemError
from llem.experiment.serving import traffic
from llem.experiment.serving.dispatch import TOLD, Dispatcher, Ended, Sender, Source, starts
from llem.experiment.serving.stock import Stock
from llem.experiment.serving.ticks import Ticker, Ticks
from llem.experiment.serving.traffic import Answered, Flight, Played, Traffic

__all__ = ["LocalTraffic"]

#: Given the index of a request and chunks of it; raises where they are none.
Hold = Callable[[int, Sequence[Chunk]], None]


class _Streams(Sender[Request, Flight]):
    """Requests given to an engine in this process; nothing is done per token but to append what arrived."""

    def __init__(self, stream: Callable[[Request], AsyncIterator[Chunk]], hold: Hold) -> None:
        self._stream, self._hold = stream, hold
        self.tasks: dict[Flight, asyncio.Task[None]] = {}
        self._failures = 0

    def send(self, ask: Request, scheduled_ns: int | None, ended: Ended[Flight]) -> Flight:
        flight = Flight(Asked(ask.index, ask.input_tokens, ask.output_tokens), scheduled_ns, time.monotonic_ns())
        self.tasks[flight] = task = asyncio.get_running_loop().create_task(self._carry(ask, flight))
        # a callback: a task that is cancelled before its first step never enters its coroutine
        task.add_done_callback(lambda done: self._over(flight, done, ended))
        return flight

    def began(self, sent: Flight) -> bool:
        return bool(sent.chunks)

    def abort(self, sent: Flight) -> None:
        self.tasks[sent].cancel()

    async def _carry(self, request: Request, flight: Flight) -> None:
        """From its sending to its end. Raises what ends the load."""
        append = flight.chunks.append
        flight.sent_ns = time.monotonic_ns()
        try:
            stream = self._stream(request)
            try:
                async for chunk in stream:
                    append(chunk)
            finally:
                close = getattr(stream, "aclose", None)
                if close is not None:
                    await close()
            if flight.chunks:
                self._hold(request.index, (flight.chunks[0], flight.chunks[-1]))
                flight.end("done", flight.chunks[-1].time_ns)
            else:
                flight.end("error", failure="RuntimeError: the stream ended without a chunk")
        except (LlemError, MemoryError):  # the engine says of itself that it cannot go on
            raise
        except Exception as error:  # a request may fail in any way without the engine being at its end
            flight.end("error", failure=f"{type(error).__name__}: {error}")
            flight.cause = error
            if self._failures < TOLD:
                traceback.print_exception(error)
            self._failures += 1

    def _over(self, flight: Flight, task: asyncio.Task[None], ended: Ended[Flight]) -> None:
        """Its task is done, however it ended."""
        del self.tasks[flight]
        fatal: BaseException | None = None
        if task.cancelled():
            flight.end("unfinished")
        elif (fatal := task.exception()) is not None:
            flight.end("error", failure=f"{type(fatal).__name__}: {fatal}")
        ended(flight, fatal)


class _Stocked(Source[Request]):
    """Requests out of the stock, and the times of an open load."""

    def __init__(self, stock: Stock) -> None:
        self.stock = stock
        self.offsets: Iterator[float] = iter(())
        self._due: float | None = None

    def due(self) -> float | None:
        if self._due is None:
            self._due = next(self.offsets, None)
            self.exhausted = self._due is None
        return self._due

    def take(self) -> Request:
        self._due = None
        return self.stock.take()


class LocalTraffic(Traffic):
    """A load of an engine in this process, sent from the event loop that runs.

    Args:
        stream: gives the engine a request, as `Engine.stream`.
        stock: where requests come from.
        hold: raises where the first and the last chunk of a request that has ended are no chunks; the others are looked
            at when the load has ended.
    """

    def __init__(
        self,
        stream: Callable[[Request], AsyncIterator[Chunk]],
        stock: Stock,
        check_stop: Callable[[], None],
        hold: Hold,
    ) -> None:
        super().__init__(check_stop)
        self._source, self._sender = _Stocked(stock), _Streams(stream, hold)
        self._dispatcher: Dispatcher[Request, Flight] = Dispatcher(self._sender, self._source)
        self._ticker = Ticker()
        self._ticks: Ticks | None = None
        self._answered, self._looked_at = Answered(), 0

    def sequence(self, count: int) -> None:
        self._dispatcher.sequence(count)

    def closed(self, concurrency: int, ramp_s: float) -> None:
        self.clients, self.ramp_s = concurrency, ramp_s
        self._dispatcher.closed(starts(concurrency, ramp_s), time.monotonic_ns())

    def open(self, offsets: Iterable[float]) -> None:
        self._source.offsets = iter(offsets)
        self._dispatcher.open(time.monotonic_ns())

    async def ready(self, count: int) -> None:
        await self._source.stock.fill(count, self.check)

    def seal(self, on: bool) -> None:
        self._source.stock.sealed = on

    @property
    def sent(self) -> int:
        return len(self._dispatcher.sent)

    @property
    def in_flight(self) -> int:
        return len(self._dispatcher.in_flight)

    @property
    def begun(self) -> int:
        return self._dispatcher.begun

    @property
    def rounds(self) -> int:
        return self._dispatcher.rounds

    @property
    def over(self) -> bool:
        return self._dispatcher.over

    @property
    def fatal(self) -> BaseException | None:
        return self._dispatcher.fatal

    @property
    def answered(self) -> Answered:
        ended = self._dispatcher.ended
        for one in ended[self._looked_at :]:
            if one.outcome == "done":
                self._answered.add(one.sent_ns, one.chunks[0].time_ns, one.ended_ns, one.request.output_tokens)
        self._looked_at = len(ended)
        return self._answered

    def stop(self) -> None:
        self._dispatcher.stop()

    async def abort(self) -> None:
        await self._let_go()
        if left := len(self._sender.tasks):
            raise ExperimentFailed(f"the engine does not let go of {left} aborted requests", "", "timeout")

    async def _let_go(self) -> None:
        self._dispatcher.abort()
        if tasks := tuple(self._sender.tasks.values()):
            await asyncio.wait(tasks, timeout=traffic.ABORT_LIMIT_S)

    async def played(self) -> Played:
        return Played(self._dispatcher.sent, [self._stopped()], 0, self._dispatcher.messages)

    def _stopped(self) -> Ticks:
        self._ticks = self._ticks or self._ticker.stop()
        return self._ticks

    async def close(self) -> None:
        """After an error that is what is told, and not that requests outlive it."""
        self._stopped()
        self.seal(False)
        await self._let_go()
