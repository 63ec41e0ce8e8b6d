"""What of a serving load lies within its window: rows to store, and facts counted from them; and the rate that an
engine bears. Pure.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from llem.backends.base import Observed, prompt_tokens
from llem.devices.pulse import KEPT
from llem.errors import ExperimentFailed, LlemError
from llem.experiment.serving.ticks import Ticks
from llem.experiment.serving.traffic import Flight
from llem.metrics.accounts import load_counts, unbalanced, work_counts
from llem.metrics.flow import flow_within
from llem.metrics.spans import covered
from llem.metrics.statistics import quantile
from llem.store.client import ClientFacts
from llem.store.models import RequestRow, ServingFacts

__all__ = [
    "Probe",
    "arrived_tokens",
    "beside",
    "capacity",
    "check_sum",
    "client_facts",
    "counts",
    "serving_facts",
    "touching",
]


def touching(flights: Iterable[Flight], t0: int, t1: int) -> list[RequestRow]:
    """A row for each request that was in flight, or should have been, at some time within [t0, t1)."""
    return [_row(flight) for flight in flights if _begin(flight) < t1 and flight.ended_ns >= t0]


def _begin(flight: Flight) -> int:
    return flight.sent_ns if flight.scheduled_ns is None else min(flight.scheduled_ns, flight.sent_ns)


def _row(flight: Flight) -> RequestRow:
    chunks = [chunk for chunk in flight.chunks if chunk.tokens > 0]  # an empty last one only ends the request
    last = flight.chunks[-1] if flight.chunks else None
    told = None if last is None else last.finish_reason
    return RequestRow(
        index=flight.request.index,
        batch=0,
        input_tokens=prompt_tokens(flight.request.input_tokens, None if last is None else last.engine_metrics),
        output_tokens=sum(chunk.tokens for chunk in chunks),
        start_ns=flight.sent_ns,
        end_ns=flight.ended_ns,
        token_times_ns=tuple(chunk.time_ns for chunk in chunks),
        scheduled_ns=flight.scheduled_ns,
        chunk_tokens=None if all(chunk.tokens == 1 for chunk in chunks) else tuple(chunk.tokens for chunk in chunks),
        finish_reason=told if flight.outcome == "done" else flight.outcome,
        engine_metrics=None if last is None else last.engine_metrics,
    )


def arrived_tokens(flights: Iterable[Flight], t0: int, t1: int) -> int:
    """Output tokens that arrived in [t0, t1), of whatever request."""
    return sum(chunk.tokens for flight in flights for chunk in flight.chunks if t0 <= chunk.time_ns < t1)


def counts(rows: Sequence[RequestRow], t0: int, t1: int) -> Mapping[str, Any]:
    """The fields of a Trial that count work: see `llem.store.models.Trial` for what each means here."""
    found = work_counts(flow_within(rows, t0, t1))
    return {**found, "batch_s": (), "expected_output_tokens": found["output_tokens"]}


def serving_facts(
    rows: Sequence[RequestRow],
    t0: int,
    t1: int,
    asked: Mapping[int, int],
    *,
    kind: str,
    concurrency: int | None,
    request_rate: float | None,
    seed: int,
    lead_s: float | None = None,
    client: ClientFacts | None = None,
) -> ServingFacts:
    """How the load went within [t0, t1); the last arguments are the fields of their names.

    Args:
        asked: output tokens that the workload asked for, by the request's index.
    """
    flow = flow_within(rows, t0, t1)
    return ServingFacts(
        kind=kind,
        concurrency=concurrency,
        request_rate=request_rate,
        seed=seed,
        completed_expected_tokens=sum(asked[rows[i].index] for i in flow.completed),
        lead_s=lead_s,
        client=client,
        **load_counts(flow),
    )


def beside(before: Observed | None, after: Observed | None, flights: Iterable[Flight]) -> Mapping[str, float]:
    """The fields of `ServingFacts.server`; levels alone where one of the readings is missing, empty without any.

    A counter that has become smaller is left out: the engine began anew.

    Args:
        flights: every request that llem sent around the window.
    """
    edges = (("start", before), ("end", after))
    told = {f"{name}_{edge}": value for edge, one in edges if one for name, value in one.levels.items()}
    if before is None or after is None:
        return told
    for name, value in after.counters.items():
        if name in before.counters and value >= before.counters[name]:
            told[name] = value - before.counters[name]
    received = arrived_tokens(flights, before.time_ns, after.time_ns)
    return {**told, "received_tokens": float(received), "seconds": (after.time_ns - before.time_ns) / 1e9}


def check_sum(facts: ServingFacts) -> None:
    """Raise LlemError (bug) where a request of the window is lost, or has two outcomes."""
    if lost := unbalanced(facts):
        raise LlemError("of {:g} requests of a window {:g} are accounted for".format(*lost), code="bug")


def client_facts(
    ticks: Sequence[Ticks], processes: int, rows: Sequence[RequestRow], t0: int, t1: int
) -> ClientFacts | None:
    """How the load generator fared, from when the first request that ended within [t0, t1) was sent.

    Args:
        ticks: of every event loop that sent.
        processes: client processes; 0 where the worker's own loop sent.
    """
    begin = min([row.start_ns for row in rows if t0 <= row.end_ns < t1], default=t0)
    delays = [sorted(one.delays(begin, t1)) for one in ticks]
    if not any(delays):
        return None
    worst = max((one for one in delays if one), key=lambda one: quantile([float(each) for each in one], 0.99))
    seconds = [each / 1e9 for each in worst]
    stalls = [stall for one in ticks for stall in one.stalls(begin, t1)]
    busy = [share for one in ticks if processes and (share := one.busy_share(t0, t1)) is not None]
    return ClientFacts(
        processes=processes,
        delay_p50_s=quantile(seconds, 0.5),
        delay_p99_s=quantile(seconds, 0.99),
        delay_max_s=max(one[-1] for one in delays if one) / 1e9,
        stalls=_longest(stalls),
        busy_share=max(busy, default=None),
        stalled_s=covered(stalls) / 1e9,
        still=_longest(
            [(max(begin, first), last) for one in ticks for first, last in one.stalls(begin, t1, still=True)]
        ),
    )


def _longest(spans: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """As many as are kept, in order."""
    return tuple(sorted(sorted(spans, key=lambda one: one[0] - one[1])[:KEPT]))


@attrs.frozen
class Probe:
    """What a closed load of many clients found the engine to bear."""

    concurrency: int
    seconds: float
    requests_per_s: float
    output_tokens_per_s: float


def capacity(concurrency: int, flights: Sequence[Flight], t0: int, t1: int, *, exact: bool) -> Probe:
    """The capacity, from the requests of a probe that lasted from t0 to t1 (monotonic ns).

    Taken from the tokens that came, over the tokens of a request: requests that began together end together, so that
    how many ends fall within the probe is a matter of chance.

    Args:
        flights: every request that was sent.
        exact: every request yields exactly the tokens that it asks for.

    Raises:
        ExperimentFailed: no token came.
    """
    tokens_per_s = arrived_tokens(flights, t0, t1) / (t1 - t0) * 1e9
    if not tokens_per_s:
        raise ExperimentFailed("no token came during the capacity probe", "lengthen `load.probe_seconds`")
    asked = [flight.request.output_tokens for flight in flights]
    done = [sum(chunk.tokens for chunk in flight.chunks) for flight in flights if flight.outcome == "done"]
    # those that ended are the shorter ones, where lengths differ: all that were sent tell, where each is made whole
    per_request = statistics.fmean(asked if exact else done or asked)
    return Probe(concurrency, (t1 - t0) / 1e9, tokens_per_s / per_request, tokens_per_s)
