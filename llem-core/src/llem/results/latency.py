"""Latencies from request rows: time to first token, per further token, gaps between tokens, and end to end.

    ttft       first token minus start of the request
    tpot       (last token minus first token) / (output tokens - 1), per request
    itl_chunk  gaps between successive tokens, pooled over requests
    e2el       end minus start of the request

Percentiles are observed values over all requests of all trials; their intervals resample batches, not requests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from llem.results.aggregate import Value, absent, quantity
from llem.results.models import Quantity, RequestRow
from llem.results.statistics import CONFIDENCE, Interval, bootstrap_mean, bootstrap_quantiles, mean, quantile

__all__ = ["PERCENTILES", "latency_metrics"]

PERCENTILES = (0.5, 0.9, 0.99)
NS = 1e9


def _ttft(row: RequestRow) -> list[float]:
    return [(row.token_times_ns[0] - row.start_ns) / NS] if row.token_times_ns else []


def _tpot(row: RequestRow) -> list[float]:
    times = row.token_times_ns or ()
    return [(times[-1] - times[0]) / (len(times) - 1) / NS] if len(times) > 1 else []


def _gaps(row: RequestRow) -> list[float]:
    times = row.token_times_ns or ()
    return [(later - earlier) / NS for earlier, later in pairwise(times)]


def _e2el(row: RequestRow) -> list[float]:
    return [(row.end_ns - row.start_ns) / NS]


def latency_metrics(rows: Sequence[Sequence[RequestRow]], *, asked: bool) -> dict[str, Quantity]:
    """All latencies by flat key (`ttft_s`, `ttft_p99_s`, …). `rows`: per trial. `asked`: token times were asked for."""
    timed = any(row.token_times_ns is not None for trial in rows for row in trial)
    if not asked:
        reason = "not_requested"
    elif not timed:
        reason = "not_supported"
    else:
        reason = "one_output_token"
    found = _family("ttft", _ttft, rows, reason)
    found |= _family("tpot", _tpot, rows, reason)
    found |= _family("itl_chunk", _gaps, rows, reason)
    return found | _family("e2el", _e2el, rows, "no_trials")


def _family(
    name: str, take: Callable[[RequestRow], list[float]], rows: Sequence[Sequence[RequestRow]], reason: str
) -> dict[str, Quantity]:
    """Mean and percentiles of one latency."""
    trials = [_by_batch(take, trial) for trial in rows]
    groups = [group for trial in trials for group in trial.values() if group]
    keys = [f"{name}_p{round(q * 100)}_s" for q in PERCENTILES]
    if not groups:
        return {key: absent("s", reason) for key in (f"{name}_s", *keys)}
    if not all(any(trial.values()) for trial in trials):  # never a mean over those trials that happened to have it
        return {key: absent("s", "not_supported") for key in (f"{name}_s", *keys)}
    found = {f"{name}_s": _mean(trials, groups)}
    intervals = bootstrap_quantiles(groups, PERCENTILES)
    ordered = sorted(value for group in groups for value in group)
    for i, key in enumerate(keys):
        found[key] = _percentile(quantile(ordered, PERCENTILES[i]), intervals[i] if intervals else None)
    return found


def _by_batch(take: Callable[[RequestRow], list[float]], rows: Sequence[RequestRow]) -> Mapping[int, list[float]]:
    groups: dict[int, list[float]] = {}
    for row in rows:
        groups.setdefault(row.batch, []).extend(take(row))
    return groups


def _mean(trials: Sequence[Mapping[int, list[float]]], groups: Sequence[list[float]]) -> Quantity:
    """Over several trials the mean of their means with a t-interval; within one, a bootstrap over batches."""
    means = [mean([value for group in trial.values() for value in group]) for trial in trials]
    if len(means) > 1:
        return quantity([Value(value) for value in means], "s")
    return _percentile(means[0], bootstrap_mean(groups))


def _percentile(value: float, interval: Interval | None) -> Quantity:
    if interval is None:
        return Quantity(value, "s", n=1, method="single_trial")
    return Quantity(value, "s", interval.low, interval.high, CONFIDENCE, interval.n, "bootstrap")
