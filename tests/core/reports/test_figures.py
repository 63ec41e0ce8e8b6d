"""Figures as text, also of intervals that cannot be: whoever reads a store must see the rest of it."""

from __future__ import annotations

import math

import pytest

from llem.reports.figures import number


@pytest.mark.parametrize(
    ("value", "half", "shown"),
    [
        (-790.66, 12.3, "-791"),
        (-790.66, -12.3, "-791"),  # of a lower end above the upper one
        (790.66, math.inf, "790.7"),
        (790.66, math.nan, "790.7"),
        (790.66, 0.0, "790.7"),
    ],
)
def test_digits_stand_for_any_half_width(value: float, half: float, shown: str) -> None:
    """Two digits of the half-width, whatever its sign; four of the value where it says nothing."""
    assert number(value, half) == shown
