"""Loads of engines that are servers, sent by client processes; the worker makes the messages and hears how it goes."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from llem.backends.base import Request
from llem.errors import ExperimentFailed
from llem.experiment.serving import traffic
from llem.experiment.serving.dispatch import TOLD, starts
from llem.experiment.serving.feed import Feed, Side
from llem.experiment.serving.frames import frame, untold
from llem.experiment.serving.processes import ClientProcess
from llem.experiment.serving.stock import Stock
from llem.experiment.serving.ticks import Ticks
from llem.experiment.serving.traffic import Answered, Flight, Played, Traffic, flight_of

__all__ = ["RemoteTraffic"]


class RemoteTraffic(Traffic):
    """A load sent by client processes, to which requests go in turn; to each as many as it has clients.

    Args:
        processes: that are at rest.
        message: gives what is written for a request, as `Engine.message`.
        stock: where requests come from.
    """

    def __init__(
        self,
        processes: Sequence[ClientProcess],
        message: Callable[[Request], bytes],
        stock: Stock,
        check_stop: Callable[[], None],
    ) -> None:
        super().__init__(check_stop)
        self._sides: Sequence[Side] = [Side(one) for one in processes]
        self._feed = Feed(message, stock, self.check)
        self._feeder: asyncio.Task[None] | None = None
        self._begin_load: Callable[[], None] | None = None  # until it has begun
        self._fatal: BaseException | None = None
        self._answered = Answered()
        self._flights: list[Flight] = []
        self.messages: list[str] = []

    # loads

    def sequence(self, count: int) -> None:
        self._feed.limit = count
        self._begin(self._sides[:1], "sequence", lambda number: {"count": count})

    def closed(self, concurrency: int, ramp_s: float) -> None:
        self.clients, self.ramp_s = concurrency, ramp_s
        begins, sides = starts(concurrency, ramp_s), self._sides[:concurrency]
        turns = [sides[client % len(sides)] for client in range(concurrency)]
        for side in sides:
            side.clients = turns.count(side)
        self._begin(turns, "closed", lambda number: {"starts": begins[number :: len(sides)]})

    def open(self, offsets: Iterable[float]) -> None:
        self._feed.offsets = iter(offsets)
        self._begin(self._sides, "open", lambda number: {})

    def _begin(self, turns: Sequence[Side], kind: str, more: Callable[[int], Mapping[str, Any]]) -> None:
        """Push what is prepared; the load begins once no process lacks requests."""
        self._sides = tuple(dict.fromkeys(turns))

        def begin() -> None:
            self._begin_load, self._feed.begun_at = None, time.monotonic()
            origin_ns = time.monotonic_ns()
            for number, side in enumerate(self._sides):
                side.process.write(frame("load", kind=kind, origin_ns=origin_ns, **more(number)))

        for side in self._sides:
            side.process.hear, side.process.busy = self._hearer(side), True
        self._feed.begin(turns)
        self._begin_load = begin
        self._feeder = asyncio.get_running_loop().create_task(self._keep_fed(begin))

    async def _keep_fed(self, begin: Callable[[], None]) -> None:
        try:
            await self._feed.run(begin)
        except Exception as error:
            self._fatal = self._fatal or error

    # requests

    async def ready(self, count: int) -> None:
        await (self._feed.prepare if self._feeder is None else self._feed.fill)(count)

    def seal(self, on: bool) -> None:
        if self._feeder is not None and on != self._feed.sealed:
            self._tell("sealed", on=on)
        self._feed.sealed = on

    # how it goes

    def _hearer(self, side: Side) -> Callable[[Mapping[str, Any], bytes], None]:
        def hear(head: Mapping[str, Any], body: bytes) -> None:
            if head["name"] == "state":
                self._state(side, head)
            elif head["name"] == "answer":
                self._flights.append(flight_of(head, body, self._feed.asked))
            elif head["name"] == "over":
                columns = array("q")
                columns.frombytes(body)
                count = len(columns) // 4
                side.ticks = Ticks(*(columns[i * count : (i + 1) * count] for i in range(4)))
                side.finished, side.process.busy = True, False

        return hear

    def _state(self, side: Side, head: Mapping[str, Any]) -> None:
        side.sent, side.in_flight, side.rounds = head["sent"], head["in_flight"], head["rounds"]
        side.received, side.over = head["received"], head["over"]
        side.begun = max(side.begun, head["begun"])
        for one in head["ended"]:
            self._answered.add(*one)
        for message in head["messages"]:
            if message not in self.messages and len(self.messages) < TOLD:
                self.messages.append(message)
        if head["fatal"] is not None and self._fatal is None:
            self._fatal = untold(head["fatal"])

    @property
    def sent(self) -> int:
        return sum(side.sent for side in self._sides)

    @property
    def in_flight(self) -> int:
        return sum(side.in_flight for side in self._sides)

    @property
    def begun(self) -> int:
        return sum(side.begun for side in self._sides)

    @property
    def rounds(self) -> int:
        return sum(side.rounds for side in self._sides)

    @property
    def over(self) -> bool:
        return all(side.over for side in self._sides)

    @property
    def fatal(self) -> BaseException | None:
        return self._fatal or next((one.process.lost for one in self._sides if one.process.lost), None)

    @property
    def answered(self) -> Answered:
        return self._answered

    # the end

    def _tell(self, name: str, **head: Any) -> None:
        for side in self._sides:
            side.process.write(frame(name, **head))

    def stop(self) -> None:
        if self._feeder is not None:
            self._feeder.cancel()
        if self._begin_load is not None:  # what is stopped has begun
            self._begin_load()
        self._tell("stop")

    async def abort(self) -> None:
        self.stop()
        if not self.over:
            self._tell("abort")
            await self._wait(lambda: self.over, "let go of their requests")

    async def _wait(self, done: Callable[[], bool], what: str, limit_s: float | None = None) -> None:
        until = time.monotonic() + (limit_s or traffic.ABORT_LIMIT_S)
        while not done():
            await asyncio.sleep(traffic.SETTLE_POLL_S)
            self.check()
            if time.monotonic() > until:
                raise ExperimentFailed(f"the client processes do not {what}", "see the worker's log", "timeout")

    async def played(self) -> Played:
        self._tell("end", since_ns=self.since_ns)
        while not all(side.finished for side in self._sides):
            await asyncio.sleep(traffic.SETTLE_POLL_S)
            self.check()
        self.check()
        flights = sorted(self._flights, key=lambda flight: flight.sent_ns)
        ticks = [side.ticks for side in self._sides if side.ticks is not None]
        return Played(flights, ticks, len(self._sides), self.messages)

    async def close(self) -> None:
        """A process whose load was not heard to its end is ended: nothing of it is in flight then."""
        if self._feeder is not None:
            self._feeder.cancel()
        for side in self._sides:
            side.process.hear = lambda head, body: None
            if side.process.busy:
                side.process.close()
