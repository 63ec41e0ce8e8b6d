"""Intervals, tests and trends. Pure: same numbers in, same bits out.

Few repetitions get Student-t intervals, because a percentile bootstrap of five values covers 83 % where 95 % is
claimed. Sums use `math.fsum`, so that the order of the values does not change a digit.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import attrs

__all__ = [
    "CONFIDENCE",
    "Z_95",
    "Interval",
    "Trend",
    "clustered",
    "holm",
    "joined",
    "log_interval",
    "mean",
    "mean_interval",
    "paired_ratio",
    "process_means",
    "quantile",
    "relative_half_width",
    "t_quantile",
    "trend",
    "two_sided",
    "welch_ratio",
    "wilson",
    "zero_mean",
]

CONFIDENCE = 0.95
#: Standard errors on either side that hold 95 % of a normal distribution.
Z_95 = 1.959963984540054


@attrs.frozen
class Interval:
    """An estimate with its 95 % interval; `p_value` where a null hypothesis was tested."""

    value: float
    low: float
    high: float
    n: int
    p_value: float | None = None

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


@attrs.frozen
class Trend:
    """A straight line by least squares: the change from one value to the next, and the two-sided p-value of none."""

    slope: float
    p_value: float


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean. Raises ValueError for no values."""
    if not values:
        raise ValueError("no values to take the mean of")
    return math.fsum(values) / len(values)


def _deviation(values: Sequence[float], centre: float) -> float:
    """Sample standard deviation, n - 1 in the denominator."""
    try:
        return math.sqrt(math.fsum((v - centre) ** 2 for v in values) / (len(values) - 1))
    except OverflowError:  # the squares alone are beyond the range of floats; hypot scales them
        return math.hypot(*(v - centre for v in values)) / math.sqrt(len(values) - 1)


@functools.lru_cache(maxsize=1024)
def t_quantile(freedom: float) -> float:
    """How many standard errors the interval reaches to each side.

    Before scipy 1.17 the quantile is off by up to 2e-11 of it. One step of Newton's method on the distribution, which
    is exact in all of them, gives every release the same interval.
    """
    from scipy.special import stdtr, stdtrit

    level = 0.5 + CONFIDENCE / 2
    t = float(stdtrit(freedom, level))
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)
    density: float = scale * (1 + t * t / freedom) ** (-(freedom + 1) / 2)
    return t - (float(stdtr(freedom, t)) - level) / density


def two_sided(t: float, freedom: float) -> float:
    """The two-sided p-value of Student's t."""
    from scipy.special import stdtr

    return float(2 * stdtr(freedom, -abs(t)))


def mean_interval(values: Sequence[float]) -> Interval:
    """Mean and its Student-t interval. Needs two values; raises ValueError for fewer."""
    n = len(values)
    if n < 2:
        raise ValueError("an interval needs two values at least")
    centre = mean(values)
    half = t_quantile(n - 1) * _deviation(values, centre) / math.sqrt(n)
    return Interval(centre, centre - half, centre + half, n)


def process_means(values: Sequence[float], processes: Sequence[int]) -> list[float]:
    """The mean of each engine process, by its number. `processes`: of each value."""
    groups: dict[int, list[float]] = {}
    for value, process in zip(values, processes, strict=True):
        groups.setdefault(process, []).append(value)
    return [mean(groups[process]) for process in sorted(groups)]


def clustered(values: Sequence[float], processes: Sequence[int]) -> Interval:
    """Mean and its interval, where trials of one engine process are a cluster.

    Trials of one process share what differs from process to process (memory layout, clocks, autotuning), so they are
    no independent sample of it. With several processes the mean of a process is one value: Student's t over these
    means, which is exact for normal means and equal numbers of trials. With one process the interval covers that
    process alone. `n` is the number of trials. Raises ValueError for fewer than two values.
    """
    means = process_means(values, processes)
    return attrs.evolve(mean_interval(means if len(means) > 1 else values), n=len(values))


def joined(interval: Interval, error: float) -> float:
    """Half-width of a mean over `interval.n` values less something else, which two readings estimate.

    With s the mean's standard error and `error` the other one's (one degree of freedom), it is

        (T w + t (1 - w)) sqrt(s^2 + error^2)    with w = (error^2 / (s^2 + error^2))^1.5

    where T and t are Student's quantiles of one and of n - 1 degrees of freedom. Cochran and Cox (Experimental Designs,
    1957, section 4.14) have the exponent 1, which covers up to 98.5 %; Welch's degrees of freedom cover as little as
    88 %. The exponent 1.5 covers 93 to 98 % for 5 values and more, by simulation (benchmarks/simulate_coverage.py).
    """
    many, one = t_quantile(interval.n - 1), t_quantile(1)
    squares = (interval.half_width / many) ** 2, error**2
    if sum(squares) == 0:
        return 0.0
    weight: float = (squares[1] / sum(squares)) ** 1.5
    return (one * weight + many * (1 - weight)) * math.sqrt(sum(squares))


