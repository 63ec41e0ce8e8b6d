"""What a window contains, counted from the rows of its requests; and what a stored trial says of the same. Pure.

The worker counts with this when it stores a trial, and `llem verify` counts with it again. A request that was in flight
when the window opened, or was sent within it, has one outcome:

    in_flight_start + sent = completed + failed + in_flight_end
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from llem.metrics.flow import Flow, flow_of
from llem.metrics.statistics import quantile
from llem.store.models import SCHEMA_VERSION, RequestRow, ServingFacts, Trial

__all__ = ["SINCE", "counted", "known_sum", "load_counts", "stated", "unbalanced", "work_counts"]

#: Serving facts that rows do not hold: what was asked for, how the client fared, what a server states of itself.
TOLD = (
    "kind", "concurrency", "request_rate", "seed", "completed_expected_tokens", "lead_s", "client", "server",
    "sent_so_far",
)  # fmt: skip
#: First version whose serving facts follow the present rules, and fields that an older one counted by others.
SINCE = 5
CHANGED = ("lag_p50_s", "lag_p99_s", "lag_max_s", "in_flight_start", "in_flight_end", "failed_output_tokens")


def stated(trial: Trial, version: int = SCHEMA_VERSION) -> dict[str, Any]:
    """What a trial says of its requests, in the terms of `counted`; `version` is that of the llem that stored it."""
    found = {
        "batches": trial.batches,
        "requests": trial.requests,
        "input_tokens": trial.input_tokens,
        "output_tokens": trial.output_tokens,
        "batch_s": len(trial.batch_s),
    }
    if trial.serving is None:
        return {**found, "first_index": trial.first_index}
    return {**found, "serving": _comparable(attrs.asdict(trial.serving), version)}


def counted(trial: Trial, rows: Sequence[RequestRow], version: int = SCHEMA_VERSION) -> dict[str, Any]:
    """The same from the rows of its requests."""
    if trial.serving is not None:
        flow = flow_of(trial, rows)
        return {**work_counts(flow), "serving": _comparable(load_counts(flow), version)}
    batches = len({row.batch for row in rows})
    return {
        "batches": batches,
        "requests": len(rows),
        "input_tokens": known_sum(row.input_tokens for row in rows),
        "output_tokens": sum(row.output_tokens for row in rows),
        "first_index": min((row.index for row in rows), default=trial.first_index),
        "batch_s": batches,
    }


def _comparable(facts: Mapping[str, Any], version: int) -> dict[str, Any]:
    left_out = TOLD if version >= SINCE else (*TOLD, *CHANGED)
    return {name: value for name, value in facts.items() if name not in left_out}


def known_sum(counts: Iterable[int | None]) -> int | None:
    """The sum; None where one of them is not known, for then it is not known either."""
    every = list(counts)
    known = [one for one in every if one is not None]
    return sum(known) if len(known) == len(every) else None


def work_counts(flow: Flow) -> dict[str, Any]:
    """The counts of work of a serving trial: see `llem.store.models.Trial`. `batch_s` is the number of its entries."""
    import numpy as np

    begun = (flow.first >= flow.t0) & (flow.first < flow.t1)
    return {
        "batches": 0,
        "requests": len(flow.completed),
        "input_tokens": known_sum(flow.rows[i].input_tokens for i in np.flatnonzero(begun).tolist()),
        "output_tokens": int(flow.emitted.sum()),
        "batch_s": 0,
    }


def load_counts(flow: Flow) -> dict[str, Any]:
    """The fields of `ServingFacts` that follow from the rows, by name."""
    import numpy as np

    t0, t1, done = flow.t0, flow.t1, flow.completed
    scheduled = np.array([flow.rows[i].scheduled_ns is not None for i in done], dtype=bool)
    lags = np.sort((flow.start - flow.arrival)[done][scheduled] / 1e9).tolist()
    spans = np.minimum(flow.end, t1) - np.maximum(flow.start, t0)
    ended = (flow.end < t1) & ~flow.stopped  # whoever was aborted did not end: it is in flight for good
    return {
        "sent": int(((flow.start >= t0) & (flow.start < t1)).sum()),
        "completed": len(done),
        "failed": int(flow.failed.sum()),
        "unfinished": int(flow.stopped.sum()),
        "lag_p50_s": quantile(lags, 0.5) if lags else None,
        "lag_p99_s": quantile(lags, 0.99) if lags else None,
        "lag_max_s": lags[-1] if lags else None,
        "in_flight_mean": int(np.maximum(spans, 0).sum()) / (t1 - t0),
        "in_flight_start": float(((flow.start < t0) & (flow.end >= t0)).sum()),
        "in_flight_end": float(((flow.start < t1) & (flow.end >= t0) & ~ended).sum()),
        "completed_output_tokens": int(flow.outputs[done].sum()),
        "failed_output_tokens": int(flow.emitted[flow.lost].sum()),
    }


def unbalanced(facts: ServingFacts) -> tuple[float, float] | None:
    """Requests that were in flight or were sent, and those with an outcome, where the two differ: some are lost."""
    taken = facts.in_flight_start + facts.sent
    ended = facts.completed + facts.failed + facts.in_flight_end
    return None if taken == ended else (taken, ended)
