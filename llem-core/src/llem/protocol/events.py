"""What a worker tells while it works. `on_event` receives these classes, and those of `protocol/study_events.py`.

An event is made where it is emitted, and takes its time then. Nothing is emitted between a window's beginning and its
end, except `Power`: the process that reads the meters writes it, once a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import ClassVar

import attrs

__all__ = [
    "BaselineMeasured",
    "Calibrated",
    "Emit",
    "Ended",
    "Event",
    "Failure",
    "Loaded",
    "Moment",
    "Outcome",
    "Phase",
    "Power",
    "Started",
    "TrialEnded",
    "Warned",
    "silent",
]


@attrs.frozen
class Moment:
    """When an event was made, by two clocks of the process that made it.

    Attributes:
        monotonic_ns: monotonic clock, nanoseconds. Differences between events of one process are exact.
        utc: wall clock, ISO 8601 in UTC with microseconds. It relates processes as well as their clocks agree.
    """

    monotonic_ns: int
    utc: str

    @classmethod
    def now(cls) -> Moment:
        """Both clocks, read one after the other."""
        return cls(time.monotonic_ns(), datetime.now(UTC).isoformat(timespec="microseconds"))


@attrs.frozen(kw_only=True)
class Event:
    """What every event has. Two events are equal when they say the same, whenever they say it.

    Attributes:
        kind: names the class of an event; `event` in its JSON line.
        at: when the event was made.
        worker: number of the worker that the event is about; null for none, and in the worker's own file.
    """

    kind: ClassVar[str]
    at: Moment = attrs.field(factory=Moment.now, eq=False)
    worker: int | None = None


Emit = Callable[[Event], None]


def silent(_: Event) -> None:
    """Tell nobody."""


@attrs.frozen
class Failure:
    """An error as it is recorded.

    Attributes:
        outcome: how the experiment ended: "oom", "crash", "timeout", "invalid" or "interrupted".
        message: what went wrong.
        hint: what to do.
        code: the error's code.
        exit_code: with which `llem` ends for this error.
    """

    outcome: str
    message: str
    hint: str
    code: str
    exit_code: int


@attrs.frozen(kw_only=True)
class Started(Event):
    """The worker's process runs, and has imported llem.

    Attributes:
        pid: its process id.
    """

    kind: ClassVar[str] = "started"
    pid: int


@attrs.frozen(kw_only=True)
class Phase(Event):
    """A phase begins. It lasts until the worker's next event that is not `power`.

    Attributes:
        phase: "load", "baseline before", "warm-up", "capacity probe", "pause", "trial", "quality" or "baseline after".
        seconds: how long it should take; null where nobody knows.
        id: the experiment; null where the phase is of the engine process.
        trial: index of the trial, from 0.
        batches: number of full-length batches that a warm-up begins with.
        task: of quality: the task that is evaluated.
        done, total: of quality: items of the task that are evaluated, and all of them; 0 of 0 before that is known.
    """

    kind: ClassVar[str] = "phase"
    phase: str
    seconds: float | None = None
    id: str | None = None
    trial: int | None = None
    batches: int | None = None
    task: str | None = None
    done: int | None = None
    total: int | None = None


@attrs.frozen(kw_only=True)
class Loaded(Event):
    """The engine is loaded.

    Attributes:
        load_s: seconds that this took.
    """

    kind: ClassVar[str] = "loaded"
    load_s: float


@attrs.frozen(kw_only=True)
class BaselineMeasured(Event):
    """An idle baseline was measured.

    Attributes:
        phase: "before" or "after" the trials.
        t0_ns, t1_ns: the measured interval; monotonic clock of the worker, nanoseconds.
    """

    kind: ClassVar[str] = "baseline"
    phase: str
    t0_ns: int
    t1_ns: int


@attrs.frozen(kw_only=True)
class Calibrated(Event):
    """The warm-up is over, and it is settled what a trial of an experiment is.

    Attributes:
        id: the experiment.
        trial_s: seconds that a trial should take, lead-in and lead-out included.
        settle_s: seconds of the work before a trial that follows another experiment's trial.
        after_s: seconds of the idle baseline after the trials; 0 for none.
        batch_s: offline load: seconds of one batch.
        batches: offline load: number of batches in a window.
        e2el_s: serving load: seconds from sending a request to its last token, usually.
        request_rate: open load: requests per second.
    """

    kind: ClassVar[str] = "calibrated"
    id: str
    trial_s: float
    settle_s: float
    after_s: float
    batch_s: float | None = None
    batches: int | None = None
    e2el_s: float | None = None
    request_rate: float | None = None


@attrs.frozen(kw_only=True)
class TrialEnded(Event):
    """A trial was measured and stored.

    Attributes:
        id: the experiment.
        trial: index of the trial, from 0.
        t0_ns, t1_ns: the window; monotonic clock of the worker, nanoseconds.
        duration_s: seconds of the window.
        output_tokens_per_s: output tokens of the window per second.
        energy_per_output_token_j: joules; null where no energy was measured.
    """

    kind: ClassVar[str] = "trial"
    id: str
    trial: int
    t0_ns: int
    t1_ns: int
    duration_s: float
    output_tokens_per_s: float
    energy_per_output_token_j: float | None = None


@attrs.frozen(kw_only=True)
class Outcome(Event):
    """An experiment has ended in one engine process. The parent tells it for a worker that cannot.

    Attributes:
        id: the experiment.
        outcome: "done", or as in the failure.
        error: the failure; null for none.
    """

    kind: ClassVar[str] = "outcome"
    id: str
    outcome: str
    error: Failure | None = None


@attrs.frozen(kw_only=True)
class Warned(Event):
    """Something that the user should know and that ends nothing.

    Attributes:
        message: it.
    """

    kind: ClassVar[str] = "warning"
    message: str


@attrs.frozen(kw_only=True)
class Power(Event):
    """What the meters read last. It comes once a second, also within a window; from "inline" workers never.

    Attributes:
        watts: power of each domain, in watts.
    """

    kind: ClassVar[str] = "power"
    watts: Mapping[str, float]


@attrs.frozen(kw_only=True)
class Ended(Event):
    """The worker has done what it can, and ends."""

    kind: ClassVar[str] = "ended"
