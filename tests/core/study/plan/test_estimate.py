"""The time a study asks for, from its settings alone."""

from __future__ import annotations

import attrs
import pytest

from llem.config.models import Baseline, Experiment, OpenLoad, Slo, Warmup
from llem.protocol.study_events import ExperimentPlan
from llem.study.plan.schedule import LOAD_S, Estimate, Job, estimate, estimate_groups, job_plan

PLAIN = Experiment(
    backend="echo",
    window_s=10.0,
    trials=5,
    max_trials=10,
    warmup=Warmup(seconds=30.0),
    baseline=Baseline(seconds=30.0, discard_seconds=10.0),
)


def made(least_s: float, most_s: float, loads: int) -> Estimate:
    """With the guess for each load."""
    return Estimate(least_s + loads * LOAD_S, most_s + loads * LOAD_S, loads)


@pytest.mark.parametrize(
    ("changes", "least_s", "most_s"),
    [
        ({}, 50.0 + 30.0 + 50.0, 50.0 + 30.0 + 100.0),
        ({"baseline": Baseline(seconds=0.0)}, 30.0 + 50.0, 30.0 + 100.0),
        ({"baseline": Baseline(seconds=5.0, discard_seconds=10.0)}, 21.5 + 30.0 + 50.0, 21.5 + 30.0 + 100.0),
        ({"processes": 2}, 2 * 80.0 + 50.0, 2 * 80.0 + 100.0),
        ({"processes": 3, "trials": 1, "max_trials": 1}, 3 * 80.0 + 30.0, 3 * 80.0 + 30.0),
    ],
)
def test_one_experiment(changes: dict, least_s: float, most_s: float) -> None:
    """Baselines before and after, warm-up, and a window per trial; around each engine process anew."""
    one = attrs.evolve(PLAIN, **changes)

    assert estimate([one]) == made(least_s, most_s, one.processes)


def test_experiments_add_up() -> None:
    """They run one after the other; none take no time."""
    assert estimate([PLAIN] * 3) == made(3 * 130.0, 3 * 180.0, 3)
    assert estimate([]) == made(0.0, 0.0, 0)


def test_those_that_share_an_engine_share_its_baselines() -> None:
    """Each has its own warm-up; a gap comes with every trial, and workers side by side share the time."""
    group = [PLAIN, attrs.evolve(PLAIN, processes=2)]

    assert estimate_groups([group]) == made(2 * 50.0 + 3 * 30.0 + 100.0, 2 * 50.0 + 3 * 30.0 + 200.0, 2)
    assert estimate_groups([[PLAIN]], gap_s=2.0, parallel=2) == Estimate((140.0 + LOAD_S) / 2, (200.0 + LOAD_S) / 2, 1)


def test_a_search_for_the_greatest_rate_takes_its_windows() -> None:
    """Six at least and 26 at most, once for all processes; where processes run side by side each may search."""
    search = attrs.evolve(PLAIN, load=OpenLoad(request_rate="max"), slo=Slo(ttft_s=1.0))
    two = attrs.evolve(search, processes=2)
    job = (("a", 0),)

    assert estimate([search]) == made(130.0 + 6 * 30.0, 180.0 + 26 * 30.0, 1)
    assert estimate([two]) == made(210.0 + 6 * 30.0, 260.0 + 26 * 30.0, 2)
    assert estimate_groups([[two]], parallel=2).most_s == (2 * LOAD_S + 260.0 + 2 * 26 * 30.0) / 2
    assert job_plan(Job(0, 0, ("a",), job), {"a": two}).experiments["a"].warm_up_s == 30.0 + 6 * 30.0
    assert job_plan(Job(0, 1, ("a",), job), {"a": two}).experiments["a"].warm_up_s == 30.0


def test_what_an_engine_process_will_do() -> None:
    """Trials that are due, each with its window and pause, warm-ups, and the baselines around them."""
    experiments = {"a": PLAIN, "b": attrs.evolve(PLAIN, trials=1, processes=2, window_s=3.0)}
    turns = (("b", 1), ("a", 4), ("a", 5), ("b", 2))
    plan = job_plan(Job(2, 1, ("b", "a"), turns), experiments, gap_s=0.5)

    assert (plan.job, plan.before_s, plan.after_s) == ((2, 1), 30.0, 20.0)
    assert plan.experiments == {"b": ExperimentPlan(1, 3.5, 30.0), "a": ExperimentPlan(1, 10.5, 30.0)}


def test_without_a_meter_there_is_no_baseline() -> None:
    """`meters: []` reads nothing, and so nothing is measured idle."""
    none = attrs.evolve(PLAIN, meters=())
    plan = job_plan(Job(0, 0, ("a",), (("a", 0),)), {"a": none})

    assert estimate([none]) == made(30.0 + 50.0, 30.0 + 100.0, 1)
    assert (plan.before_s, plan.after_s) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("seconds", "discard_s", "lengths", "kept"),
    [(30.0, 10.0, (30.0, 20.0), (20.0, 10.0)), (5.0, 10.0, (11.0, 10.5), (1.0, 0.5)), (0.0, 10.0, (0, 0), (0, 0))],
)
def test_how_long_a_baseline_is(seconds: float, discard_s: float, lengths: tuple, kept: tuple) -> None:
    """Half as long after the trials, past what is left out; a second is kept at least, where any is wanted."""
    baseline = Baseline(seconds=seconds, discard_seconds=discard_s)

    assert (baseline.length_s("before"), baseline.length_s("after")) == lengths
    assert (baseline.kept_s("before"), baseline.kept_s("after")) == kept
