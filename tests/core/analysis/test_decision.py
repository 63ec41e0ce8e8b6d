"""What draws say: who is the best of those that keep the limits, which are tied, what blocks."""

from __future__ import annotations

import numpy as np
import pytest

from llem.analysis.decision import Estimated, decide, estimated, told

LOG = np.log


def columns(*rows):
    """Draws of k configurations, one row each."""
    return np.array(rows, dtype=float)


def test_draws_are_counted_for_the_one_that_costs_least():
    """Of four draws the first configuration costs least in three, so P is 0.75 and 0.25."""
    costs = columns([1, 2], [1, 2], [1, 2], [2, 1])
    found = decide(costs, [])

    assert found.choice == 0
    assert found.probability.tolist() == [0.75, 0.25]
    assert found.feasible.tolist() == [1.0, 1.0]
    assert found.ties == (0, 1)
    assert found.blocking is None


def test_what_costs_the_same_gets_its_part():
    """Counted values are exactly equal: neither is better, and none is a third of a draw."""
    found = decide(columns([1, 1, 1], [1, 1, 1]), [])

    assert found.probability == pytest.approx([1 / 3] * 3)
    assert found.ties == (0, 1, 2)
    assert found.regret == 0


def test_a_draw_counts_only_where_the_limits_are_kept():
    """The cheapest breaks a limit in half of the draws; there the next one is the best."""
    costs = columns([1, 2, 3], [1, 2, 3], [1, 2, 3], [1, 2, 3])
    limit = np.array([[True, True, True], [False, True, True], [True, True, True], [False, True, True]])
    found = decide(costs, [limit])

    assert found.probability.tolist() == [0.5, 0.5, 0.0]
    assert found.feasible.tolist() == [0.5, 1.0, 1.0]
    assert found.choice == 0
    assert found.surest == 1
    assert set(found.ties) == {0, 1}


def test_limits_hold_together_in_each_draw():
    """Each limit is kept in half of the draws, both together in none: nothing can be taken."""
    costs = columns([1], [1])
    found = decide(costs, [np.array([[True], [False]]), np.array([[False], [True]])])

    assert found.choice is None
    assert found.feasible.tolist() == [0.0]
    assert found.ties == ()


def test_what_keeps_the_limits_in_less_than_half_of_the_draws_is_not_taken():
    """It has the greatest P, and still more likely breaks a limit than not."""
    costs = np.tile(columns([1, 2, 2, 2]), (10, 1))
    limit = np.ones((10, 4), dtype=bool)
    limit[:6, 0] = False
    found = decide(costs, [limit])

    assert found.probability == pytest.approx([0.4, 0.2, 0.2, 0.2])
    assert found.choice == 1


def test_regret_is_the_mean_excess_over_the_best_of_the_others():
    """In three of four draws the choice is the best; in one it costs 8 % more: a quarter of 7.4 %."""
    costs = LOG(columns([1, 2], [1, 2], [1, 2], [1.08, 1]))

    assert decide(costs, []).regret == pytest.approx((1 - 1 / 1.08) / 4)


def test_regret_is_finite_where_little_is_known():
    """Of Student's t on logarithms the mean of ratios is infinite; a share of the larger one is 1 at most."""
    regrets = [decide(np.random.default_rng(seed).standard_t(1, (10_000, 2)), []).regret for seed in range(3)]

    assert regrets == pytest.approx([0.37] * 3, abs=0.02)


def test_regret_counts_only_draws_in_which_both_keep_the_limits():
    """The other one is cheaper by half, and breaks the limit in these draws."""
    costs = LOG(columns([2, 1], [2, 1], [2, 3], [2, 3]))
    limit = np.array([[True, False], [True, False], [True, True], [True, True]])

    assert decide(costs, [limit]).regret == 0
    assert decide(columns([1.0]), []).regret is None


def test_regret_counts_0_where_nothing_else_keeps_the_limits():
    """The other one costs half and keeps the limit in one of four draws: the fourth root of 2."""
    costs = LOG(columns([2, 1], [2, 1], [2, 1], [2, 1]))
    limit = np.array([[True, True], [True, False], [True, False], [True, False]])

    assert decide(costs, [limit]).regret == pytest.approx(0.5 / 4)


def test_ties_are_the_smallest_set_that_holds_the_best_with_95_percent():
    """P of 0.6, 0.3, 0.06 and 0.04: three of them hold the best with 96 %."""
    best = [0] * 60 + [1] * 30 + [2] * 6 + [3] * 4
    costs = np.ones((100, 4))
    costs[range(100), best] = 0

    assert decide(costs, []).ties == (0, 1, 2)


def test_the_blocking_limit_is_the_one_without_which_something_is_left():
    """Both keep the first limit, none the second."""
    costs = columns([1, 2], [1, 2])
    first, second = np.ones((2, 2), dtype=bool), np.zeros((2, 2), dtype=bool)
    found = decide(costs, [first, second])

    assert (found.choice, found.blocking) == (None, 1)
    assert decide(costs, [second, first]).blocking == 0


def test_of_limits_that_block_alike_the_one_that_is_kept_least():
    """Each excludes all; the second one in more draws."""
    first = np.array([[True, False], [True, False]])
    second = np.array([[False, False], [False, True]])

    assert decide(columns([1, 2], [1, 2]), [first, second]).blocking in (0, 1)
    both = [np.array([[True, False]] * 4), np.array([[False, False]] * 3 + [[False, True]])]
    assert decide(np.ones((4, 2)), both).blocking == 1


def test_an_estimate_is_the_median_and_the_central_95_percent():
    """Of 0 to 1000 these are 500, 25 and 975."""
    assert estimated(np.arange(1001.0)) == Estimated(500.0, 25.0, 975.0)


@pytest.mark.parametrize(("value", "words"), [(1.0, "> 0.99"), (0.0, "< 0.01"), (0.5, "0.50"), (0.994, "> 0.99")])
def test_draws_are_never_certain(value, words):
    """Neither 0 nor 1 is said."""
    assert told(value) == words
