"""The difference of two experiments in one metric, on the log scale: what cancels, what is measured, and what has to
be assumed. Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence, Set
from typing import Literal

import attrs

from llem.analysis.sides import ProcessMean, Side
from llem.analysis.variance import ASSUMED_FREEDOM, ASSUMED_SD, Estimate, Spread, combined, scatters_more
from llem.metrics.quantity import OVER_PROCESSES, WITHIN_PROCESS
from llem.metrics.statistics import mean

__all__ = ["BOARD_BOUND", "BOARD_SD", "PAIRED", "Between", "Difference", "difference", "other_places", "turns"]

#: By how much a board's calibration may be off: documented boards read up to 5 % wrong (Yang, Adámek and Armour,
#: SC'24), taken for the 95 % bound of each. Then its standard deviation on the log scale. Nothing is documented for
#: speeds, nor for machines without GPUs; the same is taken.
BOARD_BOUND = 0.05
BOARD_SD = BOARD_BOUND / 1.96

#: The method of trials that took turns in one engine process.
PAIRED = "paired_by_block"

#: What varies between engine processes: "shared" cancels, because both ran in the same ones; "measured" is in the
#: interval by the scatter of process means; "assumed" is in it with a stated deviation.
Between = Literal["shared", "measured", "assumed"]


@attrs.frozen
class Difference:
    """log B - log A of one metric.

    Attributes:
        n: how many pairs, or trials of the side that has fewer.
        method: "paired_by_block" (pairs of trials that took turns in one engine process), "processes" (means of
            processes), or "trials" (means of trials, where processes are not measured).
        covers: what the interval covers.
        assumed: what is in the interval by assumption alone: "processes", "drift"; "boards" of different GPUs or
            "machines" of different ones without GPUs.
    """

    estimate: Estimate
    n: int
    method: str
    between: Between
    covers: str
    assumed: tuple[str, ...] = ()


def difference(
    a: Side, b: Side, metric: str, pooled: Spread | None, inside: Sequence[bool] = (True, True)
) -> Difference:
    """B over A on the log scale.

    Args:
        pooled: how much process means vary over the study's experiments of this backend; None where none has two
            processes.
        inside: whether each side is one of these experiments.
    """
    pairs = turns(a, b)
    if pairs:
        found = _paired(a, b, metric, pairs)
        return attrs.evolve(found, estimate=found.estimate.floored)
    common = _in_common(a, b)
    found = _in_common_processes(*common, metric) if common else _of_processes(a, b, metric, pooled, inside)
    if not other_places(a, b):
        return attrs.evolve(found, estimate=found.estimate.floored)
    parts = [(found.estimate.error**2, found.estimate.freedom), (2 * BOARD_SD**2, ASSUMED_FREEDOM)]
    what = "boards" if any(place.gpus for place in (*a.places, *b.places)) else "machines"
    return attrs.evolve(found, estimate=combined(found.estimate.value, parts), assumed=(*found.assumed, what))


def other_places(a: Side, b: Side) -> bool:
    """Whether they ran on different boards or, without GPUs, on different machines."""
    return bool(a.places and b.places) and a.places != b.places


# one engine process


def turns(a: Side, b: Side) -> list[tuple[int, int]]:
    """Pairs of trials (numbers within A and within B) that took turns in the engine processes that both share.

    Within each process, trials of one block are a pair. A trial whose partner is missing has none: after a study was
    interrupted and went on, the first trial of A in the new process may be of a later block than the first of B. Where
    blocks are not known, the first trial of A goes with the first of B, and so on, if there are as many of each.

    Trials take turns if each pair ended before the next one began, so that drift is common to both of a pair. Empty
    where they do not, in any of the processes, or where there are fewer than two pairs.
    """
    found: list[tuple[int, int]] = []
    for worker in sorted(a.workers & b.workers):
        pairs = _pairs(a, b, worker)
        spans = [(a.runs[i], b.runs[j]) for i, j in pairs]
        for these, those in itertools.pairwise(spans):
            if max(run.t1_ns for run in these) > min(run.t0_ns for run in those):
                return []
        found += pairs
    return found if len(found) > 1 else []


def _pairs(a: Side, b: Side, worker: int) -> list[tuple[int, int]]:
    """Trials of one engine process by block, or by rank where blocks are not known, in the order of A's time."""
    first, second = _of_worker(a, worker), _of_worker(b, worker)
    blocks = [[side.runs[number].block for number in one] for side, one in ((a, first), (b, second))]
    if None in blocks[0] or None in blocks[1]:
        return list(zip(first, second, strict=True)) if len(first) == len(second) else []
    partners = dict(zip(_numbered(blocks[1]), second, strict=True))
    keys = zip(_numbered(blocks[0]), first, strict=True)
    return [(number, partners[key]) for key, number in keys if key in partners]


def _numbered(blocks: Sequence[int | None]) -> list[tuple[int | None, int]]:
    """Each with how often it came before, for a process that has a block more than once."""
    return [(block, blocks[:place].count(block)) for place, block in enumerate(blocks)]


def _of_worker(side: Side, worker: int) -> list[int]:
    """Numbers of the trials of one engine process, by time."""
    found = [(run.t0_ns, number) for number, run in enumerate(side.runs) if run.worker == worker]
    return [number for _, number in sorted(found)]


def _paired(a: Side, b: Side, metric: str, pairs: Sequence[tuple[int, int]]) -> Difference:
    logs_a, logs_b = a.logs(metric), b.logs(metric)
    estimate = _student([logs_b[j] - logs_a[i] for i, j in pairs])
    processes = {a.runs[i].worker for i, _ in pairs}
    return Difference(estimate, len(pairs), PAIRED, "shared", _covers(len(processes)))


