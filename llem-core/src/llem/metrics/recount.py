"""What a trial says of its requests, and the same counted again from their rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from llem.metrics.flow import UNFINISHED, flow_of
from llem.metrics.statistics import quantile
from llem.store.models import RequestRow, Trial

__all__ = ["counted", "stated"]

#: Fields of a trial's serving facts that its rows do not hold: what was asked for.
ASKED = ("kind", "concurrency", "request_rate", "seed", "completed_expected_tokens")


def stated(trial: Trial) -> dict[str, Any]:
    """What a trial says of its requests, in the terms of `counted`."""
    found = {
        "batches": trial.batches,
        "requests": trial.requests,
        "input_tokens": trial.input_tokens,
        "output_tokens": trial.output_tokens,
        "batch_s": len(trial.batch_s),
    }
    if trial.serving is None:
        return {**found, "first_index": trial.first_index}
    facts = attrs.asdict(trial.serving)
    return {**found, "serving": {name: value for name, value in facts.items() if name not in ASKED}}


def counted(trial: Trial, rows: Sequence[RequestRow]) -> dict[str, Any]:
    """The same from the rows of its requests."""
    if trial.serving is not None:
        return _served(trial, rows)
    batches = len({row.batch for row in rows})
    return {
        "batches": batches,
        "requests": len(rows),
        "input_tokens": sum(row.input_tokens for row in rows),
        "output_tokens": sum(row.output_tokens for row in rows),
        "first_index": min((row.index for row in rows), default=None),
        "batch_s": batches,
    }


def _served(trial: Trial, rows: Sequence[RequestRow]) -> dict[str, Any]:
    flow = flow_of(trial, rows)
    t0, t1 = flow.t0, flow.t1
    completed = len(flow.completed)
    lags = sorted(
        (row.start_ns - row.scheduled_ns) / 1e9
        for row in rows
        if row.scheduled_ns is not None and t0 <= row.scheduled_ns < t1
    )
    begun = (flow.first >= t0) & (flow.first < t1)
    return {
        "batches": 0,
        "requests": completed,
        "input_tokens": int(flow.inputs[begun].sum()),
        "output_tokens": int(flow.emitted.sum()),
        "batch_s": 0,
        "serving": {
            "sent": sum(t0 <= row.start_ns < t1 for row in rows),
            "completed": completed,
            "failed": int(flow.failed.sum()),
            "unfinished": sum(row.finish_reason == UNFINISHED for row in rows),
            "lag_p50_s": quantile(lags, 0.5) if lags else None,
            "lag_p99_s": quantile(lags, 0.99) if lags else None,
            "lag_max_s": lags[-1] if lags else None,
            "in_flight_mean": sum(max(min(row.end_ns, t1) - max(row.start_ns, t0), 0) for row in rows) / (t1 - t0),
            "in_flight_start": _in_flight(rows, t0),
            "in_flight_end": _in_flight(rows, t1),
            "completed_output_tokens": int(flow.outputs[flow.completed].sum()),
        },
    }


def _in_flight(rows: Sequence[RequestRow], at: int) -> float:
    return float(sum(row.start_ns <= at < row.end_ns for row in rows))
