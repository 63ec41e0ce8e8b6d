"""Intervals, tests and trends. Pure: the same numbers in give the same bits out.

Few repetitions get Student-t intervals, because a percentile bootstrap of five values covers 83 % where 95 % is
claimed; latencies of many requests get a bootstrap over batches, or over runs of consecutive requests of a serving
load, because such requests share their fate.
Sums use `math.fsum`, so that the order of the values does not change a digit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import attrs

__all__ = [
    "Interval",
    "Trend",
    "bootstrap_mean",
    "bootstrap_quantiles",
    "coefficient_of_variation",
    "holm",
    "log_interval",
    "mean",
    "mean_interval",
    "paired_ratio",
    "quantile",
    "relative_half_width",
    "required_n",
    "trend",
    "welch_ratio",
    "zero_mean",
]

CONFIDENCE = 0.95
RESAMPLES = 1000
#: Batches beyond this number are merged with their neighbours, and values beyond it share bins of equal count.
MAX_BLOCKS = 1000
MAX_BINS = 1024


@attrs.frozen
class Interval:
    """An estimate with its interval; `p_value` where a null hypothesis was tested."""

    value: float
    low: float
    high: float
    n: int
    confidence: float = CONFIDENCE
    p_value: float | None = None

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


@attrs.frozen
class Trend:
    """A straight line fitted by least squares: change per unit of x, and the two-sided p-value of no change."""

    slope: float
    p_value: float


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean. Raises ValueError for no values."""
    if not values:
        raise ValueError("no values to take the mean of")
    return math.fsum(values) / len(values)


def _deviation(values: Sequence[float], centre: float) -> float:
    """Sample standard deviation, n - 1 in the denominator."""
    return math.sqrt(math.fsum((v - centre) ** 2 for v in values) / (len(values) - 1))


def _t_quantile(freedom: float, confidence: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.5 + confidence / 2))


def _two_sided(t: float, freedom: float) -> float:
    from scipy.special import stdtr

    return float(2 * stdtr(freedom, -abs(t)))


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Mean and its Student-t interval. Needs two values; raises ValueError for fewer."""
    n = len(values)
    if n < 2:
        raise ValueError("an interval needs two values at least")
    centre = mean(values)
    half = _t_quantile(n - 1, confidence) * _deviation(values, centre) / math.sqrt(n)
    return Interval(centre, centre - half, centre + half, n, confidence)


def zero_mean(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Mean with its interval, and the two-sided p-value (Student) of a mean of 0. Needs two values."""
    interval = mean_interval(values, confidence)
    error = _deviation(values, interval.value) / math.sqrt(len(values))
    if error == 0:
        p_value = 1.0 if interval.value == 0 else 0.0
    else:
        p_value = _two_sided(interval.value / error, len(values) - 1)
    return Interval(interval.value, interval.low, interval.high, interval.n, confidence, p_value)


def log_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Geometric mean and its interval, Student-t on logarithms: for ratios. All values must be above 0.

    `p_value` is of the hypothesis that the geometric mean is 1.
    """
    logs = [math.log(v) for v in values]
    on_log = zero_mean(logs, confidence)
    return Interval(
        math.exp(on_log.value), math.exp(on_log.low), math.exp(on_log.high), len(logs), confidence, on_log.p_value
    )


def paired_ratio(first: Sequence[float], second: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Ratio second / first of values paired by block. Raises ValueError when the lengths differ."""
    return log_interval([b / a for a, b in zip(first, second, strict=True)], confidence)


