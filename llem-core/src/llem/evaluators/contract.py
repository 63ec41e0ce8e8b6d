"""What llem relies on in the scores of an evaluator. Held before they are stored; the conformance suite holds the same
and more. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from typing import get_args

from llem.errors import Breach
from llem.evaluators.base import Aggregation, Item, Score

__all__ = ["score_breaches"]

PAGE = "docs/howto/write-a-plugin.md"


def score_breaches(scores: Sequence[Score]) -> Iterator[Breach]:
    """Of what one call of `evaluate` gave."""
    yield from _named_once("scores of a task", [f"{score.task} {score.metric}" for score in scores])
    for score in scores:
        name = f"{score.task} {score.metric}"
        if not _is_finite(score.value):
            yield Breach("a score is a finite number", f"{score.value!r} for {name}", "a number", PAGE)
        if score.stderr is not None and not (_is_finite(score.stderr) and score.stderr >= 0):
            rule = "a standard error is a finite number from 0 on, or None"
            yield Breach(rule, f"{score.stderr!r} for {name}", "a number, or None", PAGE)
        if score.aggregation not in get_args(Aggregation):
            known = ", ".join(get_args(Aggregation))
            yield Breach("a score says how its items make it", f"{score.aggregation!r} for {name}", known, PAGE)
        if len(score.items) not in (0, score.n):
            rule = "a score counts the items that it has"
            yield Breach(rule, f"n = {score.n} for {name}", f"{len(score.items)}, its items", PAGE)
        yield from _named_once(f"items of {name}", [item.id for item in score.items])
        yield from _items_breaches(name, score.items)


def _items_breaches(name: str, items: Sequence[Item]) -> Iterator[Breach]:
    for item in items:
        if not _is_finite(item.value):
            yield Breach(
                "the value of an item is finite", f"{item.value!r} for {item.id!r} of {name}", "a number", PAGE
            )
        if not (_is_finite(item.weight) and item.weight > 0):
            got = f"{item.weight!r} for {item.id!r} of {name}"
            yield Breach("the weight of an item is above 0", got, "a number above 0", PAGE)


def _named_once(what: str, names: Collection[str]) -> Iterator[Breach]:
    if len(set(names)) < len(names):
        twice = next(name for name in names if list(names).count(name) > 1)
        yield Breach(f"{what} are named once each", f"{twice!r} more than once", "a name for each", PAGE)


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
