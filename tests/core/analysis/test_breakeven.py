"""From which load or output length another configuration is cheaper: known crossings, their share, and none."""

from __future__ import annotations

import attrs
import numpy as np
import pytest

from llem.analysis.breakeven import LengthCurve, break_even, break_even_length, crossing
from llem.analysis.capacity import Configuration, MeasuredLoad
from llem.analysis.limits import Limit
from llem.metrics.metric import Basis

TTFT = Limit("ttft:p99<400ms", "ttft_p99_s", True, 0.4)
GPU = Basis("gpu", "measured")
COUNT = 200


@attrs.frozen
class Rent:
    """Two an hour for a GPU, electricity included."""

    currency: str = "EUR"
    gpu_hour: float | None = 2.0
    machine_hour: float | None = None
    kwh: float | None = None
    grid_g_per_kwh: float | None = None
    pue: float = 1.0
    electricity_included: bool = True


def straight(name, idle, slope, rates=(2, 4, 8), *, gpus=1, latencies=None, basis=GPU):
    """A configuration whose power is `idle + slope * rate`, each a number or draws."""
    idle, slope = (np.broadcast_to(np.asarray(one, dtype=float), COUNT) for one in (idle, slope))
    found = latencies or [0.1] * len(rates)
    loads = [
        MeasuredLoad(f"{name}{rate}", np.full(COUNT, float(rate)), idle + slope * rate, (np.full(COUNT, latency),))
        for rate, latency in zip(rates, found, strict=True)
    ]
    return Configuration(name, "open", tuple(loads), gpus, np.array(idle), basis=basis)


# curves


def test_crossing_of_straight_lines():
    """a = 1 + x and b = 3: B is lower from x = 2 on. In the second draw A is lower throughout, in the third B is."""
    x = np.array([0.0, 1.0, 5.0])
    a = np.array([[1.0, 2.0, 6.0], [0.0, 0.0, 0.0], [9.0, 9.0, 9.0]])
    at, b_ends, a_ends = crossing(x, a, np.full((3, 3), 3.0))

    assert at == pytest.approx([2.0, np.nan, np.nan], nan_ok=True)
    assert b_ends.tolist() == [True, False, True]
    assert a_ends.tolist() == [False, True, False]


def test_of_several_crossings_the_last_counts():
    """B is lower, then higher, then lower again for the rest."""
    x = np.array([0.0, 1.0, 2.0, 3.0])
    at, b_ends, _ = crossing(x, np.zeros((1, 4)), np.array([[-1.0, 1.0, 1.0, -1.0]]))

    assert (at[0], b_ends[0]) == (2.5, True)


def test_equal_curves_do_not_cross():
    at, b_ends, a_ends = crossing(np.array([0.0, 1.0]), np.ones((1, 2)), np.ones((1, 2)))

    assert np.isnan(at[0])
    assert not b_ends[0]
    assert not a_ends[0]


def test_curves_that_touch_do_not_cross():
    """Both begin at 1; B is lower from there on: throughout."""
    at, b_ends, _ = crossing(np.array([0.0, 1.0]), np.array([[1.0, 3.0]]), np.array([[1.0, 2.0]]))

    assert np.isnan(at[0])
    assert b_ends[0]


# over load


def test_known_crossing_of_two_configurations():
    """100 + 50 r = 200 + 25 r at r = 4: above, the one that idles higher and rises less is cheaper."""
    found = break_even(straight("a", 100, 50), straight("b", 200, 25), "kwh_a_day")

    assert found.above == "b"
    assert (found.at.value, found.at.low, found.at.high) == pytest.approx((4.0, 4.0, 4.0))
    assert (found.share, found.throughout) == (1.0, {"a": 0.0, "b": 0.0})
    assert (found.low, found.high) == (0.0, 8.0)
    assert found.words == "b is cheaper from 4 requests/s (4 to 4) on in 100 % of draws"


def test_the_order_of_the_two_does_not_matter():
    found = break_even(straight("b", 200, 25), straight("a", 100, 50), "kwh_a_day")

    assert (found.above, found.at.value) == ("b", pytest.approx(4.0))


def test_crossing_has_an_interval():
    """Idle power of B from 150 to 250 W: the crossing moves from 2/s to 6/s."""
    idle = np.linspace(150, 250, COUNT)
    found = break_even(straight("a", 100, 50), straight("b", idle, 25), "kwh_a_day")

    low, high = (np.quantile(idle, [0.025, 0.975]) - 100) / 25
    assert (found.at.value, found.at.low, found.at.high) == pytest.approx((4.0, low, high), rel=1e-3)


def test_share_of_draws_with_a_crossing():
    """In a quarter of the draws B idles so high that A is cheaper at every measured load."""
    idle = np.resize([200.0, 200.0, 200.0, 400.0], COUNT)
    found = break_even(straight("a", 100, 50), straight("b", idle, 25), "kwh_a_day")

    assert (found.above, found.share, found.throughout) == ("b", 0.75, {"a": 0.25, "b": 0.0})
    assert found.words.endswith(" on in 75 % of draws; a throughout in 25 %")
    assert found.at.high == pytest.approx(4.0)


