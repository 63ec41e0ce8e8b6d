"""The course of a study: jobs to the supervisor, each in its turn, and results computed from what was stored."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import attrs

from llem import __version__
from llem.config.study.order import Limits, Order
from llem.errors import ExperimentFailed, LlemError
from llem.launchers.base import Launcher
from llem.metrics.boards import Place, place_of
from llem.metrics.verify import recompute
from llem.plugins.registry import Registry
from llem.protocol.events import Emit
from llem.protocol.order import Gap
from llem.store.models import Result
from llem.store.store import Store
from llem.study.plan.estimate import job_plan
from llem.study.plan.schedule import Job, Member, schedule
from llem.study.run.gpus import Gpus
from llem.study.run.moved_boards import moved_boards
from llem.study.run.observers import notify
from llem.study.run.pool import side_by_side
from llem.study.run.preflight import Planned
from llem.study.run.remaining import remaining_trials
from llem.study.run.supervisor import Supervisor

__all__ = ["Ran", "StudyRun", "Terms"]


@attrs.frozen
class Terms:
    """On what terms a study runs.

    Attributes:
        parallel: workers at once.
        resume: go on with what the folder holds; a folder that holds nothing is begun.
    """

    order: Order = attrs.field(factory=Order)
    limits: Limits = attrs.field(factory=Limits)
    parallel: int = 1
    resume: bool = False


@attrs.frozen
class Ran:
    """How the experiments of a study ended, in running order; those that never began are not among them.

    Attributes:
        results: one for each experiment that began, failed ones included.
        errors: by id, of those whose worker did not end well.
        stopped: why the study ended before it was done: the user's wish, or too many failures in a row.
    """

    results: tuple[Result, ...]
    errors: Mapping[str, LlemError]
    stopped: LlemError | None = None

    def only(self) -> Result:
        """The result of a study of one experiment. Raises LlemError: what its worker met, or why the study stopped."""
        for error in (*self.errors.values(), self.stopped):
            if error is not None:
                raise error
        [result] = self.results
        return result

    @property
    def interrupted(self) -> LlemError | None:
        """The user's wish to stop, which left the rest undone."""
        return self.stopped if self.stopped is not None and self.stopped.code == "interrupted" else None


