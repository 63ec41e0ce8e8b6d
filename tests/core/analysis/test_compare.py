"""Comparing two experiments."""

import random

import attrs
import pytest

from llem.analysis.compare import compare as compare_sides
from llem.analysis.compare import interleaved, side_of
from llem.errors import StoreError
from llem.metrics.metric import Measured
from llem.metrics.setup import setup_of
from llem.metrics.statistics import welch_ratio

S = 1_000_000_000


def trials(make, watts, *, offset_s=0, every_s=60, seed=1, spread=0.01, count=5):
    """Trials of 10 s at `watts`, which differ by `spread`; trial i begins `offset_s + i * every_s` into an hour."""
    rng, found = random.Random(seed), []
    for index in range(count):
        t0 = (100 + 60 * index) * S
        rows = make.trace(watts * (1 + rng.gauss(0, spread)), t0, t0 + 10 * S)
        trial = make.make_trial(index, rows, make.request_rows(index, t0, t0 + 10 * S), t0, t0 + 10 * S)
        minute, second = divmod(offset_s + index * every_s, 60)
        found.append(attrs.evolve(trial, started_at=f"2026-11-24T10:{minute:02}:{second:02}+00:00"))
    return found


def side(trials):
    """What a comparison takes of trials."""
    return side_of(Measured(setup_of({"config": {}}, []), trials))


def compare(a, b):
    """The comparison of trials."""
    return compare_sides(side(a), side(b))


def by_metric(found):
    return {one.metric: one for one in found}


def test_a_known_ratio_is_recovered_and_the_cheaper_one_is_named(make):
    """20 % less power at the same speed: the interval covers 0.8 and P says that B is better."""
    found = by_metric(compare(trials(make, 500.0), trials(make, 400.0, seed=2, offset_s=1800)))
    energy = found["energy_per_output_token_j"]
    assert energy.ratio.low < 0.8 < energy.ratio.high
    assert energy.ratio.value == pytest.approx(0.8, rel=0.02)
    assert energy.probability_better > 0.999
    assert energy.probability_lower == energy.probability_better
    assert energy.p_adjusted >= (energy.ratio.p_value or 0)


def test_equal_speed_gives_an_even_chance(make):
    """Where nothing differs, nothing is known: P is one half."""
    found = by_metric(compare(trials(make, 500.0), trials(make, 400.0, seed=2, offset_s=1800)))
    speed = found["output_tokens_per_s"]
    assert speed.ratio.value == 1.0
    assert speed.probability_better == 0.5


def test_more_is_better_for_speed(make):
    """P(better) of throughput is the chance of being higher, not lower."""
    slow = [attrs.evolve(t, output_tokens=t.output_tokens // 2 + i) for i, t in enumerate(trials(make, 400.0))]
    found = by_metric(compare(slow, trials(make, 400.0, seed=2, offset_s=1800)))
    speed = found["output_tokens_per_s"]
    assert speed.probability_lower < 0.001
    assert speed.probability_better > 0.999


def test_trials_that_took_turns_are_paired(make):
    """Drift common to both sides cancels in pairs, so the interval is narrower than of independent samples."""
    drift = [1.0, 1.05, 1.1, 1.15, 1.2]

    def drifting(watts, offset):
        found = []
        for index, factor in enumerate(drift):
            t0 = (100 + 60 * index) * S
            power = watts * factor * (1 + 0.0005 * (index % 2))
            rows = make.trace(power, t0, t0 + 10 * S)
            trial = make.make_trial(index, rows, make.request_rows(index, t0, t0 + 10 * S), t0, t0 + 10 * S)
            found.append(attrs.evolve(trial, started_at=f"2026-11-24T10:{index:02}:{offset:02}+00:00"))
        return found

    a, b = drifting(500.0, 0), drifting(490.0, 30)
    assert interleaved(side(a), side(b))
    paired = by_metric(compare(a, b))["power_w"]
    assert paired.method == "paired_by_block"
    apart = [attrs.evolve(t, started_at=t.started_at.replace("T10", "T11")) for t in b]
    assert not interleaved(side(a), side(apart))
    welch = by_metric(compare(a, apart))["power_w"]
    assert welch.method == "welch"
    assert paired.ratio.half_width < welch.ratio.half_width / 10
    assert paired.ratio.value == pytest.approx(0.98, rel=1e-3)


def test_one_trial_cannot_be_compared(make):
    """A single trial has no interval, so the message says to measure more."""
    with pytest.raises(StoreError, match="two trials at least") as caught:
        compare(trials(make, 500.0)[:1], trials(make, 400.0))
    assert caught.value.code == "too_few_trials"


def test_metrics_without_a_meter_are_left_out(make):
    """Without energy what remains is speed; nothing is made up."""
    bare = [attrs.evolve(t, energies=()) for t in trials(make, 400.0)]
    assert set(by_metric(compare(bare, trials(make, 500.0)))) == {"output_tokens_per_s", "requests_per_s"}


def test_welch_agrees_with_scipy():
    """The ratio's p-value and interval are Welch's on logarithms, as scipy computes them."""
    import math

    from scipy.stats import ttest_ind

    rng = random.Random(3)
    first = [rng.lognormvariate(0, 0.1) for _ in range(6)]
    second = [rng.lognormvariate(0.05, 0.3) for _ in range(9)]
    mine = welch_ratio(first, second)
    theirs = ttest_ind([math.log(v) for v in second], [math.log(v) for v in first], equal_var=False)
    assert mine.p_value == pytest.approx(theirs.pvalue, rel=1e-9)
    low, high = theirs.confidence_interval(0.95)
    assert (math.log(mine.low), math.log(mine.high)) == pytest.approx((low, high), rel=1e-9)
