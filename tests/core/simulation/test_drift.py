"""Level and power of the search for changes, in a small simulation; the large one is `benchmarks/simulate_drift.py`."""

from __future__ import annotations

import math

import numpy as np
import pytest

from llem.metrics.changes import changes


def windows(random, rho, shape=None, n=40, count=5):
    """`count` windows of n values about 100 with a scatter of 1, an autoregression of order one."""
    fresh = random.standard_normal((n + 20, count))
    found, last = [], np.zeros(count)
    for row in fresh:
        last = rho * last + math.sqrt(1 - rho * rho) * row
        found.append(last)
    add = np.zeros(n) if shape is None else np.array([shape((t + 0.5) / n) for t in range(n)])
    return (100 + np.array(found[20:]).T + add).tolist()


def told(rho, shape, runs, seed):
    """Share of experiments in which the mean of the windows changes with p < 0.02, and of windows with p < 0.02."""
    random, pooled, single = np.random.RandomState(seed), 0, 0
    for _ in range(runs):
        whole, each = changes(windows(random, rho, shape))
        pooled += whole.p_value < 0.02
        single += sum(change.p_value < 0.02 for change in each)
    return pooled / runs, single / (5 * runs)


@pytest.mark.parametrize("rho", [0.0, 0.6])
def test_steady_series_keep_the_level(rho):
    """A p-value below 0.02 comes up in at most about 2 % of steady series, correlated or not (200: 3 sd are 3 %)."""
    pooled, single = told(rho, None, 200, 11)
    assert pooled <= 0.05
    assert single <= 0.03


@pytest.mark.parametrize(
    "shape",
    [lambda t: 3 * (t >= 0.5), lambda t: 5 * abs(2 * t - 1), lambda t: 10 * (0.4 <= t < 0.55)],
    ids=["step", "V", "bump"],
)
@pytest.mark.parametrize("rho", [0.0, 0.6])
def test_changes_are_found(rho, shape):
    """A step of 3 %, a V of 5 %, a bump of 10 % in every window: found in eight of ten experiments at least."""
    assert told(rho, shape, 25, 12)[0] >= 0.8
