"""What only a serving load has: its arrivals, its client, what the engine can bear, and the energy of requests.

Energy of single requests: an allocation of the window's energy by a stated rule, never a measurement. One counter sees
all requests in flight together, so what a single one cost cannot be read from it. The rule: a request bears the
window's energy in proportion to the output tokens that it emitted within the window.

    energy of request i = window energy * tokens of i within the window / tokens of all within the window

The shares add up to the window's energy to the last bit. Prompts are not weighed: the cost of a long one is shared by
all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from llem.metrics.accounts import load_counts
from llem.metrics.boundary import boundary, boundary_interval
from llem.metrics.flow import Flow
from llem.metrics.goodput import goodput_metrics
from llem.metrics.metric import Measured, Metric, alike
from llem.metrics.quantity import WITHIN_PROCESS, Value, absent, quantity
from llem.metrics.statistics import CONFIDENCE, quantile
from llem.store.models import ClientFacts, Quantity, ServingFacts

__all__ = ["allocate", "serving_metrics"]


def serving_metrics() -> Iterator[Metric]:
    """A row for each."""
    yield Metric(
        "request_rate", "request/s", "arrivals asked", None, "serving",
        "The mean rate of arrivals that was asked for; for a replay, the arrivals per second in the trial's part of "
        "the trace. A closed load has none, because its clients wait for their answers.",
        each=lambda measured: _told(measured, lambda facts: facts.request_rate), over=alike,
        shown=("result", "curve"), heading="arrivals/s",
    )  # fmt: skip
    yield Metric(
        "arrival_rate", "request/s", "arrivals seen", None, "serving",
        "Requests that were due within the window, per second. The schedule is drawn, so that their number is a matter "
        "of chance; `rate_off` says when it is far from what was asked for.",
        each=_seen, shown=("result",), since=5,
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
        "How late requests were sent: the 99th percentile over the requests that completed within the window, whose "
        "latencies it is part of. The lag is the client's, not the engine's.",
        each=_lag, since=5,
    )  # fmt: skip
    yield Metric(
        "client_delay_p99_s", "s", "delay of the client, p99", None, "serving",
        "How late a timer rang in the event loop of the load generator, from the first of the measured requests to the "
        "window's end: the 99th percentile, of the client process with the worst. An answer that arrived waited so "
        "long for its turn, and was timed late by as much.",
        each=lambda measured: _of_client(measured, lambda client: client.delay_p99_s), since=5,
    )  # fmt: skip
    yield Metric(
        "client_busy_share", "", "busy share of the client", None, "serving",
        "Processor time of the busiest client process within the window, as a share of the window. `null` where the "
        "clients share a process with the engine.",
        each=lambda measured: _of_client(measured, lambda client: client.busy_share), since=5,
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
    yield from goodput_metrics()
    for q in (0.5, 0.99):
        part = f"p{round(q * 100)}"
        yield Metric(
            f"energy_per_request_{part}_j", "J", f"allocated energy per request, {part}", "lower", "serving",
            "A percentile of the energy allocated to the requests that arrived and ended within the window. llem "
            "allocates the window's energy in proportion to output tokens; single requests are not measured.",
            each=_allocated(q), scoped=True,
        )  # fmt: skip


# the load


def _facts(measured: Measured) -> list[ServingFacts]:
    return [trial.serving for trial in measured.trials if trial.serving is not None]


def _told(measured: Measured, take: Callable[[ServingFacts], float | None]) -> list[Value]:
    reason = "not_told" if measured.setup.metered else "closed_load"
    return [Value(take(facts), reason=reason) for facts in _facts(measured)]


def _seen(measured: Measured) -> list[Value]:
    if any(facts.kind == "closed" for facts in _facts(measured)):
        return [Value(None, reason="closed_load")]
    if measured.setup.metered:
        return [Value(None, reason="not_told")]
    return [Value(int(flow.arrived.sum()) / flow.seconds) for flow in measured.flows if flow is not None]


def _lag(measured: Measured) -> list[Value]:
    """From the rows: older trials state it of other requests."""
    reason = "not_told" if measured.setup.metered else "closed_load"
    flows = [flow for flow in measured.flows if flow is not None]
    return [Value(load_counts(flow)["lag_p99_s"], reason=reason) for flow in flows]


def _of_client(measured: Measured, take: Callable[[ClientFacts], float | None]) -> list[Value]:
    unknown = "not_told" if measured.setup.metered else "not_recorded"
    return [
        Value(None, reason=unknown) if facts.client is None else Value(take(facts.client), reason="no_client_process")
        for facts in _facts(measured)
    ]


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