def welch_ratio(first: Sequence[float], second: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Ratio of the geometric means second / first of independent samples; Welch's t (1947) on logarithms.

    `n` is the smaller sample. Raises ValueError for fewer than two values on a side.
    """
    if min(len(first), len(second)) < 2:
        raise ValueError("an interval needs two values at least on either side")
    logs = [[math.log(v) for v in values] for values in (first, second)]
    means = [mean(values) for values in logs]
    errors = [_deviation(values, centre) ** 2 / len(values) for values, centre in zip(logs, means, strict=True)]
    difference, error, n = means[1] - means[0], math.sqrt(sum(errors)), min(len(first), len(second))
    if error == 0:
        ratio = math.exp(difference)
        return Interval(ratio, ratio, ratio, n, confidence, 1.0 if difference == 0 else 0.0)
    freedom = sum(errors) ** 2 / sum(e**2 / (len(v) - 1) for e, v in zip(errors, logs, strict=True))
    half = _t_quantile(freedom, confidence) * error
    low, high = math.exp(difference - half), math.exp(difference + half)
    return Interval(math.exp(difference), low, high, n, confidence, _two_sided(difference / error, freedom))


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Holm's step-down adjustment (1979), in the order given: compare each with the level of the whole family."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, p_values[i] * (len(p_values) - rank)))
        adjusted[i] = highest
    return tuple(adjusted)


def coefficient_of_variation(values: Sequence[float]) -> float | None:
    """Standard deviation over mean; None for fewer than two values or a mean of 0."""
    if len(values) < 2 or mean(values) == 0:
        return None
    centre = mean(values)
    return _deviation(values, centre) / abs(centre)


def relative_half_width(values: Sequence[float], confidence: float = CONFIDENCE) -> float | None:
    """Half-width of the t-interval as a share of the mean: what decides whether to go on. None as for the CV."""
    if len(values) < 2 or mean(values) == 0:
        return None
    interval = mean_interval(values, confidence)
    return interval.half_width / abs(interval.value)


def required_n(cv: float, target: float, confidence: float = CONFIDENCE, limit: int = 1000) -> int | None:
    """Least number of trials whose t half-width is below `target` (a share of the mean); None beyond `limit`."""
    for n in range(2, limit + 1):
        if _t_quantile(n - 1, confidence) * cv / math.sqrt(n) <= target:
            return n
    return None


def trend(values: Sequence[float], at: Sequence[float] | None = None) -> Trend:
    """Least-squares slope over `at` (0, 1, … by default). Raises ValueError for fewer than three values."""
    n = len(values)
    if n < 3:
        raise ValueError("a trend needs three values at least")
    xs = [float(i) for i in range(n)] if at is None else list(at)
    x0, y0 = mean(xs), mean(values)
    spread = math.fsum((x - x0) ** 2 for x in xs)
    slope = math.fsum((x - x0) * (y - y0) for x, y in zip(xs, values, strict=True)) / spread
    rest = math.fsum((y - y0 - slope * (x - x0)) ** 2 for x, y in zip(xs, values, strict=True))
    error = math.sqrt(rest / (n - 2) / spread)
    # Rounding leaves a residue on an exact line; below it the fit is perfect and no quotient means anything.
    if error <= 1e-12 * (abs(slope) + abs(y0) / math.sqrt(spread)):
        return Trend(slope, 1.0 if abs(slope) * math.sqrt(spread) <= 1e-12 * abs(y0) else 0.0)
    return Trend(slope, _two_sided(slope / error, n - 2))


def quantile(ordered: Sequence[float], q: float) -> float:
    """The least value that at least the share `q` of the ascending values does not exceed (an observed value)."""
    return ordered[max(0, _rank(q, len(ordered)) - 1)]


def _rank(q: float, n: int) -> int:
    return math.ceil(q * n - 1e-9)  # 0.9 * 10 must be 9, whatever its last bit says


def _weights(blocks: int, resamples: int, seed: int) -> Any:
    """How often each block is drawn, by resample: an array of shape (resamples, blocks)."""
    import numpy as np

    # The legacy generator, because its stream is frozen across releases of numpy and results must recompute exactly.
    random = np.random.RandomState(seed)
    drawn = random.randint(0, blocks, size=(resamples, blocks), dtype=np.int64)
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


def bootstrap_mean(groups: Sequence[Sequence[float]], resamples: int = RESAMPLES, seed: int = 0) -> Interval | None:
    """Mean over all values with a percentile bootstrap over groups; None for fewer than two groups."""
    import numpy as np

    blocks = _blocks(groups)
    if len(blocks) < 2:
        return None
    sums = np.array([math.fsum(block) for block in blocks])
    counts = np.array([float(len(block)) for block in blocks])
    weights = _weights(len(blocks), resamples, seed)
    # Elementwise, not by a matrix product: its order of summation differs from one linear-algebra library to the next.
    estimates = [math.fsum(w * sums) / math.fsum(w * counts) for w in weights]
    return _percentile_interval(math.fsum(sums) / math.fsum(counts), estimates, len(blocks))


def bootstrap_quantiles(
    groups: Sequence[Sequence[float]], quantiles: Sequence[float], resamples: int = RESAMPLES, seed: int = 0
) -> tuple[Interval, ...] | None:
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
    below = np.cumsum(_weights(len(blocks), resamples, seed) @ counts, axis=1)
    found = []
    for q in quantiles:
        need = np.ceil(q * below[:, -1] - 1e-9)
        estimates = edges[(below < need[:, None]).sum(axis=1)]
        found.append(_percentile_interval(float(quantile(ordered, q)), estimates, len(blocks)))
    return tuple(found)
