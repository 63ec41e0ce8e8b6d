"""Token lengths: within bounds, of the stated mean, the same for the same seed."""

from __future__ import annotations

import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llem.workloads.base import Length, Lognormal, Uniform, sample

seeds = st.integers(0, 2**32)
uniforms = st.tuples(st.integers(1, 5000), st.integers(0, 5000)).map(lambda t: Uniform(low=t[0], high=t[0] + t[1]))
lognormals = st.builds(Lognormal, mean=st.floats(1, 1e5), sigma=st.floats(0, 1e4), max=st.integers(1, 10**6))


@given(st.integers(1, 10**6), seeds)
def test_fixed(length: int, seed: int) -> None:
    """A number is itself."""
    assert sample(length, random.Random(seed)) == length


@given(uniforms, seeds)
def test_uniform_within_bounds(length: Uniform, seed: int) -> None:
    """Draws lie within both ends."""
    assert length.low <= sample(length, random.Random(seed)) <= length.high


@given(lognormals, seeds)
def test_lognormal_within_bounds(length: Lognormal, seed: int) -> None:
    """Draws lie within 1 and max, however wild the parameters."""
    assert 1 <= sample(length, random.Random(seed)) <= length.max


@given(st.one_of(uniforms, lognormals), seeds)
def test_same_seed_same_lengths(length: Length, seed: int) -> None:
    """Lengths depend on the generator's state alone."""
    first, second = random.Random(seed), random.Random(seed)
    assert [sample(length, first) for _ in range(5)] == [sample(length, second) for _ in range(5)]


def test_uniform_reaches_both_ends_evenly() -> None:
    """Every length occurs, about equally often."""
    rng = random.Random(1)
    counts = [0] * 4
    for _ in range(8000):
        counts[sample(Uniform(low=3, high=6), rng) - 3] += 1
    assert all(abs(count - 2000) < 200 for count in counts)  # 5 standard deviations


def test_lognormal_has_the_stated_mean_and_spread() -> None:
    """Without effective cut-off the mean is `mean`, and the median that of the formula."""
    rng = random.Random(1)
    draws = [sample(Lognormal(mean=500, sigma=0.5, max=10**9), rng) for _ in range(20000)]
    assert statistics.fmean(draws) == pytest.approx(500, rel=0.02)
    assert statistics.median(draws) == pytest.approx(500 * 2.718281828 ** (-0.125), rel=0.02)


def test_lognormal_without_spread_is_its_mean() -> None:
    """sigma 0 gives the mean every time."""
    assert {sample(Lognormal(mean=77, sigma=0, max=1000), random.Random(s)) for s in range(20)} == {77}


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Uniform, {"low": 0, "high": 3}),
        (Uniform, {"low": 4, "high": 3}),
        (Lognormal, {"mean": 0.5, "sigma": 1, "max": 10}),
        (Lognormal, {"mean": 5, "sigma": -1, "max": 10}),
        (Lognormal, {"mean": 5, "sigma": 1, "max": 0}),
    ],
)
def test_impossible_distributions_are_refused(kind: type, values: dict[str, float]) -> None:
    """Bounds that no length can satisfy do not construct."""
    with pytest.raises(ValueError, match="must"):
        kind(**values)
