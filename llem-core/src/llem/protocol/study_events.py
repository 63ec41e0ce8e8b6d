"""Events of the process that runs a study. `on_event` receives these classes, and those of workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import attrs

from llem.protocol.events import Event

__all__ = [
    "ExperimentPlan",
    "JobPlan",
    "Left",
    "OutOfMemory",
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
    """The plan of one experiment in one engine process.

    Attributes:
        trials: number of trials, at least.
        trial_s: seconds of a window, with the pause before it.
        warm_up_s: seconds of the warm-up, with the search for the greatest rate in the group's first process.
    """

    trials: int
    trial_s: float
    warm_up_s: float


@attrs.frozen
class JobPlan:
    """The plan of one engine process. Where nothing of it was measured before, its times leave out compilation and
    batches longer than a window, and that of a load is a guess.

    Attributes:
        job: number of the group of experiments, and number of the engine process in this group.
        experiments: plan of each experiment, by id.
        before_s: seconds of the idle baseline before the trials.
        after_s: seconds of the idle baseline after the trials.
        tasks: tasks of quality that are evaluated then, each once for the engine. Their time is in no estimate.
        load_s: seconds until the engine is loaded, from the start of its worker.
    """

    job: tuple[int, int]
    experiments: Mapping[str, ExperimentPlan]
    before_s: float
    after_s: float
    tasks: tuple[str, ...] = ()
    load_s: float = 0.0


@attrs.frozen(kw_only=True)
class StudyEvent(Event):
    """An event of the process that runs the study. The store keeps it in `events.jsonl`."""


@attrs.frozen(kw_only=True)
class StudyBegan(StudyEvent):
    """A run of a study begins, also if the study is resumed.

    Attributes:
        experiments: number of experiments.
        done: number of experiments with nothing left to measure.
        processes: engine processes of an experiment, at most.
        parallel: number of workers at once.
        gap_s: seconds of the pause before a trial.
        points: values that the axes set, by experiment id.
        jobs: the remaining work, by engine process.
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
    """A job waits for GPUs of this machine, or a worker waits: in a queue, or for another worker at its experiments.

    Attributes:
        what: the GPUs with their holders, the queue's own words, or the other worker.
        job: group and engine process of the job that waits for GPUs; null for a worker that waits.
    """

    kind: ClassVar[str] = "waiting"
    what: str
    job: tuple[int, int] | None = None


@attrs.frozen(kw_only=True)
class Waited(StudyEvent):
    """A wait is over.

    Attributes:
        job: as in the event `waiting`.
    """

    kind: ClassVar[str] = "waited"
    job: tuple[int, int] | None = None


@attrs.frozen(kw_only=True)
class WorkerLaunched(StudyEvent):
    """A worker is about to be launched.

    Attributes:
        job: group and engine process of its job.
        process: number of the engine process in the stored documents of its experiments.
        experiments: ids of its experiments.
        gpus: UUIDs of its GPUs; empty on a CPU, and if the worker chooses its GPUs itself.
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
    """A worker was ended by no fault of its experiments. Another worker measures the rest.

    Attributes:
        why: what ended the worker.
        gone: whether the worker is known to be gone. Else it may still measure, as on a node that its scheduler lost.
    """

    kind: ClassVar[str] = "left"
    why: str
    gone: bool = True


@attrs.frozen(kw_only=True)
class OutOfMemory(StudyEvent):
    """A worker was ended because memory ran out: by the kernel, or by the scheduler of its job.

    Attributes:
        why: who ended it, in their words.
    """

    kind: ClassVar[str] = "out of memory"
    why: str


@attrs.frozen(kw_only=True)
class WorkerEnded(StudyEvent):
    """A worker is gone, with or without success."""

    kind: ClassVar[str] = "worker ended"


@attrs.frozen(kw_only=True)
class ResultComputed(StudyEvent):
    """The result of an experiment was computed and stored.

    Attributes:
        id: the experiment.
        outcome: how the experiment ended: "done", or the outcome of its failure.
        valid: whether the result is valid.
        error: what went wrong; null if nothing did.
        seconds: how long llem computed and stored the result, up to the time of this event.
    """

    kind: ClassVar[str] = "result"
    id: str
    outcome: str
    valid: bool
    error: str | None = None
    seconds: float
