"""What a fleet takes to serve a load: capacities, replicas, energy, money and carbon, computed by hand."""

from __future__ import annotations

import attrs
import numpy as np
import pytest

from llem.analysis.breakeven import break_even
from llem.analysis.capacity import Configuration, MeasuredLoad, averaged, capacity_of, interpolated
from llem.analysis.demand import DAY_S, Demand
from llem.analysis.fleet import power_curve, replicas_for, serve
from llem.analysis.limits import Limit
from llem.metrics.metric import Basis

TTFT = Limit("ttft:p99<400ms", "ttft_p99_s", True, 0.4)
SHARE = Limit("attainment>=99%", "slo_attainment", False, 0.99)
GPU = Basis("gpu", "measured")


@attrs.frozen
class Tariff:
    currency: str = "EUR"
    gpu_hour: float | None = 2.0
    machine_hour: float | None = None
    kwh: float | None = 0.3
    grid_g_per_kwh: float | None = 400.0
    pue: float = 1.2
    electricity_included: bool = False


def draws(*values, count=100):
    """Draws that take these values, each equally often; one value is certain."""
    return np.resize(np.array(values, dtype=float), count)


def load(name, rate, power=None, *limited, saturated=False):
    parts = tuple(None if one is None else np.broadcast_to(one, 100) for one in limited)
    watts = None if power is None else np.broadcast_to(np.asarray(power, dtype=float), 100)
    return MeasuredLoad(name, np.broadcast_to(np.asarray(rate, dtype=float), 100), watts, parts, saturated)


def configuration(*loads, name="a", idle=100.0, gpus=1, kind="open", basis=GPU):
    return Configuration(name, kind, loads, gpus, None if idle is None else draws(idle), basis=basis)


#: Latency quadruples from 4/s to 8/s, so 0.4 s is half way on its logarithm: at 6/s.
A = configuration(load("a2", 2, 200, 0.1), load("a4", 4, 300, 0.2), load("a8", 8, 500, 0.8))


def constant(rate):
    return Demand(f"{rate}/s", ((DAY_S, rate),))


# capacity


def test_capacity_is_interpolated_on_the_logarithm():
    """Between the last load that keeps the limit and the first that breaks it."""
    found = capacity_of(A, [TTFT])

    assert found.estimate.value == pytest.approx(6.0)
    assert (found.sure, found.at_least) == (pytest.approx(6.0), 0.0)
    assert (found.blocking, found.blocked_by) == (TTFT, "ttft:p99<400ms")


def test_capacity_is_no_more_than_the_greatest_measured_rate():
    """All limits are kept: what is above the greatest load is not known."""
    loose = attrs.evolve(TTFT, bound=2.0)
    found = capacity_of(A, [loose])

    assert (found.estimate.value, found.at_least, found.blocking) == (8.0, 1.0, None)
    [row] = serve([A], constant(8), [loose])
    assert "the greatest measured load keeps all limits: the capacity is at least this" in row.notes


def test_capacity_is_0_where_the_least_load_breaks_a_limit():
    """Nothing is interpolated below the least measured load."""
    tight = attrs.evolve(TTFT, bound=0.05)
    found = capacity_of(A, [tight])

    assert (found.estimate.value, found.sure, found.blocking) == (0.0, 0.0, tight)
    [row] = serve([A], constant(1), [tight])
    assert (row.replicas, row.gpus, row.kwh_a_day) == (None, None, None)
    assert "ttft:p99<400ms" in row.lacking["replicas"]


def test_the_first_broken_limit_ends_the_capacity():
    """A limit on another metric comes first: attainment falls from 1 to 0.98 between 2/s and 4/s."""
    one = configuration(load("2", 2, 200, 0.1, 1.0), load("4", 4, 300, 0.2, 0.98), load("8", 8, 500, 0.8, 0.5))
    found = capacity_of(one, [TTFT, SHARE])

    part = np.log(0.99) / np.log(0.98)
    assert found.estimate.value == pytest.approx(2 + 2 * part)
    assert found.blocking == SHARE


