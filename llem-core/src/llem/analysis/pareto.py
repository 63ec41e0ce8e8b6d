"""Which points no other one beats. Pure."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence

import attrs

from llem.store.models import Quantity

__all__ = ["Candidate", "non_dominated"]


@attrs.frozen
class Candidate:
    """One point with two metrics that have values, and whether less of each is better."""

    id: str
    x: Quantity
    y: Quantity
    lower: tuple[bool, bool]


def non_dominated(candidates: Sequence[Candidate]) -> list[str]:
    """Ids of the points that no other one dominates, best x first.

    A point is dominated when another is no worse in both values, and better in one of them beyond doubt: their
    intervals do not overlap. So a point is never dropped for a difference that may be noise; of points that cannot be
    told apart, all stay. A value without an interval counts as exact.

    Takes n log n steps: those beyond doubt better in one metric are a run of the points sorted by their worse end.
    """
    points = [_Point.of(one) for one in candidates]
    beaten = {*_beaten(points), *_beaten([point.swapped() for point in points])}
    left = [point for point in points if point.id not in beaten]
    return [point.id for point in sorted(left, key=lambda point: (point.x[1], point.y[1], point.id))]


@attrs.frozen
class _Point:
    """Both metrics as (better end, value, worse end), turned so that less is better."""

    id: str
    x: tuple[float, float, float]
    y: tuple[float, float, float]

    @classmethod
    def of(cls, one: Candidate) -> _Point:
        return cls(one.id, _turned(one.x, one.lower[0]), _turned(one.y, one.lower[1]))

    def swapped(self) -> _Point:
        return _Point(self.id, self.y, self.x)


def _turned(quantity: Quantity, lower: bool) -> tuple[float, float, float]:
    assert quantity.value is not None
    value = quantity.value
    low = value if quantity.low is None else quantity.low
    high = value if quantity.high is None else quantity.high
    return (low, value, high) if lower else (-high, -value, -low)


def _beaten(points: Sequence[_Point]) -> Iterator[str]:
    """Points to which another is better in x beyond doubt, and no worse in y."""
    ordered = sorted(points, key=lambda point: point.x[2])
    ends = [point.x[2] for point in ordered]
    least: list[float] = []  # the best y among the first so many
    for point in ordered:
        least.append(min(point.y[1], least[-1]) if least else point.y[1])
    for point in points:
        before = bisect.bisect_left(ends, point.x[0])  # whose worse end lies before this one's better end
        if before and least[before - 1] <= point.y[1]:
            yield point.id
