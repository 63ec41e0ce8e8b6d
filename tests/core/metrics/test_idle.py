"""Idle power from the baselines before and after the trials, and what it adds to the interval of net energy."""

from __future__ import annotations

import math

import attrs
import pytest

from llem.meters.base import EnergyReading, ErrorBudget
from llem.metrics.domains import domain_metrics
from llem.metrics.idle import idle_power, nets, powers
from llem.metrics.quantity import quantity
from llem.store.models import BaselineReading

S = 10**9
GPU = ("nvml", "gpu:0")
#: Student's quantiles of 1 and of 4 degrees of freedom, at 95 %.
T_1, T_4 = 12.706204736, 2.776445105


def reading(joules, budget=None, domain="gpu:0"):
    """Joules of one GPU."""
    return EnergyReading("nvml", domain, "gpu", "measured", "counter", joules, budget or ErrorBudget(0.0, 0.0, 0.0))


def baseline(watts, phase="before", process=0, seconds=20, tick_j=0.0):
    """A baseline of this power."""
    found = reading(watts * seconds, ErrorBudget(tick_j, 0.0, 0.0))
    return BaselineReading(process, phase, 0, seconds * S, (found,))


def both(before, after, process=0, **rest):
    """A baseline before the trials, and one half as long after them."""
    return [baseline(before, "before", process, 20, **rest), baseline(after, "after", process, 10, **rest)]


@pytest.fixture
def trials(make):
    """Trials of 10 s, one for each power in watts; trial t is of process t modulo `processes`."""

    def _trials(watts, processes=1, tick_j=0.0):
        found = []
        for index, power in enumerate(watts):
            t0, t1 = make.window(index, 10)
            rows = make.request_rows(index, t0, t1)
            made = make.make_trial(index, (), rows, t0, t1, process=index % processes, domains=())
            found.append(attrs.evolve(made, energies=(reading(power * 10, ErrorBudget(tick_j, 0.0, 0.0)),)))
        return found

    return _trials


def net(measured, baselines):
    """Net energy in joules, over these trials."""
    values = nets(measured, baselines, lambda _: (GPU,))
    return quantity(values, "J", [trial.process for trial in measured])


def half(found):
    """Half of an interval's width."""
    return (found.high - found.low) / 2


def test_idle_power_that_drifts(trials):
    """120 W before and 123 W after: 52.5 W net of 174 W, and the interval holds 51 W and 54 W."""
    found = net(trials([173.9, 174.0, 174.1, 174.0, 174.0]), both(120.0, 123.0))

    assert found.value == pytest.approx(525.0)
    assert found.low < 510.0 < 540.0 < found.high


def test_the_baselines_errors_are_in_the_interval(trials):
    """Half the difference of the two is the standard error of their mean, with one degree of freedom."""
    steady = trials([174.0] * 5)
    found = net(steady, both(122.0, 124.0))
    assert half(found) == pytest.approx(T_1 * 1.0 * 10)

    none = net(trials([173.0, 174.0, 175.0, 173.5, 174.5]), both(123.0, 123.0))
    assert half(none) == pytest.approx(T_4 * math.sqrt(0.625 / 5) * 10)


def test_scatter_and_baselines_together(trials):
    """Weights as in `joined`: with equal standard errors the quantile lies at 0.5^1.5 between those of 4 and of 1."""
    watts = [173.0, 174.0, 175.0, 173.5, 174.5]
    error = math.sqrt(0.625 / 5)
    found = net(trials(watts), both(123.0 - error, 123.0 + error))
    weight = 0.5**1.5

    assert half(found) == pytest.approx((T_1 * weight + T_4 * (1 - weight)) * math.sqrt(2) * error * 10)


def test_edges_of_windows_and_baselines_are_shared(trials):
    """What windows may have alike is no part of their scatter: the root of the sum of squares."""
    found = net(trials([174.0] * 5, tick_j=4.0), both(123.0, 123.0, tick_j=4.0))
    idle_edges = (4.0 / 20 + 4.0 / 10) / 2 * 10

    assert half(found) == pytest.approx(math.hypot(4.0, idle_edges))


