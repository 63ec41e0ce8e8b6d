"""Live progress on standard error: phase, watts, tokens/s and time left. Lines instead of a display off a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from llem.experiment.events import Emit, Event, silent

__all__ = ["Estimate", "progress"]


class Estimate:
    """What is known of how far a run has come, from its events. Pure but for the clock it is given.

    Args:
        trials: trials at least; more may follow while the interval is wide.
        which: of a study, which experiment this is: "3 of 17".
    """

    def __init__(self, trials: int, which: str = "") -> None:
        self._begin(trials, which)

    def _begin(self, trials: int, which: str) -> None:
        self.trials = trials
        self.which = which
        self.done = 0
        self.phase = "start"
        self.watts: float | None = None
        self.tokens_per_s: float | None = None
        self._phase_s: float | None = None
        self._since = 0.0
        self._running = False  # a trial
        self._trial_s: float | None = None
        self._after_s = 0.0

    def update(self, event: Event, now: float) -> None:
        """Take an event; `now` in seconds."""
        kind = event.get("event")
        if kind == "experiment":
            self._begin(event["trials"], f"{event['number']} of {event['of']}")
        elif kind == "phase":
            self.phase, self._phase_s, self._since = str(event["phase"]), event.get("seconds"), now
            self._running = self.phase == "trial"
        elif kind == "power":
            self.watts = sum(event["watts"].values()) if event["watts"] else None
        elif kind == "calibrated":
            self._trial_s, self._after_s = event["trial_s"], event["after_s"]
        elif kind == "trial":
            self.done += 1
            self._running = False
            self.tokens_per_s = event["output_tokens_per_s"]

    def left_s(self, now: float) -> float | None:
        """Seconds left, None before it can be known (a batch has to be timed first)."""
        phase_left = max((self._phase_s or 0.0) - (now - self._since), 0.0)
        if self._trial_s is None:
            return None
        further = max(self.trials - self.done - self._running, 0)
        if self.phase == "baseline after" and not further:
            return phase_left
        return phase_left + further * self._trial_s + self._after_s

    def line(self, now: float) -> str:
        """One line of status."""
        parts = [f"experiment {self.which}"] if self.which else []
        number = self.done + 1
        parts.append(self.phase if self.phase != "trial" else f"trial {number} of {max(self.trials, number)}")
        if self.watts is not None:
            parts.append(f"{self.watts:.0f} W")
        if self.tokens_per_s is not None:
            parts.append(f"{self.tokens_per_s:.4g} tok/s")
        left = self.left_s(now)
        if left is not None:
            parts.append(f"about {_clock(left)} left")
        return " · ".join(parts)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


@contextmanager
def progress(trials: int, *, quiet: bool, verbose: bool = False) -> Iterator[Emit]:
    """A function that takes events and shows them. Nothing when quiet; plain lines where stderr is no terminal."""
    if quiet:
        yield silent
        return
    from rich.console import Console

    console = Console(stderr=True)
    estimate = Estimate(trials)
    if not console.is_terminal:
        yield lambda event: _plain(console, estimate, event, verbose)
        return
    # two refreshes a second: the display must not be what keeps a core of the measured machine busy
    with console.status("start", refresh_per_second=2) as status:

        def show(event: Event) -> None:
            now = time.monotonic()
            estimate.update(event, now)
            if line := _lasting(event):
                console.print(line, markup=False)
            status.update(estimate.line(now))

        yield show


def _plain(console: Any, estimate: Estimate, event: Event, verbose: bool) -> None:
    now = time.monotonic()
    estimate.update(event, now)
    if line := _lasting(event):
        console.print(line, highlight=False, markup=False)
    elif event.get("event") == "phase" and (verbose or event["phase"] != "trial"):
        console.print(estimate.line(now), highlight=False)


def _lasting(event: Event) -> str | None:
    """What stays on the screen: each trial, and how each experiment of a study ended."""
    kind = event.get("event")
    if kind == "trial":
        return _trial_line(event)
    if kind != "result":
        return None
    about = f": {event['error']}" if event["error"] else "" if event["valid"] else ": not valid"
    return f"{event['id']} {event['outcome']}{about}"


def _trial_line(event: Mapping[str, Any]) -> str:
    joules = event["energy_per_output_token_j"]
    energy = "" if joules is None else f" · {joules:.4g} J/output token"
    return f"trial {event['trial'] + 1}: {event['output_tokens_per_s']:.4g} tok/s{energy}"
