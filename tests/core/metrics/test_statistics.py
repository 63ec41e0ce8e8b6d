"""Intervals and tests against scipy, known values and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from llem.metrics import statistics as s
from llem.metrics.quantity import possible
from llem.store.models import Quantity

VALUES = [10.1, 9.8, 10.4, 10.0, 9.7]
finite = st.floats(min_value=-1e6, max_value=1e6, allow_nan=False)


def test_mean_interval_is_scipys():
    """The t-interval agrees with scipy's."""
    low, high = stats.t.interval(0.95, 4, loc=np.mean(VALUES), scale=stats.sem(VALUES))
    found = s.mean_interval(VALUES)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)
    assert found.n == 5


def test_half_width_of_three_and_five_trials():
    """Half-widths are 2.48, 1.24 and 0.72 times the standard deviation for n = 3, 5 and 10."""
    for n, factor in ((3, 2.484), (5, 1.2417), (10, 0.7154)):
        values = list(np.linspace(-1, 1, n))
        assert s.mean_interval(values).half_width == pytest.approx(factor * np.std(values, ddof=1), rel=1e-3)


def test_one_value_has_no_interval():
    """An interval of one value is refused, not invented."""
    with pytest.raises(ValueError, match="two values"):
        s.mean_interval([1.0])


def test_coverage_at_five_trials():
    """Of 4000 simulated studies of five trials, 95 % cover the truth (within 1 %)."""
    draws = np.random.default_rng(5).normal(100.0, 3.0, size=(4000, 5))
    intervals = [s.mean_interval([float(v) for v in row]) for row in draws]
    covered = sum(i.low <= 100.0 <= i.high for i in intervals) / len(intervals)
    assert 0.94 <= covered <= 0.96


def test_coverage_of_paired_ratios():
    """The paired log-ratio interval covers a known ratio in 93 to 97 % of 2000 studies, whatever the blocks do."""
    random = np.random.default_rng(6)
    blocks = random.lognormal(0.0, 0.3, size=(2000, 5))
    first = blocks * random.lognormal(0.0, 0.02, size=(2000, 5))
    second = 1.05 * blocks * random.lognormal(0.0, 0.02, size=(2000, 5))
    intervals = [s.paired_ratio(list(a), list(b)) for a, b in zip(first, second, strict=True)]
    covered = sum(i.low <= 1.05 <= i.high for i in intervals) / len(intervals)
    assert 0.93 <= covered <= 0.97


def test_paired_ratio_is_a_t_test_on_logs():
    """Value and p-value are those of scipy's paired t-test on logarithms."""
    other = [v * r for v, r in zip(VALUES, (1.02, 1.01, 1.03, 0.99, 1.02), strict=True)]
    found = s.paired_ratio(VALUES, other)
    assert found.p_value == pytest.approx(stats.ttest_rel(np.log(other), np.log(VALUES)).pvalue, rel=1e-9)
    assert found.value == pytest.approx(stats.gmean(np.array(other) / np.array(VALUES)), rel=1e-12)


def test_pairs_must_match():
    """Lists of different length are no pairs."""
    with pytest.raises(ValueError, match="shorter"):
        s.paired_ratio([1.0, 2.0, 3.0], [1.0, 2.0])


def test_holm_known_values():
    """Holm's adjustment of a textbook family."""
    assert s.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert s.holm([]) == ()


@given(st.lists(st.floats(min_value=0, max_value=1), min_size=1, max_size=20))
def test_holm_between_raw_and_bonferroni(p_values):
    """Adjusted values never fall below the raw ones nor exceed Bonferroni's, and keep their order."""
    adjusted = s.holm(p_values)
    for raw, found in zip(p_values, adjusted, strict=True):
        assert raw <= found <= min(1.0, raw * len(p_values))
    ranked = [a for _, a in sorted(zip(p_values, adjusted, strict=True))]
    assert ranked == sorted(ranked)


def test_trend_is_scipys():
    """Slope and p-value agree with scipy's linear regression."""
    values = [1.0, 1.2, 0.9, 1.4, 1.3, 1.6, 1.5, 1.9, 1.7, 2.0]
    expected = stats.linregress(range(10), values)
    found = s.trend(values)
    assert (found.slope, found.p_value) == pytest.approx((expected.slope, expected.pvalue), rel=1e-9)


def test_trend_of_exact_lines():
    """A constant has no trend (p = 1), a perfect slope has one (p = 0)."""
    assert s.trend([5.3] * 10) == s.Trend(0.0, 1.0)
    assert s.trend([float(i) for i in range(10)]).p_value == 0.0


def test_trend_false_alarms():
    """Noise without a trend is called one at the level asked for: 1 % of 4000 within what chance allows."""
    draws = np.random.default_rng(7).normal(1.0, 0.01, size=(4000, 10))
    alarms = sum(s.trend([float(v) for v in row]).p_value < 0.01 for row in draws)
    assert 20 <= alarms <= 62


@given(st.lists(finite, min_size=1, max_size=60), st.floats(min_value=0.01, max_value=1))
def test_quantile_is_the_inverted_distribution(values, q):
    """A quantile is an observed value, and numpy's `inverted_cdf`."""
    ordered = sorted(values)
    if abs(q * len(ordered) - round(q * len(ordered))) > 1e-6:  # at a whole rank one last bit decides in numpy
        assert s.quantile(ordered, q) == np.quantile(ordered, q, method="inverted_cdf")
    assert s.quantile(ordered, 0.9) in ordered


@given(st.lists(st.floats(min_value=0.1, max_value=1e6), min_size=2, max_size=12), st.randoms())
def test_order_of_trials_changes_no_bit(values, random):
    """Shuffled trials give the same interval, exactly."""
    shuffled = list(values)
    random.shuffle(shuffled)
    assert s.mean_interval(values) == s.mean_interval(shuffled)


def test_relative_half_width():
    """It is a share of the mean, and absent where there is nothing to divide by."""
    assert s.relative_half_width(VALUES) == pytest.approx(s.mean_interval(VALUES).half_width / 10.0)
    assert s.relative_half_width([1.0]) is None
    assert s.relative_half_width([1.0, -1.0]) is None


@pytest.mark.parametrize(
    ("freedom", "exact"),
    [(1, 12.706204736174694), (2, 4.302652729749462), (4, 2.7764451051977934), (9, 2.262157162798205)],
)
def test_quantiles_are_those_of_every_scipy(freedom, exact):
    """Releases before 1.17 are off by 2e-11; a store written with one verifies with another."""
    assert s.t_quantile(freedom) == pytest.approx(exact, rel=1e-14)


@pytest.mark.parametrize(
    ("limits", "least", "most", "cut", "half"),
    [
        ((0.331, 1.447), 0.0, 1.0, (0.331, 1.0), 0.558),
        ((-0.71, 2.488), 0.0, None, (0.0, 2.488), 1.599),
        ((-0.71, 2.488), None, None, (-0.71, 2.488), 1.599),
        ((0.789, 0.989), 0.0, 1.0, (0.789, 0.989), 0.1),
        ((-1.0, 2.778), 0.0, 1.0, (0.0, 1.0), 0.889),
    ],
)
def test_an_interval_ends_at_what_is_possible(limits, least, most, cut, half):
    """Of 0.889; its half-width is that of the side that was not cut."""
    found = possible(Quantity(0.889, "", *limits, confidence=0.95), least, most)
    assert (found.low, found.high) == cut
    assert found.half_width == pytest.approx(half)
    assert possible(Quantity(0.889, ""), least, most).half_width is None