def test_a_single_baseline_has_its_budget(trials):
    """Nothing else tells its error; and one after the trials alone gives no net energy."""
    found = net(trials([174.0] * 5), [baseline(123.0, tick_j=8.0)])

    assert (found.value, half(found)) == (pytest.approx(510.0), pytest.approx(8.0 / 20 * 10))
    assert net(trials([174.0] * 5), [baseline(123.0, "after")]).reason == "no_baseline"


def test_a_reading_that_failed_is_no_idle_power(trials):
    """The reason is the reading's own."""
    first, last = both(120.0, 123.0)
    failed = attrs.evolve(last, readings=(attrs.evolve(last.readings[0], energy_j=None, reason="counter_stuck"),))

    assert net(trials([174.0] * 5), [first, failed]).reason == "counter_stuck"


def test_processes_have_their_own_baselines(trials):
    """Over several processes the scatter of their means shows each one's error; it is not counted twice."""
    measured = trials([174.0, 175.0, 174.0, 175.0], 2)
    found = net(measured, [*both(122.0, 124.0, 0), *both(125.0, 123.0, 1)])
    means = [(174.0 - 123.0) * 10, (175.0 - 124.0) * 10]

    assert found.value == pytest.approx(sum(means) / 2)
    assert half(found) == pytest.approx(T_1 * abs(means[0] - means[1]) / 2, abs=1e-9)


def test_a_drift_of_all_processes_is_in_the_interval(trials):
    """No scatter shows it: half of what all of them drift at least."""
    measured = trials([174.0] * 4, 2)
    found = net(measured, [*both(120.0, 123.0, 0), *both(120.0, 123.0, 1)])

    assert found.value == pytest.approx(525.0)
    assert half(found) == pytest.approx(15.0)


def test_gpus_are_summed_before_their_baselines_are_compared():
    """Differences of two GPUs that cancel leave no error."""
    rise = BaselineReading(0, "before", 0, 10 * S, (reading(1200.0), reading(1230.0, domain="gpu:1")))
    fall = BaselineReading(0, "after", 0, 10 * S, (reading(1230.0), reading(1200.0, domain="gpu:1")))
    idle = idle_power([rise, fall], {0: (GPU, ("nvml", "gpu:1"))})[0]

    assert (idle.value, idle.within) == (pytest.approx(243.0), pytest.approx(0.0))
    assert list(powers([rise, fall], 0, (GPU,))) == ["before", "after"]


def test_one_window_has_the_bounds_of_both(trials):
    """The instrument's bound of the window, and Student's interval of the two baselines."""
    found = net(trials([174.0], tick_j=4.0), both(122.9, 123.1))

    assert (found.method, found.covers) == ("instrument", "one window")
    assert half(found) == pytest.approx(math.hypot(4.0, T_1 * 0.1 * 10))


def test_a_domain_has_its_idle_power_and_the_budget_of_it(trials):
    """Both baselines, with Student's interval, and what they may put net energy off by."""
    [domain] = domain_metrics(trials([174.0] * 5), both(122.9, 123.1))
    idle = domain.idle_power_w

    assert (idle.value, idle.n, idle.method, idle.covers) == (
        pytest.approx(123.0),
        2,
        "student_t",
        "within one process",
    )
    assert half(idle) == pytest.approx(T_1 * 0.1)
    assert domain.budget.baseline_j == pytest.approx(T_1 * 0.1 * 10)
    assert domain.budget.bound_j == 0.0
    assert domain_metrics(trials([174.0] * 5), [])[0].budget.baseline_j is None


def test_the_budget_of_a_mean_scatters_over_processes(trials):
    """`repeat_j` is of the clustered interval: trials of one process are a cluster."""
    [domain] = domain_metrics(trials([174.0, 175.0, 174.0, 175.0], 2), [])

    assert domain.budget.repeat_j == pytest.approx(T_1 * 5.0)
