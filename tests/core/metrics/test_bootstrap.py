"""Percentile bootstraps against known values and simulation."""

from __future__ import annotations

import numpy as np
import pytest

from llem.metrics.percentiles import bootstrap_mean, bootstrap_quantiles
from llem.metrics.statistics import quantile


def test_bootstrap_repeats_exactly():
    """The same latencies give the same intervals, bit for bit."""
    groups = [[float(v)] for v in np.random.default_rng(1).lognormal(0, 0.5, 300)]
    assert bootstrap_quantiles(groups, (0.5, 0.99)) == bootstrap_quantiles(groups, (0.5, 0.99))
    assert bootstrap_mean(groups) == bootstrap_mean(groups)


def test_bootstrap_stream_is_frozen():
    """The resamples do not depend on the version of numpy: known values of a known input."""
    found = bootstrap_quantiles([[float(i)] for i in range(100)], (0.5, 0.9))
    assert [(i.value, i.low, i.high) for i in found or ()] == [(49.0, 40.0, 59.0), (89.0, 82.0, 94.0)]


def test_bootstrap_coverage_of_the_median():
    """The interval of the median of 100 requests covers the truth in 92 to 98 % of 400 studies."""
    draws = np.random.default_rng(2).lognormal(0.0, 0.5, size=(400, 100))
    covered = 0
    for row in draws:
        found = bootstrap_quantiles([[float(v)] for v in row], (0.5,))
        covered += found is not None and found[0].low <= 1.0 <= found[0].high
    assert 0.92 <= covered / 400 <= 0.98


def test_bootstrap_resamples_batches():
    """Copies of a latency within a batch add no information: the interval stays as wide."""
    values = [float(v) for v in np.random.default_rng(3).lognormal(0, 0.5, 40)]
    alone = bootstrap_quantiles([[v] for v in values], (0.5, 0.9))
    copied = bootstrap_quantiles([[v] * 16 for v in values], (0.5, 0.9))
    assert alone == copied
    one, many = bootstrap_mean([[v] for v in values]), bootstrap_mean([[v] * 16 for v in values])
    assert one is not None
    assert many is not None
    assert (one.low, one.high) == pytest.approx((many.low, many.high), rel=1e-12)


def test_bootstrap_with_more_values_than_bins():
    """With 20,000 values the binned interval agrees with the exact one to one bin."""
    values = sorted(float(v) for v in np.random.default_rng(4).lognormal(0, 0.5, 20_000))
    groups = [values[i::500] for i in range(500)]
    found = bootstrap_quantiles(groups, (0.5, 0.99))
    assert found is not None
    for interval, q in zip(found, (0.5, 0.99), strict=True):
        assert interval.value == quantile(values, q)
        assert interval.low <= interval.value * 1.01
        assert quantile(values, q - 0.02) < interval.low <= interval.high < quantile(values, min(q + 0.02, 1.0))


def test_bootstrap_of_one_batch_is_absent():
    """One batch gives no interval."""
    assert bootstrap_quantiles([[1.0, 2.0], []], (0.5,)) is None
    assert bootstrap_mean([[1.0, 2.0]]) is None
