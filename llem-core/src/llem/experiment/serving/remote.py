"""Loads of engines that are servers, sent by client processes; the worker makes the messages and hears how it goes."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from llem.backends.base import Request
from llem.errors import ExperimentFailed
from llem.experiment.serving import traffic
from llem.experiment.serving.dispatch import TOLD, starts
from llem.experiment.serving.frames import frame, untold
from llem.experiment.serving.processes import ClientProcess
from llem.experiment.serving.stock import PORTION, Stock
from llem.experiment.serving.ticks import Ticks
from llem.experiment.serving.traffic import Flight, Played, Timed, Traffic, flight_of

__all__ = ["RemoteTraffic"]

#: How often the processes get more requests while no window is open, and how far ahead of an open load's schedule.
FEED_S, AHEAD_S = 0.05, 2.0
#: The least number of requests that each process has ready.
LEAST_READY = 16


@attrs.define(eq=False)
class _Side:
    """One process, and what it told last."""

    process: ClientProcess
    pushed: int = 0
    sent: int = 0
    in_flight: int = 0
    begun: int = 0
    rounds: int = 0
    received: int = 0
    over: bool = False
    finished: bool = False
    rising: int = 0  # requests that it sent between the last two feeds
    fed_at: int = 0
    ticks: Ticks | None = None


class RemoteTraffic(Traffic):
    """A load sent by client processes, to which requests go in turn.

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
        self._message, self._stock = message, stock
        self._sides = [_Side(one) for one in processes]
        for side in self._sides:
            side.process.hear = self._hearer(side)
        self._prepared: deque[tuple[Request, bytes]] = deque()
        self._requests: dict[int, Request] = {}
        self._offsets: Iterator[float] | None = None
        self._due_s = 0.0  # of the request that was pushed last
        self._begun_at: float | None = None
        self._clients = 0
        self._limit: int | None = None
        self._sealed = False
        self._fatal: BaseException | None = None
        self._answered: list[Timed] = []
        self._flights: list[Flight] = []
        self.messages: list[str] = []
        self._feeder: asyncio.Task[None] | None = None

    # loads

    def sequence(self, count: int) -> None:
        self._limit = count
        self._sides = self._sides[:1]
        self._begin("sequence", lambda number: {"count": count})

    def closed(self, concurrency: int, ramp_s: float) -> None:
        self._clients, step = concurrency, len(self._sides)
        begins = starts(concurrency, ramp_s)
        self._begin("closed", lambda number: {"starts": begins[number::step]})

    def open(self, offsets: Iterable[float]) -> None:
        self._offsets = iter(offsets)
        self._begin("open", lambda number: {})

    def _begin(self, kind: str, more: Callable[[int], Mapping[str, Any]]) -> None:
        """Push what is prepared, and begin."""
        self._begun_at = time.monotonic()
        self._feed()
        origin_ns = time.monotonic_ns()
        for number, side in enumerate(self._sides):
            side.process.busy = True
            side.process.write(frame("load", kind=kind, origin_ns=origin_ns, **more(number)))
        self._feeder = asyncio.get_running_loop().create_task(self._keep_fed())

    # requests

    async def ready(self, count: int) -> None:
        if self._begun_at is None:
            while len(self._prepared) < count:
                self._prepare(PORTION)
                await asyncio.sleep(0)
            return
        while sum(side.pushed for side in self._sides) - self.sent < count:
            # at rest as long as at work: on a core that is shared, the processes that stamp tokens would wait else
            since = time.monotonic()
            self._push(LEAST_READY)
            await asyncio.sleep(time.monotonic() - since)
        while any(side.received < side.pushed for side in self._sides):
            await asyncio.sleep(traffic.SETTLE_POLL_S)
            self.check()

    def seal(self, on: bool) -> None:
        if self._begun_at is not None and on != self._sealed:
            self._tell("sealed", on=on)
        self._sealed = on

    def _prepare(self, count: int) -> None:
        for _ in range(count):
            request = self._stock.take()
            self._prepared.append((request, self._message(request)))

    def _push(self, count: int) -> None:
        """Give the processes so many more, in turn."""
        if self._limit is not None:
            count = min(count, self._limit - sum(side.pushed for side in self._sides))
        if count <= 0:
            return
        if len(self._prepared) < count:
            self._prepare(count - len(self._prepared))
        rows: list[list[list[Any]]] = [[] for _ in self._sides]
        bodies: list[list[bytes]] = [[] for _ in self._sides]
        turn = sum(side.pushed for side in self._sides)
        for number in range(turn, turn + count):
            request, message = self._prepared.popleft()
            due_s = None if self._offsets is None else next(self._offsets)
            self._due_s = due_s or 0.0
            self._requests[request.index] = request
            at = number % len(self._sides)
            rows[at].append([request.index, len(request.token_ids) or None, request.output_tokens, due_s, len(message)])
            bodies[at].append(message)
        for side, own, body in zip(self._sides, rows, bodies, strict=True):
            if own:
                side.pushed += len(own)
                side.process.write(frame("requests", b"".join(body), rows=own))

    def _feed(self) -> None:
        """Let each process have what it will take until the next time, and all that is prepared."""
        self._push(len(self._prepared))
        if self._limit is not None:
            self._push(self._limit)
        elif self._offsets is not None:
            while self._due_s < time.monotonic() - (self._begun_at or 0.0) + AHEAD_S:
                self._push(PORTION)
        else:
            for side in self._sides:
                side.rising, side.fed_at = max(side.sent - side.fed_at, side.rising // 2), side.sent
            wanted = 2 * self._clients // len(self._sides) + LEAST_READY + 4 * max(one.rising for one in self._sides)
            if (least := min(side.pushed - side.sent for side in self._sides)) < wanted:
                self._push((wanted - least) * len(self._sides))

    async def _keep_fed(self) -> None:
        while True:
            await asyncio.sleep(FEED_S)
            if not self._sealed:
                try:
                    self._feed()
                except Exception as error:
                    self._fatal = self._fatal or error
                    return

    # how it goes

    def _hearer(self, side: _Side) -> Callable[[Mapping[str, Any], bytes], None]:
        def hear(head: Mapping[str, Any], body: bytes) -> None:
            if head["name"] == "state":
                self._state(side, head)
            elif head["name"] == "answer":
                self._flights.append(flight_of(head, body, self._requests))
            elif head["name"] == "over":
                columns = array("q")
                columns.frombytes(body)
                count = len(columns) // 3
                side.ticks = Ticks(columns[:count], columns[count : 2 * count], columns[2 * count :])
                side.finished, side.process.busy = True, False

        return hear

    def _state(self, side: _Side, head: Mapping[str, Any]) -> None:
        side.sent, side.in_flight, side.rounds = head["sent"], head["in_flight"], head["rounds"]
        side.received, side.over = head["received"], head["over"]
        side.begun = max(side.begun, head["begun"])
        self._answered += [Timed(*one) for one in head["ended"]]
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
    def answered(self) -> Sequence[Timed]:
        return self._answered

    # the end

    def _tell(self, name: str, **head: Any) -> None:
        for side in self._sides:
            side.process.write(frame(name, **head))

    def stop(self) -> None:
        if self._feeder is not None:
            self._feeder.cancel()
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
        self._tell("end")
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
