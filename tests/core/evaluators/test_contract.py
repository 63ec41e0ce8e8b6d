"""Scores that cannot be right are not stored."""

from __future__ import annotations

import math
from typing import Any

import attrs
import pytest

from llem.evaluators.base import Item, Score
from llem.evaluators.contract import score_breaches

GOOD = Score("fruit", "acc", 0.5, 0.1, 2, items=(Item("apple", 1.0), Item("pear", 0.0)))


def told(*scores: Score) -> list[str]:
    return [f"{breach.rule}: {breach.got}" for breach in score_breaches(scores)]


def test_right_scores_keep_the_rules() -> None:
    """With items and without, with a standard error and without."""
    assert told(GOOD, Score("fruit", "letters", 4, None, 2, aggregation="other")) == []


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"value": math.nan}, "a score is a finite number: nan for fruit acc"),
        ({"value": "0.5"}, "a score is a finite number: '0.5' for fruit acc"),
        ({"stderr": -0.1}, "a standard error is a finite number from 0 on, or None: -0.1 for fruit acc"),
        ({"aggregation": "median"}, "a score says how its items make it: 'median' for fruit acc"),
        ({"n": 3}, "a score counts the items that it has: n = 3 for fruit acc"),
        ({"items": (Item("a", 1.0), Item("a", 0.0))}, "items of fruit acc are named once each: 'a' more than once"),
        ({"items": (Item("a", math.inf), Item("b", 0.0))}, "the value of an item is finite: inf for 'a' of fruit acc"),
        (
            {"items": (Item("a", 1.0, weight=0), Item("b", 0.0))},
            "the weight of an item is above 0: 0 for 'a' of fruit acc",
        ),
    ],
)
def test_a_score_that_cannot_be_is_told(changes: dict[str, Any], rule: str) -> None:
    """By the first rule that it breaks."""
    assert told(attrs.evolve(GOOD, **changes)) == [rule]


def test_two_scores_of_one_name_are_told() -> None:
    """One would replace the other. Tasks of a group have the same metrics."""
    assert told(GOOD, GOOD) == ["scores of a task are named once each: 'fruit acc' more than once"]
    assert told(GOOD, attrs.evolve(GOOD, task="tree")) == []
