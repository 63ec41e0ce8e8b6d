"""Who says what a study measures next, and what of a job is not measured yet."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence

import attrs

from llem.config.models import Experiment
from llem.metrics.energies import is_narrow
from llem.store.evaluations import remaining_tasks
from llem.store.models import Result
from llem.store.store import Store
from llem.study.plan.schedule import Job
from llem.study.plan.study import Study

__all__ = ["FixedList", "Planner", "remaining_turns"]


class Planner(ABC):
    """Says what a study measures next.

    A study run asks for jobs, carries them all out, computes their results, tells the planner of each, and asks again.
    It asks and tells only while no worker runs. What a planner knows of earlier trials it reads from the store, so that
    a study that is resumed is asked in the same way as one that goes on.
    """

    @abstractmethod
    def next(self, store: Store) -> Sequence[Job]:
        """The next jobs, in running order; none ends the study.

        A job's experiments are of the study. Its trials that are stored are left out by the study run, and no two jobs
        have the same `group` and `process`.
        """

    def told(self, result: Result) -> None:  # noqa: B027
        """Take note of the result of an experiment, of all trials that it has so far. The default does nothing."""


class FixedList(Planner):
    """The jobs of the schedule, all at once, each with the trials that are not measured.

    An experiment of which quality alone is missing is in a job without trials of it.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._asked = False

    def next(self, store: Store) -> Sequence[Job]:
        if self._asked:
            return ()
        self._asked = True
        wanted = {
            one.id: _remaining_trials(store, one.id, one.experiment, range(one.experiment.most_trials))
            for one in self._study.experiments
        }
        unscored = {
            one.id
            for one in self._study.experiments
            if not wanted[one.id] and remaining_tasks(store, one.id, one.experiment.quality)
        }
        left = []
        for job in self._study.jobs:
            evaluated = unscored.intersection(job.experiments)  # by the first of its engine processes
            unscored -= evaluated
            measured = _only(job, wanted)
            names = (*measured.experiments, *(name for name in job.experiments if name in evaluated))
            if names:
                left.append(attrs.evolve(measured, experiments=names))
        return left


def remaining_turns(store: Store, job: Job, experiments: Mapping[str, Experiment], names: Collection[str]) -> Job:
    """The job of these experiments, of it what is not measured: the store is asked, there is no other record."""
    indices: dict[str, set[int]] = {name: set() for name in names}
    for name, index in job.turns:
        if name in indices:
            indices[name].add(index)
    return _only(
        job, {name: _remaining_trials(store, name, experiments[name], found) for name, found in indices.items()}
    )


def _remaining_trials(store: Store, experiment_id: str, experiment: Experiment, indices: Iterable[int]) -> set[int]:
    """Of these trials those that are still to be measured.

    Trials beyond the number that is asked for at least are wanted only while the interval is too wide.
    """
    absent = set(indices) - store.trial_indices(experiment_id)
    if not absent or min(absent) < experiment.least_trials:
        return absent
    return set() if is_narrow(store.trials(experiment_id), experiment.target_half_width) else absent


def _only(job: Job, wanted: Mapping[str, Collection[int]]) -> Job:
    turns = tuple((name, index) for name, index in job.turns if index in wanted.get(name, ()))
    return attrs.evolve(job, experiments=tuple(dict.fromkeys(name for name, _ in turns)), turns=turns)
