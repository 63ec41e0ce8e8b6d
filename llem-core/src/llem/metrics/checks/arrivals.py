"""Did as many requests arrive as were asked for, and was the load stationary when it was measured?

A load that has just begun lacks the long requests that a longer one would have in flight: what completes early in the
window is short. Three signs, each against its own noise:

1. By the time that the load had run when the window opened. A request that takes w and arrives at any time of the load
   completes within a window of T, after a lead of l, in proportion to min(max(T + l - w, 0), T). Weighed so, the
   requests that arrived within the window, whose times are known to the end, have another mean and another p99 than
   unweighed: that is how far off the latencies are.
2. By Little's law. Requests in flight in the first tenth of the windows are the arrivals per second times the mean time
   of the requests that arrived, within what chance does.
3. By requests in flight in the last tenth of the windows against the first.

Little, Operations Research 9 (1961) 383. In flight, a Poisson number scatters by its root; a queue scatters more, which
the parts of the windows, and the windows among themselves, show.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import attrs

from llem.findings import Finding, finding
from llem.metrics.flow import Flow
from llem.metrics.setup import Setup
from llem.metrics.statistics import mean, trend, two_sided
from llem.store.models import ServingFacts, Trial
from llem.workloads.arrivals import arrivals

__all__ = ["PARTS", "Served", "in_flight_parts", "not_stationary", "rate_off"]

#: Parts of a window.
PARTS = 10
NS = 1e9
#: A realised rate is improbable below this chance, and far off beyond this share of the asked one.
CHANCE, FAR = 0.01, 0.1
#: Requests of a schedule that may be missing by the rounding of a window's edges, and as a share of all.
EDGE, MISSING = 2, 0.01
#: A replay has the trace's own arrivals, but for the edges of its windows, where several may have one time.
REPLAYED = 0.05
#: Latencies are off by the load's short run when more than this share of the requests in flight, of the mean time, or
#: of the slowest hundredth of requests is lacking, for certain (95 %, one-sided): few long requests tell of it.
LACKING, MEAN_LACKING, TAIL_LACKING, Z_ONE_SIDED = 0.05, 0.05, 0.25 * 0.01, 1.645
#: Requests in flight are off by this share, at this level.
OFF, LEVEL = 0.1, 0.01

Served = Sequence[tuple[Trial, ServingFacts, Flow]]


def in_flight_parts(flow: Flow) -> list[float]:
    """Requests that had arrived and not ended, averaged over each of ten parts of the window."""
    edges = [flow.t0 + (flow.t1 - flow.t0) * i // PARTS for i in range(PARTS + 1)]
    return [flow.in_flight(begin, end) for begin, end in pairwise(edges)]


# the rate


def rate_off(setup: Setup, served: Served) -> Iterable[Finding]:
    """The arrivals of all windows against those asked for; for loads with a schedule."""
    rates = [(facts.request_rate or 0.0) * flow.seconds for _, facts, flow in served]
    asked, seen = math.fsum(rates), sum(int(flow.arrived.sum()) for *_, flow in served)
    seconds = math.fsum(flow.seconds for *_, flow in served)
    if not asked:
        return
    share, told = (
        seen / asked - 1,
        f"{seen / seconds:.4g} requests/s arrived in the windows where {asked / seconds:.4g}",
    )
    evidence: dict[str, Any] = {"asked": asked / seconds, "seen": seen / seconds, "arrived": seen}
    if served[0][1].kind == "replay":
        if abs(seen - asked) > max(EDGE * len(served), REPLAYED * asked):
            yield finding("rate_off", f"{told} are in the trace ({share:+.0%})", **evidence)
        return
    burstiness = float(setup.config.get("load", {}).get("burstiness") or 1.0)
    missing = sum(_missing(facts, flow, burstiness) for _, facts, flow in served)
    if missing > max(EDGE * len(served), MISSING * asked):
        message = f"{told} were asked for: {missing} requests of the schedule were not sent"
        yield finding("rate_off", message, **evidence, missing=missing)
        return
    chance = _chance(seen, asked, burstiness)
    message = f"{told} were asked for ({share:+.0%}); a schedule is as far off with P {chance:.2g}"
    if chance < CHANCE:
        yield finding("rate_off", message, **evidence, chance=chance)
    elif abs(share) > FAR:
        yield attrs.evolve(finding("rate_off", message, **evidence, chance=chance), severity="info")


def _missing(facts: ServingFacts, flow: Flow, burstiness: float) -> int:
    """Requests that the schedule had for the window and that were not sent; 0 where its beginning is not known."""
    if facts.lead_s is None or not facts.request_rate:
        return 0
    due, end_s = 0, facts.lead_s + flow.seconds
    for at in arrivals(facts.request_rate, burstiness, facts.seed):
        if at >= end_s:
            break
        due += at >= facts.lead_s
    return max(due - int(flow.arrived.sum()), 0)


def _chance(seen: int, asked: float, burstiness: float) -> float:
    """How probable a number of arrivals at least as far from its mean is, to both sides.

    n or more arrivals come within a time if the sum of n gaps is below it, which is gamma distributed with shape
    n * burstiness. Exact for one window of a Poisson process; the windows count as one here.
    """
    from scipy.special import gammainc

    def at_least(count: int) -> float:
        return float(gammainc(count * burstiness, asked * burstiness)) if count > 0 else 1.0

    return min(1.0, 2 * min(at_least(seen), 1 - at_least(seen + 1)))


# whether it is stationary


def not_stationary(served: Served, *, saturated: bool) -> Iterable[Finding]:
    """`saturated`: requests pile up, which another finding says."""
    found = list(_too_early(served))
    if not found and not saturated and served[0][1].kind == "open":
        found = list(_little(served)) or list(_rising(served))
    yield from found


def _times(flow: Flow) -> Any:
    """Seconds that each request took that arrived within the window and did not fail; as long as it was waited for."""
    return ((flow.end - flow.arrival) / NS)[flow.arrived & ~flow.lost]


def _too_early(served: Served) -> Iterable[Finding]:
    """By the time that the load had run."""
    import numpy as np

    leads = [facts.lead_s for _, facts, _ in served if facts.lead_s is not None]
    each = [(_times(flow), facts.lead_s, flow.seconds) for _, facts, flow in served if facts.lead_s is not None]
    times = np.concatenate([one for one, *_ in each]) if each else np.zeros(0)
    if not times.sum():
        return
    weights = np.concatenate([np.clip(length + lead - one, 0, length) / length for one, lead, length in each])
    short = np.concatenate([np.maximum(one - lead, 0) for one, lead, _ in each])
    lost, centre, total = 1 - weights, float(times.mean()), float(times.sum())
    lacking = _Lacking.of(short / total)
    signs = (
        lacking.surely > LACKING,
        _Lacking.of(lost * (times - centre) / total).surely > MEAN_LACKING,
        _Lacking.of(lost / len(lost)).surely > TAIL_LACKING,
    )
    if not any(signs):
        return
    off, tail = _mean_off(times, weights), _tail_off(times, weights)
    longest = float(np.quantile(times, 0.99))
    message = (
        f"the load had run for {min(leads):.3g} s when the windows opened, where requests take {centre:.3g} s, at p99 "
        f"{longest:.3g} s: {lacking.share:.0%} of those in flight were lacking; the mean time per request is off by "
        f"about {off:+.0%}, its p99 by {tail:+.0%}"
    )
    evidence = {"lead_s": min(leads), "e2el_s": centre, "e2el_p99_s": longest, "lacking": lacking.share}
    yield finding("not_stationary", message, **evidence, mean_off=off, p99_off=tail)


@attrs.frozen
class _Lacking:
    """A sum over requests that is lacking, as a share, and what it is at least by the scatter of its parts."""

    share: float
    surely: float

    @classmethod
    def of(cls, parts: Any) -> _Lacking:
        share = float(parts.sum())
        return cls(share, share - Z_ONE_SIDED * math.sqrt(float((parts**2).sum())))


def _mean_off(times: Any, weights: Any) -> float:
    """How far the mean of the weighed times is off; -1 where nothing is left."""
    return float((times * weights).sum() / weights.sum() / times.mean()) - 1 if weights.sum() else -1.0


def _tail_off(times: Any, weights: Any) -> float:
    """The same of their p99."""
    import numpy as np

    order = np.argsort(times)
    sums = (np.cumsum(weights[order]), np.arange(1, len(times) + 1))
    places = [min(int(np.searchsorted(one, 0.99 * one[-1])), len(times) - 1) for one in sums]
    seen, true = (float(times[order[place]]) for place in places)
    return seen / true - 1 if true else 0.0


def _little(served: Served) -> Iterable[Finding]:
    first = [in_flight_parts(flow)[0] for *_, flow in served]
    expected = [float(((flow.end - flow.arrival) / NS)[flow.arrived].sum()) / flow.seconds for *_, flow in served]
    noise = [
        max(law, _scatter(flow)) + float((((flow.end - flow.arrival) / NS)[flow.arrived] ** 2).sum()) / flow.seconds**2
        for law, (*_, flow) in zip(expected, served, strict=True)
    ]
    if _is_off(first, expected, noise):
        message = (
            f"{mean(first):.3g} requests were in flight when the windows opened, where Little's law asks for "
            f"{mean(expected):.3g}: arrivals per second times the mean time of a request"
        )
        yield finding("not_stationary", message, in_flight_first=mean(first), in_flight_expected=mean(expected))


def _rising(served: Served) -> Iterable[Finding]:
    parts = [in_flight_parts(flow) for *_, flow in served]
    first, last = [one[0] for one in parts], [one[-1] for one in parts]
    noise = [2 * max(mean(one), _scatter(flow)) for one, (*_, flow) in zip(parts, served, strict=True)]
    if mean(last) > mean(first) and _is_off(first, last, noise):
        message = (
            f"requests in flight rose from {mean(first):.3g} in the first tenth of the windows to {mean(last):.3g} in "
            "the last, by more than chance does"
        )
        yield finding("not_stationary", message, in_flight_first=mean(first), in_flight_last=mean(last))


def _scatter(flow: Flow) -> float:
    """Variance of requests in flight over the parts of a window, about the straight line through them."""
    parts = in_flight_parts(flow)
    slope, centre, middle = trend(parts).slope, mean(parts), (PARTS - 1) / 2
    return math.fsum((one - centre - slope * (i - middle)) ** 2 for i, one in enumerate(parts)) / (PARTS - 2)


def _is_off(seen: Sequence[float], expected: Sequence[float], noise: Sequence[float]) -> bool:
    """Whether values are off their expectations by more than a tenth, and by more than their noise does.

    Args:
        noise: variance of each difference. From three windows on their differences may scatter more: that counts then.
    """
    differences = [one - other for one, other in zip(seen, expected, strict=True)]
    count, centre = len(differences), mean(differences)
    if not centre or abs(centre) <= OFF * mean(expected):
        return False
    error = math.sqrt(math.fsum(noise)) / count
    p_values = [math.erfc(abs(centre) / error / math.sqrt(2))] if error else [0.0]
    if count > 2:
        scattered = math.sqrt(math.fsum((one - centre) ** 2 for one in differences) / (count - 1) / count)
        p_values += [two_sided(centre / scattered, count - 1)] if scattered > error else []
    return max(p_values) < LEVEL