def test_a_share_of_0_is_interpolated_without_logarithms():
    """Half way from 1 to 0 on a bound of 0.5: logarithms of 0 do not exist."""
    half = attrs.evolve(SHARE, bound=0.5)
    one = configuration(load("2", 2, 200, 1.0), load("4", 4, 300, 0.0))

    assert capacity_of(one, [half]).estimate.value == pytest.approx(3.0)


def test_what_is_not_measured_is_not_kept():
    """A load without the metric ends the capacity at the load before it, and is named."""
    one = configuration(load("2", 2, 200, 0.1), load("4", 4, 300, None))
    found = capacity_of(one, [TTFT])

    assert found.estimate.value == 2.0
    assert found.blocked_by == "ttft:p99<400ms (ttft_p99_s is not measured at 1 of 2 loads)"


def test_a_load_that_the_engine_cannot_keep_up_with_is_not_kept():
    """Its latencies depend on the length of the window, so that one within the limit says nothing."""
    one = configuration(load("2", 2, 200, 0.1), load("4", 4, 300, 0.2, saturated=True))
    found = capacity_of(one, [TTFT])

    assert (found.estimate.value, found.blocking) == (2.0, None)
    assert "over_saturated" in found.blocked_by
    broken = configuration(load("4", 4, 300, 0.2), load("8", 8, 500, 0.8, saturated=True))
    assert capacity_of(broken, [TTFT]).estimate.value == pytest.approx(6.0)


def test_loads_are_ordered_in_each_draw():
    """Two measured rates that change places between draws, with the latencies that belong to them."""
    first = load("x", draws(2, 4), 200, draws(0.1, 0.8))
    second = load("y", draws(4, 2), 300, draws(0.8, 0.1))

    assert capacity_of(configuration(first, second), [TTFT]).draws == pytest.approx(
        np.full(100, 2 + 2 * np.log(4) / np.log(8))
    )


# replicas


def test_replicas_are_those_that_suffice_with_95_percent():
    """In 10 % of the draws one serves 4.974/s, else 6/s: 50/s takes 11 replicas; by the median 9."""
    slow = np.where(np.arange(100) < 10, 0.32, 0.2)  # log(0.4 / 0.32) / log(0.8 / 0.32) = 0.2435: 4.974/s
    one = configuration(load("4", 4, 300, slow), load("8", 8, 500, 0.8))
    [row] = serve([one], constant(50), [TTFT])

    assert row.capacity.value == pytest.approx(6.0)
    assert (row.replicas_median, row.replicas) == (9, 11)
    fewer = np.where(np.arange(100) < 4, 0.32, 0.2)
    [row] = serve([configuration(load("4", 4, 300, fewer), load("8", 8, 500, 0.8))], constant(50), [TTFT])
    assert row.replicas == 9


@pytest.mark.parametrize(("rate", "capacity", "replicas"), [(12, 6, 2), (12.001, 6, 3), (0.1, 6, 1), (0.3, 0.1, 3)])
def test_replicas_round_up_and_a_whole_number_stays(rate, capacity, replicas):
    assert replicas_for(rate, capacity) == replicas


def test_replicas_of_nothing():
    assert replicas_for(1.0, 0.0) is None


# a day


def test_a_day_in_full():
    """50/s on 9 replicas of 6/s: 5.556/s each, 377.8 W; 9 * 377.8 W * 24 h = 81.6 kWh."""
    [row] = serve([A], constant(50), [TTFT], Tariff())

    assert (row.replicas, row.gpus, row.rate) == (9, 9, pytest.approx(50 / 9))
    assert row.kwh_a_day.value == pytest.approx(81.6)
    assert row.money_a_day.value == pytest.approx(9 * 24 * 2 + 81.6 * 1.2 * 0.3)
    assert row.gco2e_a_day.value == pytest.approx(81.6 * 1.2 * 400)
    assert (row.currency, row.basis, row.lacking) == ("EUR", GPU, {})
    assert row.experiments == ("a2", "a4", "a8")


def test_idle_is_included():
    """1/s on one replica: half way from idle at 100 W to 200 W at 2/s."""
    [row] = serve([A], constant(1), [TTFT])

    assert row.kwh_a_day.value == pytest.approx(0.150 * 24)
    assert any("2 requests/s, the least measured load" in note for note in row.notes)


