"""Requests on their way to client processes: made into messages ahead of their turn, and dealt out by clients."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs

from llem.backends.base import Request
from llem.backends.wire import Asked
from llem.errors import ExperimentFailed
from llem.experiment.serving import traffic
from llem.experiment.serving.frames import frame
from llem.experiment.serving.processes import ClientProcess
from llem.experiment.serving.stock import PORTION, Stock
from llem.experiment.serving.ticks import Ticks

__all__ = ["Feed", "Side"]

#: How often the processes get more requests while no window is open, and how far ahead of an open load's schedule.
FEED_S, AHEAD_S = 0.05, 2.0
#: A schedule is too fast for llem if requests that are made without a pause for so long fall behind it further.
JUDGED_S = 1.0
#: The least number of requests that each process has ready, and how many go into one frame at most.
LEAST_READY, FRAME_REQUESTS = 16, 256


@attrs.define(eq=False)
class Side:
    """One process, and what it told last.

    Attributes:
        clients: of a closed load, those that are this process's; requests go out by them.
        rising: requests that it sent between the last two feeds.
    """

    process: ClientProcess
    clients: int = 1
    pushed: int = 0
    sent: int = 0
    in_flight: int = 0
    begun: int = 0
    rounds: int = 0
    received: int = 0
    over: bool = False
    finished: bool = False
    rising: int = 0
    fed_at: int = 0
    ticks: Ticks | None = None


class Feed:
    """Gives the processes of one load their requests.

    Attributes:
        asked: what was asked for in each request that went out, by its index.
        offsets: when each is due, of an open load.
        limit: no more than so many go out.
        begun_at: when the load began, by the monotonic clock; None before.
        sealed: nothing is made or moved.
    """

    def __init__(self, message: Callable[[Request], bytes], stock: Stock, check: Callable[[], None]) -> None:
        self.asked: dict[int, Asked] = {}
        self.offsets: Iterator[float] | None = None
        self.limit: int | None = None
        self.begun_at: float | None = None
        self.sealed = False
        self._message, self._stock, self._check = message, stock, check
        self._turns: Sequence[Side] = ()
        self._sides: Sequence[Side] = ()
        self._prepared: deque[tuple[Asked, bytes]] = deque()
        self._due_s = 0.0  # of the request that was pushed last

    @property
    def _pushed(self) -> int:
        return sum(side.pushed for side in self._sides)

    async def prepare(self, count: int) -> None:
        """Have so many messages made; before the load."""
        while len(self._prepared) < count:
            self._make(PORTION)
            await asyncio.sleep(0)
            self._check()

    def begin(self, turns: Sequence[Side]) -> None:
        """Push what is prepared. `turns`: whose turn is next, over and over: each side as often as it has clients."""
        self._turns, self._sides = turns, tuple(dict.fromkeys(turns))
        for _ in range(0, len(self._prepared), FRAME_REQUESTS):
            self._push(min(len(self._prepared), FRAME_REQUESTS))

    async def fill(self, count: int) -> None:
        """Let the processes have so many that they have not sent, each as many as its clients will take of them."""
        clients = len(self._turns)
        while any((side.pushed - side.sent) * clients < count * side.clients for side in self._sides):
            # at rest as long as at work: on a core that is shared, the processes that stamp tokens would wait else
            since = time.monotonic()
            self._push(LEAST_READY)
            await asyncio.sleep(time.monotonic() - since)
            self._check()
        while any(side.received < side.pushed for side in self._sides):
            await asyncio.sleep(traffic.SETTLE_POLL_S)
            self._check()

    async def run(self, begin: Callable[[], None]) -> None:
        """Push, begin the load once nothing lacks, and let nothing lack until cancelled. Raises what `check` does, and
        ExperimentFailed where requests are due faster than they can be made."""
        await self._feed()
        begin()
        while True:
            await asyncio.sleep(FEED_S)
            await self._feed()

    async def _feed(self) -> None:
        """Push until nothing lacks; whatever else the loop has to do has its turns in between."""
        for side in self._sides:
            side.rising, side.fed_at = max(side.sent - side.fed_at, side.rising // 2), side.sent
        since, lead_s, pushed = time.monotonic(), self._lead_s, self._pushed
        while not self.sealed and self._lacks():
            self._push(PORTION)
            await asyncio.sleep(0)
            self._check()
            if (passed_s := time.monotonic() - since) > JUDGED_S:
                if self.offsets is not None and self._lead_s < min(lead_s, 0.0):
                    raise _too_fast((self._pushed - pushed) / passed_s, -self._lead_s)
                since, lead_s, pushed = time.monotonic(), self._lead_s, self._pushed

    def _lacks(self) -> bool:
        """Some process does not have what it will take until the next feeding."""
        if self.limit is not None:
            return self._pushed < self.limit
        if self.offsets is not None:
            return self._lead_s < AHEAD_S
        return any(side.pushed - side.sent < 2 * side.clients + LEAST_READY + 4 * side.rising for side in self._sides)

    @property
    def _lead_s(self) -> float:
        """How far ahead of an open load's schedule requests are made."""
        return self._due_s - (0.0 if self.begun_at is None else time.monotonic() - self.begun_at)

    def _make(self, count: int) -> None:
        for _ in range(count):
            request = self._stock.take()
            asked = Asked(request.index, request.input_tokens, request.output_tokens)
            self._prepared.append((asked, self._message(request)))

    def _push(self, count: int) -> None:
        """Give the processes so many more, in turn."""
        begin = self._pushed
        if self.limit is not None:
            count = min(count, self.limit - begin)
        self._make(count - len(self._prepared))
        rows: dict[Side, list[list[Any]]] = {side: [] for side in self._sides}
        bodies: dict[Side, list[bytes]] = {side: [] for side in self._sides}
        for number in range(begin, begin + count):
            asked, message = self._prepared.popleft()
            due_s = None if self.offsets is None else next(self.offsets)
            self._due_s = due_s or 0.0
            self.asked[asked.index] = asked
            side = self._turns[number % len(self._turns)]
            rows[side].append([asked.index, asked.input_tokens, asked.output_tokens, due_s, len(message)])
            bodies[side].append(message)
        for side, own in rows.items():
            if own:
                side.pushed += len(own)
                side.process.write(frame("requests", b"".join(bodies[side]), rows=own))


def _too_fast(made_per_s: float, behind_s: float) -> ExperimentFailed:
    """What ends a load whose requests are not made as fast as they are due."""
    return ExperimentFailed(
        f"llem cannot make more than {made_per_s:.3g} requests/s here: the last one was due {behind_s:.2g} s before it "
        "was made, and they fall behind further",
        "lower the rate, shorten the prompts, or give llem more processor time",
    )
