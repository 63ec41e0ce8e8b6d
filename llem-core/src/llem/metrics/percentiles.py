"""Mean and percentiles of latencies, with intervals. Pure: the same numbers in give the same bits out.

Requests of one batch share their fate, and so do consecutive requests of a serving load. So groups are resampled as
wholes, not the values in them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from llem.metrics.quantity import Value, absent, quantity
from llem.metrics.statistics import CONFIDENCE, Interval, log_interval, mean, mean_interval, quantile
from llem.store.models import Quantity

__all__ = ["PERCENTILES", "Blocks", "bootstrap_mean", "bootstrap_quantiles", "family", "of_trial"]

PERCENTILES = (0.5, 0.9, 0.95, 0.99)
#: Values of one trial, by what is resampled as a whole.
Blocks = Sequence[Sequence[float]]
#: Serving windows from which on their scatter gives the interval of a percentile.
WINDOWS = 3

RESAMPLES = 1000
#: Of the resamples; changing it would change results that are stored.
SEED = 0
#: Groups beyond this number are merged with their neighbours, and values beyond it share bins of equal count.
MAX_BLOCKS = 1000
MAX_BINS = 1024


def _weights(blocks: int) -> Any:
    """How often each block is drawn, by resample: an array of shape (RESAMPLES, blocks)."""
    import numpy as np

    # The legacy generator, because its stream is frozen across releases of numpy and results must recompute exactly.
    random = np.random.RandomState(SEED)
    drawn = random.randint(0, blocks, size=(RESAMPLES, blocks), dtype=np.int64)
    return np.stack([np.bincount(row, minlength=blocks) for row in drawn]).astype(np.float64)


def _blocks(groups: Sequence[Sequence[float]]) -> Sequence[Sequence[float]]:
    """Groups without the empty ones, neighbours merged when there are more than `MAX_BLOCKS`."""
    filled = [group for group in groups if len(group)]
    if len(filled) <= MAX_BLOCKS:
        return filled
    merged: list[list[float]] = [[] for _ in range(MAX_BLOCKS)]
    for i, group in enumerate(filled):
        merged[i * MAX_BLOCKS // len(filled)].extend(group)
    return merged


def _percentile_interval(point: float, estimates: Any, n: int) -> Interval:
    ordered = sorted(float(e) for e in estimates)
    tail = (1 - CONFIDENCE) / 2
    return Interval(point, quantile(ordered, tail), quantile(ordered, 1 - tail), n)


def bootstrap_mean(groups: Sequence[Sequence[float]]) -> Interval | None:
    """Mean over all values with a percentile bootstrap over groups; None for fewer than two groups."""
    import numpy as np

    blocks = _blocks(groups)
    if len(blocks) < 2:
        return None
    sums = np.array([math.fsum(block) for block in blocks])
    counts = np.array([float(len(block)) for block in blocks])
    weights = _weights(len(blocks))
    # Elementwise, not by a matrix product: its order of summation differs from one linear-algebra library to the next.
    estimates = [math.fsum(w * sums) / math.fsum(w * counts) for w in weights]
    return _percentile_interval(math.fsum(sums) / math.fsum(counts), estimates, len(blocks))


def bootstrap_quantiles(groups: Sequence[Sequence[float]], quantiles: Sequence[float]) -> tuple[Interval, ...] | None:
    """Quantiles over all values with percentile bootstrap intervals over groups; None for fewer than two groups.

    Beyond `MAX_BINS` values the ends of an interval are exact to one bin of equal count (0.1 % of the values).
    """
    import numpy as np

    blocks = _blocks(groups)
    if len(blocks) < 2:
        return None
    values = np.concatenate([np.asarray(block, dtype=np.float64) for block in blocks])
    owner = np.repeat(np.arange(len(blocks)), [len(block) for block in blocks])
    order = np.argsort(values, kind="stable")
    n = len(values)
    ordered: Any = values[order]
    bins = min(n, MAX_BINS)
    place = np.arange(n) * bins // n
    counts = np.zeros((len(blocks), bins))
    np.add.at(counts, (owner[order], place), 1.0)
    edges = ordered[np.searchsorted(place, np.arange(bins), side="right") - 1]
    # Whole numbers in float64: this product is exact in any order of summation.
    below = np.cumsum(_weights(len(blocks)) @ counts, axis=1)
    found = []
    for q in quantiles:
        need = np.ceil(q * below[:, -1] - 1e-9)
        estimates = edges[(below < need[:, None]).sum(axis=1)]
        found.append(_percentile_interval(float(quantile(ordered, q)), estimates, len(blocks)))
    return tuple(found)


def of_trial(blocks: Blocks, q: float | None) -> float | None:
    """The mean (q is None) or a percentile of one trial's values; None where it has none."""
    if not any(map(len, blocks)):
        return None
    return _mean_of(blocks) if q is None else float(quantile(_ordered(blocks), q))


def family(
    trials: Sequence[Blocks],
    reason: str,
    *,
    partial: str,
    quantiles: Sequence[float] = PERCENTILES,
    serving: bool = False,
) -> dict[float | None, Quantity]:
    """The mean of one latency in seconds, by None, and its percentiles.

    Args:
        trials: per trial the blocks that the bootstrap resamples.
        reason: why there is no value where no request has one; `partial`: where one of several trials has none.
        serving: blocks are consecutive requests; from `WINDOWS` trials on, their scatter gives the interval.
    """
    groups = [group for trial in trials for group in trial if len(group)]
    keys = (None, *quantiles)
    if not groups:
        return {key: absent("s", reason) for key in keys}
    if not all(any(map(len, trial)) for trial in trials):  # never a mean over those trials that happened to have it
        return {key: absent("s", partial) for key in keys}
    method = "block_bootstrap" if serving else "bootstrap"
    if serving and len(trials) >= WINDOWS:
        points = _over_trials(trials, groups, quantiles)
    else:
        points = _resampled(groups, quantiles, method)
    return dict(zip(keys, [_mean(trials, groups, method), *points], strict=True))


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
        found.append(Quantity(value, "s", low, high, CONFIDENCE, len(trials), method="student_t"))
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


def _mean_of(blocks: Blocks) -> float:
    return mean([float(value) for block in blocks for value in block])


def _mean(trials: Sequence[Blocks], groups: Sequence[Sequence[float]], method: str) -> Quantity:
    """Over several trials the mean of their means with a t-interval; within one, a bootstrap over blocks."""
    means = [_mean_of(trial) for trial in trials]
    if len(means) > 1:
        return quantity([Value(value) for value in means], "s")
    return _point(means[0], bootstrap_mean(groups), method)


def _point(value: float, interval: Interval | None, method: str) -> Quantity:
    if interval is None:
        return Quantity(value, "s", n=1, method="single_trial")
    return Quantity(value, "s", interval.low, interval.high, CONFIDENCE, interval.n, method=method)
