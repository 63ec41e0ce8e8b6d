"""Planners, which say what a study measures next; and the trials of a job that are not measured yet."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence

import attrs

from llem.config.models import Experiment
from llem.errors import StoreError
from llem.metrics.precision import is_wanted
from llem.protocol.order import Task
from llem.store.evaluations import remaining_tasks
from llem.store.models import Result
from llem.store.store import Store
from llem.study.plan.schedule import Job
from llem.study.plan.study import Study

__all__ = ["FixedList", "Planner", "remaining_turns", "with_tasks", "without"]


class Planner(ABC):
    """Says what a study measures next.

    `StudyRun` calls `next`, carries out all jobs, computes their results, calls `told` for each result, and calls
    `next` again. It does both only while no worker runs on this machine. A planner reads earlier trials from the store,
    so resuming a study needs no other call.
    """

    @abstractmethod
    def next(self, store: Store) -> Sequence[Job]:
        """The next jobs, in running order. No jobs end the study.

        The experiments of a job belong to the study, and no two jobs have the same `group` and `process`. `StudyRun`
        leaves out trials that are stored.
        """

    def told(self, result: Result) -> None:  # noqa: B027
        """Take note of an experiment's result, computed from all its trials so far. The default does nothing."""


class FixedList(Planner):
    """All jobs of the schedule at once, each with its trials that are not stored, and with its tasks if any is not.

    If only an experiment's quality is missing, a job has the experiment without trials.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._asked = False

    def next(self, store: Store) -> Sequence[Job]:
        if self._asked:
            return ()
        self._asked = True
        experiments = {one.id: one.experiment for one in self._study.experiments}
        wanted = {
            name: _remaining_trials(store, name, one, range(one.most_trials)) for name, one in experiments.items()
        }
        unscored = {name for name, one in experiments.items() if remaining_tasks(store, name, one.quality)}
        jobs = [_only(job, wanted) for job in self._study.jobs]
        for planned, job in zip(self._study.jobs, jobs, strict=True):
            if not unscored.isdisjoint(name for name, _ in planned.tasks):
                # if its trials are all stored, another process of the group loads the engine anyway, or none does
                others = (one for one in reversed(jobs) if one.turns and one.group == job.group)
                taker = job if job.turns else next(others, job)
                jobs[jobs.index(taker)] = with_tasks(taker, planned.tasks, unscored)
        return [job for job in jobs if job.experiments]


def with_tasks(job: Job, tasks: Sequence[Task], names: Collection[str]) -> Job:
    """The job with these tasks, and also with those of these experiments that have no trials in it but tasks."""
    more = (name for name, _ in tasks if name in names)
    return attrs.evolve(job, experiments=tuple(dict.fromkeys((*job.experiments, *more))), tasks=tuple(tasks))


def remaining_turns(store: Store, job: Job, experiments: Mapping[str, Experiment], names: Collection[str]) -> Job:
    """The job with only the trials of these experiments that are not stored, and no tasks. The store alone says which
    those are.
    """
    indices: dict[str, set[int]] = {name: set() for name in names}
    for name, index in job.turns:
        if name in indices:
            indices[name].add(index)
    return _only(
        job, {name: _remaining_trials(store, name, experiments[name], found) for name, found in indices.items()}
    )


def _remaining_trials(store: Store, experiment_id: str, experiment: Experiment, indices: Iterable[int]) -> set[int]:
    """The trials with these indices that are still to be measured, or may be: see `llem.metrics.precision`."""
    absent = set(indices) - store.trial_indices(experiment_id)
    if not absent or max(absent) < experiment.least_trials:
        return absent
    try:
        trials = store.trials(experiment_id)
    except StoreError:  # `StudyRun` tells, and goes around it
        return set()
    return {index for index in absent if is_wanted(experiment, trials, index)}


def without(jobs: Sequence[Job], names: Collection[str]) -> list[Job]:
    """The jobs without these experiments, and without jobs that have no other."""
    made = [
        attrs.evolve(
            job,
            experiments=tuple(name for name in job.experiments if name not in names),
            turns=tuple(turn for turn in job.turns if turn[0] not in names),
            tasks=tuple(task for task in job.tasks if task[0] not in names),
        )
        for job in jobs
    ]
    return [job for job in made if job.experiments]


def _only(job: Job, wanted: Mapping[str, Collection[int]]) -> Job:
    turns = tuple((name, index) for name, index in job.turns if index in wanted.get(name, ()))
    return attrs.evolve(job, experiments=tuple(dict.fromkeys(name for name, _ in turns)), turns=turns, tasks=())
