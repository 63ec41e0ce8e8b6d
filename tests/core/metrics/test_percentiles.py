"""Percentiles and means of latencies against values known by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from llem.findings import REASONS
from llem.metrics.latency import _by_batch, _gaps
from llem.metrics.percentiles import PERCENTILES, family, hazen, of_trial, supports
from llem.store.models import RequestRow


def batches(values):
    """A trial whose batches took so long; a batch is one observation."""
    return [[float(value)] for value in values]


def test_estimate_is_linear_between_ranks():
    """With 1 to 10, the p50 is 5.5, the p90 half-way from rank 9 to 10 (Hazen: rank n q + 1/2 = 9.5)."""
    ordered = [float(i) for i in range(1, 11)]
    assert hazen(ordered, 0.5, 10) == pytest.approx(5.5)
    assert hazen(ordered, 0.9, 10) == pytest.approx(9.5)
    assert hazen(ordered, 0.92, 10) == pytest.approx(9.7)


@pytest.mark.parametrize("n", [2, 3, 10, 37, 100, 5000])
def test_estimate_is_the_one_of_numpy(n):
    """It is numpy's "hazen" for every size, and copies of each value (the requests of a batch) change nothing."""
    ordered = np.sort(np.random.RandomState(n).lognormal(size=n))
    for q in (q for q in PERCENTILES if supports(n, q)):
        expected = float(np.quantile(ordered, q, method="hazen"))
        assert hazen(ordered, q, n) == pytest.approx(expected, rel=1e-12)
        assert hazen(np.repeat(ordered, 16), q, n) == pytest.approx(expected, rel=1e-12)


def test_estimate_is_hardly_biased_where_it_is_supported():
    """At the least number of normal values each percentile's bias is below a tenth of its standard deviation."""
    random = np.random.RandomState(4)
    for q, n, truth in ((0.5, 2, 0.0), (0.9, 10, 1.281552), (0.95, 20, 1.644854), (0.99, 100, 2.326348)):
        assert supports(n, q)
        assert not supports(n - 1, q)
        found = [hazen(row, q, n) for row in np.sort(random.normal(size=(4000, n)), axis=1)]
        assert abs(float(np.mean(found)) - truth) < 0.1 * float(np.std(found))


def test_a_percentile_without_enough_batches_is_withheld():
    """36 batches support p50, p90 and p95, not the p99: None with a documented reason, in each trial and over all."""
    trial = [[v] * 8 for v in np.random.RandomState(1).normal(1.0, 0.01, 36)]
    for count in (1, 5):
        found = family([trial] * count, "no_trials", partial="not_supported")
        assert [q for q in PERCENTILES if found[q].value is None] == [0.99]
        assert found[0.99].reason == "too_few_values"
        assert found[0.99].low is None
    assert of_trial(trial, PERCENTILES, "", serving=False)[0.99].reason == "too_few_values"
    assert "too_few_values" in REASONS


def test_one_trial_has_no_interval():
    """Batches of one window do not show how windows differ: value without interval, like every metric's."""
    found = family([batches(range(100, 300))], "", partial="")
    for key in (None, *PERCENTILES):
        assert (found[key].low, found[key].method, found[key].covers) == (None, "single_trial", "")
        assert (found[key].n, found[key].processes) == (1, 1)


def test_trials_of_one_process_give_the_interval():
    """Student's t over the percentiles of trials, by hand; copies of the batches do not narrow it."""
    trials = [batches([1, 2, 3]), batches([2, 3, 4]), batches([3, 4, 5])]
    found = family(trials, "", partial="", processes=[0, 0, 0])
    for key in (None, 0.5):
        one = found[key]
        assert (one.value, one.n, one.processes) == (pytest.approx(3.0), 3, 1)
        assert one.high - one.value == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
        assert (one.covers, one.method) == ("within one process", "student_t")
    assert family([trial * 4 for trial in trials], "", partial="")[0.5].high == pytest.approx(found[0.5].high)


@pytest.mark.parametrize("serving", [False, True])
def test_processes_are_clusters(serving):
    """Two processes with two equal windows each: t with one degree of freedom over the two, for every latency."""
    trials = [[np.full(200, value)] * 3 for value in (1.0, 1.0, 1.02, 1.02)]
    found = family(trials, "", partial="", quantiles=(0.5,), serving=serving, processes=[0, 0, 1, 1])
    for one in found.values():
        assert (one.n, one.processes, one.covers) == (4, 2, "over processes")
        assert one.high / one.low == pytest.approx(math.exp(2 * 12.7062 * 0.01), rel=5e-3)


def test_runs_take_the_place_of_windows():
    """One serving window is cut into runs: their p50 scatter on logarithms, around the p50 of all."""
    window = [np.full(100, value) for value in (1.0, 1.1, 1.21)]
    found = family([window], "", partial="", quantiles=(0.5, 0.99), serving=True)
    half = 4.302653 * math.log(1.1) / math.sqrt(3)
    for q, value in ((0.5, 1.1), (0.99, 1.21)):
        one = found[q]
        assert (one.value, one.method, one.n) == (pytest.approx(value), "batch_means", 3)
        assert (one.low, one.high) == pytest.approx((value * math.exp(-half), value * math.exp(half)), rel=1e-6)
        assert (one.processes, one.covers) == (1, "one window")
    both = family([window, window], "", partial="", quantiles=(0.5,), serving=True)
    assert (both[0.5].n, both[0.5].covers, both[0.5].method) == (6, "within one process", "batch_means")


def test_a_serving_percentile_of_few_requests_has_no_interval():
    """Runs of 99 requests do not support a p99, so it is stated without an interval; the p95 has one."""
    window = np.random.RandomState(2).lognormal(size=297)
    found = family([np.array_split(window, 3)], "", partial="", serving=True)
    assert (found[0.99].low, found[0.99].method, found[0.99].n, found[0.99].covers) == (None, "observed", 297, "")
    assert found[0.99].value is not None
    assert found[0.95].low is not None


def test_no_value_and_a_trial_without_one():
    """Nowhere a value, and one in some trials only, are told apart."""
    assert family([[[]], [[]]], "nowhere", partial="somewhere")[0.5].reason == "nowhere"
    assert family([[[1.0], [2.0]], [[]]], "nowhere", partial="somewhere")[None].reason == "somewhere"
    assert family([], "nowhere", partial="somewhere")[0.5].reason == "nowhere"


def test_requests_of_a_step_are_one_observation():
    """Gaps that end at the same step of a batch form one block, whatever the batch's size."""
    rows = [RequestRow(i, i // 2, 4, 3, 0, 9, (1, 3, 6) if i != 3 else (1, 3)) for i in range(4)]
    assert _by_batch(_gaps, rows) == [[2e-9, 2e-9], [3e-9, 3e-9], [2e-9, 2e-9], [3e-9]]


def test_same_values_same_bits():
    """Stored results recompute: known bits of a known input."""
    found = family([batches(range(1, 101)), batches(range(3, 103))], "", partial="")
    assert [found[q].value for q in PERCENTILES] == pytest.approx([51.5, 91.5, 96.5, 100.5], rel=1e-15)
    assert found == family([batches(range(1, 101)), batches(range(3, 103))], "", partial="")