def test_no_crossing_says_which_one_is_cheaper_throughout():
    """The lines cross at 12/s, beyond what is measured: nothing is extrapolated."""
    found = break_even(straight("a", 100, 50), straight("b", 400, 25), "kwh_a_day")

    assert (found.above, found.at, found.share) == ("", None, 0.0)
    assert found.throughout == {"a": 1.0, "b": 0.0}
    assert (
        found.words
        == "no crossing within what is measured, 0 to 8 requests/s: a is cheaper throughout in 100 % of draws"
    )


def test_a_crossing_that_few_draws_have_is_not_stated():
    """Its place would be that of a few draws only."""
    idle = np.resize([200.0, 400.0, 400.0], COUNT)
    found = break_even(straight("a", 100, 50), straight("b", idle, 25), "kwh_a_day")

    assert (found.at, found.above) == (None, "")
    assert found.share == pytest.approx(67 / COUNT)
    assert "a is cheaper throughout" in found.words


def test_rent_jumps_with_each_replica():
    """A has two GPUs and serves 8/s; B has one and serves 3/s. Both cost the same from 3 to 6/s, and above B needs a
    third GPU."""
    a = straight("a", 100, 50, gpus=2)
    b = straight("b", 100, 50, (1, 2, 3))
    found = break_even(a, b, "money_a_day", (), Rent())

    assert (found.above, found.at.value, found.share) == ("a", pytest.approx(6.0, rel=1e-4), 1.0)


def test_capacity_is_that_within_the_limits():
    """With a limit that both break half way from 4 to 8/s, the curves end at 6/s."""
    pair = [
        straight(name, idle, slope, latencies=[0.1, 0.2, 0.8]) for name, idle, slope in (("a", 100, 50), ("b", 350, 1))
    ]
    found = break_even(*pair, "kwh_a_day", [TTFT])

    assert found.high == pytest.approx(6.0)
    assert found.at.value == pytest.approx(250 / 49)


def test_without_idle_power_the_curve_begins_at_the_least_load():
    blind = attrs.evolve(straight("a", 100, 50), idle=None)
    found = break_even(blind, straight("b", 200, 25), "kwh_a_day")

    assert (found.low, found.at.value) == (2.0, pytest.approx(4.0))


def test_why_there_is_no_break_even():
    a, b = straight("a", 100, 50), straight("b", 200, 25)

    modelled = attrs.evolve(b, basis=Basis("gpu", "modelled"))
    assert "cover different things" in break_even(a, modelled, "kwh_a_day")
    assert break_even(a, b, "money_a_day") == "no prices are given"
    tight = attrs.evolve(TTFT, bound=0.01)
    assert "keeps the limits at no measured load" in break_even(a, b, "kwh_a_day", [tight])
    dark = attrs.evolve(b, loads=tuple(attrs.evolve(one, power=None) for one in b.loads))
    assert break_even(a, dark, "kwh_a_day") == "power is not measured at every load"


# over output length


def curve(name, lengths, energies, rate=10.0, **more):
    energy = np.broadcast_to(np.array(energies, dtype=float), (COUNT, len(lengths)))
    rates = np.broadcast_to(np.asarray(rate, dtype=float), (COUNT, len(lengths)))
    return LengthCurve(name, "batch 32", tuple(lengths), energy, rates, **{"gpus": 1, "basis": GPU, **more})


def test_crossing_over_output_length():
    """A: 10 J at 100 tokens, 50 J at 500. B: 20 J at 100, 40 J at 500. They meet at 300 tokens."""
    found = break_even_length(
        curve("a", (100, 500), (10, 50)), curve("b", (100, 300, 500), (20, 30, 40)), "energy_per_request_j"
    )

    assert (found.above, found.at.value, found.over) == ("b", pytest.approx(300.0), "output tokens")


def test_lengths_that_only_one_has_are_left_out():
    found = break_even_length(
        curve("a", (10, 100, 500), (1, 10, 50)), curve("b", (50, 400), (20, 35)), "energy_per_request_j"
    )

    assert (found.low, found.high) == (50, 400)
    assert break_even_length(curve("a", (10, 50), (1, 5)), curve("b", (50, 400), (1, 2)), "energy_per_request_j") == (
        "no range of output lengths is measured of both"
    )


def test_money_of_a_request():
    """Rent alone: 2 an hour over the requests of an hour. A has one GPU and 10 then 2 requests/s, B two GPUs and 10
    then 8: at the end a request of A costs 2/2 and one of B 4/8."""
    a = curve("a", (100, 500), (1, 1), rate=(10.0, 2.0))
    b = curve("b", (100, 500), (1, 1), rate=(10.0, 8.0), gpus=2)
    found = break_even_length(a, b, "money_per_request", Rent())

    # per request and hour: A 0.2 to 1.0, B 0.4 to 0.5; they meet at 2/7 of the way
    assert (found.above, found.at.value) == ("b", pytest.approx(100 + 400 * 2 / 7))
    assert break_even_length(a, b, "money_per_request") == "no prices are given"


def test_energies_over_length_that_cover_different_things():
    other = curve("b", (100, 500), (1, 2), basis=Basis("node", "measured"))

    assert "cover different things" in break_even_length(curve("a", (100, 500), (1, 2)), other, "energy_per_request_j")
