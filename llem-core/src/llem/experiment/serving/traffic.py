"""The load generator as a trial sees it: one load from its first request to its last, however its requests are sent."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from abc import ABC, abstractmethod
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from llem.backends.base import Chunk
from llem.backends.wire import Asked
from llem.errors import ExperimentFailed
from llem.experiment.serving.dispatch import Sent
from llem.experiment.serving.ticks import Ticks

__all__ = ["ABORT_LIMIT_S", "POLL_S", "Answered", "Flight", "Played", "Traffic", "flight_of", "no_collection"]

#: How often a waiting load looks whether it shall stop.
POLL_S = 0.2
SETTLE_POLL_S = 0.02
#: A load of which no answer has begun by then will not settle any more; nor will one whose clients begin to get answers
#: so slowly that the last one's would begin after the second of these, as long as the longest lead of an open load.
SETTLE_LIMIT_S, SETTLE_MOST_S = 600.0, 3600.0
#: An engine has this long to let go of requests that are aborted.
ABORT_LIMIT_S = 30.0


@attrs.define(eq=False)
class Flight(Sent):
    """One request on its way, with its `chunks` as they arrived; the rest as of `Sent`."""

    request: Asked
    scheduled_ns: int | None
    sent_ns: int
    chunks: list[Chunk] = attrs.field(factory=list)
    ended_ns: int = 0
    outcome: str = ""
    failure: str = ""
    cause: BaseException | None = None


@attrs.define
class Answered:
    """Requests that were answered while the load ran, in sums: whoever waits looks often, and they may be many.

    Attributes:
        count: how many.
        first_ns: from sending to what came first; of a server any bytes of the answer, as nobody reads them meanwhile.
        rest_ns: from there to the end.
        tokens: that they asked for, a bound.
    """

    count: int = 0
    first_ns: int = 0
    rest_ns: int = 0
    tokens: int = 0

    def add(self, sent_ns: int, first_ns: int, ended_ns: int, tokens: int) -> None:
        """One more, in monotonic ns."""
        self.count += 1
        self.first_ns += first_ns - sent_ns
        self.rest_ns += ended_ns - first_ns
        self.tokens += tokens


@attrs.frozen
class Played:
    """What a load was.

    Attributes:
        flights: every request, in the order they were sent.
        ticks: of every event loop that sent.
        processes: client processes; 0 where the worker's own loop sent.
        messages: of failures, the first few that differ.
    """

    flights: Sequence[Flight]
    ticks: Sequence[Ticks]
    processes: int
    messages: Sequence[str]


class Traffic(ABC):
    """One load from its first request to its last, in the event loop that runs.

    Args:
        check_stop: raises when the user wants to stop.

    Attributes:
        clients, ramp_s: of a closed load.
        since_ns: what ended before this monotonic time is known by its outcome alone, where that spares memory.
    """

    clients = 0
    ramp_s = 0.0
    since_ns = 0

    def __init__(self, check_stop: Callable[[], None]) -> None:
        self._check_stop = check_stop
        self._history: deque[tuple[float, int]] = deque([(time.monotonic(), 0)], maxlen=1000)

    # loads: each of these begins one, and returns at once

    @abstractmethod
    def sequence(self, count: int) -> None:
        """One request after the other, this many."""

    @abstractmethod
    def closed(self, concurrency: int, ramp_s: float) -> None:
        """So many clients, started one by one over `ramp_s`; each sends again when its request has ended."""

    @abstractmethod
    def open(self, offsets: Iterable[float]) -> None:
        """A request at each of these times in seconds from now."""

    # requests

    @abstractmethod
    async def ready(self, count: int) -> None:
        """Have at least this many requests where they are sent from."""

    @abstractmethod
    def seal(self, on: bool) -> None:
        """A window is open (or not): no request is made or moved."""

    # how it goes

    @property
    @abstractmethod
    def sent(self) -> int:
        """Requests sent."""

    @property
    @abstractmethod
    def in_flight(self) -> int:
        """Requests that have not ended."""

    @property
    @abstractmethod
    def begun(self) -> int:
        """Requests of whose answer something has come, or that have ended. Not kept up while sealed."""

    @property
    @abstractmethod
    def rounds(self) -> int:
        """Clients that have ended a request."""

    @property
    @abstractmethod
    def over(self) -> bool:
        """Nothing is in flight, and nothing more will be sent."""

    @property
    @abstractmethod
    def fatal(self) -> BaseException | None:
        """What has ended the load."""

    @property
    @abstractmethod
    def answered(self) -> Answered:
        """Requests that were answered so far. Not kept up while sealed."""

    def sent_lately(self, seconds: float) -> int:
        """Requests sent in the last so many seconds: while a load grows, its mean since the start says too little."""
        since = time.monotonic() - seconds
        before = [count for at, count in self._history if at <= since]
        return self.sent - (before[-1] if before else 0)

    # waiting: each of these raises what ended the load, within `POLL_S`

    def check(self) -> None:
        """Raise what ended the load, or ExperimentFailed (interrupted) when the user wants to stop."""
        if self.fatal is not None:
            raise self.fatal
        self._check_stop()
        if (now := time.monotonic()) - self._history[-1][0] >= SETTLE_POLL_S:
            self._history.append((now, self.sent))

    async def rest(self, seconds: float) -> None:
        """Let the load run for this long."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            await asyncio.sleep(min(left, POLL_S))
            self.check()

    async def until(self, settled: Callable[[float], bool]) -> None:
        """Let the load run until `settled(seconds waited)`. Raises ExperimentFailed where that is far away."""
        since = time.monotonic()
        while not settled(waited := time.monotonic() - since):
            if waited > SETTLE_LIMIT_S + self.ramp_s:
                self._refuse_slow(waited)
            await asyncio.sleep(SETTLE_POLL_S)
            self.check()

    def _refuse_slow(self, waited: float) -> None:
        """By what was seen since the load began, which is long after all of its clients have started."""
        begun = self.begun
        if not begun:
            raise ExperimentFailed(f"no answer began within {waited:.0f} s", "lower the load", "timeout")
        needed_s = waited * self.clients / begun
        if needed_s > SETTLE_MOST_S + self.ramp_s:
            raise ExperimentFailed(
                f"{begun} answers began within {waited:.0f} s, and {self.clients} clients wait for one: at this pace "
                f"the last one begins after {needed_s / 3600:.1f} h",
                "lower the number of clients, or let the engine take more requests at once",
                "timeout",
            )

    async def settle(self, answers: int, least_s: float) -> None:
        """Let the load run until so many answers have begun, and `least_s` at least."""
        await self.until(lambda waited: self.begun >= answers and waited >= least_s)

    async def finish(self) -> None:
        """Wait until a load that ends by itself has ended."""
        while not self.over:
            await asyncio.sleep(SETTLE_POLL_S)
            self.check()
        self.check()

    async def drain(self, seconds: float) -> None:
        """Send no more, and let what is in flight end; what has not ended in time is aborted."""
        self.stop()
        until = time.monotonic() + seconds
        while not self.over and (left := until - time.monotonic()) > 0:
            await asyncio.sleep(min(left, SETTLE_POLL_S))
            self.check()
        await self.abort()

    @abstractmethod
    def stop(self) -> None:
        """Send no more."""

    @abstractmethod
    async def abort(self) -> None:
        """End everything now. Raises ExperimentFailed when the engine does not let go of its requests."""

    @abstractmethod
    async def played(self) -> Played:
        """What the load was, once it has ended."""

    @abstractmethod
    async def close(self) -> None:
        """Leave nothing in flight, however the load ended; in a `finally`. Hides no error: it raises none."""


def flight_of(head: Mapping[str, Any], body: bytes, asked: Mapping[int, Asked]) -> Flight:
    """A request out of the frame `answer` of a client process: columns of 64-bit numbers (times, tokens, ids)."""
    numbers, count = array("q"), head["chunks"]
    numbers.frombytes(body)
    times, tokens = numbers[:count], numbers[count : 2 * count]
    ids: list[tuple[int, ...] | None] = [None] * count
    if head["ids"]:
        at = 3 * count
        for place, size in enumerate(numbers[2 * count : 3 * count]):
            ids[place] = tuple(numbers[at : at + size])
            at += size
    chunks = [Chunk(*one) for one in zip(tokens, times, ids, strict=True)]
    if chunks:
        more = {"finish_reason": head["finish_reason"], "engine_metrics": head["engine_metrics"]}
        chunks[-1] = attrs.evolve(chunks[-1], **more)
    return Flight(
        asked[head["index"]], head["scheduled_ns"], head["sent_ns"], chunks,
        head["ended_ns"], head["outcome"], head["failure"],
    )  # fmt: skip


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
