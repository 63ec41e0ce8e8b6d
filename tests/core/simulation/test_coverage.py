"""How often 95 % intervals hold the truth, over simulated studies. The large runs: benchmarks/simulate_coverage.py."""

from __future__ import annotations

import math
import random

import attrs
import pytest

from llem.config.models import Experiment
from llem.meters.base import EnergyReading, ErrorBudget
from llem.metrics.idle import nets
from llem.metrics.precision import is_wanted
from llem.metrics.quantity import Value, quantity
from llem.metrics.statistics import mean_interval
from llem.store.models import BaselineReading

S = 10**9
GPU = ("nvml", "gpu:0")
STUDIES = 500
#: Shares of 500 studies that are taken for 95 %: four standard errors below it, three and a half above.
LEAST, MOST = 0.91, 0.985


def holds(found, truth):
    """Whether an interval holds the truth."""
    return found.low <= truth <= found.high


def reading(joules, budget=None):
    """Joules of one GPU."""
    return EnergyReading(*GPU, "gpu", "measured", "simulated", joules, budget or ErrorBudget(0.0, 0.0, 0.0))


@pytest.fixture
def blank(make):
    """A trial of 10 s without an energy."""
    t0, t1 = make.window(0, 10)
    return make.make_trial(0, (), make.request_rows(0, t0, t1), t0, t1, domains=())


def trial(blank, index, process, watts):
    """A trial of this power."""
    return attrs.evolve(blank, index=index, process=process, energies=(reading(watts * 10),))


@pytest.mark.parametrize(("processes", "trials", "plain"), [(2, 10, 0.75), (2, 20, 0.65), (5, 10, 0.93)])
def test_trials_of_one_process_are_a_cluster(processes, trials, plain):
    """With as much between processes as within, t over process means covers; t over all trials does not."""
    rng = random.Random(f"{processes} {trials}")
    covered = naive = 0
    for _ in range(STUDIES):
        shift = [rng.gauss(0, 1) for _ in range(processes)]
        where = [index % processes for index in range(trials)]
        values = [100 + shift[process] + rng.gauss(0, 1) for process in where]
        covered += holds(quantity([Value(value) for value in values], "J", where), 100)
        naive += holds(mean_interval(values), 100)

    assert LEAST <= covered / STUDIES <= MOST
    assert naive / STUDIES < plain


def test_skewed_trials_are_covered():
    """Five lognormal trials with a standard deviation of 5 % of their mean."""
    rng, covered = random.Random("lognormal"), 0
    spread = math.sqrt(math.log(1 + 0.05**2))
    for _ in range(STUDIES):
        values = [Value(math.exp(rng.gauss(-spread * spread / 2, spread))) for _ in range(5)]
        covered += holds(quantity(values, "J", [0] * 5), 1.0)

    assert LEAST <= covered / STUDIES <= MOST


@pytest.mark.parametrize("percent", [1.0, 1.5, 2.0, 3.0])
def test_intervals_after_the_stopping_rule_cover(blank, percent):
    """Of all studies; of those with a narrow interval far fewer do, so width decides nothing about publishing."""
    rng = random.Random(f"stop {percent}")
    experiment = Experiment(backend="echo", trials=5, max_trials=10, target_half_width=0.01)
    covered, narrow = 0, []
    for _ in range(STUDIES):
        taken = []
        for index in range(10):
            watts = rng.gauss(100, percent)
            if is_wanted(experiment, taken, index):
                taken.append(trial(blank, index, 0, watts))
        found = quantity([Value(one.energies[0].energy_j) for one in taken], "J", [0] * len(taken))
        covered += holds(found, 1000)
        if found.high / found.value - 1 <= 0.01:
            narrow.append(holds(found, 1000))

    assert LEAST <= covered / STUDIES <= MOST
    assert percent < 1.5 or sum(narrow) / len(narrow) < 0.93


@pytest.mark.parametrize("knows", [False, True])
@pytest.mark.parametrize(("processes", "trials"), [(1, 5), (2, 10), (5, 10)])
def test_net_energy_covers_with_the_baselines_error(blank, processes, trials, knows):
    """174 W of load on 123 W of idle, of which each baseline is off by 1 %, whether its budget knows or not."""
    rng, covered, naive = random.Random(f"net {processes} {knows}"), 0, 0
    for _ in range(STUDIES):
        baselines = []
        for process in range(processes):
            for phase, seconds in (("before", 20), ("after", 10)):
                budget = ErrorBudget(0.0, 0.0, 1.96 * 1.23 * seconds if knows else 0.0)
                joules = rng.gauss(123, 1.23) * seconds
                baselines.append(BaselineReading(process, phase, 0, seconds * S, (reading(joules, budget),)))
        measured = [trial(blank, index, index % processes, rng.gauss(174, 0.5)) for index in range(trials)]
        values = nets(measured, baselines, lambda _: (GPU,))
        covered += holds(quantity(values, "J", [one.process for one in measured]), 510)
        first = {one.process: one.readings[0].energy_j / 2 for one in baselines if one.phase == "before"}
        naive += holds(mean_interval([one.energies[0].energy_j - first[one.process] for one in measured]), 510)

    assert LEAST <= covered / STUDIES <= MOST
    assert processes == 5 or naive / STUDIES < 0.7


def test_an_edge_that_all_windows_have_alike_is_covered():
    """Its bound is in the budget, and the scatter of trials does not show it."""
    rng, covered, naive = random.Random("edges"), 0, 0
    for _ in range(STUDIES):
        off = rng.gauss(0, 5 / 1.96)
        values = [Value(rng.gauss(1000, 1) + off, 5.0, shared=5.0) for _ in range(10)]
        covered += holds(quantity(values, "J", [0] * 10), 1000)
        naive += holds(mean_interval([value.value for value in values]), 1000)

    assert LEAST <= covered / STUDIES <= MOST
    assert naive / STUDIES < 0.4
