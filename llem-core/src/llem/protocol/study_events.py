"""What the process that runs a study tells of itself. `on_event` receives these classes, and those of its workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import attrs

from llem.protocol.events import Event

__all__ = [
    "ExperimentPlan",
    "JobPlan",
    "Left",
    "ResultComputed",
    "StudyBegan",
    "StudyEvent",
    "Waited",
    "Waiting",
    "WorkerEnded",
    "WorkerLaunched",
]


@attrs.frozen
class ExperimentPlan:
    """What one engine process will do of one experiment.

    Attributes:
        trials: number of trials at least.
        trial_s: seconds of a window and of the pause before it.
        warm_up_s: seconds of the warm-up.
    """

    trials: int
    trial_s: float
    warm_up_s: float


@attrs.frozen
class JobPlan:
    """What one engine process will do. Loads, compilation and batches longer than a window are not in the times.

    Attributes:
        job: number of the group of experiments, and of the engine process in this group.
        experiments: plan of each experiment, by id.
        before_s: seconds of the idle baseline before the trials.
        after_s: seconds of the idle baseline after the trials.
    """

    job: tuple[int, int]
    experiments: Mapping[str, ExperimentPlan]
    before_s: float
    after_s: float


@attrs.frozen(kw_only=True)
class StudyEvent(Event):
    """What the process that runs the study tells of itself; the store keeps it in `events.jsonl`."""


@attrs.frozen(kw_only=True)
class StudyBegan(StudyEvent):
    """A run of a study begins; also of a study that is resumed.

    Attributes:
        experiments: number of experiments.
        done: number of experiments of which nothing is left to be measured.
        processes: engine processes of an experiment, at most.
        parallel: workers at once.
        gap_s: seconds of the pause before a trial.
        points: what the axes set, by experiment id.
        jobs: what is left to be done, by engine process.
    """

    kind: ClassVar[str] = "study"
    experiments: int
    done: int
    processes: int
    parallel: int
    gap_s: float
    points: Mapping[str, Mapping[str, Any]]
    jobs: tuple[JobPlan, ...]


@attrs.frozen(kw_only=True)
class Waiting(StudyEvent):
    """A worker, or a job that has no worker yet, waits for its turn.

    Attributes:
        what: what it waits for: who has the GPUs, or what the queue says.
        job: group and engine process of the job that waits for GPUs of this machine.
    """

    kind: ClassVar[str] = "waiting"
    what: str
    job: tuple[int, int] | None = None


@attrs.frozen(kw_only=True)
class Waited(StudyEvent):
    """The wait is over.

    Attributes:
        job: of the event `waiting`.
    """

    kind: ClassVar[str] = "waited"
    job: tuple[int, int] | None = None


@attrs.frozen(kw_only=True)
class WorkerLaunched(StudyEvent):
    """A worker is about to be launched.

    Attributes:
        job: group and engine process of its job.
        process: number of the engine process in the documents of its experiments.
        experiments: ids of its experiments.
        gpus: UUIDs of its GPUs; none on a CPU, and where the worker chooses.
        log: path of its log.
    """

    kind: ClassVar[str] = "worker"
    job: tuple[int, int]
    process: int
    experiments: tuple[str, ...]
    gpus: tuple[str, ...]
    log: str


@attrs.frozen(kw_only=True)
class Left(StudyEvent):
    """A worker is gone by no fault of its experiments; what it has not measured is for another worker.

    Attributes:
        why: what ended it.
    """

    kind: ClassVar[str] = "left"
    why: str


@attrs.frozen(kw_only=True)
class WorkerEnded(StudyEvent):
    """A worker is gone, however it ended."""

    kind: ClassVar[str] = "worker ended"


@attrs.frozen(kw_only=True)
class ResultComputed(StudyEvent):
    """The result of an experiment was computed and stored.

    Attributes:
        id: the experiment.
        outcome: how the experiment ended: "done", or as in a failure.
        valid: whether the result can be used.
        error: what went wrong; null for nothing.
        seconds: how long the computation and the storing took, up to the time of this event.
    """

    kind: ClassVar[str] = "result"
    id: str
    outcome: str
    valid: bool
    error: str | None = None
    seconds: float
