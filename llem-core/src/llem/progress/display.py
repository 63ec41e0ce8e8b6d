"""Live progress on standard error: phase, watts, tokens/s and time left. Lines instead of a display off a terminal.

A study shows a table there: its line, and below it a row for each engine process that runs.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from llem.progress.time_left import TimeLeft
from llem.protocol.events import Emit, Event, Outcome, Phase, Power, RateTried, TrialEnded, Warned, silent
from llem.protocol.study_events import ResultComputed, StudyBegan, Waited, Waiting, WorkerEnded
from llem.reports.figures import new_console, plain, settings

__all__ = ["ExperimentProgress", "StudyProgress", "progress"]


class ExperimentProgress:
    """What is known of how far the run of one experiment has come, from its events. Pure but for the clock it is given.

    Args:
        trials: trials at least; more may follow while the interval is wide.
    """

    def __init__(self, trials: int) -> None:
        self.trials = trials
        self.done = 0
        self.phase = "start"
        self._quality = ""
        self.watts: Mapping[str, float] = {}
        self.tokens_per_s: float | None = None
        self._left: TimeLeft | None = None

    def update(self, event: Event, now: float) -> None:
        """Take an event; `now` in seconds."""
        if isinstance(event, StudyBegan):
            self._left = TimeLeft(event)
        if self._left is not None:
            self._left.update(event, now)
        if isinstance(event, Phase):
            self.phase, self._quality = event.phase, _quality(event)
        elif isinstance(event, Power):
            self.watts = event.watts
        elif isinstance(event, TrialEnded):
            self.done += 1
            self.tokens_per_s = event.output_tokens_per_s

    def left_s(self, now: float) -> float | None:
        """Seconds left, None before it can be known (a batch has to be timed first)."""
        return self._left.seconds(now) if self._left is not None and self._left.timed else None

    def line(self, now: float) -> str:
        """One line of status."""
        number = self.done + 1
        trial = f"trial {number} of {max(self.trials, number)}"
        parts = [trial if self.phase == "trial" else self._quality or self.phase]
        if self.watts:
            parts.append(_power([self.watts]))
        if self.tokens_per_s is not None and not self._quality:
            parts.append(f"{self.tokens_per_s:.4g} tok/s")
        return _joined(parts, self.left_s(now), self._left)


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

    def update(self, event: Event, now: float) -> None:
        """Take an event; those of workers have the number of their worker."""
        self._left.update(event, now)
        worker = event.worker or 0
        if isinstance(event, Phase):
            trial = f"trial {(event.trial or 0) + 1}" if event.phase == "trial" else event.phase
            self._at[worker] = event.id or "", _quality(event) or trial
        elif isinstance(event, Waiting) and event.worker is None:
            self._waiting[event.job] = f"waiting for {event.what}"
        elif isinstance(event, Waiting):
            self._at[worker] = "", f"waiting for {event.what}"
        elif isinstance(event, Waited):
            self._waiting.pop(event.job, None)
        elif isinstance(event, Power) and event.watts:  # nothing is read without a meter, which is not 0 W
            self._watts[worker] = event.watts
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
        return self._line([*phases, *self._waiting.values()], now)

    def _line(self, phases: list[str], now: float) -> str:
        parts = [f"{self.done} of {self.experiments} {'measured' if self._left.evaluates else 'done'}"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        parts += phases
        if self._watts:
            parts.append(_power(self._watts.values()))
        return _joined(parts, self.left_s(now), self._left)

    def rows(self) -> list[tuple[str, str, str, str]]:
        """What each engine process is at: experiment, what it sets, phase, watts."""
        found = []
        for worker, (name, phase) in sorted(self._at.items()):
            watts = self._watts.get(worker)
            found.append(
                (name[:8], settings(self._points.get(name, {})), phase, "" if watts is None else _power([watts]))
            )
        return [*found, *(("", "", waiting, "") for waiting in self._waiting.values())]

    def table(self, now: float) -> Any:
        """The line without the phases, and the rows, for a terminal."""
        from rich.table import Table

        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False, title_justify="left", title_style="")
        table.title = plain(self._line([], now))
        for style in ("cyan", "", "", ""):
            table.add_column(style=style, overflow="fold")
        for row in self.rows():
            table.add_row(*map(plain, row))
        return table


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


def _joined(parts: list[str], left: float | None, known: TimeLeft | None) -> str:
    """The parts of a line. What evaluations will take is not in the plan: it is told once one was timed."""
    untimed = known is not None and known.untimed_tasks
    if left is not None and not (untimed and left < 1):
        parts.append(f"about {_clock(left)} left" + (", without untimed quality" if untimed else ""))
    return " · ".join(parts)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


@contextmanager
def progress(trials: int, *, quiet: bool, verbose: bool = False) -> Iterator[Emit]:
    """A function that takes events and shows them. Nothing when quiet; plain lines where stderr is no terminal.

    Args:
        trials: of the one experiment at least; 0 for a study of many.
    """
    if quiet:
        yield silent
        return
    console = new_console(stderr=True)
    shown = _Shown(trials)
    if not console.is_terminal:
        yield lambda event: _plain(console, shown, event, verbose)
        return
    with _display(console, study=not trials) as display:

        def show(event: Event) -> None:
            now = time.monotonic()
            shown.update(event, now)
            if line := shown.lasting(event):
                console.print(plain(line))
            display.update(shown.display(now))

        yield show


def _display(console: Any, *, study: bool) -> Any:
    """What stays at the bottom of a terminal while the run lasts: a spinner with a line, or the table of a study."""
    from rich.live import Live

    # two refreshes a second: the display must not be what keeps a core of the measured machine busy
    if study:
        return Live(console=console, refresh_per_second=2, transient=True)
    return console.status("start", refresh_per_second=2)


class _Shown:
    """What is known of a run of one experiment, or of many."""

    def __init__(self, trials: int) -> None:
        self._many = not trials
        self._known: ExperimentProgress | StudyProgress = ExperimentProgress(trials)

    def update(self, event: Event, now: float) -> None:
        if self._many and isinstance(event, StudyBegan):
            self._known = StudyProgress(event)
        self._known.update(event, now)

    def line(self, now: float) -> str:
        return self._known.line(now)

    def display(self, now: float) -> Any:
        """For a terminal: the table of a study once it is known, else a line."""
        return self._known.table(now) if isinstance(self._known, StudyProgress) else plain(self._known.line(now))

    def lasting(self, event: Event) -> str | None:
        """What stays on the screen: warnings, each trial, each failure, and how each experiment of a study ended."""
        if isinstance(event, TrialEnded):
            return _trial_line(event, self._many)
        if isinstance(event, Waiting):
            return f"waiting for {event.what}"
        if isinstance(event, RateTried):
            return _rate_line(event, self._many)
        if isinstance(event, Warned):
            return f"warning: {event.message}"
        if not isinstance(event, ResultComputed) or not self._many:
            return None
        about = f": {event.error}" if event.error else "" if event.valid else ": not valid"
        return f"{event.id} {event.outcome}{about}"


def _plain(console: Any, shown: _Shown, event: Event, verbose: bool) -> None:
    now = time.monotonic()
    shown.update(event, now)
    if line := shown.lasting(event):
        console.print(plain(line), soft_wrap=True)
    elif isinstance(event, Phase) and (verbose or _is_news(event)):
        console.print(plain(shown.line(now)), soft_wrap=True)


def _is_news(event: Phase) -> bool:
    """Whether a log gets a line: not for each trial or rate, which has one when it ends, nor each second of a task."""
    return event.phase not in ("trial", "pause", "rate search") and (not event.total or event.done == event.total)


def _trial_line(event: TrialEnded, many: bool) -> str:
    joules = event.energy_per_output_token_j
    basis = ", ".join(filter(None, (event.energy_scope, event.energy_kind)))
    energy = "" if joules is None else f" · {joules:.4g} J/output token" + (f" ({basis})" if basis else "")
    which = f"{event.id[:8]} " if many else ""
    return f"{which}trial {event.trial + 1}: {event.output_tokens_per_s:.4g} tok/s{energy}"


def _rate_line(event: RateTried, many: bool) -> str:
    doubts = [] if event.steady else ["requests piled up"]
    doubts += [] if event.on_time else ["llem sent late"]
    which = f"{event.id[:8]} " if many else ""
    found = f"{event.kept} of {event.judged} requests kept the SLO"
    return ", ".join([f"{which}{event.request_rate:.4g} requests/s: {found}", *doubts])
