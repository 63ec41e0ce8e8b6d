"""Serving loads: clients that send requests while the engine works on others.

    begin trace | jitter | load starts, settles | t0  window  t1 | lead-out | nothing more sent, drain | end trace

The load is steady across the window's edges: it settled before, and goes on for as long as the sensor's delay after.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from llem.backends.base import Observed
from llem.config.arrival import GREATEST, ClosedLoad, OpenLoad, ReplayLoad
from llem.errors import ExperimentFailed, LlemError
from llem.experiment.serving.pacing import SPARE, Pace, PaceClosed, PaceOpen, PaceReplay
from llem.experiment.serving.player import Player
from llem.experiment.serving.search import Search, known_search, refuse_broken
from llem.experiment.serving.stationary import RequestTimes
from llem.experiment.serving.traffic import Flight, Played, Traffic, no_collection
from llem.experiment.serving.window import (
    Probe,
    beside,
    capacity,
    check_sum,
    client_facts,
    counts,
    serving_facts,
    touching,
)
from llem.experiment.session import Measured, Session, Work
from llem.experiment.trial import LEAD_S, digest, finish, traced
from llem.findings import Finding, finding
from llem.metrics.boundary import RateSearched

__all__ = ["Serving"]


class Serving(Work):
    """Each load is a `Traffic` in the one event loop that the engine has for its life.

    Attributes:
        times: of the load's requests, as the warm-up saw them; None before.
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
        self._player = Player(session)
        self._stock = self._player.stock
        self._sent_per_s = 0.0
        self.times: RequestTimes | None = None
        self.request_rate = _given_rate(load)
        self.probe: Probe | None = None
        self._observed: tuple[Observed | None, Observed | None] = None, None
        self.searched: RateSearched | None = None

    @functools.cached_property
    def _pace(self) -> Pace:
        """Known once the workload is made, and the capacity where it matters."""
        if isinstance(self._load, ClosedLoad):
            return PaceClosed(self._load)
        if isinstance(self._load, ReplayLoad):
            return PaceReplay(self._load, self._player.workload.timetable(), self._session.experiment.window_s)
        if self.request_rate is None:
            raise LlemError("the capacity is not probed yet", code="bug")
        return PaceOpen(self._load, self.request_rate)

    @property
    def _known(self) -> RequestTimes:
        if self.times is None:
            raise LlemError("the load is not warmed up yet", code="bug")
        return self.times

    @property
    def e2el_s(self) -> float:
        """The usual time of a request under this load, as the warm-up saw it."""
        return self._known.usual_s

    @property
    def _lead_s(self) -> float:
        return max(self._pace.lead_s(self._known), self._session.live_instruments.lead_s)

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

        _, played = self._player.run(act, 1)
        if (times := self._player.seen(played)) is None:
            why = "".join(f"; {one}" for one in played.messages)
            raise ExperimentFailed(f"no request of the warm-up succeeded{why}", "see the worker's log")
        self.times = times

    def _same_load(self, seconds: float) -> None:
        """The load of the trials for so long, once all its clients have started."""

        async def act(traffic: Traffic) -> int:
            self._pace.begin(traffic, None, self._lead_s, self._stock.next, self._known)
            await traffic.rest(self._pace.ramp_s(self._known))
            before = traffic.sent
            await traffic.rest(seconds)
            sent = traffic.sent - before
            await traffic.drain(self._known.drain_s)
            return sent

        sent, played = self._player.run(act, self._pace.in_flight(self._known))
        self._sent_per_s = max(self._sent_per_s, sent / seconds)
        self.times = self._player.seen(played) or attrs.evolve(self._known, usual_s=max(self.e2el_s, seconds))

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
            # short requests end and begin again meanwhile: their tokens alone do not show that all clients have started
            await traffic.settle(load.probe_concurrency, max(LEAD_S, self.e2el_s))
            t0 = time.monotonic_ns()
            await traffic.rest(load.probe_seconds)
            return t0, time.monotonic_ns()

        (t0, t1), played = self._player.steadily(act, load.probe_concurrency)
        return capacity(load.probe_concurrency, played.flights, t0, t1, exact=self._player.exact)

    def _greatest(self, load: OpenLoad) -> float | None:
        """The greatest rate under the SLO: what an earlier process of the experiment found, or what a search finds.

        Raises ExperimentFailed where the lowest rate breaks the SLO; what was found is stored before.
        """
        session, known = self._session, known_search(self._session)
        if known is None:
            search = Search(session, load, self._player, self._known)
            self.searched = known = search.find()
            self.times = search.times
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
        lead_s = self._lead_s
        first = pace.first(index, lead_s)
        self._stock.begin_at(first)
        session.live_engine.reset_memory()  # before the load: an engine in another process answers when it can
        with traced(session, index) as trace, no_collection():
            load = functools.partial(self._load_of, trial=index, lead_s=lead_s)
            (t0, t1, led_s), played = self._player.run(load, pace.in_flight(self._known))
            trace.window = t0, t1
        flights = played.flights
        _refuse_failure(played, t0, t1)
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
            lead_s=led_s,
            client=client_facts(played.ticks, played.processes, rows, t0, t1),
        )
        facts = attrs.evolve(facts, server=beside(*self._observed, flights), sent_so_far=self._player.sent)
        check_sum(facts)
        trial = finish(
            session,
            index,
            trace,
            findings=(*pace.findings(index, led_s - pace.opens_s(lead_s)), *_errors(played.messages)),
            **counts(rows, t0, t1),
            serving=facts,
            planned_s=session.experiment.window_s,
            first_index=min((row.index for row in rows), default=first),
            output_digest=_digest(flights, t0, t1),
        )
        return trial, trace.rows, rows

    async def _window(self, traffic: Traffic, trial: int, lead_s: float) -> tuple[int, int, float]:
        """The load, and the window within it: t0 and t1, and for how many seconds the load had run by t0."""
        instruments, window_s = self._session.live_instruments, self._session.experiment.window_s
        observe = self._session.live_engine.observe
        times = self._known
        await traffic.ready(self._needed(trial, lead_s, 0, lead_s))  # before it is the requests' turn
        self._pace.begin(traffic, trial, lead_s, self._pace.first(trial, lead_s), times)
        since = time.monotonic()
        await self._pace.settle(traffic, trial, times, lead_s)
        if (left_s := instruments.lead_s - (time.monotonic() - since)) > 0:  # until the slowest sensor has settled
            await traffic.rest(left_s)
        before = await asyncio.to_thread(observe)  # in a thread, and before the window's requests are made
        self._sent_per_s = max(self._sent_per_s, traffic.sent_lately(LEAD_S) / LEAD_S)
        await traffic.ready(self._needed(trial, lead_s, traffic.sent, time.monotonic() - since))
        traffic.seal(True)
        try:
            if (left_s := self._pace.opens_s(lead_s) - (time.monotonic() - since)) > 0:
                await traffic.rest(left_s)
            # in a thread: a library that measures may take its time, and the requests shall not wait for it
            await asyncio.to_thread(instruments.window_begin)
            t0, led_s = time.monotonic_ns(), time.monotonic() - since
            await traffic.rest(window_s)
            t1 = time.monotonic_ns()
            await asyncio.to_thread(instruments.window_end)
            self._observed = before, await asyncio.to_thread(observe)
            await traffic.rest(instruments.lead_s)
        finally:
            traffic.seal(False)
        await traffic.drain(times.drain_s)
        return t0, t1, led_s

    async def _load_of(self, traffic: Traffic, trial: int, lead_s: float) -> tuple[int, int, float]:
        """The same; nothing counts the tokens of what ended before, when the server was observed for the window."""
        t0, t1, led_s = await self._window(traffic, trial, lead_s)
        traffic.since_ns = min([t0, *(one.time_ns for one in self._observed if one is not None)])
        return t0, t1, led_s

    def _needed(self, trial: int, lead_s: float, sent: int, after_s: float) -> int:
        """Requests that the window and the lead-out will take, with some to spare."""
        self._sent_per_s = max(self._sent_per_s, sent / after_s)
        ahead_s = SPARE * (self._session.experiment.window_s + 2 * self._session.live_instruments.lead_s)
        return self._pace.needed(trial, lead_s, sent, after_s, ahead_s, self._sent_per_s)


