"""Do trials of one engine process drift? A straight line through their energies and speeds.

    value of trial k of process p = level of p + slope k + noise

by least squares; the slope's p-value is Student's with n - processes - 1 degrees of freedom, exact for independent
normal noise. Where each process has too few trials for that, the line is through the means of the processes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import attrs

from llem.findings import Finding, finding
from llem.metrics.checks.batches import batches_of, differ
from llem.metrics.energies import token_energy
from llem.metrics.metric import Measured
from llem.metrics.residuals import levels
from llem.metrics.statistics import mean, process_means, trend
from llem.store.models import Trial

__all__ = ["drift_between", "hochberg"]

#: The change from first to last trial as a share of the mean, and the level. With the level within windows it makes
#: 5 % for an experiment.
SHARE, LEVEL = 0.005, 0.04
#: Degrees of freedom that a line must have left.
FREEDOM = 2
#: Batches of all trials together for each number that is fitted to tell what their work costs.
PER_COLUMN = 5


@attrs.frozen
class _Line:
    """The change from first to last as a share of the mean, its p-value, and what it runs through."""

    what: str
    share: float
    p_value: float
    over: str


@attrs.frozen
class _Work:
    """What trials' work does to their time.

    Attributes:
        factors: time per batch of mean work over the time per batch that was measured, of each trial.
        unsure: standard errors of these as shares, a vector over the trials for each independent cause.
    """

    factors: Sequence[float]
    unsure: Sequence[Sequence[float]] = ()


def drift_between(measured: Measured) -> list[Finding]:
    """`drift_between_trials` for energy per output token and for output tokens per second.

    A replay is left out: its windows are different parts of a trace.
    """
    trials = sorted(measured.trials, key=lambda trial: trial.t0_ns)
    if any(trial.serving is not None and trial.serving.kind == "replay" for trial in trials):
        return []
    work = _work(measured, trials)
    if work is None or not all(trial.output_tokens for trial in trials):
        return []
    found = [(what, _line(what, trials, values, work)) for what, values in _values(measured, trials, work)]
    lines = [line for _, line in found if line is not None]
    adjusted = hochberg([line.p_value for line in lines])
    return [
        finding(
            "drift_between_trials",
            f"{line.what} changes by {line.share:+.2%} {line.over} (p = {p_value:.2g})",
            what=line.what,
            share=line.share,
            p_value=p_value,
            trials=sorted(trial.index for trial in trials),
        )
        for line, p_value in zip(lines, adjusted, strict=True)
        if abs(line.share) > SHARE and p_value < LEVEL
    ]


def _values(measured: Measured, trials: Sequence[Trial], work: _Work) -> list[tuple[str, list[float]]]:
    """What is tested, one value per trial, as if all trials had done the same work."""
    # batches of mean work in the time of one token: what was measured where all work is the same
    scale = [1.0] * len(trials)
    if work.unsure:
        per_batch = [trial.output_tokens / trial.batches for trial in trials]
        scale = [factor * tokens / mean(per_batch) for factor, tokens in zip(work.factors, per_batch, strict=True)]
    speeds = [trial.output_tokens / trial.duration_s / one for trial, one in zip(trials, scale, strict=True)]
    chosen = measured.headline
    energies = [None if chosen is None else token_energy(trial, chosen) for trial in trials]
    joules = [energy * one for energy, one in zip(energies, scale, strict=True) if energy is not None]
    found = [("output tokens per second", speeds)]
    return [("energy per output token", joules), *found] if len(joules) == len(trials) else found


def _work(measured: Measured, trials: Sequence[Trial]) -> _Work | None:
    """From batches of the same trial. All 1 where trials do the same work, and of serving loads; None where batches
    are too few to tell."""
    rows = {trial.index: rows for trial, rows in zip(measured.trials, measured.rows, strict=True)}
    batches = [batches_of(trial, rows[trial.index]) for trial in trials]
    same = _Work([1.0] * len(trials))
    if measured.served or not all(batches):
        return same
    columns = [[list(kind) for kind in zip(*(batch.work for batch in made), strict=True)] for made in batches]
    if not differ([[mean(kind) for kind in kinds] for kinds in columns]):
        return same
    times = [[(batch.end_ns - batch.start_ns) / 1e9 for batch in made] for made in batches]
    if sum(map(len, times)) - len(times) < PER_COLUMN * len(columns[0]):
        return None
    found, unsure = levels(times, columns)
    factors = [level / mean(time) for level, time in zip(found, times, strict=True)]
    return _Work(factors, [[error / level for error, level in zip(errors, found, strict=True)] for errors in unsure])


def _line(what: str, trials: Sequence[Trial], values: Sequence[float], work: _Work) -> _Line | None:
    """The line within engine processes, or through their means; None where neither has enough trials."""
    centre = mean(values) if values else 0.0
    if centre == 0:
        return None
    processes = [trial.process for trial in trials]
    counts = Counter(processes)
    freedom = len(values) - len(counts) - 1
    if freedom >= FREEDOM:
        share, p_value = _slope([value / abs(centre) for value in values], processes, work.unsure, freedom)
        longest = max(counts.values())
        several = f" of an engine process ({longest} trials, {len(counts)} processes)"
        over = f"from the first trial to the last{several if len(counts) > 1 else f' ({longest} trials)'}"
        return _Line(what, share * (longest - 1), p_value, over)
    if len(counts) < FREEDOM + 2 or work.unsure:
        return None
    line = trend(process_means(values, processes))
    over = f"from the first engine process to the last ({len(counts)} processes)"
    return _Line(what, line.slope * (len(counts) - 1) / abs(centre), line.p_value, over)


def _slope(
    values: Sequence[float], processes: Sequence[int], unsure: Sequence[Sequence[float]], freedom: int
) -> tuple[float, float]:
    """The slope common to all processes, each with a level of its own; and the two-sided p-value of none (Student).

    `values` about 1. What is unsure of the trials' work adds to the slope's variance.
    """
    from scipy.special import stdtr

    seen: Counter[int] = Counter()
    places = []
    for process in processes:
        places.append(float(seen[process]))
        seen[process] += 1
    xs, ys = _inside(places, processes), _inside(values, processes)
    spread = math.fsum(x * x for x in xs)
    slope = math.fsum(x * y for x, y in zip(xs, ys, strict=True)) / spread
    rest = math.fsum((y - slope * x) ** 2 for x, y in zip(xs, ys, strict=True))
    common = [math.fsum(x * one for x, one in zip(xs, errors, strict=True)) / spread for errors in unsure]
    error = math.sqrt(rest / freedom / spread + math.fsum(one * one for one in common))
    if error <= 1e-12:  # rounding on an exact line
        return slope, 1.0 if abs(slope) <= 1e-12 else 0.0
    return slope, float(2 * stdtr(freedom, -abs(slope / error)))


def _inside(values: Sequence[float], processes: Sequence[int]) -> list[float]:
    """Values less the mean of their process."""
    numbers = sorted(set(processes))
    means = dict(zip(numbers, process_means(values, processes), strict=True))
    return [value - means[process] for value, process in zip(values, processes, strict=True)]


def hochberg(p_values: Sequence[float]) -> list[float]:
    """Hochberg's step-up adjustment (1988): as Holm's, and stronger where several p-values are small together.

    It holds the level for tests that depend on one another positively, as the two-sided tests of a slope do.
    """
    order = sorted(range(len(p_values)), key=lambda i: -p_values[i])
    adjusted, least = [1.0] * len(p_values), 1.0
    for rank, i in enumerate(order):
        least = min(least, p_values[i] * (rank + 1))
        adjusted[i] = least
    return adjusted
