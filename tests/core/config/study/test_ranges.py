"""Ranges of values: their ends, their spacing, and which of them are whole numbers."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llem.config.study.ranges import range_values


@pytest.mark.parametrize(
    ("name", "raw", "values"),
    [
        ("linear", [1, 5, 5], [1, 2, 3, 4, 5]),
        ("linear", [5, 1, 3], [5, 3, 1]),
        ("linear", [0, 1, 5], [0.0, 0.25, 0.5, 0.75, 1.0]),
        ("linear", [0.1, 0.3, 3], [0.1, 0.2, 0.3]),
        ("linear", [1.0, 3, 3], [1.0, 2.0, 3.0]),
        ("linear", [7, 7, 1], [7]),
        ("log", [1, 1024, 11], [2**power for power in range(11)]),
        ("log", [1, 100, 5], [1, 3, 10, 32, 100]),
        ("log", [1, 4, 9], [1, 2, 3, 4]),
        ("log", [1.0, 100.0, 3], [1.0, 10.0, 100.0]),
        ("log", [3, 3, 1], [3]),
        ("powers_of_two", [1, 1024], [2**power for power in range(11)]),
        ("powers_of_two", [3, 40], [4, 8, 16, 32]),
        ("powers_of_two", [8, 8], [8]),
    ],
)
def test_values(name: str, raw: list, values: list) -> None:
    """The values, and their types: a batch size is no float."""
    found = range_values(name, raw)

    assert found == values
    assert [type(one) for one in found] == [type(one) for one in values]


@pytest.mark.parametrize(
    ("name", "raw", "message"),
    [
        ("linear", [1, 2], "must be [start, stop, count], three numbers, got [1, 2]"),
        ("linear", "1, 2, 3", "must be [start, stop, count], three numbers, got the text '1, 2, 3'"),
        ("linear", [1, True, 3], "must be [start, stop, count], three numbers, got [1, True, 3]"),
        ("linear", [1, math.inf, 3], "must be [start, stop, count], three numbers, got [1, inf, 3]"),
        ("linear", [1, 2, 0], "count must be a whole number, at least 1, got 0"),
        ("linear", [1, 2, 2.0], "count must be a whole number, at least 1, got 2.0"),
        ("linear", [1, 2, 1], "count must be at least 2 from 1 to 2, got 1"),
        ("log", [0, 2, 3], "start and stop must be above 0, got 0 and 2"),
        ("powers_of_two", [1.0, 8], "must be [low, high], two whole numbers, got [1.0, 8]"),
        ("powers_of_two", [8, 1], "must be [low, high] with 1 <= low <= high, got [8, 1]"),
        ("linear", [1, 2, 10**9], "count must be at most 100,000, got 1,000,000,000"),
        ("linear", [1, 10**400, 3], "holds a whole number beyond 9,007,199,254,740,992"),
        ("powers_of_two", [1, 10**400], "holds a whole number beyond 9,007,199,254,740,992"),
        ("powers_of_two", [5, 7], "there is no power of two between 5 and 7"),
    ],
)
def test_what_is_no_range(name: str, raw: object, message: str) -> None:
    """It says what a range is, and what it got."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        range_values(name, raw)


@given(st.sampled_from(["linear", "log"]), st.floats(0.001, 1e6), st.floats(0.001, 1e6), st.integers(2, 50))
def test_ends_are_kept_and_order_with_them(name: str, start: float, stop: float, count: int) -> None:
    """As many values as asked for, from start to stop, never backwards."""
    values = range_values(name, [start, stop, count])

    assert len(values) == count
    assert (values[0], values[-1]) == (start, stop)
    assert values == pytest.approx(sorted(values, reverse=stop < start), rel=1e-11)
