"""A run of a study: the planner's jobs to the supervisor, and results computed from what was stored."""

from __future__ import annotations

import functools
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from llem import __version__
from llem.errors import ExperimentFailed, LlemError, StoreError
from llem.launchers.base import Launcher
from llem.metrics.placed import missing_files
from llem.metrics.result import Place, place_of, recompute
from llem.plugins.registry import Registry
from llem.protocol.events import Emit, Event, Warned, silent
from llem.protocol.lines import kept
from llem.protocol.study_events import ResultComputed, StudyBegan, StudyEvent
from llem.store.models import Result
from llem.store.store import Store
from llem.study.plan.planner import FixedList, Planner, without
from llem.study.plan.schedule import Job
from llem.study.plan.study import Study, study_document
from llem.study.run.folder import damaged, opened
from llem.study.run.gpus import Gpus, moved_boards, side_by_side
from llem.study.run.learnt import Learnt
from llem.study.run.quiet import Quiet, notify
from llem.study.run.ran import Ran, unscored
from llem.study.run.supervisor import Supervisor

__all__ = ["StudyRun", "run_all"]


def run_all(
    study: Study,
    store_path: Path,
    make_launcher: Callable[[], Launcher],
    registry: Registry,
    *,
    emit: Emit,
    stop: threading.Event,
    resume: bool = False,
    joins: bool = False,
    planner: Planner | None = None,
) -> Ran:
    """Measure the experiments of a study into one store. If an experiment fails, the others still run.

    The first event is `study`, followed by a `warning` for experiments that would continue on other GPUs. After each
    experiment comes `result`; with workers side by side, it comes when none of them runs (`Quiet`). Events of workers
    have the number of their `worker`. The store keeps the events of this process (`StudyEvent`) in `events.jsonl`, and
    those of a worker in the worker's folder.

    Args:
        resume: continue the study in the folder; if there is none, begin it.
        joins: as of `llem.study.run.folder.opened`.
        planner: says what comes next; by default all jobs of the study, in order.

    Raises:
        StoreError: the folder exists already, or another run works in it.
        ConfigError: `resume`, and the folder holds another study.
        LlemError: the store can no longer be written; the stored trials stay.
    """
    planner = planner or FixedList(study)
    with (
        opened(study_document(study), store_path, registry, study.experiments, resume, joins) as store,
        kept(store.path / "events.jsonl", silent) as keep,
    ):
        return StudyRun(store, study, planner, make_launcher, registry, _one_by_one(emit, keep), stop).run()


def _one_by_one(emit: Emit, keep: Emit) -> Emit:
    """Events of several workers come from several threads. Workers keep their own."""
    lock = threading.Lock()

    def told(event: Event) -> None:
        with lock:
            emit(event)
            if isinstance(event, StudyEvent):
                keep(event)

    return told