def zero_mean(values: Sequence[float]) -> Interval:
    """Mean with its interval, and the two-sided p-value (Student) of a mean of 0. Needs two values."""
    interval = mean_interval(values)
    error = _deviation(values, interval.value) / math.sqrt(len(values))
    if error == 0:
        p_value = 1.0 if interval.value == 0 else 0.0
    else:
        p_value = two_sided(interval.value / error, len(values) - 1)
    return Interval(interval.value, interval.low, interval.high, interval.n, p_value)


def log_interval(values: Sequence[float]) -> Interval:
    """Geometric mean and its interval, Student-t on logarithms: for ratios. All values must be above 0.

    `p_value` is of the hypothesis that the geometric mean is 1.
    """
    logs = [math.log(v) for v in values]
    on_log = zero_mean(logs)
    return Interval(math.exp(on_log.value), math.exp(on_log.low), math.exp(on_log.high), len(logs), on_log.p_value)


def paired_ratio(first: Sequence[float], second: Sequence[float]) -> Interval:
    """Ratio second / first of values paired by block. Raises ValueError when the lengths differ."""
    return log_interval([b / a for a, b in zip(first, second, strict=True)])


def welch_ratio(first: Sequence[float], second: Sequence[float]) -> Interval:
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
        return Interval(ratio, ratio, ratio, n, 1.0 if difference == 0 else 0.0)
    freedom = sum(errors) ** 2 / sum(e**2 / (len(v) - 1) for e, v in zip(errors, logs, strict=True))
    half = t_quantile(freedom) * error
    low, high = math.exp(difference - half), math.exp(difference + half)
    return Interval(math.exp(difference), low, high, n, two_sided(difference / error, freedom))


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Holm's step-down adjustment (1979), in the order given: compare each with the level of the whole family."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, p_values[i] * (len(p_values) - rank)))
        adjusted[i] = highest
    return tuple(adjusted)


def relative_half_width(values: Sequence[float]) -> float | None:
    """Half-width of the t-interval as a share of the mean: what decides whether to go on.

    None for fewer than two values, or a mean of 0.
    """
    if len(values) < 2 or mean(values) == 0:
        return None
    interval = mean_interval(values)
    return interval.half_width / abs(interval.value)


def trend(values: Sequence[float]) -> Trend:
    """Least-squares slope over 0, 1, 2, …; the test is Student's. Raises ValueError for fewer than three values."""
    n = len(values)
    if n < 3:
        raise ValueError("a trend needs three values at least")
    xs = [float(i) for i in range(n)]
    x0, y0 = mean(xs), mean(values)
    spread = math.fsum((x - x0) ** 2 for x in xs)
    slope = math.fsum((x - x0) * (y - y0) for x, y in zip(xs, values, strict=True)) / spread
    rest = math.fsum((y - y0 - slope * (x - x0)) ** 2 for x, y in zip(xs, values, strict=True))
    error = math.sqrt(rest / (n - 2) / spread)
    # Rounding leaves a residue on an exact line; below it the fit is perfect and no quotient means anything.
    if error <= 1e-12 * (abs(slope) + abs(y0) / math.sqrt(spread)):
        return Trend(slope, 1.0 if abs(slope) * math.sqrt(spread) <= 1e-12 * abs(y0) else 0.0)
    return Trend(slope, two_sided(slope / error, n - 2))


def quantile(ordered: Sequence[float], q: float) -> float:
    """The least value that at least the share `q` of the ascending values does not exceed (an observed value)."""
    return ordered[max(0, _rank(q, len(ordered)) - 1)]


def _rank(q: float, n: int) -> int:
    return math.ceil(q * n - 1e-9)  # 0.9 * 10 must be 9, whatever its last bit says


def wilson(share: float, n: float) -> tuple[float, float]:
    """The 95 % interval of a share that was seen in `n` independent cases (Wilson, JASA 22 (1927) 209); n above 0.

    It stays within 0 and 1, holds the share, and has a width where all cases are alike.
    """
    z = Z_95**2 / n
    centre, half = (share + z / 2) / (1 + z), Z_95 / (1 + z) * math.sqrt(share * (1 - share) / n + z / (4 * n))
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))