def test_without_a_baseline_no_energy_is_assumed():
    """Below the least measured load idle power is needed; between measured loads it is not."""
    blind = configuration(*A.loads, idle=None)
    [row] = serve([blind], constant(1), [TTFT], Tariff())

    assert row.replicas == 1
    assert (row.kwh_a_day, row.money_a_day, row.gco2e_a_day) == (None, None, None)
    assert "no_baseline" in row.lacking["kwh_a_day"]
    assert row.lacking["money_a_day"] == row.lacking["kwh_a_day"]
    [row] = serve([blind], constant(50), [TTFT])
    assert row.kwh_a_day.value == pytest.approx(81.6)


def test_without_power_no_energy_but_replicas():
    """Money needs no energy where electricity is in the price of an hour."""
    one = configuration(load("2", 2, None, 0.1), load("4", 4, 300, 0.2))
    [row] = serve([one], constant(8), [TTFT], Tariff(kwh=None, electricity_included=True))

    assert (row.replicas, row.kwh_a_day) == (2, None)
    assert row.lacking["kwh_a_day"] == "power is not measured at every load"
    assert row.money_a_day.value == 2 * 2 * 24


@pytest.mark.parametrize(
    ("tariff", "gpus", "why"),
    [
        (Tariff(gpu_hour=None), 1, "the prices have no gpu_hour"),
        (Tariff(), 0, "the prices have no machine_hour"),
        (Tariff(kwh=None), 1, "the prices have no kwh, and do not say electricity_included"),
    ],
)
def test_money_with_a_price_missing(tariff, gpus, why):
    """None with a reason, not a sum of what is known."""
    [row] = serve([configuration(*A.loads, gpus=gpus)], constant(50), [TTFT], tariff)

    assert (row.money_a_day, row.lacking["money_a_day"]) == (None, why)
    assert row.kwh_a_day is not None


def test_money_without_prices_and_carbon_without_a_grid():
    [row] = serve([A], constant(50), [TTFT])
    assert row.lacking == {"money_a_day": "no prices are given", "gco2e_a_day": "no prices are given"}
    [row] = serve([A], constant(50), [TTFT], Tariff(grid_g_per_kwh=None))
    assert row.lacking == {"gco2e_a_day": "the prices have no grid_g_per_kwh"}


def test_a_machine_is_paid_for_each_replica():
    """Four GPUs and a machine of 5 an hour, two replicas, electricity included."""
    one = configuration(*A.loads, gpus=4)
    [row] = serve([one], constant(12), [TTFT], Tariff(machine_hour=5.0, kwh=None, electricity_included=True))

    assert (row.replicas, row.gpus) == (2, 8)
    assert row.money_a_day.value == 24 * (8 * 2 + 2 * 5)


def test_a_trace_is_sized_for_its_peak_and_pays_for_its_course():
    """Half a day at 12/s (2 replicas of 6/s, 400 W each), a quarter at 4/s (200 W each), a quarter at rest (100 W)."""
    trace = Demand("trace.csv", ((43_200.0, 12.0), (21_600.0, 4.0), (21_600.0, 0.0)))
    [row] = serve([A], trace, [TTFT])

    assert (row.replicas, row.rate) == (2, 6.0)
    assert row.kwh_a_day.value == pytest.approx(2 * (0.4 * 12 + 0.2 * 6 + 0.1 * 6))


def test_a_short_period_is_repeated_all_day():
    """The same shape in an hour costs the same a day."""
    day = Demand("d", ((43_200.0, 12.0), (43_200.0, 4.0)))
    hour = Demand("h", ((1_800.0, 12.0), (1_800.0, 4.0)))

    assert serve([A], day, [TTFT])[0].kwh_a_day == serve([A], hour, [TTFT])[0].kwh_a_day


def test_nothing_is_extrapolated():
    """A replica is never given more than its capacity; power holds beyond the last measured load of a draw."""
    power = interpolated(np.array([[0.0, 1.0, 3.0, 8.0, 9.0]]), *power_curve(A, 0.0))

    assert power[0] == pytest.approx([100, 150, 250, 500, 500])
    assert "no_baseline" in power_curve(configuration(*A.loads, idle=None), 1.9)
    for rate in (1, 7, 50, 333):
        [row] = serve([A], constant(rate), [TTFT])
        assert row.rate <= 6.0


