"""The search for the greatest rate of arrivals at which the SLO is kept: windows at rates that double until one breaks
it, and then at rates in the middle of what is left.

Like the searches of GuideLLM and AIPerf it ends at a rate that was kept, next to one that was not. Which rate comes
next is a pure function of the windows so far (`next_rate`), and so is what is made of a window's requests
(`rate_window`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from itertools import pairwise

import attrs

from llem.config.arrival import OpenLoad, RateSearch
from llem.config.models import MOST
from llem.config.slo import Slo
from llem.errors import ExperimentFailed, LlemError
from llem.experiment.serving.pacing import SPARE, PaceOpen
from llem.experiment.serving.player import Player
from llem.experiment.serving.stationary import RequestTimes
from llem.experiment.serving.traffic import Traffic, no_collection
from llem.experiment.serving.window import touching
from llem.experiment.session import Session
from llem.metrics.boundary import RateSearched, RateWindow, boundary, doubtful
from llem.metrics.checks.arrivals import in_flight_parts
from llem.metrics.checks.serving import piles_up
from llem.metrics.flow import flow_within
from llem.metrics.goodput import Judged, judge
from llem.metrics.requests import fates
from llem.metrics.statistics import quantile
from llem.protocol.events import RateTried
from llem.store.models import RequestRow

__all__ = ["Search", "known_search", "next_rate", "rate_window", "refuse_broken"]

#: The load goes on for this many usual request times before its window opens, and for this share of the window.
SETTLE_TIMES, SETTLE_SHARE = 2.0, 0.1
#: Requests are sent on time while the p99 lag is at most this share of the limit that counts from the arrival. The lag
#: is in the latencies already: this is to tell a client that cannot send at the rate from an engine that cannot serve.
LAG_SHARE = 0.5
#: Parts of a window's requests by which their dispersion is judged.
RUNS = 3


def next_rate(windows: Sequence[RateWindow], share: float, search: RateSearch) -> float | None:
    """The rate of the next window; None when the search has ended.

    A break in the doubling that chance may have made is tried once more, because one wrong step there cannot be
    mended: both windows together decide.
    """
    if not windows:
        return search.min_rate
    found, last = boundary(windows, share), windows[-1]
    if found.broken is None:
        kept = found.kept or search.min_rate
        return None if kept >= search.max_rate else min(2 * kept, search.max_rate)
    tried = sum(one.rate == found.broken for one in windows)
    if found.broken == max(one.rate for one in windows) == last.rate and tried == 1 and doubtful(last, share):
        return found.broken
    if found.kept is None or found.broken <= found.kept * (1 + search.tolerance):
        return None
    return math.sqrt(found.kept * found.broken)


def rate_window(
    rows: Sequence[RequestRow], t0: int, t1: int, *, rate: float, seed: int, slo: Slo, usual_s: float
) -> RateWindow:
    """What a window [t0, t1) in monotonic ns says of a rate.

    Args:
        rows: every request that touches the window.
        usual_s: the usual time of a request: the lag is measured by it where no limit counts from the arrival.

    Raises ExperimentFailed: `goodput` would say nothing of the window, because tokens come together.
    """
    limits, flow = slo.limits(), flow_within(rows, t0, t1)
    if (verdict := judge(flow, limits)).reason == "tokens_together":
        raise _together(rate, verdict)
    decided = fates(flow, limits)
    told = decided.kept[~decided.untold]
    edges = [len(told) * i // RUNS for i in range(RUNS + 1)]
    arrived, ended = int(flow.arrived.sum()), int(((flow.end >= t0) & (flow.end < t1)).sum())
    lags = sorted(((flow.start - flow.arrival)[flow.arrived] / 1e9).tolist())
    lag_s = quantile(lags, 0.99) if lags else None
    in_flight = in_flight_parts(flow)
    by_limit = {name: sorted(one for one in decided.latencies[name].tolist() if not math.isnan(one)) for name in limits}
    return RateWindow(
        rate=rate,
        seed=seed,
        seconds=(t1 - t0) / 1e9,
        arrived=arrived,
        judged=len(told),
        kept=int(told.sum()),
        runs=tuple((b - a, int(told[a:b].sum())) for a, b in pairwise(edges)),
        late={name: sum(value > limits[name] for value in found) for name, found in by_limit.items()},
        reached_s={name: quantile(found, slo.attainment) for name, found in by_limit.items() if found},
        in_flight_first=in_flight[0],
        in_flight_last=in_flight[-1],
        lag_p99_s=lag_s,
        steady=not piles_up(in_flight, arrived, ended),
        on_time=lag_s is None
        or lag_s <= LAG_SHARE * min((limits[name] for name in ("ttft_s", "e2el_s") if name in limits), default=usual_s),
    )


def _together(rate: float, verdict: Judged) -> ExperimentFailed:
    """What ends a search whose windows a limit on the time per token cannot judge, at whatever rate that shows."""
    return ExperimentFailed(
        f"the search cannot judge {rate:g} requests/s: of {verdict.judged + verdict.untold} requests {verdict.untold} "
        "got all tokens at one time, or the server hid some, which a limit on the time per token cannot judge",
        "leave `slo.tpot_s` out",
        "invalid",
    )


def known_search(session: Session) -> RateSearched | None:
    """What an earlier engine process of this experiment has found, in this run or before it was resumed: all trials
    have one rate. None where none has found a rate yet.
    """
    stored = (one.get("rate_search") for one in session.store.engines(session.id))
    return next((RateSearched.stored(one) for one in stored if one and one["rate"] is not None), None)


def refuse_broken(found: RateSearched) -> None:
    """No trial is measured at a rate that nobody asked for. Raises ExperimentFailed where the lowest rate breaks."""
    if found.rate is not None:
        return
    least = min(one.rate for one in found.windows)
    there = [one for one in found.windows if one.rate == least]
    judged, kept = sum(one.judged for one in there), sum(one.kept for one in there)
    last = there[-1]
    if not judged:
        raise ExperimentFailed(
            f"the search found nothing to judge at the lowest rate, {least:g} requests/s: no request ended in time",
            "raise `load.search.window_s`",
            "invalid",
        )
    told = [
        f"{name.removesuffix('_s')} within {limit:g} s: {last.late.get(name, 0)} of {last.judged} late, "
        f"{found.attainment:.2%} took up to {last.reached_s[name]:.4g} s"
        for name, limit in found.limits.items()
        if last.late.get(name) and name in last.reached_s
    ]
    if not last.steady:
        told.append(f"requests in flight rose from {last.in_flight_first:.1f} to {last.in_flight_last:.1f}")
    if not last.on_time:
        told.append(f"requests were sent up to {last.lag_p99_s or 0:.3g} s late (p99)")
    raise ExperimentFailed(
        f"the SLO is broken at the lowest rate, {least:g} requests/s: {kept} of {judged} requests kept every limit, "
        f"where {found.attainment:.2%} should" + "".join(f"; {one}" for one in told),
        "lower `load.search.min_rate`, or relax `slo`",
        "invalid",
    )


@attrs.define(eq=False)
class Search:
    """The search in one engine process.

    Args:
        player: of its loads.
        times: of the load's requests; updated by every window that keeps the SLO.
    """

    session: Session
    load: OpenLoad
    player: Player
    times: RequestTimes

    def find(self) -> RateSearched:
        """Measure windows until the greatest rate is known; each is told as it ends."""
        slo, search = self.session.experiment.slo, self.load.search
        if slo is None or search is None:
            raise LlemError("a search without an SLO", code="bug")
        before = self.player.stock.next
        windows: list[RateWindow] = []
        while (rate := next_rate(windows, slo.attainment, search)) is not None:
            windows.append(one := self._window(rate, len(windows), slo, search.window_s))
            names = ("judged", "kept", "steady", "on_time")
            told = {name: getattr(one, name) for name in names}
            self.session.process.emit(RateTried(id=self.session.id, request_rate=rate, **told))
        self.player.stock.begin_at(before)
        kept = boundary(windows, slo.attainment).kept
        return RateSearched(rate=kept, attainment=slo.attainment, limits=slo.limits(), windows=tuple(windows))

    def _window(self, rate: float, number: int, slo: Slo, window_s: float) -> RateWindow:
        """One window. Its requests and its schedule are drawn as a trial's are, and are none of any trial's."""
        pace, draw = PaceOpen(self.load, rate), MOST + number
        times = self.times
        lead_s = max(pace.lead_s(times), SETTLE_TIMES * times.usual_s, SETTLE_SHARE * window_s)
        self.session.phase("rate search", lead_s + window_s)
        self.player.stock.begin_at(pace.first(draw, lead_s))

        async def act(traffic: Traffic) -> tuple[int, int]:
            await traffic.ready(pace.needed(draw, lead_s, 0, lead_s, SPARE * window_s, rate))
            pace.begin(traffic, draw, lead_s, self.player.stock.next, times)
            since = time.monotonic()
            await traffic.rest(lead_s)  # by the clock: a load above the capacity never settles
            led_s = time.monotonic() - since
            await traffic.ready(pace.needed(draw, lead_s, traffic.sent, led_s, SPARE * window_s, rate))
            traffic.seal(True)  # as a trial's window
            try:
                t0 = time.monotonic_ns()
                await traffic.rest(window_s)
                t1 = time.monotonic_ns()
            finally:
                traffic.seal(False)
            await traffic.drain(times.drain_s)
            return t0, t1

        with no_collection():
            (t0, t1), played = self.player.steadily(act, pace.in_flight(times))
        rows = touching(played.flights, t0, t1)
        found = rate_window(rows, t0, t1, rate=rate, seed=pace.seed(draw), slo=slo, usual_s=times.usual_s)
        if found.judged and found.kept >= slo.attainment * found.judged:
            self.times = self.player.seen(played) or times
        return found
