"""Events of a worker. `on_event` receives these classes, and those of `protocol/study_events.py`.

An event takes its time when it is made, which is when it is emitted. Within a window a worker emits only `Power`,
which the process that reads the meters writes once a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import ClassVar

import attrs

from llem.foreign.values import a_time

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
    "RateTried",
    "Started",
    "TrialEnded",
    "Warned",
    "silent",
]


@attrs.frozen
class Moment:
    """When an event was made, by two clocks of the process that made the event.

    Attributes:
        monotonic_ns: monotonic clock, in nanoseconds. Differences between events of one process are exact.
        utc: wall clock, ISO 8601 in UTC with microseconds. Between machines, differences are as exact as their clocks.
    """

    monotonic_ns: int
    utc: str = attrs.field(validator=a_time)

    @classmethod
    def now(cls) -> Moment:
        """Both clocks, read one after the other."""
        return cls(time.monotonic_ns(), datetime.now(UTC).isoformat(timespec="microseconds"))


@attrs.frozen(kw_only=True)
class Event:
    """What every event has. Two events are equal if all fields but `at` are equal.

    Attributes:
        kind: name of the event's class in JSON, as `event`.
        at: when the event was made.
        worker: number of the worker that the event is about; null for none, and in the worker's own file.
    """

    kind: ClassVar[str]
    at: Moment = attrs.field(factory=Moment.now, eq=False)
    worker: int | None = None


Emit = Callable[[Event], None]


def silent(_: Event) -> None:
    """Drop the event."""


@attrs.frozen
class Failure:
    """A recorded error.

    Attributes:
        outcome: how the experiment ended: "oom", "crash", "timeout", "invalid" or "interrupted".
        message: what went wrong.
        hint: what to do.
        code: the error's code.
        exit_code: the exit code of `llem` for this error.
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
        pid: the worker's process id.
    """

    kind: ClassVar[str] = "started"
    pid: int


@attrs.frozen(kw_only=True)
class Phase(Event):
    """A phase begins. It lasts until the worker's next event that is not `power`.

    Attributes:
        phase: "load", "baseline before", "warm-up", "capacity probe", "rate search", "pause", "trial", "quality" or
            "baseline after".
        seconds: how long the phase should take; null if that is not known.
        id: the experiment; null if the phase belongs to the engine process.
        trial: index of the trial, from 0.
        batches: number of full-length batches with which a warm-up begins.
        task: quality: the task that is evaluated.
        done, total: quality: number of evaluated items, and of all items of the task; 0 of 0 at first.
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
        load_s: seconds that loading took.
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
class RateTried(Event):
    """One window of the search for the greatest rate under the SLO is over.

    Attributes:
        id: the experiment.
        request_rate: arrivals per second.
        judged: requests that ended in the window, or were late for certain.
        kept: number of them that kept every limit.
        steady: requests in flight did not pile up.
        on_time: llem sent the requests on time.
    """

    kind: ClassVar[str] = "rate"
    id: str
    request_rate: float
    judged: int
    kept: int
    steady: bool
    on_time: bool


@attrs.frozen(kw_only=True)
class Calibrated(Event):
    """The warm-up is over, and the length of a trial is known.

    Attributes:
        id: the experiment.
        trial_s: seconds that a trial should take, with lead-in and lead-out.
        settle_s: seconds of unmeasured work before a trial that follows another experiment's trial.
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
        parts_before_s, parts_after_s: seconds of the trial's other windows, before this one and after it; 0 without the
            setting `phases`.
        output_tokens_per_s: output tokens of the window per second.
        energy_per_output_token_j: joules; null where there is no energy.
        energy_bound_j: what the instrument may be off by, in joules per output token; null where that is not known.
        energy_shared_j: the part of it that all trials have alike.
        energy_scope, energy_kind: what this energy covers, and whether it is "measured" or "modelled"; null without it.
    """

    kind: ClassVar[str] = "trial"
    id: str
    trial: int
    t0_ns: int
    t1_ns: int
    duration_s: float
    output_tokens_per_s: float
    parts_before_s: float = 0.0
    parts_after_s: float = 0.0
    energy_per_output_token_j: float | None = None
    energy_bound_j: float | None = None
    energy_shared_j: float | None = None
    energy_scope: str | None = None
    energy_kind: str | None = None


@attrs.frozen(kw_only=True)
class Outcome(Event):
    """An experiment has ended in one engine process. If a worker dies, the parent emits the event.

    Attributes:
        id: the experiment.
        outcome: "done", or the outcome in `error`.
        error: the failure; null for none.
    """

    kind: ClassVar[str] = "outcome"
    id: str
    outcome: str
    error: Failure | None = None


@attrs.frozen(kw_only=True)
class Warned(Event):
    """A warning to the user. The run goes on.

    Attributes:
        message: the warning's text.
    """

    kind: ClassVar[str] = "warning"
    message: str


@attrs.frozen(kw_only=True)
class Power(Event):
    """The latest power reading of the meters, once a second, also within a window. "inline" workers send none.

    Attributes:
        watts: power of each domain, in watts.
    """

    kind: ClassVar[str] = "power"
    watts: Mapping[str, float]


@attrs.frozen(kw_only=True)
class Ended(Event):
    """The worker's last event: its work is over, and the process ends."""

    kind: ClassVar[str] = "ended"
