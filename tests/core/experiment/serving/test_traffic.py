"""The load generator by itself: what is sent when, what is kept of it, and how it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from itertools import count
from typing import Any

import attrs
import pytest

from llem.backends.base import Chunk, Request
from llem.errors import ExperimentFailed
from llem.experiment.serving.dispatch import FAILURES
from llem.experiment.serving.local import LocalTraffic
from llem.experiment.serving.stock import PORTION, Stock
from llem.experiment.serving.traffic import Answered, Played, Traffic


def made(start: int, number: int) -> list[Request]:
    return [Request(index, (1, 2, 3), 4) for index in range(start, start + number)]


def never() -> None:
    return None


class Service:
    """An engine in a few lines: each request takes `token_s` per token, and fails where it is told to."""

    def __init__(self, token_s: float = 0.005, fails: Callable[[int], Exception | None] = lambda _: None) -> None:
        self.token_s, self.fails = token_s, fails
        self.in_flight = self.most = 0
        self.closed: list[int] = []

    async def stream(self, request: Request) -> AsyncIterator[Chunk]:
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        try:
            for number in range(request.output_tokens):
                await asyncio.sleep(self.token_s)
                if number == 1 and (error := self.fails(request.index)):
                    raise error
                last = number + 1 == request.output_tokens
                yield Chunk(1, time.monotonic_ns(), (number,), "length" if last else None)
        finally:
            self.in_flight -= 1
            self.closed.append(request.index)


def play(service: Service, act: Callable[[Traffic], Coroutine[Any, Any, Any]], check: Any = never) -> Played:
    """A load of its own in a loop of its own, aborted at its end as every load is."""

    async def whole() -> Played:
        traffic = LocalTraffic(service.stream, Stock(made), check, lambda index, chunks: None)
        try:
            await act(traffic)
            await traffic.abort()
            return await traffic.played()
        finally:
            await traffic.close()

    return asyncio.run(whole())


def test_a_closed_load_keeps_its_clients_busy() -> None:
    """As many requests are in flight as there are clients, each follows upon one that ended, none is left over."""
    service = Service()

    async def act(traffic: Traffic) -> None:
        traffic.closed(3, 0.0)
        await traffic.rest(0.3)
        await traffic.drain(5.0)

    flights = play(service, act).flights

    assert service.most == 3
    assert service.in_flight == 0
    assert {flight.outcome for flight in flights} == {"done"}
    assert [flight.request.index for flight in flights] == list(range(len(flights)))
    ends = sorted(flight.ended_ns for flight in flights)
    assert all(flight.sent_ns >= end for flight, end in zip(flights[3:], ends, strict=False))
    assert all(len(flight.chunks) == 4 and flight.ended_ns == flight.chunks[-1].time_ns for flight in flights)


def test_a_ramp_spreads_the_starts() -> None:
    """The clients begin one by one, none before its part of the ramp has passed."""
    begun: list[int] = []

    async def act(traffic: Traffic) -> None:
        begun.append(time.monotonic_ns())
        traffic.closed(4, 0.4)
        await traffic.rest(0.45)

    sent = [flight.sent_ns for flight in play(Service(token_s=60.0), act).flights]

    assert len(sent) == 4
    assert all(at - begun[0] >= number * 0.1e9 for number, at in enumerate(sent))


def test_an_open_load_does_not_wait_for_answers() -> None:
    """Requests go out at their times, however many are in flight, never early; and the lag is what is recorded."""
    service = Service(token_s=0.1)
    offsets = [0.0, 0.01, 0.02, 0.05, 0.05, 0.1]

    async def act(traffic: Traffic) -> None:
        traffic.open(offsets)
        await traffic.finish()

    flights = play(service, act).flights
    origin = flights[0].scheduled_ns or 0

    assert service.most == len(offsets)
    assert [((flight.scheduled_ns or 0) - origin) / 1e9 for flight in flights] == pytest.approx(offsets, abs=1e-8)
    assert all(flight.sent_ns >= (flight.scheduled_ns or 0) for flight in flights)


def test_settling_waits_for_first_tokens_and_a_least_time() -> None:
    """A closed load is settled when each client has had a token, not when one client has had several."""
    begun: list[int] = []

    async def act(traffic: Traffic) -> None:
        traffic.closed(5, 0.3)
        await traffic.settle(5, 0.0)
        begun.append(traffic.begun)
        since = time.monotonic()
        await traffic.settle(1, 0.15)
        assert time.monotonic() - since >= 0.15

    play(Service(token_s=0.001), act)

    assert begun[0] >= 5


def test_a_load_that_settles_too_slowly_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """One request at a time for 64 clients: by the pace that was seen, with its numbers."""
    monkeypatch.setattr("llem.experiment.serving.traffic.SETTLE_LIMIT_S", 0.3)
    monkeypatch.setattr("llem.experiment.serving.traffic.SETTLE_MOST_S", 2.0)

    class OneByOne(Service):
        turn: asyncio.Lock | None = None

        async def stream(self, request: Request) -> AsyncIterator[Chunk]:
            self.turn = self.turn or asyncio.Lock()
            async with self.turn:
                async for chunk in super().stream(request):
                    yield chunk

    def settles(clients: int, token_s: float) -> float:
        async def act(traffic: Traffic) -> float:
            traffic.closed(clients, 0.1)
            since = time.monotonic()
            await traffic.settle(clients, 0.0)
            return time.monotonic() - since

        found: list[float] = []

        async def keep(traffic: Traffic) -> None:
            found.append(await act(traffic))

        play(OneByOne(token_s), keep)
        return found[0]

    since = time.monotonic()
    with pytest.raises(ExperimentFailed, match=r"\d answers began within 0 s, and 64 clients wait for one: at"):
        settles(64, 0.05)
    assert time.monotonic() - since < 2.0
    assert settles(4, 0.05) > 0.5  # slow, and it gets there


def test_what_was_answered_is_summed_up_once() -> None:
    """Whoever waits looks often."""

    async def act(traffic: Traffic) -> None:
        traffic.closed(3, 0.0)
        for _ in range(20):
            await traffic.rest(0.02)
            found.append(attrs.evolve(traffic.answered))
        await traffic.drain(5.0)
        found.append(traffic.answered)

    found: list[Answered] = []
    done = play(Service(), act).flights
    last = found[-1]

    assert [one.count for one in found] == sorted(one.count for one in found)
    assert (last.count, last.tokens) == (len(done), 4 * len(done))
    assert last.first_ns == sum(one.chunks[0].time_ns - one.sent_ns for one in done)
    assert last.rest_ns == sum(one.ended_ns - one.chunks[0].time_ns for one in done)


def test_what_was_sent_lately_is_known_however_often_it_was_checked() -> None:
    """Whoever makes requests checks after each few of them."""

    async def act(traffic: Traffic) -> None:
        traffic.closed(2, 0.0)
        await traffic.rest(0.5)
        for _ in range(2000):
            traffic.check()
        lately.append(traffic.sent_lately(0.1) / traffic.sent)

    lately: list[float] = []
    play(Service(), act)

    assert lately[0] < 0.7


def test_what_does_not_end_in_time_is_aborted_and_told_so() -> None:
    """Its generator is closed, its chunks are kept, and it is marked unfinished."""
    service = Service(token_s=0.08)

    async def act(traffic: Traffic) -> None:
        traffic.closed(2, 0.0)
        await traffic.rest(0.1)
        await traffic.drain(0.1)

    flights = play(service, act).flights

    assert [flight.outcome for flight in flights] == ["unfinished"] * 2
    assert all(0 < len(flight.chunks) < 4 for flight in flights)
    assert all(flight.ended_ns >= flight.chunks[-1].time_ns for flight in flights)
    assert (service.in_flight, sorted(service.closed)) == (0, [0, 1])


def test_a_failed_request_is_a_row_and_not_the_end(capfd: pytest.CaptureFixture[str]) -> None:
    """Others go on, the client goes on, and the log has the traceback."""
    service = Service(fails=lambda index: ValueError("this prompt") if index == 2 else None)

    async def act(traffic: Traffic) -> None:
        traffic.closed(2, 0.0)
        await traffic.rest(0.3)
        await traffic.drain(5.0)

    flights = play(service, act).flights

    assert [flight.request.index for flight in flights if flight.outcome == "error"] == [2]
    assert len(flights) > 6
    assert "ValueError: this prompt" in capfd.readouterr().err


def test_an_engine_that_refuses_everything_is_dead() -> None:
    """After enough failures in a row the load ends, with the cause."""
    service = Service(token_s=0.0, fails=lambda _: OSError("socket closed"))

    async def act(traffic: Traffic) -> None:
        traffic.closed(4, 0.0)
        await traffic.rest(60.0)

    with pytest.raises(
        ExperimentFailed, match=r"requests failed in a row, the last with OSError: socket closed"
    ) as end:
        play(service, act)

    assert isinstance(end.value.__cause__, OSError)
    assert len(service.closed) >= FAILURES


@pytest.mark.parametrize("error", [MemoryError(), ExperimentFailed("lost", "", "oom")])
def test_an_engine_that_says_it_is_at_its_end_is_believed(error: Exception) -> None:
    """Its own word counts at once, and reaches the caller as it was."""

    async def act(traffic: Traffic) -> None:
        traffic.closed(2, 0.0)
        await traffic.rest(60.0)

    with pytest.raises(type(error)) as caught:
        play(Service(fails=lambda index: error if index == 3 else None), act)

    assert caught.value is error


def test_a_stream_without_a_chunk_has_failed() -> None:
    """An engine that returns nothing has not served the request, and no load waits for its first token for ever."""

    class Mute(Service):
        async def stream(self, request: Request) -> AsyncIterator[Chunk]:
            await asyncio.sleep(0.001)
            return
            yield

    async def act(traffic: Traffic) -> None:
        traffic.closed(2, 0.0)
        await traffic.settle(2, 0.0)

    flights = play(Mute(), act).flights

    assert {flight.outcome for flight in flights[:2]} == {"error"}


@pytest.mark.parametrize("where", ["rest", "settle", "drain", "finish", "ready"])
def test_the_wish_to_stop_is_heard_wherever_it_waits(where: str) -> None:
    """Within a second, and nothing is left in flight."""
    service = Service(token_s=60.0)
    calls = count()

    def stop() -> None:
        if next(calls) >= 1:
            raise ExperimentFailed("stopped by the user", "", "interrupted")

    async def act(traffic: Traffic) -> None:
        traffic.closed(2, 0.0)
        await asyncio.sleep(0.02)  # for the clients to begin
        await {
            "rest": lambda: traffic.rest(60.0),
            "settle": lambda: traffic.settle(9, 0.0),
            "drain": lambda: traffic.drain(60.0),
            "finish": lambda: traffic.finish(),
            "ready": lambda: traffic.ready(10**9),
        }[where]()

    since = time.monotonic()
    with pytest.raises(ExperimentFailed, match="stopped by the user"):
        play(service, act, stop)

    assert time.monotonic() - since < 30.0  # of the sixty that it would have waited
    assert service.in_flight == 0


def test_an_engine_that_does_not_let_go_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that outlive their abortion end the experiment: they would be measured in the next trial."""
    monkeypatch.setattr("llem.experiment.serving.traffic.ABORT_LIMIT_S", 0.1)

    class Clings(Service):
        async def stream(self, request: Request) -> AsyncIterator[Chunk]:
            try:
                await asyncio.sleep(60)
                yield Chunk(1, 0)
            finally:
                await asyncio.sleep(0.5)

    async def act(traffic: Traffic) -> None:
        traffic.closed(1, 0.0)
        await traffic.rest(0.05)

    with pytest.raises(ExperimentFailed, match="does not let go of 1 aborted"):
        play(Clings(), act)


