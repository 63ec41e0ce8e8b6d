"""Least squares with intervals of the coefficients."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs
import numpy as np

from llem.metrics.statistics import Interval, t_quantile

__all__ = ["Fit", "fit"]


@attrs.frozen
class Fit:
    """A linear model.

    Attributes:
        terms: each coefficient with its 95 % interval (Student's t). r2: the share of the variance that is explained.
        fitted, rests: of each value, what the model says, and what is left.
    """

    terms: Sequence[Interval]
    fitted: Sequence[float]
    rests: Sequence[float]
    r2: float


def fit(columns: Sequence[Sequence[float]], values: Sequence[float], weights: Sequence[float] | None = None) -> Fit:
    """Fit `values`, one row of `columns` each.

    Args:
        weights: each value's standard deviation is proportional to the inverse of its weight; all alike by default.

    Raises ValueError: no more values than columns, or columns that depend on each other.
    """
    x, y = np.asarray(columns, float), np.asarray(values, float)
    n, k = x.shape
    if n <= k:
        raise ValueError(f"{n} values do not determine {k} coefficients with an error")
    w = np.ones(n) if weights is None else np.asarray(weights, float)
    found, _, rank, _ = np.linalg.lstsq(x * w[:, None], y * w, rcond=None)
    if rank < k:
        raise ValueError("the columns depend on each other")
    fitted = x @ found
    rests = y - fitted
    variance = float(((w * rests) ** 2).sum()) / (n - k)
    errors = np.sqrt(variance * np.diag(np.linalg.inv((x * w[:, None]).T @ (x * w[:, None]))))
    total = float(((y - y.mean()) ** 2).sum())
    terms = [_interval(float(b), t_quantile(n - k) * float(e), n) for b, e in zip(found, errors, strict=True)]
    r2 = 1 - float((rests**2).sum()) / total if total > 0 else math.nan
    return Fit(terms, fitted.tolist(), rests.tolist(), r2)


def _interval(value: float, half: float, n: int) -> Interval:
    return Interval(value, value - half, value + half, n)