def test_intervals_come_from_the_draws():
    """Power of 300 W ± a known scatter at exactly the measured load."""
    watts = np.linspace(290, 310, 100)
    [row] = serve([configuration(load("4", 4, watts, 0.2))], constant(4), [TTFT])

    low, high = np.quantile(watts, [0.025, 0.975]) * 0.024
    assert (row.kwh_a_day.low, row.kwh_a_day.high) == (pytest.approx(low), pytest.approx(high))


def test_batches_share_time_with_idle():
    """An offline point is busy all the time: half its rate costs half the way from idle, and a note says so."""
    one = configuration(load("b32", 10, 600), kind="offline")
    [row] = serve([one], constant(5))

    assert row.kwh_a_day.value == pytest.approx(24 * 0.350)
    assert any("batches, then idle" in note for note in row.notes)


# several configurations


def dearer(name="b"):
    return configuration(load("b2", 2, 250, 0.1), load("b4", 4, 350, 0.2), load("b8", 8, 550, 0.8), name=name)


def test_the_cheapest_comes_first_and_those_that_cannot_come_last():
    slow = configuration(load("c2", 2, 10, 0.9), name="c")
    rows = serve([dearer(), slow, A], constant(50), [TTFT])

    assert [row.id for row in rows] == ["a", "b", "c"]
    assert [row.cheapest for row in rows] == [1.0, 0.0, None]


def test_the_probability_of_the_cheapest_is_of_joint_draws():
    """B takes less in a quarter of the draws."""
    watts = draws(250, 350, 350, 350)
    a = configuration(load("a", 4, 300, 0.2))
    b = configuration(load("b", 4, watts, 0.2), name="b")
    rows = serve([a, b], constant(4), [TTFT])

    assert {row.id: row.cheapest for row in rows} == {"a": 0.75, "b": 0.25}


def test_energies_that_cover_different_things_are_not_ranked():
    """Without money they stand by replicas, and no probability is given."""
    modelled = attrs.evolve(dearer(), basis=Basis("cpu+dram", "modelled"))
    rows = serve([A, modelled], constant(50), [TTFT])

    assert [row.cheapest for row in rows] == [None, None]


def test_money_with_energy_of_different_kinds_in_it_is_not_ranked():
    """A price of a kWh makes modelled joules money; where electricity is in the rent, money is comparable."""
    modelled = attrs.evolve(dearer(), basis=Basis("cpu+dram", "modelled"))
    both = [configuration(load("l", 10, 400)), modelled]

    billed = serve(both, constant(10), prices=Tariff(gpu_hour=2.0, kwh=0.3))
    assert [row.cheapest for row in billed] == [None, None]
    flat = serve(both, constant(10), prices=Tariff(gpu_hour=2.0, kwh=None, electricity_included=True))
    assert None not in [row.cheapest for row in flat]
    assert "cover" in break_even(*both, "money_a_day", prices=Tariff(gpu_hour=2.0, kwh=0.3))


def test_no_configurations():
    assert serve([], constant(1)) == []


def test_straight_lines_draw_by_draw():
    """Knots of their own in each draw; a segment without width adds nothing."""
    knots = np.array([[0.0, 1.0, 1.0, 3.0], [0.0, 2.0, 2.0, 4.0]])
    values = np.array([[0.0, 10.0, 10.0, 30.0], [0.0, 10.0, 10.0, 30.0]])

    assert interpolated(np.array([[-1.0, 1.0, 2.0, 9.0]]), knots, values) == pytest.approx(
        np.array([[0, 10, 20, 30], [0, 5, 10, 30]])
    )


def test_the_mean_over_a_trace_is_that_of_its_places():
    """Many places at once, below, between, on and beyond the knots of each draw."""
    rng = np.random.default_rng(3)
    knots = np.sort(rng.uniform(1, 9, (5, 4)), axis=1)
    knots[0, 1] = knots[0, 2]
    values, places = rng.uniform(100, 700, (5, 4)), np.concatenate([rng.uniform(0, 10, 30), knots[1]])
    weights = rng.dirichlet(np.ones(len(places)))

    expected = interpolated(places[None], knots, values) @ weights
    assert averaged(places, weights, knots, values) == pytest.approx(expected)
