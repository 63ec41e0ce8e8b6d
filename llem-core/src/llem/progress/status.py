"""How far a run has come, from its events: phase, watts, tokens/s, joules per token so far, what is done and left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llem.analysis.overview import Overview
from llem.progress.frame import framed
from llem.progress.running import BestSoFar, Running, labelled
from llem.progress.time_left import TimeLeft
from llem.protocol.events import Event, Outcome, Phase, Power, TrialEnded
from llem.protocol.study_events import ResultComputed, StudyBegan, Waited, Waiting, WorkerEnded, WorkerLaunched
from llem.reports.figures import settings
from llem.store.models import Trial

__all__ = ["ExperimentProgress", "StudyProgress"]


class ExperimentProgress:
    """What is known of how far the run of one experiment has come, from its events. Pure but for the clock it is given.

    Args:
        trials: trials at least; more may follow while the interval is wide.
    """

    def __init__(self, trials: int) -> None:
        self.trials = trials
        self.done = 0
        self.phase = "start"
        self._number, self._index = 1, 0  # of the trial that is measured, until another phase begins
        self._quality = ""
        self.watts: Mapping[str, float] = {}
        self.tokens_per_s: float | None = None
        self.running = Running()
        self._id = ""
        self._process = 0
        self._left: TimeLeft | None = None

    def resume(self, trials: Sequence[Trial], _: Sequence[Overview]) -> None:
        """Take what earlier runs measured."""
        for trial in trials:
            self.running.add_stored(trial)
            self._id = trial.experiment_id
        self.done = len(trials)

    def update(self, event: Event, now: float) -> None:
        """Take an event; `now` in seconds."""
        if isinstance(event, StudyBegan):
            self._left = TimeLeft(event)
        if self._left is not None:
            self._left.update(event, now)
        if isinstance(event, Phase):
            self.phase, self._quality = event.phase, _quality(event)
            self._number, self._index = self.done + 1, event.trial or 0
        elif isinstance(event, Power):
            self.watts = event.watts
        elif isinstance(event, TrialEnded):
            self.done += 1
            self.tokens_per_s = event.output_tokens_per_s
            self._id = event.id
            self.running.add(event, self._process)
        elif isinstance(event, WorkerLaunched):
            self._process = event.process

    def left_s(self, now: float) -> float | None:
        """Seconds left, None before it can be known (a batch has to be timed first)."""
        return self._left.seconds(now) if self._left is not None and self._left.timed else None

    def lines(self, now: float, width: int, height: int) -> list[str]:
        """What a terminal shows."""
        return framed([self._parts(now)], (), width, height)

    def line(self, now: float) -> str:
        """One line of status."""
        return " · ".join(self._parts(now))

    def told(self, now: float) -> str:
        """What a line about a trial ends with where there is no display."""
        return " · ".join(_with_time([], self.left_s(now), self._left))

    def _parts(self, now: float) -> list[str]:
        trial = f"trial {self._index} ({self._number} of {max(self.trials, self._number)})"
        parts = [trial if self.phase == "trial" else self._quality or self.phase]
        if self.watts:
            parts.append(_power([self.watts]))
        if self.tokens_per_s is not None and not self._quality:
            parts.append(f"{self.tokens_per_s:.4g} tok/s")
        if (mean := self.running.of(self._id)) is not None and not self._quality:
            parts.append(labelled(mean))
        return _with_time(parts, self.left_s(now), self._left)


class StudyProgress:
    """The same for a study of many experiments, from the event `study` on: how many are done, failed and left."""

    def __init__(self, event: StudyBegan) -> None:
        self.experiments, self.done, self.failed = event.experiments, event.done, 0
        self._several = event.processes > 1
        self._jobs = Counter(name for job in event.jobs for name in job.experiments)  # still to end, by experiment
        self._left = TimeLeft(event)
        self._ended: set[str] = set()
        self._points: Mapping[str, Mapping[str, Any]] = event.points
        self._at: dict[int, tuple[str, str]] = {}  # of a worker: experiment ("" for none), phase
        self._watts: dict[int, Mapping[str, float]] = {}
        self._waiting: dict[tuple[int, int] | None, str] = {}  # of an engine process that has no worker yet: what for
        self._process: dict[int, int] = {}  # of a worker: its engine process
        self._speed: dict[str, float] = {}  # tokens/s of an experiment's last trial
        self.running, self.best = Running(), BestSoFar()

    def resume(self, trials: Sequence[Trial], rows: Sequence[Overview]) -> None:
        """Take what earlier runs measured: trials of experiments that go on, and all results."""
        for trial in trials:
            self.running.add_stored(trial)
        self.best = BestSoFar(rows)

    def update(self, event: Event, now: float) -> None:
        """Take an event; those of workers have the number of their worker."""
        self._left.update(event, now)
        worker = event.worker or 0
        if isinstance(event, Phase):
            trial = f"trial {event.trial or 0}" if event.phase == "trial" else event.phase
            self._at[worker] = event.id or "", _quality(event) or trial
        elif isinstance(event, Waiting) and event.worker is None:
            self._waiting[event.job] = f"waiting for {event.what}"
        elif isinstance(event, Waiting):
            self._at[worker] = "", f"waiting for {event.what}"
        elif isinstance(event, Waited):
            self._waiting.pop(event.job, None)
        elif isinstance(event, Power) and event.watts:  # nothing is read without a meter, which is not 0 W
            self._watts[worker] = event.watts
        elif isinstance(event, WorkerLaunched):
            self._process[worker] = event.process
        elif isinstance(event, TrialEnded):
            self._speed[event.id] = event.output_tokens_per_s
            self.running.add(event, self._process.get(worker, 0))
        elif isinstance(event, WorkerEnded):
            self._at.pop(worker, None)
            self._watts.pop(worker, None)
        elif isinstance(event, (Outcome, ResultComputed)):
            self._end(event)

    def _end(self, event: Outcome | ResultComputed) -> None:
        if event.outcome == "interrupted" or event.id in self._ended:
            return
        # a worker's `done` is the end of an experiment only where it has no other worker to come
        if event.outcome != "done":
            self.failed += 1
        elif isinstance(event, Outcome) and self._several and not self._last_job(event.id):
            return
        else:
            self.done += 1
        self._ended.add(event.id)

    def _last_job(self, name: str) -> bool:
        """Whether a job of this experiment that just ended well was the last one."""
        self._jobs[name] -= 1
        return self._jobs[name] == 0

    def left_s(self, now: float) -> float:
        """Seconds, by what experiments ask for until something is measured."""
        return self._left.seconds(now)

    def line(self, now: float) -> str:
        """One line of status."""
        phases = [f"{name[:8]} {phase}".strip() for name, phase in self._at.values()]
        return " · ".join(self._parts([*phases, *self._waiting.values()], now))

    def told(self, now: float) -> str:
        """What a line about a trial ends with where there is no display."""
        return " · ".join(_with_time([self.counts], self.left_s(now), self._left))

    @property
    def counts(self) -> str:
        """`3 of 12 done, 1 failed, 8 to go`."""
        failed = f", {self.failed} failed" if self.failed else ""
        to_go = self.experiments - self.done - self.failed
        done = "measured" if self._left.evaluates else "done"
        return f"{self.done} of {self.experiments} {done}{failed}, {max(to_go, 0)} to go"

    def _parts(self, phases: Sequence[str], now: float) -> list[str]:
        parts = [self.counts, *phases]
        if self._watts:
            parts.append(_power(self._watts.values()))
        return _with_time(parts, self.left_s(now), self._left)

    def rows(self) -> list[tuple[str, ...]]:
        """What each engine process is at: experiment, what it sets, phase, watts, tokens/s, joules per output token."""
        found = []
        for worker, (name, phase) in sorted(self._at.items()):
            watts, speed, mean = self._watts.get(worker), self._speed.get(name), self.running.of(name)
            found.append(
                (
                    name[:8],
                    settings(self._points.get(name, {})),
                    phase,
                    "" if watts is None else _power([watts]),
                    "" if speed is None else f"{speed:.4g} tok/s",
                    "" if mean is None else labelled(mean),
                )
            )
        return [*found, *(("", "", waiting, "", "", "") for waiting in self._waiting.values())]

    def lines(self, now: float, width: int, height: int) -> list[str]:
        """What a terminal shows: the line without the phases, the best so far, and a row for each engine process."""
        return framed([self._parts((), now), [self.best.told()]], self.rows(), width, height, last=SETTINGS)


#: The cell of `rows` that gives way to the others on a narrow terminal.
SETTINGS = 1


def _power(found: Iterable[Mapping[str, float]]) -> str:
    """Watts by what they cover: `gpu 600 W + cpu 40 W`. Power of different scopes is never added up."""
    sums: dict[str, float] = {}
    for watts in found:
        for domain, value in watts.items():
            scope = domain.partition(":")[0]
            sums[scope] = sums.get(scope, 0.0) + value
    return " + ".join(f"{scope} {value:.0f} W" for scope, value in sums.items())


def _quality(event: Phase) -> str:
    """`quality arc_easy 120/500` while a task is evaluated; "" in another phase."""
    if event.task is None:
        return ""
    return f"{event.phase} {event.task}" + (f" {event.done}/{event.total}" if event.total else "")


def _with_time(parts: Sequence[str], left: float | None, known: TimeLeft | None) -> list[str]:
    """The parts of a line, and the time left. That of evaluations is in no plan: it is told once one was timed."""
    untimed = known is not None and known.untimed_tasks
    if left is None or (untimed and left < 1):
        return list(parts)
    return [*parts, f"about {_clock(left)} left" + (", without untimed quality" if untimed else "")]


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
