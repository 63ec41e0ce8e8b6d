"""What of a serving load lies within its window: rows to store, and facts counted from them; and the rate that an
engine bears. Pure.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from llem.backends.base import Observed
from llem.errors import ExperimentFailed
from llem.experiment.serving.traffic import Flight
from llem.metrics.statistics import quantile
from llem.store.models import RequestRow, ServingFacts

__all__ = ["Probe", "arrived_tokens", "beside", "capacity", "counts", "serving_facts", "touching"]


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
        input_tokens=len(flight.request.token_ids),
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


def _completed(rows: Iterable[RequestRow], t0: int, t1: int) -> list[RequestRow]:
    return [row for row in rows if t0 <= row.end_ns < t1 and row.finish_reason not in ("error", "unfinished")]


def counts(rows: Sequence[RequestRow], t0: int, t1: int) -> Mapping[str, Any]:
    """The fields of a Trial that count work: see `llem.store.models.Trial` for what each means here."""
    first = [row for row in rows if row.token_times_ns and t0 <= row.token_times_ns[0] < t1]
    tokens = sum(
        count
        for row in rows
        for at, count in zip(row.token_times_ns or (), row.chunk_tokens or _ones(row), strict=True)
        if t0 <= at < t1
    )
    return {
        "batches": 0,
        "batch_s": (),
        "requests": len(_completed(rows, t0, t1)),
        "input_tokens": sum(row.input_tokens for row in first),
        "output_tokens": tokens,
        "expected_output_tokens": tokens,
    }


def _ones(row: RequestRow) -> Sequence[int]:
    return (1,) * len(row.token_times_ns or ())


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
) -> ServingFacts:
    """How the load went within [t0, t1).

    Args:
        asked: output tokens that the workload asked for, by the request's index.
    """
    completed = _completed(rows, t0, t1)
    lags = sorted(
        (row.start_ns - row.scheduled_ns) / 1e9
        for row in rows
        if row.scheduled_ns is not None and t0 <= row.scheduled_ns < t1
    )
    return ServingFacts(
        kind=kind,
        concurrency=concurrency,
        request_rate=request_rate,
        seed=seed,
        sent=sum(t0 <= row.start_ns < t1 for row in rows),
        completed=len(completed),
        failed=sum(t0 <= row.end_ns < t1 and row.finish_reason == "error" for row in rows),
        unfinished=sum(row.finish_reason == "unfinished" for row in rows),
        lag_p50_s=quantile(lags, 0.5) if lags else None,
        lag_p99_s=quantile(lags, 0.99) if lags else None,
        lag_max_s=lags[-1] if lags else None,
        in_flight_mean=sum(max(min(row.end_ns, t1) - max(row.start_ns, t0), 0) for row in rows) / (t1 - t0),
        in_flight_start=_in_flight(rows, t0),
        in_flight_end=_in_flight(rows, t1),
        completed_output_tokens=sum(row.output_tokens for row in completed),
        completed_expected_tokens=sum(asked[row.index] for row in completed),
    )


def beside(before: Observed | None, after: Observed | None, flights: Iterable[Flight]) -> Mapping[str, float]:
    """The fields of `ServingFacts.server`; empty where one of the readings is missing.

    A counter that has become smaller is left out: the engine began anew.

    Args:
        flights: every request that llem sent around the window.
    """
    if before is None or after is None:
        return {}
    told = {f"{name}_start": value for name, value in before.levels.items()}
    told |= {f"{name}_end": value for name, value in after.levels.items()}
    for name, value in after.counters.items():
        if name in before.counters and value >= before.counters[name]:
            told[name] = value - before.counters[name]
    received = arrived_tokens(flights, before.time_ns, after.time_ns)
    return {**told, "received_tokens": float(received), "seconds": (after.time_ns - before.time_ns) / 1e9}


def _in_flight(rows: Iterable[RequestRow], at: int) -> float:
    return float(sum(row.start_ns <= at < row.end_ns for row in rows))


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