class StudyRun:
    """One run of a study: every job in its turn, and each experiment's result when its last job is over."""

    def __init__(
        self,
        store: Store,
        study: Study,
        planner: Planner,
        make_launcher: Callable[[], Launcher],
        registry: Registry,
        emit: Emit,
        stop: threading.Event,
    ) -> None:
        self._store, self._file, self._planner, self._registry = store, study.file, planner, registry
        self._planned = {one.id: one for one in study.experiments}
        self._make_launcher, self._emit, self._stop = make_launcher, emit, stop
        holder = f"process {os.getpid()}, {store.path}"
        self._gpus = Gpus(holder, self._file.limits.gpu_wait_s, several=self._file.parallel > 1)
        self._quiet = Quiet()
        self._supervisor = Supervisor(store, study, make_launcher, self._gpus, self._quiet, emit, stop)
        self._results: dict[str, Result] = {}
        self._damaged: dict[str, StoreError] = {}
        self._begun = set(store.experiment_ids()) & self._planned.keys()
        self._touched: set[str] = set()  # experiments that workers of this run had
        self._open: Counter[str] = Counter()  # by experiment without a result: how many jobs are to come
        self._lock = threading.Lock()

    def run(self) -> Ran:
        self._damaged |= damaged(self._store, sorted(self._begun))
        jobs = self._next()
        idle = sorted(self._begun - self._damaged.keys() - {name for job in jobs for name in job.experiments})
        lacking = [name for name in idle if not self._keep(name)]
        self._tell_begin(jobs)
        for name, error in self._damaged.items():
            self._tell_damaged(name, error)
        for lost in missing_files(self._store, sorted(self._begun - self._damaged.keys())):
            self._emit(Warned(message=str(lost)))
        for name in (*lacking, *sorted(self._begun.difference(idle, self._damaged))):
            self._store.remove_result(name)  # it holds no more once anything is added to what it was computed from
        self._tell_other_version(jobs)
        self._tell_where(jobs)
        self._settle(lacking)
        try:
            while jobs and not self._stop.is_set():
                self._carry_out(jobs)
                jobs = () if self._stop.is_set() else self._next()
        except KeyboardInterrupt:
            self._stop.set()
        self._over([name for name, count in self._open.items() if count > 0])
        results = tuple(self._results[name] for name in self._planned if name in self._results)
        return Ran(results, dict(self._supervisor.failed), self._stopped(results), dict(self._damaged))

    def _next(self) -> Sequence[Job]:
        """What the planner wants next, without experiments that are damaged."""
        return without(self._planner.next(self._store), self._damaged)

    def _tell_damaged(self, name: str, error: StoreError) -> None:
        """An experiment is left out: a result that it has stays as it was; the others go on."""
        self._damaged[name] = error
        self._emit(Warned(message=f"{name} is left out: {error.message} ({error.hint})"))

    def _stopped(self, results: Sequence[Result]) -> LlemError | None:
        """Why the study ended before it was done."""
        undone = len(results) < len(self._planned) or any(
            one.outcome == "interrupted" or (one.outcome == "done" and unscored(one)) for one in results
        )
        if self._supervisor.breaker.tripped:
            return self._supervisor.breaker.tripped
        if self._stop.is_set() and undone:
            kept = f"what was measured is in {self._store.path}; go on with `--resume`"
            return ExperimentFailed("stopped by the user", kept, "interrupted")
        return None

    def _settle(self, names: Sequence[str]) -> None:
        """Compute results of experiments that began earlier and have no job now: theirs is missing or out of date."""
        for name in names:
            if len(self._store.trial_indices(name)) >= self._planned[name].experiment.least_trials:
                self._supervisor.settle(name)
        self._over(names)

    def _carry_out(self, jobs: Sequence[Job]) -> None:
        """Carry out these jobs, and compute the results of their experiments. No worker runs afterwards."""
        self._open.update(name for job in jobs for name in job.experiments)
        try:
            if self._file.parallel > 1:
                kill_all = self._supervisor.kill_all
                side_by_side(jobs, self._file.parallel, self._job, self._gpus, kill_all, self._stop)
            else:
                for job in jobs:
                    if not self._stop.is_set():
                        self._job(job)
        finally:
            self._quiet.settle()

    def _tell_begin(self, jobs: Sequence[Job]) -> None:
        experiments, gap_s = {name: one.experiment for name, one in self._planned.items()}, self._file.order.gap_s
        self._emit(
            StudyBegan(
                experiments=len(self._planned),
                done=len(self._results),
                processes=max(one.processes for one in experiments.values()),
                parallel=self._file.parallel,
                gap_s=gap_s,
                points={name: point["values"] for name, point in self._store.study().get("points", {}).items()},
                jobs=Learnt.of(self._store).plans(jobs, experiments, gap_s=gap_s),
            )
        )

    def _tell_other_version(self, jobs: Sequence[Job]) -> None:
        """Warn if another version of llem measured the stored trials: the two may measure differently."""
        began = self._store.study().get("llem")
        if jobs and self._begun and began != __version__:
            message = f"the study began with llem {began} and goes on with {__version__}, which may measure differently"
            self._emit(Warned(message=message))

    def _tell_where(self, jobs: Sequence[Job]) -> None:
        """Tell `Gpus` where groups with further trials ran, and warn of experiments that would continue on other GPUs.

        If workers run on other machines, this process cannot know their GPUs and warns of nothing.
        """
        groups = {name: job.group for job in jobs for name in job.experiments if name in self._begun}
        places: dict[str, set[Place]] = {}
        for name, group in groups.items():
            measured = {trial.process for trial in self._store.trials(name)}
            engines = self._store.engines(name) if measured else ()
            places[name] = {place_of(engine) for engine in engines if engine["process"] in measured}
            for place in places[name]:
                self._gpus.remember(group, place.gpus)
        going_on = {name: self._planned[name].experiment for name, found in places.items() if found}
        if going_on and self._make_launcher().same_machine:
            for message in moved_boards(self._store, going_on, places, spread=self._file.parallel > 1):
                self._emit(Warned(message=message))

    def _job(self, job: Job) -> None:
        """Carry out one job, and compute the results of experiments that have no further job."""
        for name in job.experiments:
            if name not in self._begun:
                self._begun.add(name)
                document = self._planned[name].document()
                self._store.write_experiment(name, document)
                told = {"experiment": document, "store": str(self._store.path)}
                self._quiet.later(functools.partial(notify, self._registry, "llem_experiment_started", **told))
        self._quiet.settle()
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
                    del self._open[name]
            self._over(over)

    def _over(self, names: Sequence[str]) -> None:
        """No job of these experiments is to come: compute their results as soon as no worker runs."""
        for name in names:
            self._quiet.later(functools.partial(self._conclude, name))
        self._quiet.settle()

    def _conclude(self, name: str) -> None:
        """Compute and store the result of an experiment that began."""
        if not self._store.trial_indices(name) and not self._store.next_process(name):
            return  # no worker had it
        if name not in self._touched and self._keep(name):
            return
        start = time.monotonic()
        try:
            result = recompute(self._store, name)
        except StoreError as error:
            self._tell_damaged(name, error)
            return
        self._store.write_result(result, replace=True)
        self._results[name] = result
        facts = {"id": result.id, "outcome": result.outcome, "valid": result.valid, "error": result.error}
        computed = ResultComputed(
            id=result.id,
            outcome=result.outcome,
            valid=result.valid,
            error=result.error,
            seconds=time.monotonic() - start,
        )
        document, where = self._planned[name].document(), str(self._store.path)
        notify(self._registry, "llem_experiment_finished", experiment=document, result=facts, store=where)
        self._emit(computed)
        self._planner.told(result)

    def _keep(self, name: str) -> bool:
        """Keep the stored result, and return True, if it covers all stored trials and the settings are the same."""
        trials = self._store.trials(name)
        try:
            result = self._store.read_result(name)
        except StoreError:  # damaged: it is computed again
            return False
        if result is None or result.outcome != "done" or result.trials != len(trials):
            return False
        if result.config != self._planned[name].document()["config"]:
            return False
        self._results[name] = result
        return True
