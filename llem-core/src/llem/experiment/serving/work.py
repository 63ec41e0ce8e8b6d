"""Serving loads: clients that send requests while the engine works on others.

    begin trace | jitter | load starts, settles | t0  window  t1 | lead-out | nothing more sent, drain | end trace

The load is steady across the window's edges: it settled before, and goes on for as long as the sensor's delay after.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import attrs

from llem.backends.base import Chunk, Observed, Request
from llem.config.arrival import GREATEST, ClosedLoad, OpenLoad, ReplayLoad
from llem.errors import ExperimentFailed, LlemError
from llem.experiment.serving.pacing import Pace, PaceClosed, PaceOpen, PaceReplay
from llem.experiment.serving.search import Search, known_search, refuse_broken
from llem.experiment.serving.stock import Stock
from llem.experiment.serving.traffic import Flight, Traffic, no_collection, usual_time
from llem.experiment.serving.window import Probe, beside, capacity, counts, serving_facts, touching
from llem.experiment.session import Measured, Session, Work
from llem.experiment.trial import LEAD_S, digest, finish, traced
from llem.metrics.boundary import RateSearched
from llem.workloads.base import Workload

__all__ = ["Serving"]

T = TypeVar("T")

#: What is in flight when a load stops has this many usual request times to end, and this long at least.
DRAIN_TIMES, DRAIN_LEAST_S = 4, 10.0
#: Requests made ready for a window, over what the load has needed so far.
SPARE = 1.5


class Serving(Work):
    """Each load is a `Traffic` in the one event loop that the engine has for its life.

    Attributes:
        e2el_s: the usual time of a request under this load, as the warm-up saw it.
        request_rate: arrivals per second of an open load; None for others, and before the probe.
        probe: of a load that is a share of the capacity.
        searched: what this engine process found of the greatest rate under the SLO; None where another one had found
            it, and for other loads.
    """

    def __init__(self, session: Session) -> None:
        load = session.experiment.load
        if not isinstance(load, (ClosedLoad, OpenLoad, ReplayLoad)):
            raise LlemError("serving is of a load with clients or arrivals", code="bug")
        self._session, self._load = session, load
        self._stock = Stock(self._make)
        self._sent_per_s = 0.0
        self.e2el_s = 0.0
        self.request_rate = _given_rate(load)
        self.probe: Probe | None = None
        self._observed: tuple[Observed | None, Observed | None] = None, None
        self.searched: RateSearched | None = None

    def _make(self, start: int, count: int) -> Sequence[Request]:
        return self._workload.requests(start, count)

    @property
    def _workload(self) -> Workload:
        if self._session.workload is None:
            raise LlemError("the workload is not ready yet", code="bug")
        return self._session.workload

    def _stream(self, request: Request) -> AsyncIterator[Chunk]:
        return self._session.live_engine.stream(request, self._session.experiment.sampling)

    def _run(self, act: Callable[[Traffic], Coroutine[Any, Any, T]]) -> tuple[T, list[Flight]]:
        """Run one load to its end, and leave nothing of it in flight, however it ends."""

        async def whole() -> tuple[T, list[Flight]]:
            traffic = Traffic(self._stream, self._stock, self._session.check_stop)
            try:
                return await act(traffic), traffic.flights
            finally:
                await traffic.abort()

        return self._session.process.runner.run(whole())

    @functools.cached_property
    def _pace(self) -> Pace:
        """Known once the workload is made, and the capacity where it matters."""
        if isinstance(self._load, ClosedLoad):
            return PaceClosed(self._load)
        if isinstance(self._load, ReplayLoad):
            return PaceReplay(self._load, self._workload.timetable(), self._session.experiment.window_s)
        if self.request_rate is None:
            raise LlemError("the capacity is not probed yet", code="bug")
        return PaceOpen(self._load, self.request_rate)

    @property
    def _lead_s(self) -> float:
        return max(self._pace.lead_s(self.e2el_s), self._session.live_instruments.lead_s)

    @property
    def _drain_s(self) -> float:
        return max(DRAIN_TIMES * self.e2el_s, DRAIN_LEAST_S)

    # before the trials

    def warm_up(self) -> None:
        """Single requests for compilation and caches, what the rate hangs on where it does, then the load itself."""
        wanted, load = self._session.experiment.warmup, self._load
        self._session.phase("warm-up", wanted.seconds, batches=wanted.batches)
        self._single(max(wanted.batches, 1))  # one at least: its time says how long a load needs to settle
        if isinstance(load, OpenLoad) and load.capacity_share is not None:
            self.probe = self._capacity(load)
            self.request_rate = load.capacity_share * self.probe.requests_per_s
            self._session.phase("warm-up", wanted.seconds)
        elif isinstance(load, OpenLoad) and load.request_rate == GREATEST:
            self.request_rate = self._greatest(load)
            self._session.phase("warm-up", wanted.seconds)
        if wanted.seconds:
            self._same_load(wanted.seconds)

    def _single(self, count: int) -> None:
        async def act(traffic: Traffic) -> None:
            traffic.sequence(count)
            await traffic.finish()

        _, flights = self._run(act)
        done = [flight for flight in flights if flight.outcome == "done"]
        if not done:
            raise ExperimentFailed("no request of the warm-up succeeded", "see the worker's log")
        self.e2el_s = usual_time(done)

    def _same_load(self, seconds: float) -> None:
        """The load of the trials for so long, once all its clients have started."""

        async def act(traffic: Traffic) -> int:
            self._pace.begin(traffic, None, self._lead_s, self._stock.next)
            await traffic.rest(self._pace.ramp_s)
            before = len(traffic.flights)
            await traffic.rest(seconds)
            sent = len(traffic.flights) - before
            await traffic.drain(self._drain_s)
            return sent

        sent, flights = self._run(act)
        self._sent_per_s = max(self._sent_per_s, sent / seconds)
        done = [flight for flight in flights if flight.outcome == "done"]
        self.e2el_s = usual_time(done) if done else max(self.e2el_s, seconds)

    def _capacity(self, load: OpenLoad) -> Probe:
        """The engine's capacity for these requests, probed once: shares of it are shares of one figure."""
        session = self._session
        asked = (load.probe_concurrency, load.probe_seconds, session.experiment.workload, session.experiment.sampling)
        for known, found in session.process.probes:
            if known == asked:
                return found
        session.phase("capacity probe", load.probe_seconds)
        probe = self._probe(load)
        session.process.probes.append((asked, probe))
        return probe

    def _probe(self, load: OpenLoad) -> Probe:
        async def act(traffic: Traffic) -> tuple[int, int]:
            traffic.closed(load.probe_concurrency, self.e2el_s)
            await traffic.settle(load.probe_concurrency, LEAD_S)
            t0 = time.monotonic_ns()
            await traffic.rest(load.probe_seconds)
            return t0, time.monotonic_ns()

        (t0, t1), flights = self._run(act)
        exact = self._session.experiment.sampling.ignore_eos
        return capacity(load.probe_concurrency, flights, t0, t1, exact=exact)

    def _greatest(self, load: OpenLoad) -> float | None:
        """The greatest rate under the SLO: what an earlier process of the experiment found, or what a search finds.

        Raises ExperimentFailed where the lowest rate breaks the SLO; what was found is stored before.
        """
        session, known = self._session, known_search(self._session)
        if known is None:
            search = Search(session, load, self._stock, self._run, lambda: self._drain_s, self.e2el_s)
            self.searched = known = search.find()
            self.e2el_s = search.usual_s
            session.store.write_engine(session.id, session.facts(), replace=True)
        refuse_broken(known)
        return known.rate

    def calibrate(self) -> Mapping[str, Any]:
        return {"e2el_s": self.e2el_s, "request_rate": self.request_rate}

    @property
    def trial_s(self) -> float:
        return self._lead_s + self._session.experiment.window_s + self._session.live_instruments.lead_s + self.e2el_s

    def facts(self) -> Mapping[str, Any]:
        found = {"probe": self.probe, "rate_search": self.searched}
        return {name: attrs.asdict(one) for name, one in found.items() if one is not None}

    # a trial

    def trial(self, index: int) -> Measured:
        session, pace = self._session, self._pace
        first = pace.first(index, self._lead_s)
        self._stock.begin_at(first)
        session.live_engine.reset_memory()  # before the load: an engine in another process answers when it can
        with traced(session, index) as started, no_collection():
            (t0, t1), flights = self._run(lambda traffic: self._window(traffic, index))
        _refuse_failure(flights, t0, t1)
        rows = touching(flights, t0, t1)
        facts = serving_facts(
            rows,
            t0,
            t1,
            {flight.request.index: flight.request.output_tokens for flight in flights},
            kind=pace.kind,
            concurrency=pace.concurrency,
            request_rate=pace.request_rate(index),
            seed=pace.seed(index),
        )
        facts = attrs.evolve(facts, server=beside(*self._observed, flights))
        trial, trace = finish(
            session,
            index,
            started,
            (t0, t1),
            findings=pace.findings(index),
            **counts(rows, t0, t1),
            serving=facts,
            first_index=min((row.index for row in rows), default=first),
            output_digest=_digest(flights, t0, t1),
        )
        return trial, trace, rows

    async def _window(self, traffic: Traffic, trial: int) -> tuple[int, int]:
        """The load, and the window within it; t0 and t1."""
        instruments, window_s = self._session.live_instruments, self._session.experiment.window_s
        observe = self._session.live_engine.observe
        lead_s = self._lead_s
        await self._stock.fill(self._needed(trial, lead_s, 0, lead_s))  # before it is the requests' turn
        since = time.monotonic()
        self._pace.begin(traffic, trial, lead_s, self._stock.next)
        await self._pace.settle(traffic, self.e2el_s, lead_s)
        if (left_s := instruments.lead_s - (time.monotonic() - since)) > 0:  # until the slowest sensor has settled
            await traffic.rest(left_s)
        before = await asyncio.to_thread(observe)  # in a thread, and before the window's requests are made
        self._sent_per_s = max(self._sent_per_s, traffic.sent_lately(LEAD_S) / LEAD_S)
        await self._stock.fill(self._needed(trial, lead_s, len(traffic.flights), time.monotonic() - since))
        self._stock.sealed = True
        try:
            # in a thread: a library that measures may take its time, and the requests shall not wait for it
            await asyncio.to_thread(instruments.window_begin)
            t0 = time.monotonic_ns()
            await traffic.rest(window_s)
            t1 = time.monotonic_ns()
            await asyncio.to_thread(instruments.window_end)
            self._observed = before, await asyncio.to_thread(observe)
            await traffic.rest(instruments.lead_s)
        finally:
            self._stock.sealed = False
        await traffic.drain(self._drain_s)
        return t0, t1

    def _needed(self, trial: int, lead_s: float, sent: int, after_s: float) -> int:
        """Requests that the window and the lead-out will take, with some to spare."""
        self._sent_per_s = max(self._sent_per_s, sent / after_s)
        ahead_s = SPARE * (self._session.experiment.window_s + 2 * self._session.live_instruments.lead_s)
        return self._pace.needed(trial, lead_s, sent, after_s, ahead_s, self._sent_per_s)


def _given_rate(load: ClosedLoad | OpenLoad | ReplayLoad) -> float | None:
    """Arrivals per second where the configuration has them."""
    rate = load.request_rate if isinstance(load, OpenLoad) else None
    return rate if isinstance(rate, (int, float)) else None


def _refuse_failure(flights: Sequence[Flight], t0: int, t1: int) -> None:
    """A window in which nothing but failures ended is no trial. Raises ExperimentFailed."""
    ended = [flight.outcome for flight in flights if t0 <= flight.ended_ns < t1]
    if ended and set(ended) == {"error"}:
        raise ExperimentFailed(f"all {len(ended)} requests of a window failed", "see the worker's log")


def _digest(flights: Sequence[Flight], t0: int, t1: int) -> str:
    """Of the requests that ended well within the window, by index; empty where the engine tells no ids."""
    done = [flight for flight in flights if flight.outcome == "done" and t0 <= flight.ended_ns < t1]
    ordered = sorted(done, key=lambda flight: flight.request.index)
    return digest(chunk.token_ids for flight in ordered for chunk in flight.chunks if chunk.tokens)