def _student(values: Sequence[float]) -> Estimate:
    centre = mean(values)
    squares = math.fsum((value - centre) ** 2 for value in values)
    return Estimate(centre, math.sqrt(squares / (len(values) - 1) / len(values)), len(values) - 1.0)


def _covers(processes: int) -> str:
    return OVER_PROCESSES if processes > 1 else WITHIN_PROCESS


def _in_common(a: Side, b: Side) -> tuple[Side, Side] | None:
    """Both with their trials in the engine processes that they share; None where one has fewer than two there."""
    kept = [_within(one, a.workers & b.workers) for one in (a, b)]
    return (kept[0], kept[1]) if min(len(one.runs) for one in kept) > 1 else None


def _within(side: Side, workers: Set[int]) -> Side:
    numbers = [number for number, run in enumerate(side.runs) if run.worker in workers]
    values = {name: [trials[number] for number in numbers] for name, trials in side.values.items()}
    return attrs.evolve(side, runs=tuple(side.runs[number] for number in numbers), values=values)


def _in_common_processes(a: Side, b: Side, metric: str) -> Difference:
    """Trials of the same engine processes that did not take turns: the process cancels, and drift does not."""
    value = mean(b.logs(metric)) - mean(a.logs(metric))
    parts = [*_of_trials(a, metric), *_of_trials(b, metric), _drift(a, b)]
    covers = _covers(len(a.workers & b.workers))
    return Difference(combined(value, parts), _fewer(a, b), "trials", "shared", covers, ("drift",))


def _of_trials(side: Side, metric: str) -> Iterator[tuple[float, float]]:
    """Variance of the mean over the trials of one side, as of independent trials."""
    logs = side.logs(metric)
    if len(logs) > 1:
        one = _student(logs)
        yield one.error**2, one.freedom


def _fewer(a: Side, b: Side) -> int:
    return min(len(a.runs), len(b.runs))


# different engine processes


def _of_processes(a: Side, b: Side, metric: str, pooled: Spread | None, inside: Sequence[bool]) -> Difference:
    """Means of processes, with the variance between these as it is measured, or assumed."""
    means = [side.process_means(metric) for side in (a, b)]
    value = mean([one.mean for one in means[1]]) - mean([one.mean for one in means[0]])
    each = 1 / len(means[0]) + 1 / len(means[1])
    drift = ("drift",) if _in_sequence(a, b) else ()
    if pooled is None:
        parts = [*_of_trials(a, metric), *_of_trials(b, metric), (each * ASSUMED_SD**2, ASSUMED_FREEDOM)]
        parts += [_drift(a, b)] if drift else []
        covers = f"{OVER_PROCESSES}, by assumption"
        return Difference(combined(value, parts), _fewer(a, b), "trials", "assumed", covers, ("processes", *drift))
    (variance, freedom), own = _variance(means, pooled, inside)
    if not own and _spanned(a, b, pooled):
        drift = ()
    parts = [(each * variance, freedom), *([_drift(a, b)] if drift else [])]
    return Difference(combined(value, parts), _fewer(a, b), "processes", "measured", OVER_PROCESSES, drift)


def _in_sequence(a: Side, b: Side) -> bool:
    """Whether all trials of one side began before those of the other."""
    (a0, a1), (b0, b1) = ((min(times), max(times)) for times in ([run.time for run in one.runs] for one in (a, b)))
    return a1 < b0 or b1 < a0


def _drift(a: Side, b: Side) -> tuple[float, float]:
    """Variance that is assumed for drift, and its degrees of freedom.

    Drift is a random walk: over a distance in time of so many times the mean length of the two sides, its deviation is
    that of neighbours times the root of it. In a random order a pair's distance is chance: drift that is far apart for
    one pair is near for another, and that of neighbours is assumed for all.
    """
    if a.shuffled and b.shuffled:
        return 2 * ASSUMED_SD**2, ASSUMED_FREEDOM
    (a0, a1), (b0, b1) = a.span, b.span
    length = (a1 - a0 + b1 - b0) / 2
    distance = abs(b0 + b1 - a0 - a1) / 2 / length if length > 0 else 1.0
    return 2 * ASSUMED_SD**2 * max(1.0, distance), ASSUMED_FREEDOM


def _spanned(a: Side, b: Side, pooled: Spread) -> bool:
    """Whether the engine processes that the variance is of span the middles of both sides: drift is in it then."""
    middles = [sum(one.span) / 2 for one in (a, b)]
    return pooled.span is not None and pooled.span[0] <= min(middles) <= max(middles) <= pooled.span[1]


def _variance(
    means: Sequence[Sequence[ProcessMean]], pooled: Spread, inside: Sequence[bool]
) -> tuple[tuple[float, float], bool]:
    """Variance of one process mean with its degrees of freedom, and whether it is of these two sides alone.

    The pooled one, without block effects where both sides have the same blocks; unless the two sides alone scatter more
    than that by more than chance (F test), as configurations that are less steady than the others do.
    """
    sums = [math.fsum((one.mean - mean([o.mean for o in side])) ** 2 for one in side) for side in means]
    squares, freedom = math.fsum(sums), sum(len(side) - 1.0 for side in means)
    rest = pooled.freedom - sum(len(side) - 1.0 for side, among in zip(means, inside, strict=True) if among)
    if freedom and rest > 0 and squares:
        own = squares / freedom
        others = pooled.variance * pooled.freedom - sum(s for s, among in zip(sums, inside, strict=True) if among)
        others = max(others, 0.0) / rest
        if scatters_more((own, freedom), (others, rest)):
            return (own, freedom), True
    blocks = [[one.process for one in side] for side in means]
    if pooled.blocked is not None and len(blocks[0]) > 1 and blocks[0] == blocks[1]:
        return pooled.blocked, False
    return (pooled.variance, pooled.freedom), False
