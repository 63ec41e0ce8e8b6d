"""How many trials are measured: the first ones of each engine process decide by their scatter."""

from __future__ import annotations

import math

import attrs
import pytest

from llem.config.models import Experiment
from llem.metrics.precision import enough, is_wanted
from llem.metrics.result import compute_result
from llem.metrics.statistics import relative_half_width


@pytest.fixture
def measured(make):
    """Trials of an experiment, one for each power in watts; trial t is of process t modulo `processes`."""

    def _measured(watts, processes=1):
        found = []
        for index, power in enumerate(watts):
            t0, t1 = make.window(index, 10)
            rows = make.request_rows(index, t0, t1)
            found.append(make.make_trial(index, make.trace(power, t0, t1), rows, t0, t1, process=index % processes))
        return found

    return _measured


def experiment(**values):
    """A standard experiment: 5 to 10 trials, target 1 %."""
    return Experiment(backend="echo", **{"trials": 5, "max_trials": 10, **values})


def wanted(one, trials):
    """Indices of all trials that are wanted, by what is stored."""
    return [index for index in range(one.most_trials) if is_wanted(one, trials, index)]


def test_steins_number():
    """n = (t s / target)^2: three values with s = 1 % of their mean need 4.303^2 = 18.5 trials for 1 %."""
    values = [99.0, 100.0, 101.0]

    assert enough(values, 0.01) == 19
    assert enough(values, 0.02) == 5
    assert enough(values, relative_half_width(values) * (1 + 1e-9)) == 3
    assert enough([100.0, 100.0], 0.01) == 0
    assert enough([100.0], 0.01) == enough(values, 0.0) == math.inf


def test_the_first_trials_decide_once(measured):
    """How much later ones scatter changes nothing: whoever looks again ends where the scatter happens to be small."""
    quiet = [600.0, 601.0, 599.0]

    assert wanted(experiment(), measured([*quiet, 500.0, 700.0])) == [0, 1, 2, 3, 4]
    assert wanted(experiment(), measured([600.0, 603.0, 597.0, 600.0, 600.0])) == [0, 1, 2, 3, 4]
    assert wanted(experiment(), measured([600.0, 604.0, 596.0, 600.0, 600.0, 600.0])) == list(range(9))
    assert wanted(experiment(), measured([600.0, 606.0, 594.0])) == list(range(10))


def test_the_least_number_is_always_wanted(measured):
    """Before anything is stored everything may be; two trials at least, since one has no scatter."""
    assert wanted(experiment(), []) == list(range(10))
    assert wanted(experiment(trials=1, max_trials=4), measured([600.0])) == list(range(4))
    assert wanted(experiment(trials=1, max_trials=4), measured([600.0, 600.0])) == [0, 1]
    assert wanted(experiment(trials=1, max_trials=1), measured([600.0])) == [0]


def test_each_engine_process_decides_for_itself(measured):
    """By its own first trials: what lies between processes is not narrowed by more trials of the same ones."""
    one = experiment(trials=6, processes=2)
    steady = measured([600.0, 660.0, 600.5, 660.5, 599.5, 659.5], 2)
    assert wanted(one, steady) == list(range(6))

    wild = [600.0, 660.0, 600.5, 670.0, 599.5, 650.0]
    assert wanted(one, measured(wild, 2)) == [*range(6), 7, 9]
    assert wanted(one, measured(wild, 2)[::2]) == [*range(6), 7, 9]  # while the second process has not begun
    few = experiment(trials=10, max_trials=20, processes=5)
    assert wanted(few, measured([600.0, 500.0, 700.0, 550.0, 650.0] * 2, 5)) == list(range(10))


def test_without_energy_it_is_speed(measured):
    """Tokens per second decide where no meter read."""
    blind = [attrs.evolve(trial, energies=()) for trial in measured([600.0] * 5)]
    uneven = [attrs.evolve(one, output_tokens=count) for one, count in zip(blind, (400, 512, 700, 1, 1), strict=True)]

    assert wanted(experiment(), blind) == list(range(5))
    assert wanted(experiment(), uneven) == list(range(10))


def test_a_wide_interval_of_speed_is_told(make, measured):
    """The message says what the interval is of."""
    blind = [
        attrs.evolve(trial, energies=(), output_tokens=count, expected_output_tokens=count)
        for trial, count in zip(measured([600.0] * 3), (400, 512, 700), strict=True)
    ]
    outcomes, engines = [make.outcome_document()], [make.engine_document()]
    result = compute_result(make.experiment_document(), engines, blind, [], {}, outcomes, {})
    [told] = [found for found in result.findings if found.code == "interval_wide"]

    assert "of output tokens per second is" in told.message
