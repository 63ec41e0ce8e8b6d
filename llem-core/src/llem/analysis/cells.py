"""The effect of a value of an axis from its cells: pairs of points that are equal in all other axes. Pure."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import attrs

from llem.analysis.variance import ASSUMED_FREEDOM, ASSUMED_SD, Estimate, combined, scatters_more
from llem.metrics.metric import Basis
from llem.metrics.quantity import OVER_PROCESSES, WITHIN_PROCESS
from llem.metrics.statistics import mean, t_quantile
from llem.store.models import Quantity

__all__ = ["Between", "Cell", "Kind", "Pooled", "Sample", "cell_of", "pooled", "sample_of"]

#: The backend, and of energies what they cover: between points of one kind processes vary alike.
Kind: TypeAlias = tuple[str | None, Basis | None]


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
        number: in the study's file. A sequential study runs in this order. None: unknown.
    """

    id: str
    values: Mapping[str, Any]
    metric: float
    basis: Basis | None = None
    error: tuple[float, float] | None = None
    processes: int = 0
    workers: frozenset[int] = frozenset()
    backend: str | None = None
    number: int | None = None

    @property
    def kind(self) -> Kind:
        return self.backend, self.basis


def sample_of(
    name: str,
    values: Mapping[str, Any],
    one: Quantity,
    basis: Basis | None,
    workers: frozenset[int],
    backend: str | None = None,
    number: int | None = None,
) -> Sample:
    """From a quantity, which must have a value above 0."""
    assert one.value is not None
    error = None
    if one.half_width is not None and one.covers in (WITHIN_PROCESS, OVER_PROCESSES):
        freedom = (one.processes if one.processes > 1 else one.n) - 1.0
        error = (one.half_width / t_quantile(freedom) / one.value, freedom) if freedom > 0 else None
    return Sample(name, values, one.value, basis, error, one.processes, workers, backend, number)


@attrs.frozen
class Between:
    """Variance of one process mean on the log scale, as experiments with two engine processes or more measure it.

    Attributes:
        spanning: whether each of them was measured from the study's beginning to its end, so that drift is in it.
    """

    variance: float
    freedom: float
    spanning: bool = False


@attrs.frozen
class Cell:
    """Two points, or two groups of them, that are equal in all other axes.

    Attributes:
        log: of value over reference.
        variance: of `log` by the trials, and its degrees of freedom; None: not known.
        engines: engine processes of reference and value; None: not known.
        single: whether a point of it has one engine process.
        kinds: backends and bases of its points.
        each: by how much the variance of a process mean counts in that of `log`; None: numbers of processes not known.
        distance: between the two in the study's order, in points; None: not known.
    """

    reference: tuple[str, ...]
    value: tuple[str, ...]
    log: float
    variance: tuple[float, float] | None
    engines: tuple[frozenset[int], frozenset[int]] | None
    single: bool
    bases: tuple[Basis, ...]
    kinds: frozenset[Kind] = frozenset()
    each: float | None = None
    distance: float | None = None

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
        kinds=frozenset(one.kind for group in groups for one in group),
        each=_each(groups),
        distance=_distance(groups),
    )


def _each(groups: Sequence[Sequence[Sample]]) -> float | None:
    """Of the geometric mean over n points of k processes each: 1 / (n k); points of one engine share its processes."""
    if any(one.processes < 1 for group in groups for one in group):
        return None
    return math.fsum(_of_group(group) for group in groups)


def _of_group(group: Sequence[Sample]) -> float:
    engines: dict[Hashable, list[Sample]] = {}
    for one in group:
        engines.setdefault(one.workers or one.id, []).append(one)
    return math.fsum((len(members) / len(group)) ** 2 / members[0].processes for members in engines.values())


def _distance(groups: Sequence[Sequence[Sample]]) -> float | None:
    places = [[one.number for one in group if one.number is not None] for group in groups]
    return abs(mean(places[0]) - mean(places[1])) if all(places) else None


@attrs.frozen
class _Cluster:
    """Cells of one pair of engines: what differs between these engine processes is common to them.

    Attributes:
        share: of all cells.
        own: variance of the mean by the trials, with its degrees of freedom; None: not known.
        single: whether a deviation between processes is missing in `own`.
        process: what is measured of one process mean, and by how much that counts; None: nothing, or both shared them.
    """

    share: float
    log: float
    own: tuple[float, float] | None
    single: bool
    shared: bool
    process: tuple[Between, float] | None


@attrs.frozen
class Pooled:
    """The mean over cells.

    Attributes:
        between: what differs between engine processes: "assumed" where it is for any cell, "measured" (by experiments
            of two processes or more), "shared" where it cancels in all cells, "" where it shows in the scatter over
            cells alone.
        assumed: what is in the error by assumption alone: "processes", "drift".
    """

    estimate: Estimate
    between: str
    assumed: tuple[str, ...] = ()