def _given_rate(load: ClosedLoad | OpenLoad | ReplayLoad) -> float | None:
    """Arrivals per second where the configuration has them."""
    rate = load.request_rate if isinstance(load, OpenLoad) else None
    return rate if isinstance(rate, (int, float)) else None


def _refuse_failure(played: Played, t0: int, t1: int) -> None:
    """A window in which nothing but failures ended is no trial. Raises ExperimentFailed."""
    ended = [flight.outcome for flight in played.flights if t0 <= flight.ended_ns < t1]
    if ended and set(ended) == {"error"}:
        why = "".join(f"; {one}" for one in played.messages)
        raise ExperimentFailed(f"all {len(ended)} requests of a window failed{why}", "see the worker's log")


def _errors(messages: Sequence[str]) -> Sequence[Finding]:
    """What failed requests were told."""
    if not messages:
        return ()
    return (finding("request_errors", "requests failed: " + "; ".join(messages), messages=list(messages)),)


def _digest(flights: Sequence[Flight], t0: int, t1: int) -> str:
    """Of the requests that ended well within the window, by index; empty where the engine tells no ids."""
    done = [flight for flight in flights if flight.outcome == "done" and t0 <= flight.ended_ns < t1]
    ordered = sorted(done, key=lambda flight: flight.request.index)
    return digest(chunk.token_ids for flight in ordered for chunk in flight.chunks if chunk.tokens)
