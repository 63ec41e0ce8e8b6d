"""Which tasks of quality a job still has to evaluate, which of them was tried, and with whom a failure is told."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from llem.config.models import Experiment
from llem.protocol.order import Task, after_finding, last_engine
from llem.store.evaluations import evaluation_key, read_evaluation, remaining_tasks, write_evaluation
from llem.store.store import Store
from llem.study.plan.schedule import Job
from llem.study.run.stopping import Watchdog

__all__ = ["Tasks"]


class Tasks:
    """The tasks of a study's experiments. Several threads may use one, each for its own job."""

    def __init__(self, store: Store, experiments: Mapping[str, Experiment]) -> None:
        self._store, self._experiments = store, experiments
        self._lock = threading.Lock()
        self._tried: set[Task] = set()  # by a worker of this run

    def remaining(self, job: Job) -> list[Task]:
        """Tasks of a job that are not stored and that no worker of this run tried.

        What is stored with another experiment of the same engine is stored with the job's experiments without being
        evaluated again.
        """
        names = dict.fromkeys(name for name, _ in job.tasks)
        lacking = {name: remaining_tasks(self._store, name, self._experiments[name].quality) for name in names}
        absent = [(name, task) for name, task in job.tasks if task in lacking[name]]
        return [one for one in absent if not self._copied(job, *one) and one not in self._tried]

    def _key(self, name: str, task: str) -> str:
        return evaluation_key(self._experiments[name].quality, task)

    def _copied(self, job: Job, name: str, task: str) -> bool:
        """Whether another experiment of the engine had the scores, which this one now has too."""
        key = self._key(name, task)
        others = dict.fromkeys(one for one, asked in job.tasks if one != name and self._key(one, asked) == key)
        found = next(filter(None, (read_evaluation(self._store, one, key) for one in others)), None)
        if found is not None:
            write_evaluation(self._store, name, found)
        return found is not None

    def note(self, job: Job, watch: Watchdog) -> None:
        """Remember what a worker tried.

        A worker that dies at a task leaves those after it to another worker. One that is there for tasks alone, and
        dies before the first, tried them all.
        """
        if watch.left:
            return
        if watch.phase == "quality" and not watch.ended:
            self._note(one for one in job.tasks if one[1] == watch.task)
        elif watch.phase == "quality" or not job.turns:
            self.give_up(job)

    def give_up(self, job: Job) -> None:
        """No further worker of this run gets the tasks of a job."""
        self._note(job.tasks)

    def failed(self, job: Job, why: str, task: str | None = None) -> None:
        """Tell that a task of a job failed, or all of them, with each experiment that asks for it."""
        for name in dict.fromkeys(name for name, asked in job.tasks if task is None or asked == task):
            process = last_engine(self._store, name)
            self._store.add_engine_finding(name, process, after_finding("quality", why, process, task))

    def _note(self, tasks: Iterable[Task]) -> None:
        with self._lock:
            self._tried.update(tasks)
