"""Live progress on standard error: what `status` knows of a run. Lines instead of a display off a terminal.

A terminal is drawn once a second, and when a line comes that stays on the screen. So what this process does while a
worker measures is bounded, whatever the worker tells.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llem.progress.running import labelled, stored_rows, stored_trials
from llem.progress.status import ExperimentProgress, StudyProgress
from llem.protocol.events import Emit, Event, Phase, RateTried, TrialEnded, Warned, silent
from llem.protocol.study_events import ResultComputed, StudyBegan, Waiting
from llem.reports.figures import amount, new_console, plain

__all__ = ["ExperimentProgress", "StudyProgress", "progress"]


@contextmanager
def progress(trials: int, *, quiet: bool, verbose: bool = False, folder: Path | None = None) -> Iterator[Emit]:
    """A function that takes events and shows them. Nothing when quiet; plain lines where stderr is no terminal.

    Args:
        trials: of the one experiment at least; 0 for a study of many.
        folder: of the results: what earlier runs measured is read there, and each result.
    """
    if quiet:
        yield silent
        return
    console = new_console(stderr=True)
    shown = _Shown(trials, folder)
    if not console.is_terminal or console.is_dumb_terminal:
        yield lambda event: _plain(console, shown, event, verbose)
        return
    from rich.live import Live

    # A second between two drawings: the display must not be what keeps a core of the measured machine busy.
    with Live(get_renderable=lambda: shown.display(console), console=console, refresh_per_second=1, transient=True):

        def show(event: Event) -> None:
            shown.update(event, time.monotonic())
            if line := shown.lasting(event):
                console.print(plain(line))

        yield show


class _Shown:
    """What is known of a run of one experiment, or of many. Events come from other threads than the drawing."""

    def __init__(self, trials: int, folder: Path | None) -> None:
        self._many, self._folder = not trials, folder
        self._lock = threading.Lock()
        self._known: ExperimentProgress | StudyProgress = ExperimentProgress(trials)

    def update(self, event: Event, now: float) -> None:
        with self._lock:
            if self._many and isinstance(event, StudyBegan):
                self._known = StudyProgress(event)
            self._known.update(event, now)
            self._read(event)

    def _read(self, event: Event) -> None:
        """Take from the folder what no event tells. No worker runs when these two events come."""
        if self._folder is None:
            return
        if isinstance(event, StudyBegan):
            names = dict.fromkeys(name for job in event.jobs for name in job.experiments)
            self._known.resume(stored_trials(self._folder, names), stored_rows(self._folder))
        elif isinstance(event, ResultComputed) and isinstance(self._known, StudyProgress):
            for row in stored_rows(self._folder, [event.id]):
                self._known.best.add(row)

    def line(self, now: float) -> str:
        return self._known.line(now)

    def display(self, console: Any) -> Any:
        """For a terminal: as many lines as fit."""
        with self._lock:
            lines = self._known.lines(time.monotonic(), console.width, console.height)
        text = plain("\n".join(lines))
        text.no_wrap, text.overflow = True, "crop"
        return text

    def lasting(self, event: Event) -> str | None:
        """What stays on the screen: warnings, each trial, each failure, and how each experiment of a study ended."""
        if isinstance(event, TrialEnded):
            return self._trial_line(event)
        if isinstance(event, Waiting):
            return f"waiting for {event.what}"
        if isinstance(event, RateTried):
            return _rate_line(event, self._many)
        if isinstance(event, Warned):
            return f"warning: {event.message}"
        if not isinstance(event, ResultComputed) or not self._many:
            return None
        mean = self._known.running.of(event.id)
        energy = f": {labelled(mean)}" if mean is not None else ""
        about = f": {event.error}" if event.error else energy if event.valid else ": not valid"
        return f"{event.id} {event.outcome}{about}"

    def _trial_line(self, event: TrialEnded) -> str:
        joules, mean = event.energy_per_output_token_j, self._known.running.of(event.id)
        basis = ", ".join(filter(None, (event.energy_scope, event.energy_kind)))
        parts = [f"{event.output_tokens_per_s:.4g} tok/s"]
        if joules is not None:
            parts.append(f"{joules:.4g} J/output token" + (f" ({basis})" if basis else ""))
        if mean is not None and (mean.n or 0) > 1:
            parts.append(f"mean of {mean.n}: {amount(mean, mean.value or 0.0)}")
        which = f"{event.id[:8]} " if self._many else ""
        return f"{which}trial {event.trial}: {' · '.join(parts)}"

    def beside(self, event: Event, now: float) -> list[str]:
        """What a line that stays also says where there is no display."""
        if isinstance(event, TrialEnded):
            joules = event.energy_per_output_token_j
            power = [] if joules is None else [f"{event.energy_scope} {joules * event.output_tokens_per_s:.4g} W"]
            return [*power, self._known.told(now)]
        if isinstance(event, ResultComputed) and isinstance(self._known, StudyProgress):
            return [self._known.best.told(), self._known.told(now)]
        return []


def _plain(console: Any, shown: _Shown, event: Event, verbose: bool) -> None:
    now = time.monotonic()
    shown.update(event, now)
    if line := shown.lasting(event):
        console.print(plain(" · ".join(filter(None, [line, *shown.beside(event, now)]))), soft_wrap=True)
    elif isinstance(event, Phase) and (verbose or _is_news(event)):
        console.print(plain(shown.line(now)), soft_wrap=True)


def _is_news(event: Phase) -> bool:
    """Whether a log gets a line: not for each trial or rate, which has one when it ends, nor each second of a task."""
    return event.phase not in ("trial", "pause", "rate search") and (not event.total or event.done == event.total)


def _rate_line(event: RateTried, many: bool) -> str:
    doubts = [] if event.steady else ["requests piled up"]
    doubts += [] if event.on_time else ["llem sent late"]
    which = f"{event.id[:8]} " if many else ""
    found = f"{event.kept} of {event.judged} requests kept the SLO"
    return ", ".join([f"{which}{event.request_rate:.4g} requests/s: {found}", *doubts])
