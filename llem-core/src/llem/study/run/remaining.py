"""What of a study is not measured yet: the store is asked, there is no other record."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from llem.config.models import Experiment
from llem.metrics.precision import is_narrow
from llem.store.store import Store
from llem.study.plan.schedule import Job, Turn

__all__ = ["remaining_trials", "remaining_turns"]


def remaining_trials(store: Store, experiment_id: str, experiment: Experiment, indices: Iterable[int]) -> set[int]:
    """Of these trials those that are still to be measured.

    Trials beyond the number that is asked for at least are wanted only while the interval is too wide.
    """
    absent = set(indices) - store.trial_indices(experiment_id)
    least = max(experiment.trials, experiment.processes)
    if not absent or min(absent) < least:
        return absent
    return set() if is_narrow(store.trials(experiment_id), experiment.target_half_width) else absent


def remaining_turns(store: Store, job: Job, experiments: dict[str, Experiment], names: Sequence[str]) -> Job:
    """The job of these experiments, of it what is not measured."""
    indices: dict[str, set[int]] = {name: set() for name in names}
    for name, index in job.turns:
        if name in indices:
            indices[name].add(index)
    wanted = {name: remaining_trials(store, name, experiments[name], found) for name, found in indices.items()}
    turns: list[Turn] = [(name, index) for name, index in job.turns if index in wanted.get(name, ())]
    return attrs.evolve(job, experiments=tuple(dict.fromkeys(name for name, _ in turns)), turns=tuple(turns))
