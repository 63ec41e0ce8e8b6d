"""Ranks of many values: what cannot be told apart shares them."""

from __future__ import annotations

import pytest

from llem.analysis.ranking import rank_intervals
from llem.store.models import Quantity


def _known(value, half=0.0):
    """With an interval over processes, so that nothing is assumed beside it."""
    return Quantity(value, "J", value - half, value + half, 0.95, 6, 3, "over processes", "student_t")


def test_values_far_apart_have_a_rank_each():
    """The least is the first where less is better, and the last where more is."""
    found = [_known(3.0, 0.01), _known(1.0, 0.01), _known(2.0, 0.01)]

    assert rank_intervals(found, True) == [(3, 3), (1, 1), (2, 2)]
    assert rank_intervals(found, False) == [(1, 1), (3, 3), (2, 2)]


def test_values_that_cannot_be_told_apart_share_ranks():
    """The two ends differ from each other, and none from the middle."""
    found = [_known(1.00, 0.10), _known(1.10, 0.10), _known(1.20, 0.10)]

    assert rank_intervals(found, True) == [(1, 2), (1, 3), (2, 3)]


def test_equal_values_without_an_interval_share_the_rank():
    """Counted exactly, as operations are."""
    found = [Quantity(value, "FLOP", n=5, method="exact") for value in (2.0, 1.0, 1.0)]

    assert rank_intervals(found, True) == [(3, 3), (1, 2), (1, 2)]


@pytest.mark.parametrize(("difference", "expected"), [(1.01, [(1, 2), (1, 2)]), (1.05, [(1, 1), (2, 2)])])
def test_an_interval_of_one_process_has_a_percent_beside_it(difference, expected):
    """Two processes of one configuration may differ by as much."""
    found = [Quantity(one, "J", one, one, 0.95, 5, 1, "within one process", "student_t") for one in (1.0, difference)]

    assert rank_intervals(found, True) == expected


def test_one_value_is_the_first_and_the_last():
    """Of one."""
    assert rank_intervals([_known(1.0)], True) == [(1, 1)]
