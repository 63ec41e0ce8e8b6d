"""What a study's reference shows: how much its engine processes differ, and whether they drift over the study. Pure.

The reference is one experiment of which several engine processes run from the beginning of the study to its end (see
`llem.study.plan.reference`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs

from llem.analysis.compare import HEADLINES
from llem.metrics.catalogue import METRICS
from llem.metrics.metric import Basis, Measured, Metric
from llem.metrics.statistics import mean, trend
from llem.store.store import Store

__all__ = ["ReferenceRuns", "reference_of", "reference_runs"]


@attrs.frozen
class ReferenceRuns:
    """The engine processes of the reference, in the order of time.

    Attributes:
        id: the experiment.
        metric: name of what is looked at; `basis` says what an energy covers.
        means: mean of each process.
        asked: engine processes that the study asks for.
        sd: standard deviation of the means as a share of their mean; None for fewer than two.
        sd_of_scatter: the part of it that the scatter of trials within a process would give by itself: the root of the
            mean of s²/n over processes, with s² pooled over them; None where no process has two trials.
        drift: change from the first to the last process as a share of the mean, on the least-squares line over their
            order; of two processes, their difference. None for fewer than two.
        p_value: of no drift, two-sided, Student's t with two degrees of freedom less than there are processes. None
            for fewer than three.
    """

    id: str
    metric: str
    basis: Basis | None
    means: tuple[float, ...]
    asked: int
    sd: float | None = None
    sd_of_scatter: float | None = None
    drift: float | None = None
    p_value: float | None = None


def reference_of(store: Store) -> ReferenceRuns | None:
    """What the reference of a stored study shows; None without one, or before it has a trial.

    Raises StoreError: a file of the reference is damaged.
    """
    name = store.study().get("reference")
    if not isinstance(name, str) or name not in store.experiment_ids():
        return None
    return reference_runs(Measured.read(store, name), name)


def reference_runs(measured: Measured, name: str) -> ReferenceRuns | None:
    """The same of what was measured of one experiment. None where a trial lacks both metrics, or there is no trial."""
    for metric in (METRICS[one] for one in HEADLINES):
        if (values := metric.per_trial(measured)) is not None:
            return _runs(measured, name, metric, values)
    return None


def _runs(measured: Measured, name: str, metric: Metric, values: Sequence[float]) -> ReferenceRuns:
    timed = sorted(zip(measured.trials, values, strict=True), key=lambda one: (one[0].started_at, one[0].t0_ns))
    groups: dict[int, list[float]] = {}
    for trial, value in timed:
        groups.setdefault(trial.process, []).append(value)
    means = [mean(group) for group in groups.values()]
    basis = measured.basis if metric.scoped else None
    runs = ReferenceRuns(name, metric.name, basis, tuple(means), measured.setup.processes)
    centre = mean(means)
    if len(means) < 2 or centre == 0:
        return runs
    sd = math.sqrt(math.fsum((one - centre) ** 2 for one in means) / (len(means) - 1))
    change, p_value = means[-1] - means[0], None
    if len(means) > 2:
        line = trend(means)
        change, p_value = line.slope * (len(means) - 1), line.p_value
    return attrs.evolve(
        runs,
        sd=sd / abs(centre),
        sd_of_scatter=_scatter(list(groups.values()), centre),
        drift=change / abs(centre),
        p_value=p_value,
    )


def _scatter(groups: Sequence[Sequence[float]], centre: float) -> float | None:
    freedom = sum(len(group) - 1 for group in groups)
    if freedom == 0:
        return None
    squares = math.fsum((value - mean(group)) ** 2 for group in groups for value in group)
    return math.sqrt(squares / freedom * mean([1 / len(group) for group in groups])) / abs(centre)
