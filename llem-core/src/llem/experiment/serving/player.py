"""Plays loads of one experiment: through the engine's stream, or for a server through client processes."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from llem.backends.base import Chunk, Request
from llem.backends.contract import stream_breaches
from llem.backends.forms import chunk_form
from llem.errors import ExperimentFailed, LlemError
from llem.experiment.calibration import AGAIN
from llem.experiment.contract import hold
from llem.experiment.serving.local import LocalTraffic
from llem.experiment.serving.pacing import STRIDE
from llem.experiment.serving.processes import client_processes
from llem.experiment.serving.remote import RemoteTraffic
from llem.experiment.serving.stationary import RequestTimes, request_times
from llem.experiment.serving.stock import PORTION, Stock
from llem.experiment.serving.traffic import Played, Traffic
from llem.experiment.serving.window import client_facts
from llem.experiment.session import Session
from llem.metrics.checks.pauses import frozen_s, stood_still, too_long
from llem.workloads.base import Workload

__all__ = ["Player"]

T = TypeVar("T")

#: Requests to come whose lengths tell the tail, and how long they may take to be made.
SAMPLE, SAMPLE_S = 2048, 1.0


class Player:
    """Each load is a `Traffic` in the one event loop that the engine has for its life.

    Attributes:
        stock: where all loads take their requests from.
        sent: requests of all loads until now.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self.sent = 0
        self.stock = Stock(lambda start, count: self.workload.requests(start, count))

    @property
    def workload(self) -> Workload:
        """Of the experiment."""
        if self._session.workload is None:
            raise LlemError("the workload is not ready yet", code="bug")
        return self._session.workload

    @property
    def exact(self) -> bool:
        """Every request yields exactly the tokens that it asks for."""
        return self._session.experiment.sampling.ignore_eos

    def run(self, act: Callable[[Traffic], Coroutine[Any, Any, T]], in_flight: float) -> tuple[T, Played]:
        """Run one load of so many requests in flight to its end, and leave nothing of it, however it ends.

        Raises ExperimentFailed where an answer is not as backends have to give it.
        """

        async def whole() -> tuple[T, Played]:
            traffic = await self._traffic(in_flight)
            try:
                found = await act(traffic)
                await traffic.abort()
                played = await traffic.played()
                self.sent += len(played.flights)
                return found, played
            finally:
                await traffic.close()

        found, played = self._session.process.runner.run(whole())
        now = time.monotonic_ns()
        for one in played.flights:
            hold(self._session, stream_breaches(one.request.index, one.chunks, one.sent_ns, now))
        return found, played

    def steadily(
        self, act: Callable[[Traffic], Coroutine[Any, Any, tuple[int, int]]], in_flight: float
    ) -> tuple[tuple[int, int], Played]:
        """`run`, of what gives the edges of a window that decides what rate is measured; again while the worker, or a
        process that sends the requests, stood still within it or in what led to it: what was held back falls into it.

        Raises ExperimentFailed where it always did: the rate would be one that nobody asked for.
        """
        for _ in range(1 + AGAIN):
            began = time.monotonic_ns()
            with self._session.live_instruments.pulse as pulse:
                (t0, t1), played = self.run(act, in_flight)
            worker_s, _ = stood_still(self._session.process.placement.device, pulse.beats(began, t1), began, t1)
            client = client_facts(played.ticks, played.processes, (), began, t1)
            stood_s = max(worker_s, frozen_s(client, began, t1))
            if not too_long(stood_s, (t1 - t0) / 1e9):
                return (t0, t1), played
        raise ExperimentFailed(
            f"llem stood still in each of {1 + AGAIN} windows that were to tell the rate of arrivals, "
            f"in the last one for {stood_s:.2f} s",
            "measure again, and do not stop or suspend what measures",
            "invalid",
        )

    async def _traffic(self, in_flight: float) -> Traffic:
        session = self._session
        clients = session.process.clients()
        if clients is None:
            return LocalTraffic(self._stream, self.stock, session.check_stop, self._hold)
        processes = await clients.have(client_processes(in_flight, _cores()), session.check_stop)
        return RemoteTraffic(processes, self._message, self.stock, session.check_stop)

    def _stream(self, request: Request) -> AsyncIterator[Chunk]:
        return self._session.live_engine.stream(request, self._session.experiment.sampling)

    def _hold(self, index: int, chunks: Sequence[Chunk]) -> None:
        hold(self._session, (breach for one in chunks for breach in chunk_form(index, one)))

    def _message(self, request: Request) -> bytes:
        return self._session.live_engine.message(request, self._session.experiment.sampling)

    @functools.cached_property
    def _lengths(self) -> Sequence[int]:
        """Output lengths of requests to come: those of the first trial."""
        until, found = time.monotonic() + SAMPLE_S, list[int]()
        while len(found) < SAMPLE and (not found or time.monotonic() < until):
            made = self.workload.requests(STRIDE + len(found), PORTION)
            found += [request.output_tokens for request in made]
        return found

    def seen(self, played: Played) -> RequestTimes | None:
        """Times of a load's requests; None where none was answered."""
        done = [flight for flight in played.flights if flight.outcome == "done"]
        return request_times(done, self._lengths, exact=self.exact) if done else None


def _cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