def pooled(
    cells: Sequence[Cell], *, sequential: bool = False, measured: Mapping[Kind, Between] | None = None
) -> Pooled:
    """The mean over these cells (one at least).

    The variance is that of process means, where the study measured it, or else that which the trials of each cell give;
    and on top of it whatever the scatter over cells shows beyond that. The statement is of the mean over these cells.
    If the effect depends on other axes, cells that were not measured may have another one, and few cells that happen to
    agree do not show that.

    Cells of the same two engines count as one, because what differs between engine processes is common to them. Where a
    point has one engine process and nothing is measured of its backend, a deviation between processes is assumed. Where
    the study ran one experiment after the other, drift is assumed on top, which grows with the root of the distance;
    unless it is in what was measured. The error is infinite where nothing is known of it.
    """
    clusters = _clusters(cells, measured or {})
    value = math.fsum(one.share * one.log for one in clusters)
    parts, known = _own(clusters)
    assumed = []
    count = len(clusters)
    parts += _of_processes(clusters)
    alone = [one for one in clusters if one.single and one.process is None]
    if alone:
        assumed.append("processes")
        parts.append((math.fsum(one.share**2 for one in alone) * 2 * ASSUMED_SD**2, ASSUMED_FREEDOM))
    if sequential and not all(one.process is not None and one.process[0].spanning for one in clusters):
        assumed.append("drift")
        distance = mean([1.0 if cell.distance is None else cell.distance for cell in cells])
        parts.append((2 * ASSUMED_SD**2 * max(1.0, distance), ASSUMED_FREEDOM))
    if count > 1:
        deviations = math.fsum((one.share * (one.log - value)) ** 2 for one in clusters) * count / (count - 1)
        parts.append((max(deviations - math.fsum(variance for variance, _ in parts), 0.0), count - 1.0))
    elif not known:
        return Pooled(Estimate(value, math.inf, 1.0), "")
    shared = all(one.shared for one in clusters)
    kinds = ("assumed" if alone else "", "measured" if any(one.process for one in clusters) else "")
    return Pooled(combined(value, parts).floored, next(filter(None, kinds), "shared" if shared else ""), tuple(assumed))


def _of_processes(clusters: Sequence[_Cluster]) -> Iterator[tuple[float, float]]:
    """What is measured between processes; one estimate serves all cells of a backend, so that their parts add first."""
    counts: dict[Between, float] = {}
    for one in clusters:
        if one.process is not None:
            counts[one.process[0]] = counts.get(one.process[0], 0.0) + one.share**2 * one.process[1]
    for process, count in counts.items():
        yield count * process.variance, process.freedom


def _clusters(cells: Sequence[Cell], measured: Mapping[Kind, Between]) -> list[_Cluster]:
    groups: dict[Hashable, list[Cell]] = {}
    for number, cell in enumerate(cells):
        groups.setdefault(number if cell.shared or cell.engines is None else cell.engines, []).append(cell)
    return [_cluster(group, len(group) / len(cells), measured) for group in groups.values()]


def _cluster(cells: Sequence[Cell], share: float, measured: Mapping[Kind, Between]) -> _Cluster:
    """Errors of trials are independent; those over processes are common to all cells of the same engines."""
    single, count = cells[0].single, len(cells)
    known = [cell.variance for cell in cells if cell.variance is not None]
    own = None
    if len(known) == count:
        over = [(variance / (count if single else 1) / count, freedom) for variance, freedom in known]
        one = combined(0.0, over)
        own = (one.error**2, one.freedom)
    shared = cells[0].shared
    process = None if shared else _process(cells[0], own, measured)
    return _Cluster(share, mean([cell.log for cell in cells]), own, single and not shared, shared, process)


def _process(
    cell: Cell, own: tuple[float, float] | None, measured: Mapping[Kind, Between]
) -> tuple[Between, float] | None:
    """What was measured of the processes of both; of two backends, the one whose processes vary more counts.

    None where it is not known, or where these points alone vary more than that by more than chance (F test).
    """
    found = [measured[kind] for kind in cell.kinds if kind in measured]
    if cell.each is None or not found or len(found) < len(cell.kinds):
        return None
    most = max(found, key=lambda one: one.variance)
    common = cell.each * most.variance
    alone = own is not None and not cell.single and own[0] > common
    if alone and own and scatters_more(own, (common, most.freedom)):
        return None
    return most, cell.each


def _own(clusters: Sequence[_Cluster]) -> tuple[list[tuple[float, float]], bool]:
    """Variances of the whole mean by the trials of each cluster, and whether those of all are known."""
    rest = [one for one in clusters if one.process is None]
    found = [(one.share**2 * one.own[0], one.own[1]) for one in rest if one.own is not None]
    return found, len(found) == len(rest)
