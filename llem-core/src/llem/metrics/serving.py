"""What only a serving load has: its arrivals, what the engine can bear, goodput, and the energy of requests.

Goodput: a request is good when it completes and its time to first token, its time per further token and its whole time
are each within their limit (the limits that are stated). It is judged in the window in which that is decided, by itself
(`llem.metrics.requests.fates`): the limits are not met by percentiles of different requests.

Energy of single requests: an allocation of the window's energy by a stated rule, never a measurement. One counter sees
all requests in flight together, so what a single one cost cannot be read from it. The rule: a request bears the
window's energy in proportion to the output tokens that it emitted within the window.

    energy of request i = window energy * tokens of i within the window / tokens of all within the window

The shares add up to the window's energy to the last bit. Prompts are not weighed: the cost of a long one is shared by
all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from llem.config.slo import Slo
from llem.metrics.boundary import boundary, boundary_interval
from llem.metrics.flow import Flow
from llem.metrics.metric import Measured, Metric, alike, mean_over_trials
from llem.metrics.quantity import WITHIN_PROCESS, Value, absent, quantity
from llem.metrics.requests import TOGETHER_SHARE, fates
from llem.metrics.statistics import CONFIDENCE, quantile
from llem.store.models import Quantity, ServingFacts

__all__ = ["Judged", "allocate", "judge", "serving_metrics", "slo_of"]


def serving_metrics() -> Iterator[Metric]:
    """A row for each."""
    yield Metric(
        "request_rate", "request/s", "arrivals", None, "serving",
        "Scheduled arrivals per second; for a replay, in the trial's part of the trace. A closed load schedules none, "
        "because its clients wait for their answers.",
        each=lambda measured: _told(measured, lambda facts: facts.request_rate), over=alike,
        shown=("result", "curve"), heading="arrivals/s",
    )  # fmt: skip
    yield Metric(
        "capacity_share", "", "share of capacity", None, "serving",
        "Scheduled arrivals per second, as a share of `capacity_requests_per_s`.",
        each=_capacity_share, lacks=_no_probe, shown=("result", "curve"), heading="of capacity",
    )  # fmt: skip
    yield Metric(
        "in_flight_mean", "request", "requests in flight", None, "serving",
        "Requests sent and not ended; the mean over the window's time.",
        each=lambda measured: _told(measured, lambda facts: facts.in_flight_mean), shown=("result",),
    )  # fmt: skip
    yield Metric(
        "lag_p99_s", "s", "lag of the client, p99", None, "serving",
        "How late requests were sent: the 99th percentile over the requests that were due within the window. The lag "
        "is the client's, not the engine's.",
        each=lambda measured: _told(measured, lambda facts: facts.lag_p99_s),
    )  # fmt: skip
    yield Metric(
        "capacity_requests_per_s", "request/s", "capacity", "higher", "serving",
        "Requests per second that the engine completes under a closed load of many clients, measured by a probe; the "
        "mean over engine processes. Only a load with `capacity_share` has a probe.",
        over=_capacity, lacks=_no_probe,
    )  # fmt: skip
    yield Metric(
        "max_request_rate", "request/s", "greatest rate under the SLO", "higher", "serving",
        "The greatest rate of arrivals at which `slo` was kept, found by windows at several rates before the trials; "
        "its interval is from all of them. Only a load with `request_rate: max` has it.",
        over=_greatest, lacks=_no_search, shown=("result",), since=4,
    )  # fmt: skip
    yield Metric(
        "goodput_requests_per_s", "request/s", "goodput", "higher", "serving",
        "Requests per second that kept every limit of `slo`, corrected for the window's edges like `requests_per_s`.",
        each=_goodput, over=_scattered, lacks=_no_slo, shown=("result", "curve"), heading="goodput/s", since=5,
    )  # fmt: skip
    yield Metric(
        "slo_attainment", "", "share within limits", "higher", "serving",
        "Share of the requests that kept every limit of `slo`, of those whose fate was decided within the window: they "
        "ended, failed, or had waited for longer than a limit allows, answered or not.",
        each=lambda measured: [one.attainment for one in measured.once(_judged)],
        over=_scattered, lacks=_no_slo, shown=("result",), since=5,
    )  # fmt: skip
    yield Metric(
        "energy_per_good_request_j", "J", "energy per good request", "lower", "serving",
        "The window's energy, also that of late answers, divided by the requests that kept every limit of `slo`.",
        each=_per_good, lacks=_no_slo, scoped=True, shown=("result",), since=5,
    )  # fmt: skip
    for q in (0.5, 0.99):
        part = f"p{round(q * 100)}"
        yield Metric(
            f"energy_per_request_{part}_j", "J", f"allocated energy per request, {part}", "lower", "serving",
            "A percentile of the energy allocated to the requests that arrived and ended within the window. llem "
            "allocates the window's energy in proportion to output tokens; single requests are not measured.",
            each=_allocated(q), scoped=True,
        )  # fmt: skip


def _scattered(measured: Measured, metric: Metric) -> Quantity:
    """The mean; without an interval where all trials are alike: all or none kept the limits, by whatever margin."""
    found = mean_over_trials(measured, metric)
    return attrs.evolve(found, low=None, high=None, confidence=None, covers="") if found.low == found.high else found


# the load


def _facts(measured: Measured) -> list[ServingFacts]:
    return [trial.serving for trial in measured.trials if trial.serving is not None]


def _told(measured: Measured, take: Callable[[ServingFacts], float | None]) -> list[Value]:
    reason = "not_told" if measured.setup.metered else "closed_load"
    return [Value(take(facts), reason=reason) for facts in _facts(measured)]


def _no_probe(measured: Measured) -> str | None:
    if any(facts.kind == "closed" for facts in _facts(measured)):
        return "closed_load"
    return None if measured.setup.probes else "not_requested"


def _capacity(measured: Measured, metric: Metric) -> Quantity:
    """Over engine processes: each is probed once."""
    return quantity([Value(float(probe["requests_per_s"])) for probe in measured.setup.probes], metric.unit)


def _capacity_share(measured: Measured) -> list[Value]:
    capacity = quantity([Value(float(probe["requests_per_s"])) for probe in measured.setup.probes], "").value
    rates = [facts.request_rate for facts in _facts(measured) if facts.request_rate is not None]
    return [Value(rate / capacity if capacity else None, reason="not_supported") for rate in rates]


def _no_search(measured: Measured) -> str | None:
    if any(facts.kind == "closed" for facts in _facts(measured)):
        return "closed_load"
    return None if measured.setup.searches else "not_requested"


def _greatest(measured: Measured, metric: Metric) -> Quantity:
    """Of one search, with its own interval; over engine processes where several of them searched."""
    searches = measured.setup.searches
    if any(one.rate is None for one in searches):
        return absent(metric.unit, "slo_broken")
    if not all(boundary(one.windows, one.attainment).is_closed for one in searches):
        return absent(metric.unit, "boundary_above")
    if len(searches) > 1:
        return quantity([Value(one.rate) for one in searches], metric.unit)
    only = searches[0]
    low, high = boundary_interval(only.windows, only.attainment)
    windows = len(only.windows)
    return Quantity(only.rate, metric.unit, low, high, CONFIDENCE, windows, 1, WITHIN_PROCESS, "search")


# goodput


@attrs.frozen
class Judged:
    """Requests whose fate was decided within one window, and how many of them kept every limit.

    Attributes:
        judged: they ended, failed, or were late for certain; without those in `untold`.
        good: kept every limit.
        untold: it is not known, because all tokens came at one time and one of the limits is on the time per token.
    """

    judged: int
    good: int
    untold: int = 0

    @property
    def reason(self) -> str:
        """Why nothing is said of the window; "" where something is."""
        if self.untold > TOGETHER_SHARE * (self.judged + self.untold):
            return "tokens_together"
        return "" if self.judged else "no_completions"

    @property
    def attainment(self) -> Value:
        """Share of the requests that kept every limit."""
        return Value(None if self.reason else self.good / self.judged, reason=self.reason or None)


def slo_of(config: Mapping[str, Any]) -> Slo | None:
    """The service level objective of a stored configuration; None where none is stated."""
    stated = config.get("slo")
    return None if stated is None else Slo(**stated)


def judge(flow: Flow, limits: Mapping[str, float]) -> Judged:
    """The requests of one window against limits in seconds, by latency."""
    found = fates(flow, limits)
    untold = int(found.untold.sum())
    return Judged(len(found.rows) - untold, int(found.kept.sum()), untold)


def _no_slo(measured: Measured) -> str | None:
    return None if slo_of(measured.setup.config) else "not_requested"


def _judged(measured: Measured) -> list[Judged]:
    slo = slo_of(measured.setup.config)
    limits = slo.limits() if slo else {}
    return [judge(flow, limits) for flow in measured.flows if flow is not None]


def _good(measured: Measured) -> list[Value]:
    """Good requests of each trial, corrected for its edges."""
    return [
        Value(None if one.reason else one.good * edge, reason=one.reason or None)
        for one, edge in zip(measured.once(_judged), measured.edges, strict=True)
    ]


def _goodput(measured: Measured) -> list[Value]:
    good = zip(_good(measured), measured.trials, strict=True)
    return [one.scaled(1 / trial.duration_s) for one, trial in good]


def _per_good(measured: Measured) -> list[Value]:
    return [
        energy.scaled(1 / good.value) if good.value else Value(None, reason=energy.reason or good.reason or "none_good")
        for energy, good in zip(measured.gross, _good(measured), strict=True)
    ]


# energy of requests


def allocate(total: float, weights: Sequence[int]) -> list[float]:
    """`total` in proportion to `weights`, such that `math.fsum` of the shares is `total` exactly.

    Raises ValueError when all weights are 0.
    """
    whole = sum(weights)
    if whole <= 0:
        raise ValueError("nothing to allocate to: every weight is 0")
    shares = [total * (weight / whole) for weight in weights]
    # What rounding left over, a few last bits of the total: the smallest share has the finest steps to bear it in.
    smallest = min((i for i, weight in enumerate(weights) if weight), key=lambda i: weights[i])
    shares[smallest] += math.fsum([total, *(-share for share in shares)])
    return shares


def _whole_requests(measured: Measured) -> list[list[float]]:
    """Of each trial the allocated joules, ascending, of the requests that arrived and ended well within the window."""
    flows = [flow for flow in measured.flows if flow is not None]
    return [_whole(flow, energy.value) for flow, energy in zip(flows, measured.gross, strict=True)]


def _whole(flow: Flow, energy_j: float | None) -> list[float]:
    weights = flow.emitted.tolist()
    if energy_j is None or not any(weights):
        return []
    shares = allocate(energy_j, weights)
    return sorted(shares[i] for i in flow.completed if flow.arrival[i] >= flow.t0)


def _allocated(q: float) -> Callable[[Measured], list[Value]]:
    """One value per trial: requests that share one counter are no sample of it, only trials are repeated."""

    def each(measured: Measured) -> list[Value]:
        return [
            energy.scaled(quantile(ordered, q) / energy.value)
            if ordered and energy.value
            else Value(None, reason=energy.reason or "no_completions")
            for energy, ordered in zip(measured.gross, measured.once(_whole_requests), strict=True)
        ]

    return each
