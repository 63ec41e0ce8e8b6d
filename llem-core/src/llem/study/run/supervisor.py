"""Carries out a job in as many workers as it takes: if an experiment fails, a new worker measures the others."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

from llem.config.fields import DAY_S
from llem.errors import ExperimentFailed, LlemError
from llem.foreign.files import end_of
from llem.launchers.base import Launcher
from llem.protocol.events import Emit, Event, Failure, Outcome, TrialEnded, Warned
from llem.protocol.order import AFTER_PHASES, Gap, WorkOrder, after_finding, error_of, outcome_document
from llem.protocol.study_events import WorkerEnded, WorkerLaunched
from llem.store.lease import revoke
from llem.store.store import Store
from llem.study.plan.planner import remaining_turns, with_tasks
from llem.study.plan.schedule import Job, estimate_groups
from llem.study.plan.study import Study
from llem.study.run.gpus import Gpus
from llem.study.run.numbers import Numbers
from llem.study.run.patience import Patience
from llem.study.run.quiet import Quiet
from llem.study.run.stopping import Breaker, Watchdog
from llem.study.run.tasks import Tasks

__all__ = ["Supervisor"]

#: Added if SIGKILL ended a worker.
KILLED = "; this is how the system ends a process when memory runs out"

#: Told of a worker that was ended for that, with the name of its backend.
LINGERED = "a worker of the backend {!r} was done and did not leave, so it was ended: a plugin left a thread in it"

#: Lines of a worker's log that an error shows.
TAIL, TAIL_BYTES = 10, 8192
#: Without `limits.timeout_s`, a worker may take the estimated time times MARGIN, plus EXTRA_S, plus a day if it
#: evaluates quality, whose time is not estimated.
MARGIN, EXTRA_S = 10.0, 3600.0


class Supervisor:
    """Gives jobs of a study to workers, and writes the outcomes of experiments that a dead worker cannot write.

    Several threads may use one, each for its own job.

    Attributes:
        failed: experiments that failed, with their errors. No further worker gets them.
        launchers: launchers that run a worker now.
    """

    def __init__(
        self,
        store: Store,
        study: Study,
        make_launcher: Callable[[], Launcher],
        gpus: Gpus,
        quiet: Quiet,
        emit: Emit,
        stop: threading.Event,
    ) -> None:
        order, self._limits, self._beside = study.file.order, study.file.limits, study.file.parallel > 1
        self._gap = Gap(order.gap_s, order.gap_until_c, order.gap_timeout_s)
        self._experiments = {one.id: one.experiment for one in study.experiments}
        self._store, self._make, self._gpus, self._quiet = store, make_launcher, gpus, quiet
        self._emit, self._stop = emit, stop
        self._numbers = Numbers(store)
        self.breaker = Breaker(self._limits.failures_in_a_row, stop)
        self.failed: dict[str, LlemError] = {}
        self.launchers: set[Launcher] = set()
        self.killed = False
        self._tasks = Tasks(store, self._experiments)

    def carry_out(self, job: Job) -> None:
        """Measure the trials of a job that are not stored, and evaluate its tasks. Failures become outcomes of the
        job's experiments; those of tasks become findings.

        Raises KeyboardInterrupt if the user kills the run, after the outcomes are written.
        """
        done: set[str] = set()
        patience = Patience(self._store)
        while not self._stop.is_set():
            names = [name for name in job.experiments if name not in self.failed and name not in done]
            todo = remaining_turns(self._store, job, self._experiments, names)
            tasks = [one for one in self._tasks.remaining(job) if one[0] not in self.failed]
            if not todo.turns and not tasks:
                return None
            rest = with_tasks(todo, tasks, self._complete(job))
            if why := patience.over(rest):
                return self._give_up(rest, why)
            self._worker(rest, done)
        return None

    def _complete(self, job: Job) -> set[str]:
        """Experiments whose trials of this job are stored."""
        names = {name for name, _ in job.tasks}
        return names.difference(remaining_turns(self._store, job, self._experiments, names).experiments)

    def settle(self, name: str) -> None:
        """Write the outcome `done` of an experiment whose trials are all stored, if its worker died before writing."""
        outcomes = self._store.outcomes(name)
        if outcomes and outcomes[-1]["outcome"] == "done":
            return
        last = self._store.next_process(name) - 1
        taken = bool(outcomes) and outcomes[-1]["process"] == last
        self._store.write_outcome(name, outcome_document(last + taken, "done"))

    def kill_all(self) -> None:
        """End every worker at once. Called from a thread that waits for no worker."""
        self.killed = True
        for launcher in list(self.launchers):
            launcher.kill()

    def _worker(self, job: Job, done: set[str]) -> None:
        """Run one worker. Each experiment of the job is then done, failed, or left to another worker."""
        launcher = self._make()
        lead = self._experiments[job.experiments[0]]
        try:
            if not launcher.same_machine:
                return self._launch(launcher, job, None, done)
            with self._gpus.taken(lead, self._stop, self._emit, job) as uuids, self._quiet.worker():
                return self._launch(launcher, job, uuids or None, done)
        except LlemError as error:  # no GPU was free, or the launcher could not launch
            if error.code == "interrupted":
                return None
            self._give_up(job, error)
        return None

    def _launch(self, launcher: Launcher, job: Job, gpus: tuple[str, ...] | None, done: set[str]) -> None:
        number, process = self._numbers.worker(), self._numbers.process(job.experiments)
        path = self._store.worker_dir(number) / "order.json"
        beside = self._beside and launcher.same_machine  # a cluster gives each worker a machine, or a part of one
        order = WorkOrder(
            store=str(self._store.path),
            worker=number,
            process=process,
            experiments=job.experiments,
            turns=job.turns,
            gap=self._gap,
            gpus=gpus,
            beside=beside,
            tasks=job.tasks,
            part=job.process,
        )
        order.write(path)
        log = path.parent / "log.txt"
        self._emit(
            WorkerLaunched(
                worker=number,
                job=(job.group, job.process),
                process=process,
                experiments=job.experiments,
                gpus=gpus or (),
                log=str(log),
            )
        )
        limits = self._limits if self._limits.timeout_s else attrs.evolve(self._limits, timeout_s=self._timeout_s(job))
        near, tell = launcher.same_machine, lambda event: self._hear(event, number)
        watch = Watchdog(limits, launcher.kill, self._stop, from_start=near, on_event=tell)
        status, killed = 0, False
        self.launchers.add(launcher)
        try:
            with watch:
                status = launcher.launch(path, watch, self._stop)
        except KeyboardInterrupt:
            killed = True
        finally:
            self.launchers.discard(launcher)
            if not watch.left or watch.gone:  # should it live on a machine that cannot be reached, it writes no more
                for name in job.experiments:
                    revoke(self._store.folder(name), number)
                self._numbers.over(job.experiments, process)
            if watch.lingered:
                self._emit(Warned(worker=number, message=LINGERED.format(self._backend(job))))
            self._emit(WorkerEnded(worker=number))
        self._conclude(job, process, watch, status, log, done, killed=killed or self.killed)
        if killed:
            raise KeyboardInterrupt

    def _backend(self, job: Job) -> str:
        return self._experiments[job.experiments[0]].backend

    def _timeout_s(self, job: Job) -> float:
        group = [self._experiments[name] for name in job.experiments]
        quality_s = DAY_S if job.tasks else 0.0
        return MARGIN * estimate_groups([group], gap_s=self._gap.seconds).most_s + EXTRA_S + quality_s

    def _hear(self, event: Event, number: int) -> None:
        if isinstance(event, TrialEnded):
            self.breaker.success()
        elif isinstance(event, Outcome) and event.error is not None:
            self._note(event.error.code, event.error.message)
        self._emit(attrs.evolve(event, worker=number))

    def _note(self, code: str, message: str) -> None:
        if code != "interrupted":
            self.breaker.failure(code, message)

    def _conclude(
        self, job: Job, process: int, watch: Watchdog, status: int, log: Path, done: set[str], *, killed: bool
    ) -> None:
        """Take the outcomes that the worker sent, and write those that it could not send or write."""
        for name, error in watch.outcomes.items():
            if error is None:
                done.add(name)
            else:
                self.failed[name] = error_of(error)
            if not self._store.has_outcome(name, process):
                ended = ("done",) if error is None else (error.outcome, error.message, error.code)
                self._store.write_outcome(name, outcome_document(process, *ended))  # it died before it wrote the file
        self._tasks.note(job, watch)
        if watch.phase in AFTER_PHASES and not (watch.ended or watch.left or killed or self._stop.is_set()):
            why = watch.verdict or watch.out_of_memory or f"the worker ended with status {status}" + _killed(status)
            self._after_failed(watch.phase, job, process, why, watch.task)
        silent = [name for name in job.experiments if name not in watch.outcomes]
        if not silent:
            return None
        left = set(remaining_turns(self._store, job, self._experiments, silent).experiments)
        for name in (name for name in silent if name not in left):  # the worker died between last trial and event
            self._store.write_outcome(name, outcome_document(process, "done"))
            done.add(name)
        unfinished = [name for name in silent if name in left]
        alone = len(job.experiments) == 1  # a single experiment begins with its worker
        begun = [name for name in unfinished if alone or name in watch.begun]
        kept = f"what was measured is in {self._store.path}"
        if killed:
            self._end(begun, process, "interrupted", "killed by the user", kept)
        elif watch.verdict:
            at = [name for name in unfinished if name == watch.current]
            self._end(at or unfinished, process, "timeout", watch.verdict, _see(log), log)
        elif self._stop.is_set():  # the stop came before the worker could react, or while it died
            self._end(begun, process, "interrupted", "stopped by the user", kept)
        elif not watch.left and (not watch.ended or not (watch.outcomes or watch.begun)):
            at = [name for name in unfinished if name == watch.current]
            if watch.out_of_memory:
                what, hint = f"memory ran out: {watch.out_of_memory}", f"use a smaller batch or model; {_see(log)}"
                return self._end(at or unfinished, process, "oom", what, hint, log)
            at_what = f", in the phase {watch.phase!r} of the backend {self._backend(job)!r}" if watch.phase else ""
            message = f"the worker ended with status {status} and no outcome{at_what if status >= 0 else ''}"
            self._end(at or unfinished, process, "crash", message, _see(log) + _killed(status), log)
        return None

    def _after_failed(self, phase: str, job: Job, process: int, why: str, task: str | None = None) -> None:
        """Add the finding of a failed AFTER step to every experiment of the worker that the step concerns."""
        found = after_finding(phase, why, process, task)
        self._emit(Warned(message=found.message))
        if phase == "quality":
            self._note(found.code, why)
            return self._tasks.failed(job, why, task)
        for name in job.experiments:
            self._store.add_engine_finding(name, process, found)
        return None

    def _end(
        self, names: Sequence[str], process: int, code: str, message: str, hint: str, log: Path | None = None
    ) -> None:
        """Store the outcome of experiments whose worker could not store it."""
        tail = _tail(log) if log is not None else []
        for name in names:
            self._store.write_outcome(name, {**outcome_document(process, code, message, code), "log_tail": tail})
            self.failed[name] = ExperimentFailed(message, _with_tail(hint, tail), code)
            self._emit(Outcome(id=name, outcome=code, error=Failure(code, message, hint, code, 1)))
        if names:
            self._note(code, message)

    def _give_up(self, job: Job, error: LlemError) -> None:
        """No worker does what is left of this job: none can be launched, or understood. Stored trials stay."""
        process = max(self._store.next_process(name) for name in job.experiments)
        if not job.turns:
            self._tasks.give_up(job)
            return self._after_failed("quality", job, process - 1, error.message)
        for name in remaining_turns(self._store, job, self._experiments, job.experiments).experiments:
            self._store.write_outcome(name, outcome_document(process, "invalid", error.message, error.code))
            self.failed[name] = error
        return self._note(error.code, error.message)


def _killed(status: int) -> str:
    return KILLED if status == -signal.SIGKILL else ""


def _see(log: Path) -> str:
    return f"see {log}"


def _tail(log: Path) -> list[str]:
    return [line for line in end_of(log, TAIL_BYTES).splitlines() if line.strip()][-TAIL:]


def _with_tail(hint: str, tail: Sequence[str]) -> str:
    return "\n  ".join(["its log ends:", *(f"  {line}" for line in tail), hint]) if tail else hint
