"""What is known to move values is taken out of them: least squares on columns, within groups. Pure, and the same bits
on every machine: sums are exact."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from llem.metrics.statistics import mean

__all__ = ["Unit", "basis_of", "levels", "product", "residuals", "without"]

#: Rows of all groups together, less the mean of all and less the mean of the own group; the second has length 1.
Unit = tuple[Any, Any]


def residuals(values: Sequence[float], columns: Sequence[Sequence[float]]) -> list[float]:
    """The values less what a linear combination of the columns explains (least squares), their mean kept.

    Columns that do not vary, or that others make up, are left out.
    """
    return without([values], basis_of([columns]))[0]


def levels(
    groups: Sequence[Sequence[float]], columns: Sequence[Sequence[Sequence[float]]]
) -> tuple[list[float], list[list[float]]]:
    """The mean of each group where every column has its mean over all groups; and how sure that is.

    What a column does to a value is taken from differences within the groups alone, so that differences between them
    stand. What remains unsure of it moves the groups together: the second part has a vector with the standard error of
    each group's mean for each of the (independent) directions of the columns. `columns`: of each group, each as long
    as the group. Raises ValueError for empty groups, or for too few values to tell.
    """
    basis = basis_of(columns)
    _, within = _centred(groups)
    for unit in basis:
        _, within = _less(within, within, unit)
    free = len(within) - len(groups) - len(basis)
    if free < 1:
        raise ValueError(f"{len(within)} values do not tell what {len(basis)} columns do")
    error, sides = math.sqrt(product(within, within) / free), [0]
    for group in groups:
        sides.append(sides[-1] + len(group))
    unsure = [[error * mean(unit[0][a:b].tolist()) for a, b in pairwise(sides)] for unit in basis]
    return [mean(group) for group in without(groups, basis)], unsure


def basis_of(columns: Sequence[Sequence[Sequence[float]]]) -> list[Unit]:
    """Orthonormal vectors that span what the columns vary by within groups (Gram and Schmidt)."""
    basis: list[Unit] = []
    for column in zip(*columns, strict=True):
        whole, within = _centred(column)
        size = math.fsum(one * one for group in column for one in group)
        for unit in basis:
            whole, within = _less(whole, within, unit)
        length = product(within, within)
        if length > 1e-12 * size:
            basis.append((whole / math.sqrt(length), within / math.sqrt(length)))
    return basis


def without(groups: Sequence[Sequence[float]], basis: Sequence[Unit]) -> list[list[float]]:
    """Groups of values less what the basis explains of differences within groups; the mean of all is kept."""
    whole, within = _centred(groups)
    for unit in basis:
        whole, within = _less(whole, within, unit)
    centre, found = mean([one for group in groups for one in group]), iter(whole.tolist())
    return [[next(found) + centre for _ in group] for group in groups]


def _centred(groups: Sequence[Sequence[float]]) -> tuple[Any, Any]:
    """All values in a row, less the mean of all; and less the mean of their group."""
    import numpy as np

    values = [one for group in groups for one in group]
    centre, middles = mean(values), [mean(group) for group in groups]
    within = [one - middle for group, middle in zip(groups, middles, strict=True) for one in group]
    return np.array(values) - centre, np.array(within)


def _less(whole: Any, within: Any, unit: Unit) -> tuple[Any, Any]:
    """Both rows of a vector less as much of those of a unit as makes the second rows orthogonal."""
    along = product(within, unit[1])
    return whole - along * unit[0], within - along * unit[1]


def product(one: Any, other: Any) -> float:
    """The sum of the products of two arrays, exact but for one rounding."""
    return math.fsum((one * other).tolist())
