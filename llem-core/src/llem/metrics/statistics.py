"""Intervals, tests and trends, and from one value per trial to one Quantity. Pure: same numbers in, same bits out.

Few repetitions get Student-t intervals, because a percentile bootstrap of five values covers 83 % where 95 % is
claimed; latencies of many requests get one (`llem.metrics.bootstrap`). Sums use `math.fsum`, so that the order of the
values does not change a digit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs

from llem.store.models import Quantity

__all__ = [
    "Interval",
    "Trend",
    "Value",
    "absent",
    "exact",
    "holm",
    "log_interval",
    "mean",
    "mean_interval",
    "paired_ratio",
    "quantile",
    "quantity",
    "relative_half_width",
    "trend",
    "welch_ratio",
    "zero_mean",
]

CONFIDENCE = 0.95


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
    return math.sqrt(math.fsum((v - centre) ** 2 for v in values) / (len(values) - 1))


def _t_quantile(freedom: float) -> float:
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


def _two_sided(t: float, freedom: float) -> float:
    from scipy.special import stdtr

    return float(2 * stdtr(freedom, -abs(t)))


def mean_interval(values: Sequence[float]) -> Interval:
    """Mean and its Student-t interval. Needs two values; raises ValueError for fewer."""
    n = len(values)
    if n < 2:
        raise ValueError("an interval needs two values at least")
    centre = mean(values)
    half = _t_quantile(n - 1) * _deviation(values, centre) / math.sqrt(n)
    return Interval(centre, centre - half, centre + half, n)


def zero_mean(values: Sequence[float]) -> Interval:
    """Mean with its interval, and the two-sided p-value (Student) of a mean of 0. Needs two values."""
    interval = mean_interval(values)
    error = _deviation(values, interval.value) / math.sqrt(len(values))
    if error == 0:
        p_value = 1.0 if interval.value == 0 else 0.0
    else:
        p_value = _two_sided(interval.value / error, len(values) - 1)
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
    half = _t_quantile(freedom) * error
    low, high = math.exp(difference - half), math.exp(difference + half)
    return Interval(math.exp(difference), low, high, n, _two_sided(difference / error, freedom))


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
    return Trend(slope, _two_sided(slope / error, n - 2))


def quantile(ordered: Sequence[float], q: float) -> float:
    """The least value that at least the share `q` of the ascending values does not exceed (an observed value)."""
    return ordered[max(0, _rank(q, len(ordered)) - 1)]


def _rank(q: float, n: int) -> int:
    return math.ceil(q * n - 1e-9)  # 0.9 * 10 must be 9, whatever its last bit says


@attrs.frozen
class Value:
    """One trial's value, or None with a reason; `bound` is what the instrument may be off by, in the same unit."""

    value: float | None
    bound: float | None = None
    reason: str | None = None

    def scaled(self, factor: float) -> Value:
        """Value and bound times `factor`."""
        if self.value is None:
            return self
        return Value(self.value * factor, None if self.bound is None else self.bound * abs(factor))


def absent(unit: str, reason: str, *, scope: str | None = None, kind: str | None = None) -> Quantity:
    """A quantity that was not measured, with the code of the reason."""
    return Quantity(None, unit, reason=reason, scope=scope, kind=kind)


def exact(value: float, unit: str, n: int) -> Quantity:
    """A quantity that is counted, not estimated."""
    return Quantity(value, unit, n=n, method="exact")


def quantity(values: Sequence[Value], unit: str, *, scope: str | None = None, kind: str | None = None) -> Quantity:
    """Mean over trials with its Student-t interval; for one trial the instrument's bound, where there is one.

    A trial without a value makes the whole quantity None with that trial's reason: a mean over the trials that
    happened to be readable would be another quantity under the same name.
    """
    if not values:
        return absent(unit, "no_trials", scope=scope, kind=kind)
    found = [v.value for v in values if v.value is not None]
    if len(found) < len(values):
        missing = next(v for v in values if v.value is None)
        return absent(unit, missing.reason or "not_supported", scope=scope, kind=kind)
    if len(values) > 1:
        interval = mean_interval(found)
        return Quantity(
            interval.value, unit, interval.low, interval.high, CONFIDENCE, len(found), "student_t",
            scope=scope, kind=kind,
        )  # fmt: skip
    only, bound = found[0], values[0].bound
    if bound is None:
        return Quantity(only, unit, n=1, method="single_trial", scope=scope, kind=kind)
    return Quantity(only, unit, only - bound, only + bound, CONFIDENCE, 1, "instrument", scope=scope, kind=kind)
