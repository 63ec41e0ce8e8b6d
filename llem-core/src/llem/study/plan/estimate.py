"""How long a study takes, from what its experiments ask for. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs

from llem.config.models import Experiment
from llem.protocol.study_events import ExperimentPlan, JobPlan
from llem.study.plan.schedule import Job

__all__ = ["BASIS", "Estimate", "estimate", "estimate_groups", "job_plan"]

#: What the estimate is made of, for whoever reads it.
BASIS = (
    "an idle baseline before and after for every engine, warm-up and trials × window of every experiment, with the "
    "least and the most trials; loading models, compilation and batches longer than a window come on top"
)


@attrs.frozen
class Estimate:
    """Seconds, with as few trials as asked for and with as many as allowed; and how often an engine is loaded."""

    least_s: float
    most_s: float
    loads: int


def estimate(experiments: Iterable[Experiment]) -> Estimate:
    """The time that experiments ask for, each with an engine for itself. Knows nothing of the machine; see `BASIS`."""
    return estimate_groups([one] for one in experiments)


def estimate_groups(groups: Iterable[Sequence[Experiment]], *, gap_s: float = 0.0, parallel: int = 1) -> Estimate:
    """The time that experiments ask for. Knows nothing of the machine; see `BASIS`.

    Args:
        groups: experiments that share engines, the ones of each group.
        gap_s: pause before each trial.
        parallel: workers at once.
    """
    least = most = 0.0
    loads = 0
    for group in groups:
        processes = max(one.processes for one in group)
        loads += processes
        around = processes * sum(_baselines_s(group[0])) + sum(one.processes * one.warmup.seconds for one in group)
        least += around + sum(one.least_trials * (one.window_s + gap_s) for one in group)
        most += around + sum(one.most_trials * (one.window_s + gap_s) for one in group)
    return Estimate(least / parallel, most / parallel, loads)


def _baselines_s(experiment: Experiment) -> tuple[float, float]:
    """Before the trials and after them; none where no meter is to be read."""
    if experiment.meters == ():
        return 0.0, 0.0
    return experiment.baseline.length_s("before"), experiment.baseline.length_s("after")


def job_plan(job: Job, experiments: Mapping[str, Experiment], *, gap_s: float = 0.0) -> JobPlan:
    """What one engine process will do, in seconds, as the event `study` has it; see `BASIS` for what is not in it.

    Args:
        experiments: of the study, by id.
    """
    counts: dict[str, int] = {}
    for name, index in job.turns:
        one = experiments[name]
        counts[name] = counts.get(name, 0) + (index < one.least_trials)
    before_s, after_s = _baselines_s(experiments[next(iter(counts))]) if counts else (0.0, 0.0)
    planned = {
        name: ExperimentPlan(count, experiments[name].window_s + gap_s, experiments[name].warmup.seconds)
        for name, count in counts.items()
    }
    return JobPlan((job.group, job.process), planned, before_s, after_s)