class StudyRun:
    """One run of a study: every job in its turn, and each experiment's result when its last job is over."""

    def __init__(
        self,
        store: Store,
        planned: Sequence[Planned],
        make_launcher: Callable[[], Launcher],
        registry: Registry,
        terms: Terms,
        emit: Emit,
        stop: threading.Event,
    ) -> None:
        self._store, self._registry, self._terms, self._emit, self._stop = store, registry, terms, emit, stop
        self._planned = {one.id: one for one in planned}
        self._make_launcher = make_launcher
        order, holder = terms.order, f"process {os.getpid()}, {store.path}"
        self._gpus = Gpus(holder, terms.limits.gpu_wait_s, several=terms.parallel > 1)
        self._supervisor = Supervisor(
            store,
            self._planned,
            make_launcher,
            gap=Gap(order.gap_s, order.gap_until_c, order.gap_timeout_s),
            limits=terms.limits,
            gpus=self._gpus,
            beside=terms.parallel > 1,
            emit=emit,
            stop=stop,
        )
        self._results: dict[str, Result] = {}
        self._begun = set(store.experiment_ids())
        self._touched: set[str] = set()  # those that workers of this run had
        self._open: Counter[str] = Counter()
        self._lock = threading.Lock()

    def run(self) -> Ran:
        members = [
            Member(one.id, one.engine, one.trials, one.max_trials, one.processes) for one in self._planned.values()
        ]
        jobs = schedule(members, self._terms.order)
        left = self._left(jobs)
        self._tell_begin(left)
        self._tell_other_version(left)
        self._tell_where(left)
        self._open.update(name for job in left for name in job.experiments)
        for name in self._begun - self._open.keys():  # all is measured; the result may be of fewer trials, or lacking
            self._supervisor.settle(name)
            self._conclude(name)
        stopped: LlemError | None = None
        try:
            if self._terms.parallel == 1:
                for job in left:
                    if self._stop.is_set():
                        break
                    self._job(job)
            else:
                side_by_side(left, self._terms.parallel, self._job, self._gpus, self._supervisor, self._stop)
        except KeyboardInterrupt:
            self._stop.set()
        for name in [name for name, count in self._open.items() if count > 0]:
            self._conclude(name)
        undone = any(self._results[name].outcome == "interrupted" for name in self._results) or any(
            name not in self._results for name in self._planned
        )
        if self._supervisor.breaker.tripped:
            stopped = self._supervisor.breaker.tripped
        elif self._stop.is_set() and undone:
            kept = f"what was measured is in {self._store.path}; go on with `--resume`"
            stopped = ExperimentFailed("stopped by the user", kept, "interrupted")
        results = tuple(self._results[name] for name in self._planned if name in self._results)
        return Ran(results, dict(self._supervisor.failed), stopped)

    def _left(self, jobs: Sequence[Job]) -> list[Job]:
        """Shares of which something is to be measured, with those experiments alone."""
        wanted = {}
        for name, one in self._planned.items():
            most = max(one.max_trials, one.trials, one.processes)
            all_of_it = range(most)
            wanted[name] = (
                remaining_trials(self._store, name, one.experiment, all_of_it)
                if name in self._begun
                else set(all_of_it)
            )
        left = []
        for job in jobs:
            turns = tuple(turn for turn in job.turns if turn[1] in wanted[turn[0]])
            names = tuple(dict.fromkeys(name for name, _ in turns))
            if names:
                left.append(attrs.evolve(job, experiments=names, turns=turns))
        return left

    def _tell_begin(self, left: Sequence[Job]) -> None:
        names = {name for job in left for name in job.experiments}
        experiments, gap_s = {name: one.experiment for name, one in self._planned.items()}, self._terms.order.gap_s
        self._emit(
            {
                "event": "study",
                "experiments": len(self._planned),
                "done": len(self._planned) - len(names),
                "processes": max(one.processes for one in self._planned.values()),
                "parallel": self._terms.parallel,
                "gap_s": gap_s,
                "points": {name: point["values"] for name, point in self._store.study().get("points", {}).items()},
                "jobs": [
                    {"job": [job.group, job.process], **job_plan(job.turns, experiments, gap_s=gap_s)} for job in left
                ],
            }
        )

    def _tell_other_version(self, left: Sequence[Job]) -> None:
        """Trials of two versions are not sure to be measured alike."""
        began = self._store.study().get("llem")
        if left and self._begun and began != __version__:
            message = f"the study began with llem {began} and goes on with {__version__}, which may measure otherwise"
            self._emit({"event": "warning", "message": message})

    def _tell_where(self, left: Sequence[Job]) -> None:
        """To the GPUs: where groups that go on have run. To the user: which go on where their trials were not measured.

        Of another machine nobody knows here.
        """
        groups = {name: job.group for job in left for name in job.experiments if name in self._begun}
        places: dict[str, set[Place]] = {}
        for name, group in groups.items():
            # every trial is read, so that a damaged one is told before anything is measured
            measured = {trial.process for trial in self._store.trials(name)}
            engines = self._store.engines(name) if measured else ()
            places[name] = {place_of(engine) for engine in engines if engine["process"] in measured}
            for place in places[name]:
                self._gpus.remember(group, place.gpus)
        going_on = {name: self._planned[name].experiment for name, found in places.items() if found}
        if going_on and self._make_launcher().same_machine:
            for message in moved_boards(self._store, going_on, places, spread=self._terms.parallel > 1):
                self._emit({"event": "warning", "message": message})

    def _job(self, job: Job) -> None:
        """One engine process's job, and the results of the experiments that it was the last one for."""
        for name in job.experiments:
            if name not in self._begun:
                self._begun.add(name)
                document = self._planned[name].document
                self._store.write_experiment(name, document)
                notify(self._registry, "llem_experiment_started", experiment=document, store=str(self._store.path))
        with self._lock:
            self._touched.update(job.experiments)
        try:
            self._supervisor.carry_out(job)
        finally:
            with self._lock:
                waiting = [name for name in job.experiments if name in self._open]
                self._open.subtract(waiting)
                over = [name for name in waiting if self._open[name] == 0 or name in self._supervisor.failed]
            for name in over:
                self._conclude(name)

    def _conclude(self, name: str) -> None:
        """Compute and store the result of an experiment that began; no window is open in its worker any more."""
        with self._lock:
            self._open.pop(name, None)
        stored = self._store.trial_indices(name)
        if not stored and not self._store.next_process(name):
            return  # its turn did not come
        before = self._store.read_result(name)
        if before is not None and name not in self._touched and _is_of(before, self._planned[name], len(stored)):
            self._results[name] = before
            return
        result = recompute(self._store, name)
        self._store.write_result(result, replace=True)
        self._results[name] = result
        facts = {"id": result.id, "outcome": result.outcome, "valid": result.valid, "error": result.error}
        document = dict(self._planned[name].document)
        where = str(self._store.path)
        notify(self._registry, "llem_experiment_finished", experiment=document, result=facts, store=where)
        self._emit({"event": "result", **facts})


def _is_of(result: Result, planned: Planned, trials: int) -> bool:
    """Whether a result is of all that is stored and asked for."""
    return result.outcome == "done" and result.trials == trials and result.config == planned.document["config"]