class Instant(Service):
    """Answers in the step in which it is asked."""

    async def stream(self, request: Request) -> AsyncIterator[Chunk]:
        yield Chunk(4, time.monotonic_ns(), (1, 2, 3, 4), "length")


def test_a_request_that_was_not_yet_begun_is_let_go() -> None:
    """Its task is cancelled before its first step: it is unfinished, and its client is at rest."""

    async def act(traffic: Traffic) -> None:
        traffic.closed(64, 0.0)
        await traffic.rest(0.05)
        while not any(not one.chunks for one in traffic._sender.tasks):  # sent, and not begun
            await asyncio.sleep(0)
        await traffic.abort()
        assert traffic.over

    flights = play(Instant(), act).flights

    assert {flight.outcome for flight in flights} == {"done", "unfinished"}
    assert all(flight.ended_ns >= flight.sent_ns for flight in flights)


def test_what_ended_a_load_is_told_though_the_engine_clings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No memory stays no memory, and is not a timeout."""
    monkeypatch.setattr("llem.experiment.serving.traffic.ABORT_LIMIT_S", 0.1)
    error = ExperimentFailed("lost", "", "oom")

    class Clings(Service):
        async def stream(self, request: Request) -> AsyncIterator[Chunk]:
            try:
                await asyncio.sleep(0.02 if request.index else 60)
                raise error
                yield
            finally:
                await asyncio.sleep(0 if request.index else 0.5)

    async def act(traffic: Traffic) -> None:
        traffic.closed(2, 0.0)
        await traffic.rest(60.0)

    with pytest.raises(ExperimentFailed) as caught:
        play(Clings(), act)

    assert caught.value is error


def test_a_stock_makes_none_while_it_is_sealed() -> None:
    """Filled ahead, it gives what it has in order; sealed and used up, it says so instead of making more."""
    asked: list[tuple[int, int]] = []

    def make(start: int, number: int) -> list[Request]:
        asked.append((start, number))
        return made(start, number)

    stock = Stock(make)
    stock.begin_at(100)
    asyncio.run(stock.fill(PORTION + 1))
    stock.sealed = True
    before = len(asked)
    taken = [stock.take().index for _ in range(2 * PORTION)]

    assert taken == list(range(100, 100 + 2 * PORTION))
    assert len(asked) == before
    with pytest.raises(ExperimentFailed, match="used up the requests"):
        stock.take()
    stock.sealed = False
    assert stock.take().index == 100 + 2 * PORTION


def test_a_stock_fills_though_others_take_from_it() -> None:
    """Whatever else runs in the loop has its turns, and cannot keep the stock from being filled."""
    stock = Stock(made)

    async def greedy() -> None:
        while True:
            for _ in range(3 * PORTION):
                stock.take()
            await asyncio.sleep(0)

    async def act() -> int:
        taker = asyncio.ensure_future(greedy())
        async with asyncio.timeout(30):
            await stock.fill(1000)
        ready = len(stock._ready)
        taker.cancel()
        return ready

    assert asyncio.run(act()) >= 1000
