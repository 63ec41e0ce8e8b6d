"""Latencies from request rows: time to first token, per further token, gaps between tokens, and end to end.

Of an offline load, where all requests of a batch begin and end together (a serving load's: `serving_latency`):

    ttft       first token minus start of the request
    tpot       (last token minus first token) / (output tokens - 1), per request
    itl_chunk  gaps between successive tokens, pooled over requests
    e2el       end minus start of the request

Percentiles are observed values over all requests of all trials; their intervals resample batches, not requests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from llem.metrics.aggregate import Value, absent, quantity
from llem.metrics.bootstrap import bootstrap_mean, bootstrap_quantiles
from llem.metrics.statistics import (
    CONFIDENCE,
    Interval,
    log_interval,
    mean,
    mean_interval,
    quantile,
)
from llem.store.models import Quantity, RequestRow

__all__ = ["PERCENTILES", "Blocks", "family", "latency_metrics"]

PERCENTILES = (0.5, 0.9, 0.95, 0.99)
NS = 1e9

#: Serving windows from which on their scatter gives the interval of a percentile.
WINDOWS = 3

#: Values of one trial, by what is resampled as a whole.
Blocks = Sequence[Sequence[float]]


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

    def of(name: str, take: Callable[[RequestRow], list[float]], reason: str) -> dict[str, Quantity]:
        blocks = [list(_by_batch(take, trial).values()) for trial in rows]
        return family(name, blocks, reason, partial="not_supported")

    found = of("ttft", _ttft, reason) | of("tpot", _tpot, reason) | of("itl_chunk", _gaps, reason)
    return found | of("e2el", _e2el, "no_trials")


def _by_batch(take: Callable[[RequestRow], list[float]], rows: Sequence[RequestRow]) -> Mapping[int, list[float]]:
    groups: dict[int, list[float]] = {}
    for row in rows:
        groups.setdefault(row.batch, []).extend(take(row))
    return groups


def family(
    name: str,
    trials: Sequence[Blocks],
    reason: str,
    *,
    partial: str,
    quantiles: Sequence[float] = PERCENTILES,
    serving: bool = False,
) -> dict[str, Quantity]:
    """Mean and percentiles of one latency in seconds.

    Args:
        trials: per trial the blocks that the bootstrap resamples.
        reason: why there is no value where no request has one; `partial`: where one of several trials has none.
        serving: blocks are consecutive requests; from `WINDOWS` trials on, their scatter gives the interval.
    """
    groups = [group for trial in trials for group in trial if len(group)]
    keys = [f"{name}_p{round(q * 100)}_s" for q in quantiles]
    if not groups:
        return {key: absent("s", reason) for key in (f"{name}_s", *keys)}
    if not all(any(map(len, trial)) for trial in trials):  # never a mean over those trials that happened to have it
        return {key: absent("s", partial) for key in (f"{name}_s", *keys)}
    method = "block_bootstrap" if serving else "bootstrap"
    if serving and len(trials) >= WINDOWS:
        points = _over_trials(trials, groups, quantiles)
    else:
        points = _resampled(groups, quantiles, method)
    return {f"{name}_s": _mean(trials, groups, method), **dict(zip(keys, points, strict=True))}


def _over_trials(
    trials: Sequence[Blocks], groups: Sequence[Sequence[float]], quantiles: Sequence[float]
) -> list[Quantity]:
    """Percentiles of all requests together, each with the scatter of the single windows' percentiles around it.

    On logarithms, for tails are skewed, where no window's percentile is 0.
    """
    whole = _ordered(groups)
    single = [_ordered(trial) for trial in trials]
    found = []
    for q in quantiles:
        value, *each = (float(quantile(one, q)) for one in (whole, *single))
        if min(each) > 0:
            spread = log_interval(each)
            low, high = value * spread.low / spread.value, value * spread.high / spread.value
        else:
            half = mean_interval(each).half_width
            low, high = value - half, value + half
        found.append(Quantity(value, "s", low, high, CONFIDENCE, len(trials), "student_t"))
    return found


def _resampled(groups: Sequence[Sequence[float]], quantiles: Sequence[float], method: str) -> list[Quantity]:
    intervals = bootstrap_quantiles(groups, quantiles)
    if intervals is not None:
        return [_point(one.value, one, method) for one in intervals]
    ordered = _ordered(groups)
    return [_point(float(quantile(ordered, q)), None, method) for q in quantiles]


def _ordered(groups: Sequence[Sequence[float]]) -> Any:
    """All values, ascending, as an array: gaps between tokens come in millions."""
    import numpy as np

    return np.sort(np.concatenate([np.asarray(group, dtype=np.float64) for group in groups]))


def _mean(trials: Sequence[Blocks], groups: Sequence[Sequence[float]], method: str) -> Quantity:
    """Over several trials the mean of their means with a t-interval; within one, a bootstrap over blocks."""
    means = [mean([float(value) for group in trial for value in group]) for trial in trials]
    if len(means) > 1:
        return quantity([Value(value) for value in means], "s")
    return _point(means[0], bootstrap_mean(groups), method)


def _point(value: float, interval: Interval | None, method: str) -> Quantity:
    if interval is None:
        return Quantity(value, "s", n=1, method="single_trial")
    return Quantity(value, "s", interval.low, interval.high, CONFIDENCE, interval.n, method)
