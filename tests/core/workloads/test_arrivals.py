"""Schedules of an open load: their mean, their burstiness, and that they are always the same."""

from __future__ import annotations

import math
import statistics
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llem.workloads.arrivals import Timetable, arrivals, arrivals_before, trial_seed

rates = st.floats(0.01, 1e4)
shapes = st.floats(0.05, 20)
seeds = st.integers(0, 2**31)


def gaps(rate: float, shape: float, seed: int, count: int = 4000) -> list[float]:
    return [later - earlier for earlier, later in pairwise([0.0, *islice(arrivals(rate, shape, seed), count)])]


@given(rates, shapes, seeds)
def test_mean_rate(rate: float, shape: float, seed: int) -> None:
    """The mean gap is 1 / rate, within six standard errors of 4000 gaps."""
    error = 1 / math.sqrt(shape * 4000)

    assert statistics.fmean(gaps(rate, shape, seed)) * rate == pytest.approx(1, abs=6 * error)


@pytest.mark.parametrize("shape", [0.25, 1.0, 4.0, 100.0])
def test_variation_is_one_over_the_root_of_the_burstiness(shape: float) -> None:
    """The coefficient of variation of the gaps: 2 for bursts of shape 1/4, 1 for Poisson, 0.5 for shape 4."""
    found = gaps(7.0, shape, seed=3, count=40_000)

    assert statistics.stdev(found) / statistics.fmean(found) == pytest.approx(1 / math.sqrt(shape), rel=0.05)


def test_poisson_counts_vary_as_much_as_they_are() -> None:
    """With burstiness 1, counts of arrivals in intervals have a variance equal to their mean."""
    times = list(islice(arrivals(10.0, 1.0, 5), 20_000))
    counts = [0] * (int(times[-1]))
    for at in times:
        if at < len(counts):
            counts[int(at)] += 1

    assert statistics.pvariance(counts) / statistics.fmean(counts) == pytest.approx(1, rel=0.12)


@given(rates, shapes, seeds, st.integers(0, 50), st.integers(0, 50))
def test_the_same_arguments_give_the_same_schedule(rate: float, shape: float, seed: int, few: int, more: int) -> None:
    """However far it is followed, a schedule begins alike; its times ascend."""
    long = list(islice(arrivals(rate, shape, seed), few + more))

    assert list(islice(arrivals(rate, shape, seed), few)) == long[:few]
    assert all(later >= earlier for earlier, later in pairwise([0.0, *long]))


@given(rates, rates, shapes, seeds)
def test_another_rate_stretches_the_pattern(one: float, other: float, shape: float, seed: int) -> None:
    """Levels of one study see the same bursts, closer together or further apart."""
    first, second = (list(islice(arrivals(rate, shape, seed), 20)) for rate in (one, other))

    assert [at * one for at in first] == pytest.approx([at * other for at in second])


def test_seeds_give_different_schedules() -> None:
    """Each seed has its own, and each trial its own seed, the same in every configuration."""
    schedules = {tuple(islice(arrivals(1.0, 1.0, trial_seed(seed, trial)), 5)) for seed in (0, 1) for trial in range(9)}

    assert len(schedules) == 18
    assert trial_seed(7, 3) == trial_seed(7, 3) == 329994917


@given(st.floats(0, 20), rates.filter(lambda rate: rate < 100), shapes, seeds)
def test_arrivals_before_counts_them(seconds: float, rate: float, shape: float, seed: int) -> None:
    """As many as the schedule has before this time: not one less, not one more."""
    count = arrivals_before(seconds, rate, shape, seed)
    times = list(islice(arrivals(rate, shape, seed), count + 1))

    assert all(at < seconds for at in times[:count])
    assert times[count] >= seconds


@given(st.lists(st.floats(0, 100), min_size=1, max_size=20), st.floats(0.01, 10), st.integers(-50, 500))
def test_a_timetable_is_endless(gaps: list[float], rest: float, index: int) -> None:
    """Times ascend over the end of a pass and have its period; each time leads to the first request that has it."""
    offsets = tuple(sum(gaps[:row]) for row in range(len(gaps)))
    times = Timetable(offsets, offsets[-1] + rest)

    assert times.time_s(index) <= times.time_s(index + 1)
    assert times.time_s(index + len(gaps)) - times.time_s(index) == pytest.approx(times.period_s)
    found = times.index(times.time_s(index) - 1e-6)
    assert found <= index
    assert times.time_s(found) == pytest.approx(times.time_s(index), abs=2e-6)
    assert found == 0 or times.time_s(found - 1) < times.time_s(index)


@given(st.lists(st.integers(1, 5000), min_size=2, max_size=50), st.integers(0, 10**6))
def test_an_arrival_at_the_very_time_is_not_left_out(gaps_ms: list[int], turn: int) -> None:
    """A window that opens with a request has it, though the time of a late pass has been rounded."""
    offsets = tuple(sum(gaps_ms[:row]) / 1000 for row in range(len(gaps_ms)))
    times = Timetable(offsets, offsets[-1] + offsets[-1] / (len(offsets) - 1))

    assert [times.index(times.time_s(turn * len(offsets) + row)) for row in range(len(offsets))] == list(
        range(turn * len(offsets), (turn + 1) * len(offsets))
    )
