"""Where a series changes its level: a line, a bend, a step or a bump, sought in windows whose values may be correlated.

The model of a window is x_t = level + shape + noise, where the noise is an autoregression of order one, equal in all
windows but independent from one to the next. Its coefficient comes from the differences between pairs of windows, in
which a shape that recurs cancels; the median over pairs is deaf to one window that differs. What remains after
y_t = x_t - rho x_(t-1) is fitted by every shape in turn (a level that differs in an interval of a tenth of the window
at least, or a bend |t - c|, whose ends are straight lines), and the statistic is

    (n - 3) log(S0 / S1), the greatest over all shapes, S the sum of squares without and with the shape

(Levin and Kline 1985 for the interval at unknown places). Its null distribution was simulated
(`benchmarks/simulate_drift.py --calibrate`): from a p-value of 0.05 on, log p falls as a straight line.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations, pairwise
from typing import Any, Literal

import attrs

from llem.metrics.residuals import Unit, basis_of, product, residuals, without
from llem.metrics.statistics import mean

__all__ = ["LEAST", "MOST", "Change", "cells", "changes"]

#: Values of a window that are sought through: below, no shape can be told from noise; above, values are averaged.
LEAST, MOST = 12, 100
#: Windows from which on their differences tell the correlation. With fewer it is that of what a shape leaves over.
WINDOWS = 3
#: The shortest interval is this share of a window, so that one value that lies far off is no bump.
SHORTEST = 0.1
#: A bend's vertex is this share of a window from either end: nearer, it is hard to tell from a line.
NEAREST = 0.25
_Tails = tuple[tuple[float, float], tuple[float, float], tuple[float, float], tuple[float, float]]
_ALONE, _AMONG, _MEAN_OF_THREE, _MEAN_OF_FIVE = range(4)
HIGHEST_RHO, LOWEST_RHO = 0.99, -0.5
#: Values n, and (a, b) of p = exp(a - b statistic), as simulated with a correlation of 0.6, the greatest that is meant:
#: of a window among fewer than `WINDOWS`, of one among these or more, of the mean of these or more, of that of five or
#: more. With less correlation p-values come out too great.
TAILS: tuple[tuple[int, _Tails], ...] = (
    (12, ((4.85, 0.37), (1.25, 0.4), (0.8, 0.33), (1.05, 0.36))),
    (20, ((2.65, 0.239), (2.15, 0.45), (1.5, 0.345), (1.5, 0.37))),
    (40, ((1.4, 0.186), (3.5, 0.45), (1.9, 0.33), (3.0, 0.4))),
    (100, ((1.6, 0.22), (4.55, 0.45), (3.2, 0.34), (3.3, 0.37))),
)


@attrs.frozen
class Change:
    """The shape that fits a series best.

    Attributes:
        shape: "line", "bend" (down and up again, or up and down), "step" or "bump".
        begin, end: where it lies, as shares of the series: a step's place twice, a bend's vertex twice.
        share: the change over the mean of the series: a line's from beginning to end, a bend's from its vertex to the
            farther end, a step's from before to after, a bump's from outside to inside.
        p_value: of no change at all.
    """

    shape: Literal["line", "bend", "step", "bump"]
    begin: float
    end: float
    share: float
    p_value: float


def cells(values: Sequence[float], count: int) -> list[float]:
    """Means of `count` runs of consecutive values, of nearly equal length. Raises ValueError for too few values."""
    n = len(values)
    if count > n:
        raise ValueError(f"{n} values do not fill {count} cells")
    if count == n:
        return list(values)
    return [mean(values[i * n // count : (i + 1) * n // count]) for i in range(count)]


def changes(
    windows: Sequence[Sequence[float]], columns: Sequence[Sequence[Sequence[float]]] | None = None
) -> tuple[Change | None, list[Change]]:
    """What changes in the mean of the windows, and in each window.

    A shape that recurs in every window stands out in their mean, where noise is less. None for fewer windows than
    `WINDOWS`. All windows have one number of values, `LEAST` to `MOST`.

    Args:
        columns: of each window, what is known to move its values; their effect is taken out of each window first.
    """
    bases = [basis_of([of]) for of in columns] if columns is not None else [[] for _ in windows]
    left = [without([window], basis)[0] for window, basis in zip(windows, bases, strict=True)]
    pooled = len(left) >= WINDOWS
    if pooled:
        around = [[b - a for a, b in zip(one, other, strict=True)] for one, other in combinations(left, 2)]
    else:
        around = [residuals(one, [_best(one, 0.0).column(len(one))]) for one in left]
    # k directions that are taken out of n values take that share of the correlation with them
    taken = max(map(len, bases)) / len(left[0])
    rho = min(HIGHEST_RHO, _correlation(around) / (1 - taken))
    found = []
    for window, basis in zip(left, bases, strict=True):
        fit = _best(window, rho)
        found.append(_change(fit, _slope(fit, window, basis), mean(window), len(window), _AMONG if pooled else _ALONE))
    if not pooled:
        return None, found
    profile = [mean(at) for at in zip(*left, strict=True)]
    fit = _best(profile, rho)
    slope = mean([_slope(fit, window, basis) for window, basis in zip(left, bases, strict=True)])
    return _change(fit, slope, mean(profile), len(profile), _MEAN_OF_FIVE if len(left) >= 5 else _MEAN_OF_THREE), found


def _correlation(series: Sequence[Sequence[float]]) -> float:
    """Median correlation of neighbours, less the bias -(1 + 3 rho) / n of one series (Kendall 1954)."""
    found = []
    for values in series:
        n, centre = len(values), mean(values)
        rest = [value - centre for value in values]
        whole = math.fsum(one * one for one in rest)
        if whole > 0:
            raw = math.fsum(a * b for a, b in pairwise(rest)) / whole
            found.append((n * raw + 1) / (n - 3))
    if not found:
        return 0.0
    found.sort()
    middle = (found[(len(found) - 1) // 2] + found[len(found) // 2]) / 2
    return min(HIGHEST_RHO, max(LOWEST_RHO, middle))


@attrs.frozen
class _Fit:
    """The best shape: an interval of cells [begin, end), or a vertex where both are the same; and its statistic."""

    begin: int
    end: int
    statistic: float

    def column(self, n: int) -> list[float]:
        """The shape itself, one value per cell."""
        if self.begin == self.end:
            return [float(abs(t - self.begin)) for t in range(n)]
        return [float(self.begin <= t < self.end) for t in range(n)]


def _slope(fit: _Fit, values: Sequence[float], basis: Sequence[Unit]) -> float:
    """Least-squares coefficient of the shape beside the basis; 0 where that makes it up."""
    [shape] = without([fit.column(len(values))], basis)
    middle = mean(shape)
    spread = math.fsum((one - middle) ** 2 for one in shape)
    if spread <= 1e-9 * len(shape):
        return 0.0
    return math.fsum((one - middle) * value for one, value in zip(shape, values, strict=True)) / spread


def _change(fit: _Fit, slope: float, centre: float, n: int, tail: int) -> Change:
    size = slope / abs(centre) if centre else 0.0
    a, b = _tail(n, tail)
    p_value = min(1.0, math.exp(a - b * fit.statistic))
    at = fit.begin
    if fit.begin == fit.end:
        if at > 0:
            return Change("bend", at / n, at / n, size * max(at, n - 1 - at), p_value)
        return Change("line", 0.0, 1.0, size * n, p_value)
    if at == 0:
        return Change("step", fit.end / n, fit.end / n, -size, p_value)
    if fit.end == n:
        return Change("step", at / n, at / n, size, p_value)
    return Change("bump", at / n, fit.end / n, size, p_value)


def _best(values: Sequence[float], rho: float) -> _Fit:
    """The shape with the greatest statistic.

    Sums are exact or run in one order, so that every machine finds the same bits.
    """
    import numpy as np

    n = len(values)
    filtered = [b - rho * a for a, b in pairwise(values)]
    centre = mean(filtered)
    rest = np.array([one - centre for one in filtered])
    whole = product(rest, rest)
    if whole <= n * (1e-12 * max(map(abs, values))) ** 2:  # rounding
        return _Fit(0, 0, 0.0)
    begins, ends = _intervals(n)
    sums = np.concatenate(([0.0], np.cumsum(rest)))
    intervals = _explained_by_intervals(rest, sums, begins, ends, rho)
    vertices = _explained_by_bends(rest, sums)
    i, c = int(np.argmax(intervals)), int(np.argmax(vertices))
    explained = max(float(intervals[i]), float(vertices[c]))
    statistic = (n - 3) * math.log(whole / max(whole - explained, 1e-12 * whole))
    if vertices[c] >= intervals[i]:
        return _Fit(c + 1 if c else 0, c + 1 if c else 0, statistic)
    return _Fit(int(begins[i]), int(ends[i]), statistic)


@lru_cache(maxsize=64)
def _intervals(n: int) -> tuple[Any, Any]:
    """Begin and end of every interval of n cells that is long enough, as is what it leaves on either side, if any."""
    import numpy as np

    least = max(4, math.ceil(n * SHORTEST))
    begins, ends = np.triu_indices(n + 1, least)
    kept = ((begins == 0) | (begins >= least)) & ((ends == n) | (n - ends >= least)) & (ends - begins < n)
    return begins[kept], ends[kept]


def _explained_by_intervals(rest: Any, sums: Any, begins: Any, ends: Any, rho: float) -> Any:
    """Sum of squares that each interval explains of the filtered values `rest`, whose running sums are `sums`.

    Filtered, a level of 1 in [b, e) is 1 where it begins (unless that is the window's begin), then 1 - rho, and -rho
    after its end.
    """
    import numpy as np

    n = len(rest)
    entered, left = begins > 0, ends <= n
    inside, kept = ends - 1.0 - begins, 1.0 - rho
    padded = np.concatenate(([0.0], rest, [0.0]))  # value t of `rest` is t + 1 here, and belongs to cell t + 1
    along = kept * (sums[ends - 1] - sums[begins]) + entered * padded[begins] - rho * (left * padded[ends])
    total = kept * inside + entered - rho * left
    spread = kept**2 * inside + entered + rho**2 * left - total**2 / n
    return along**2 / spread


def _explained_by_bends(rest: Any, sums: Any) -> Any:
    """Sum of squares that |t - c| explains of the filtered values, for each c: filtered, it is a bend still.

    0 for a vertex so near to an end that the bend is all but a line; that is c = 0.
    """
    import numpy as np

    n = len(rest)
    before = np.arange(n, dtype=float)
    after = n - 1 - before
    moments = np.concatenate(([0.0], np.cumsum(before * rest)))
    along = (moments[-1] - 2 * moments[:-1]) - before * (sums[-1] - 2 * sums[:-1])
    first = (before * (before + 1) + after * (after + 1)) / 2
    second = (before * (before + 1) * (2 * before + 1) + after * (after + 1) * (2 * after + 1)) / 6
    near = np.minimum(before, after) < n * NEAREST
    return np.where(near & (before > 0), 0.0, along**2 / (second - first**2 / n))


def _tail(n: int, tail: int) -> tuple[float, float]:
    """(a, b) of p = exp(a - b statistic) for n values, between two simulated numbers by their logarithm."""
    low = max((row for row in TAILS if row[0] <= n), default=TAILS[0])
    high = min((row for row in TAILS if row[0] >= n), default=TAILS[-1])
    share = 0.0 if low[0] == high[0] else math.log(n / low[0]) / math.log(high[0] / low[0])
    first, last = (row[1][tail] for row in (low, high))
    return first[0] + share * (last[0] - first[0]), first[1] + share * (last[1] - first[1])
