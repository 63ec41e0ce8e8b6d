"""The effect of a value of an axis from its cells: pairs of points that are equal in all other axes. Pure."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import attrs

from llem.analysis.variance import ASSUMED_FREEDOM, ASSUMED_SD, Estimate, combined
from llem.metrics.metric import Basis
from llem.metrics.quantity import OVER_PROCESSES, WITHIN_PROCESS
from llem.metrics.statistics import mean, t_quantile
from llem.store.models import Quantity

__all__ = ["Cell", "Sample", "cell_of", "pooled", "sample_of"]


@attrs.frozen
class Sample:
    """One measured point.

    Attributes:
        values: what it sets, by axis.
        metric: value of one metric, above 0.
        basis: what an energy covers.
        error: standard error of the metric's logarithm by its trials, with its degrees of freedom; None: not known.
        processes: number of engine processes; 0 where that does not matter.
        workers: the engine processes, by number of the worker. Points with the same ones shared them.
    """

    id: str
    values: Mapping[str, Any]
    metric: float
    basis: Basis | None = None
    error: tuple[float, float] | None = None
    processes: int = 0
    workers: frozenset[int] = frozenset()


def sample_of(
    name: str, values: Mapping[str, Any], one: Quantity, basis: Basis | None, workers: frozenset[int]
) -> Sample:
    """From a quantity, which must have a value above 0."""
    assert one.value is not None
    error = None
    if one.low is not None and one.high is not None and one.covers in (WITHIN_PROCESS, OVER_PROCESSES):
        freedom = (one.processes if one.processes > 1 else one.n) - 1.0
        error = ((one.high - one.low) / 2 / t_quantile(freedom) / one.value, freedom) if freedom > 0 else None
    return Sample(name, values, one.value, basis, error, one.processes, workers)


@attrs.frozen
class Cell:
    """Two points, or two groups of them, that are equal in all other axes.

    Attributes:
        log: of value over reference.
        variance: of `log` by the trials, and its degrees of freedom; None: not known.
        engines: engine processes of reference and value; None: not known.
        single: whether a point of it has one engine process.
    """

    reference: tuple[str, ...]
    value: tuple[str, ...]
    log: float
    variance: tuple[float, float] | None
    engines: tuple[frozenset[int], frozenset[int]] | None
    single: bool
    bases: tuple[Basis, ...]

    @property
    def shared(self) -> bool:
        """Whether both were measured in the same engine process, which then cancels."""
        return self.engines is not None and bool(self.engines[0] & self.engines[1])


def cell_of(reference: Sequence[Sample], value: Sequence[Sample]) -> Cell:
    """The cell of two groups; each enters by its geometric mean."""
    groups = (reference, value)
    logs = [mean([math.log(one.metric) for one in group]) for group in groups]
    errors = [(one.error, len(group)) for group in groups for one in group]
    parts = [((error[0] / count) ** 2, error[1]) for error, count in errors if error is not None]
    known = combined(0.0, parts) if len(parts) == len(errors) else None
    first, second = (frozenset(worker for one in group for worker in one.workers) for group in groups)
    return Cell(
        reference=tuple(one.id for one in reference),
        value=tuple(one.id for one in value),
        log=logs[1] - logs[0],
        variance=None if known is None else (known.error**2, known.freedom),
        engines=(first, second) if first and second else None,
        single=any(one.processes == 1 for group in groups for one in group),
        bases=tuple(dict.fromkeys(one.basis for group in groups for one in group if one.basis is not None)),
    )


@attrs.frozen
class _Cluster:
    """Cells of one pair of engines: what differs between these engine processes is common to them.

    Attributes:
        share: of all cells.
        own: variance of the mean by the trials, with its degrees of freedom; None: not known.
    """

    share: float
    log: float
    own: tuple[float, float] | None
    single: bool


def pooled(cells: Sequence[Cell], *, sequential: bool = False) -> tuple[Estimate, tuple[str, ...]]:
    """The mean over cells (one at least), and what its error has in it by assumption alone.

    The variance is that which the trials give, and on top of it whatever the scatter between cells shows beyond that.
    So neither an interaction with another axis nor two cells that agree by luck make the interval too narrow. Cells of
    the same two engines count as one, because what differs between engine processes is common to them. Where a point
    has one engine process, a deviation between processes is assumed. Where the study ran one experiment after the
    other, drift is assumed on top. The error is infinite where nothing is known of it.
    """
    clusters = _clusters(cells)
    value = math.fsum(one.share * one.log for one in clusters)
    parts, known = _own(clusters)
    assumed = []
    count = len(clusters)
    alone = [one for one in clusters if one.single]
    if alone:
        assumed.append("processes")
        parts.append((math.fsum(one.share**2 for one in alone) * 2 * ASSUMED_SD**2, ASSUMED_FREEDOM))
    if sequential:
        assumed.append("drift")
        parts.append((2 * ASSUMED_SD**2, ASSUMED_FREEDOM))
    if count > 1:
        deviations = math.fsum((one.share * (one.log - value)) ** 2 for one in clusters) * count / (count - 1)
        parts.append((max(deviations - math.fsum(variance for variance, _ in parts), 0.0), count - 1.0))
    elif not known:
        return Estimate(value, math.inf, 1.0), ()
    return combined(value, parts).floored, tuple(assumed)


def _clusters(cells: Sequence[Cell]) -> list[_Cluster]:
    groups: dict[Hashable, list[Cell]] = {}
    for number, cell in enumerate(cells):
        groups.setdefault(number if cell.shared or cell.engines is None else cell.engines, []).append(cell)
    return [_cluster(group, len(group) / len(cells)) for group in groups.values()]


def _cluster(cells: Sequence[Cell], share: float) -> _Cluster:
    """Errors of trials are independent; those over processes are common to all cells of the same engines."""
    single, count = cells[0].single, len(cells)
    known = [cell.variance for cell in cells if cell.variance is not None]
    own = None
    if len(known) == count:
        over = [(variance / (count if single else 1) / count, freedom) for variance, freedom in known]
        one = combined(0.0, over)
        own = (one.error**2, one.freedom)
    return _Cluster(share, mean([cell.log for cell in cells]), own, single and not cells[0].shared)


def _own(clusters: Sequence[_Cluster]) -> tuple[list[tuple[float, float]], bool]:
    """Variances of the whole mean by the trials of each cluster, and whether those of all are known."""
    found = [(one.share**2 * one.own[0], one.own[1]) for one in clusters if one.own is not None]
    return found, len(found) == len(clusters)
