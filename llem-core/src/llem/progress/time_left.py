"""How long a run will still take: what is left of its plan, by what the trials so far really took.

A study is jobs: what one engine process measures. Each loads an engine once, has a baseline before and after, warms
every experiment up once and then takes its trials in turns. Each of these is estimated by itself, since a load of a
minute and a warm-up come once and not with every trial. What is known of an experiment is what was measured of it,
from the end of one trial to the end of the next: with lead batches, settling and the pause. Of one that is not known
yet, the plan says how long its window is; what comes on top of that is taken from those that are known. Of a task of
quality nothing is planned: it takes as long as it took on another engine, or as its own items so far say.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean

import attrs

from llem.protocol.events import Calibrated, Event, Outcome, Phase, TrialEnded
from llem.protocol.study_events import JobPlan, ResultComputed, StudyBegan, Waited, Waiting, WorkerEnded, WorkerLaunched

__all__ = ["TimeLeft"]


@attrs.define(eq=False)
class _Job:
    """One engine process: its plan in seconds, and what of it is still to be done.

    Attributes:
        group: jobs of one group have the same experiments.
        trials: least number of trials that are left, by experiment.
        trial_s, warm_up_s: planned, by experiment.
        begun: experiments that the present worker has warmed up.
        step, of, since: what the worker is at ("" for nothing that takes time), of which experiment, from when.
        settled: the trial comes right after the warm-up, with no other experiment between.
        ready: its engine is loaded and has idled.
        tasks: of quality that are left.
        part: how much of the present task is evaluated, from 0 to 1.
        load_s: planned, until the engine is loaded.
    """

    group: int
    trials: dict[str, int]
    trial_s: Mapping[str, float]
    warm_up_s: Mapping[str, float]
    before_s: float
    after_s: float
    begun: set[str] = attrs.field(factory=set)
    step: str = ""
    of: str | None = None
    since: float = 0.0
    settled: bool = False
    ready: bool = False
    tasks: list[str] = attrs.field(factory=list)
    part: float = 0.0
    load_s: float = 0.0

    def turn_to(self, step: str, since: float, of: str | None = None) -> None:
        self.step, self.of, self.since, self.settled = step, of, since, False


class TimeLeft:
    """Pure but for the times that events are given. Begins with the event `study`."""

    def __init__(self, event: StudyBegan) -> None:
        self._gap_s, self._parallel = event.gap_s, event.parallel
        self._jobs = {one.job: _job(one) for one in event.jobs}
        self._at: dict[int, _Job] = {}
        self._loads: dict[int, list[float]] = defaultdict(list)
        self._warm_ups: dict[str, list[float]] = defaultdict(list)
        self._trials: dict[str, list[float]] = defaultdict(list)
        self._calibrated: dict[str, float] = {}
        self._settle: dict[str, float] = {}
        self._tasks: dict[str, list[float]] = defaultdict(list)

    @property
    def evaluates(self) -> bool:
        """Whether tasks of quality are left, so that what is measured is not done."""
        return any(job.tasks for job in self._jobs.values())

    @property
    def untimed_tasks(self) -> bool:
        """Whether tasks of quality are left of which nothing is known."""
        return any(self._task_s(job, task) is None for job in self._jobs.values() for task in job.tasks)

    @property
    def timed(self) -> bool:
        """Whether a batch, a request or an item was timed; before that the plan alone is known."""
        return bool(self._calibrated) or any(job.part for job in self._jobs.values())

    def update(self, event: Event, now: float) -> None:
        """Take an event; `now` in seconds."""
        worker = event.worker or 0
        if isinstance(event, WorkerLaunched):
            if (job := self._jobs.get(event.job)) is not None:  # else a planner added it later
                self._at[worker] = job
                job.turn_to("load", now)  # its process starts, and imports what the engine needs
        elif isinstance(event, (Outcome, ResultComputed)) and event.outcome not in ("done", "interrupted"):
            for one in self._jobs.values():  # what failed gets no further worker
                if one.trials.pop(event.id, None) is not None and not one.trials:
                    one.tasks.clear()
            at = self._at.get(worker)
            if isinstance(event, Outcome) and at is not None and at.step in ("warm-up", "trial"):
                at.turn_to("trial", now)  # what comes next did not begin before
        elif (at := self._at.get(worker)) is None:
            return
        elif isinstance(event, WorkerEnded):
            del self._at[worker]
            self._evaluated(at, now)
            at.turn_to("", now)
            at.begun, at.ready = set(), False
        elif isinstance(event, (Waiting, Waited)):
            at.turn_to("load", now)  # a queue is no load
        elif isinstance(event, Phase):
            if event.task is None:
                self._evaluated(at, now)
                self._phase(at, event.phase, event.id, now)
            else:
                self._task(at, event, now)
        elif isinstance(event, Calibrated):
            if at.step == "warm-up":
                self._warm_ups[event.id].append(now - at.since)
            self._calibrated[event.id] = event.trial_s
            self._settle[event.id] = event.settle_s if len(at.trial_s) > 1 else 0.0
            at.begun.add(event.id)
            if at.after_s and not event.after_s:  # one was planned, and no meter reads anything: none has baselines
                for one in self._jobs.values():
                    one.before_s = one.after_s = 0.0
            at.turn_to("trial", now)
            at.settled = True
        elif isinstance(event, TrialEnded):
            if at.step == "trial":
                settle = self._settle.get(event.id, 0.0) if at.settled else 0.0
                self._trials[event.id].append(now - at.since + settle)
            at.trials[event.id] = max(at.trials.get(event.id, 0) - 1, 0)
            at.turn_to("trial", now)

    def _phase(self, at: _Job, phase: str, of: str | None, now: float) -> None:
        if phase == "load" and at.step == "load":
            return
        self._loaded(at, now)
        if phase in ("load", "baseline before", "baseline after"):
            at.turn_to(phase, now)
        elif phase == "warm-up":
            if (at.step, at.of) != ("warm-up", of):  # that of a serving load comes in pieces
                # a workload is made ready before it, after the last trial
                at.turn_to("warm-up", at.since if at.step == "trial" else now, of)
            at.ready = True
        elif phase == "trial":
            at.of = of

    def _loaded(self, at: _Job, now: float) -> None:
        """The load of a job, if it was at it, is over."""
        if at.step == "load":
            self._loads[at.group].append(now - at.since)

    def _task(self, at: _Job, event: Phase, now: float) -> None:
        if (at.step, at.of) != ("quality", event.task):
            self._loaded(at, now)
            self._evaluated(at, now)
            at.turn_to("quality", now, event.task)
            at.ready = True
        at.part = (event.done or 0) / event.total if event.total else 0.0

    def _evaluated(self, at: _Job, now: float) -> None:
        """The task that a job was at, if it was at one, is over."""
        if at.step != "quality":
            return
        if at.part == 1.0 and at.of is not None:  # else it failed
            self._tasks[at.of].append(now - at.since)
        at.tasks = [task for task in at.tasks if task != at.of]
        at.part = 0.0

    def _task_s(self, job: _Job, task: str, now: float | None = None) -> float | None:
        """Seconds left of a task; None while nothing is known of it."""
        if (job.step, job.of) == ("quality", task) and job.part:
            return 0.0 if now is None else (now - job.since) * (1 - job.part) / job.part
        return fmean(self._tasks[task]) if self._tasks[task] else None

    def seconds(self, now: float) -> float:
        """Seconds left, with as few trials as are asked for, and with those tasks of which anything is known."""
        jobs = self._jobs.values()
        elsewhere = self._trial_on_top(jobs) or 0.0, self._warm_up_on_top(jobs) or 0.0
        left = [seconds for job in jobs if (seconds := self._of(job, elsewhere, now) + self._tasks_s(job, now)) > 0]
        if not left:
            return 0.0
        return max(max(left), sum(left) / min(self._parallel, len(left)))

    def _tasks_s(self, job: _Job, now: float) -> float:
        return sum(self._task_s(job, task, now) or 0.0 for task in job.tasks)

    def _of(self, job: _Job, elsewhere: tuple[float, float], now: float) -> float:
        """Seconds left of one job.

        Args:
            elsewhere: what comes on top of the plan of a trial and of a warm-up, where nothing of this job is known.
        """
        spent = now - job.since
        if job.step == "quality":
            return 0.0
        if job.step == "baseline after":
            return max(job.after_s - spent, 0.0)
        due = [name for name, count in job.trials.items() if count > 0]
        if not due and not job.step:
            return 0.0
        trial_top, warm_up_top = self._trial_on_top([job]), self._warm_up_on_top([job])
        trial_top = elsewhere[0] if trial_top is None else trial_top
        warm_up_top = elsewhere[1] if warm_up_top is None else warm_up_top
        trials = {name: _either(self._trial_s(name), job.trial_s[name] + trial_top) for name in due}
        warm_ups = {
            name: _either(self._warm_up_s(name), job.warm_up_s[name] + warm_up_top)
            for name in due
            if name not in job.begun
        }
        load_s = 0.0 if job.ready or job.step == "baseline before" else self._load_s(job)
        before_s = 0.0 if job.ready else job.before_s
        present = {
            "load": load_s,
            "baseline before": before_s,
            "warm-up": warm_ups.get(job.of or "", 0.0),
            "trial": trials.get(job.of or "", 0.0),
        }.get(job.step, 0.0)
        whole = sum(job.trials[name] * seconds for name, seconds in trials.items())
        return load_s + before_s + sum(warm_ups.values()) + whole + job.after_s - min(spent, present)

    def _trial_on_top(self, jobs: Iterable[_Job]) -> float | None:
        return _on_top({name: plan for one in jobs for name, plan in one.trial_s.items()}, self._trial_s)

    def _warm_up_on_top(self, jobs: Iterable[_Job]) -> float | None:
        return _on_top({name: plan for one in jobs for name, plan in one.warm_up_s.items()}, self._warm_up_s)

    def _trial_s(self, name: str) -> float | None:
        """How long a trial of an experiment takes, from the end of the one before it; None before it was timed."""
        if self._trials[name]:
            return fmean(self._trials[name])
        return self._calibrated[name] + self._settle[name] + self._gap_s if name in self._calibrated else None

    def _warm_up_s(self, name: str) -> float | None:
        """How long the beginning of an experiment takes, up to its first trial; None before it has begun."""
        return fmean(self._warm_ups[name]) if self._warm_ups[name] else None

    def _load_s(self, job: _Job) -> float:
        """A load's time, with the start of its process: of this group, of any, or as planned."""
        known: Sequence[float] = self._loads[job.group] or [one for found in self._loads.values() for one in found]
        return fmean(known) if known else job.load_s


def _on_top(plans: Mapping[str, float], known_s: Callable[[str], float | None]) -> float | None:
    """How much longer than planned it takes on average, over experiments of which it is known; None where of none."""
    found = [known - plan for name, plan in plans.items() if (known := known_s(name)) is not None]
    return max(fmean(found), 0.0) if found else None


def _either(known: float | None, guess: float) -> float:
    return guess if known is None else known


def _job(one: JobPlan) -> _Job:
    return _Job(
        one.job[0],
        {name: plan.trials for name, plan in one.experiments.items()},
        {name: plan.trial_s for name, plan in one.experiments.items()},
        {name: plan.warm_up_s for name, plan in one.experiments.items()},
        one.before_s,
        one.after_s,
        tasks=list(one.tasks),
        load_s=one.load_s,
    )
