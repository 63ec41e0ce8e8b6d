"""Which configurations share engine processes, which turns they took there, and how their trials scatter. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs

from llem.analysis.sides import Side
from llem.analysis.variance import scatters_more
from llem.metrics.statistics import mean

__all__ = ["Part", "cells", "centred", "common_cells", "pooled_parts", "units_of", "within_processes"]


@attrs.frozen
class Part:
    """One part of the variance of several estimates.

    Attributes:
        variances: of each. freedom: degrees of freedom that they are known with. All rest on one scatter, so that they
            are wrong by the same factor.
        least: what each variance is at least by something else that is known better; empty where nothing is.
        least_freedom: degrees of freedom of that.
    """

    variances: tuple[float, ...]
    freedom: float
    least: tuple[float, ...] = ()
    least_freedom: float = 1.0


def units_of(sides: Sequence[Side]) -> tuple[int, ...]:
    """The number of each one's unit: sides share one if half of the trials of both ran in common engine processes."""
    found: list[int] = []
    first: list[int] = []
    for number, side in enumerate(sides):
        unit = next((u for u, one in enumerate(first) if _share(side, sides[one])), len(first))
        if unit == len(first):
            first.append(number)
        found.append(unit)
    return tuple(found)


def _share(a: Side, b: Side) -> bool:
    common = a.workers & b.workers
    return bool(common) and all(2 * sum(r.worker in common for r in one.runs) >= len(one.runs) for one in (a, b))


def cells(side: Side) -> list[tuple[int | None, int | None, int]]:
    """Of each trial: its engine process, its block, and how many of these came before; without blocks, its rank."""
    seen: dict[tuple[int | None, int | None], int] = {}
    found = []
    for run in side.runs:
        key = run.worker, run.block
        found.append((*key, seen.get(key, 0)))
        seen[key] = seen.get(key, 0) + 1
    return found


def common_cells(sides: Sequence[Side]) -> list[tuple[int | None, int | None, int]]:
    """The turns in which all of a unit's configurations have a trial."""
    common = set.intersection(*(set(cells(side)) for side in sides))
    return [key for key in cells(sides[0]) if key in common]


def within_processes(side: Side, metric: str) -> tuple[float, float]:
    """Sum of squares of the trials around the mean of their engine process, and its degrees of freedom."""
    groups: dict[int, list[float]] = {}
    for run, value in zip(side.runs, side.logs(metric), strict=True):
        groups.setdefault(run.process, []).append(value)
    squares = math.fsum(x**2 for values in groups.values() for x in centred(values))
    return squares, sum(len(values) - 1.0 for values in groups.values())


def pooled_parts(sums: Sequence[tuple[float, float]], shares: Sequence[float]) -> list[Part]:
    """The pooled variance times each one's share; of one that scatters more by more than chance, its own."""
    squares, freedom = (math.fsum(column) for column in zip(*sums, strict=True))
    if not freedom or not any(shares):
        return []
    found, pooled = [], list(shares)
    for number, (own, known) in enumerate(sums):
        rest = freedom - known
        if (
            shares[number]
            and known
            and rest
            and own
            and scatters_more((own / known, known), (max(0.0, squares - own) / rest, rest))
        ):
            single = [0.0] * len(sums)
            single[number], pooled[number] = shares[number] * own / known, 0.0
            found.append(Part(tuple(single), known))
    return [*found, Part(tuple(share * squares / freedom for share in pooled), freedom)]


def centred(values: Sequence[float]) -> list[float]:
    centre = mean(values)
    return [value - centre for value in values]
