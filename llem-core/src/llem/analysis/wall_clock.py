"""Where the wall clock went: spans of time between the events of a study, and their sums. Pure but for the reading.

A worker's phase lasts until its next event. Between two phases the worker makes the next experiment ready. Within a
process the monotonic clock counts. The parent alone knows of a worker before its first event and after its last one:
the wall clock only says how this time is divided into before and after. A run whose parent was killed ends with the
last event known of it, of the parent or of a worker.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise

import attrs

from llem.protocol.events import Ended, Event, Moment, Phase, Started, TrialEnded
from llem.protocol.lines import stored_events
from llem.protocol.study_events import ResultComputed, StudyBegan, Waited, Waiting, WorkerEnded, WorkerLaunched
from llem.store.files import stored_version
from llem.store.models import SCHEMA_VERSION
from llem.store.store import Store

__all__ = ["PARTS", "Part", "Span", "TimeSpent", "spans", "time_spent"]

#: The parts, in the order in which they come. What a plugin calls its phases comes before `rest`.
PARTS: Mapping[str, str] = {
    "waiting": "for GPUs that another study has, or for the queue of a cluster",
    "start": "from the launch of a worker until it loads: its process, imports, meters",
    "load": "of the engine",
    "baseline before": "idle, before the trials",
    "warm-up": "work before anything is measured",
    "calibration": "the capacity probe of an open load",
    "rate search": "windows that look for the greatest rate under the SLO",
    "pause": "between trials",
    "lead-in": "of trials: requests made ready, and the same work before each window",
    "window": "of trials: what is measured, the windows of phases included",
    "lead-out": "of trials: the same work after the window, the trace, and the storing",
    "lost trial": "trials that came to nothing",
    "baseline after": "idle, after the trials",
    "quality": "the evaluation of quality",
    "end": "from a worker's last word until it is gone",
    "unknown": "no events are stored of this time",
    "results": "computing and storing them",
    "between workers": "the process that runs the study, while no worker runs",
    "rest": "the worker between its phases: workloads made ready, another experiment's turn",
}
_PART = {"capacity probe": "calibration", "trial": "lost trial"}


@attrs.frozen
class Span:
    """Time that went into one thing.

    Attributes:
        part: one of `PARTS`, or the name of a phase.
        seconds: how long it took.
        experiment: what it was for; None for the engine process or the study.
        worker: number of the worker; None for none.
    """

    part: str
    seconds: float
    experiment: str | None = None
    worker: int | None = None


@attrs.frozen
class Part:
    """The sum of spans.

    Attributes:
        part: one of `PARTS`, or the name of a phase.
        seconds: sum.
        shared_by: experiments of the engine process that this was for. 1 where it was for the experiment alone; for a
            study, whose parts are of all its experiments, it is 1 too.
    """

    part: str
    seconds: float
    shared_by: int = 1


@attrs.frozen
class TimeSpent:
    """Where the wall clock of an experiment or a study went.

    Attributes:
        experiment: id; None for the study.
        parts: none is counted twice.
        whole_s: sum of the parts; None without any. Workers side by side count each, so that it exceeds `wall_s`.
        wall_s: seconds from the beginning to the end of the study's runs; None for an experiment, and without parts.
        overlap_s: seconds by which the workers' time exceeds the time in which any of them ran; None as `wall_s`.
        workers: engine processes whose time is among the parts.
        untold: engine processes of which the study's `events.jsonl` does not tell, though this llem writes it.
        untimed: engine processes that an earlier llem ran, whose events have no times.
    """

    experiment: str | None
    parts: tuple[Part, ...]
    whole_s: float | None
    wall_s: float | None
    overlap_s: float | None
    workers: int
    untold: int
    untimed: int


def time_spent(store: Store, experiment: str | None = None) -> TimeSpent:
    """The sums for a study, or for one of its experiments: what was for it alone, and what its engine processes had in
    common with others, undivided.

    Raises:
        StoreError: a file of events is damaged (store_corrupt).
    """
    runs = _runs(stored_events(store.path / "events.jsonl"))
    jobs = {number: launch.experiments for run in runs for number, launch in _launches(run).items()}
    events = {number: _events_of(store, number) for number in jobs}
    found = [span for run in runs for span in _of_run(run, events)]
    untold, untimed = _unplaced(store, store.experiment_ids() if experiment is None else (experiment,), jobs.keys())
    if experiment is None:
        sums = _sums((span.part, 1, span.seconds) for span in found)
    else:
        jobs = {number: names for number, names in jobs.items() if experiment in names}
        own = [(span.part, 1, span.seconds) for span in found if span.experiment == experiment]
        ours = [span for span in found if span.experiment is None and span.worker in jobs]
        sums = _sums([*own, *((span.part, len(jobs[span.worker or 0]), span.seconds) for span in ours)])
    running = [_running(run, events) for run in runs]
    whole = experiment is None and bool(sums)
    return TimeSpent(
        experiment=experiment,
        parts=sums,
        whole_s=sum(part.seconds for part in sums) if sums else None,
        wall_s=sum(map(_run_s, runs, running)) if whole else None,
        overlap_s=sum(_overlap_s(one.values()) for one in running) if whole else None,
        workers=len(jobs),
        untold=untold,
        untimed=untimed,
    )


def _events_of(store: Store, worker: int | None) -> tuple[Event, ...]:
    return stored_events(store.path / "workers" / str(worker) / "events.jsonl")


def _unplaced(store: Store, experiments: Iterable[str], placed: Collection[int]) -> tuple[int, int]:
    """How many workers measured that are not in the study's events: of an llem that tells of them, and of an older."""
    known = {engine.get("worker"): store.folder(name) for name in experiments for engine in store.engines(name)}
    lost = [
        stored_version(folder / "experiment.json") == SCHEMA_VERSION or bool(_events_of(store, number))
        for number, folder in known.items()
        if number not in placed
    ]
    return lost.count(True), lost.count(False)


def _sums(spans: Iterable[tuple[str, int, float]]) -> tuple[Part, ...]:
    """Sums by part and by how many experiments share it, in the order of `PARTS`."""
    sums: defaultdict[tuple[str, int], float] = defaultdict(float)
    for part, shared_by, seconds in spans:
        sums[part, shared_by] += seconds
    order = {part: number for number, part in enumerate(PARTS)}
    names = sorted(sums, key=lambda key: (order.get(key[0], order["rest"] - 0.5), *key))
    return tuple(Part(part, sums[part, shared_by], shared_by) for part, shared_by in names)


def spans(told: Sequence[Event], workers: Mapping[int, Sequence[Event]]) -> tuple[Span, ...]:
    """All spans of a study: from what each process that ran it told, and each worker's events by its number."""
    return tuple(span for run in _runs(told) for span in _of_run(run, workers))


def _runs(told: Sequence[Event]) -> list[Sequence[Event]]:
    """The events of each process that ran the study."""
    starts = [number for number, event in enumerate(told) if isinstance(event, StudyBegan)]
    return [told[start:end] for start, end in pairwise([*starts, len(told)])]


def _of_run(run: Sequence[Event], workers: Mapping[int, Sequence[Event]]) -> Iterator[Span]:
    """Spans of workers, of waiting for GPUs and of results, and the time that none of these covers."""
    first = {one.job: one.worker for one in reversed(run) if isinstance(one, WorkerLaunched)}
    running = _running(run, workers)
    covered = list(running.values())
    queued: defaultdict[int | None, float] = defaultdict(float)
    for wait, since, until in _waits(run):
        if wait.worker is None:
            covered.append((since.monotonic_ns, until.monotonic_ns))
            yield Span("waiting", _seconds(since, until), None, first.get(wait.job) if wait.job else None)
        else:
            queued[wait.worker] += _seconds(since, until)
    for number, launch in _launches(run).items():
        ran_s = (running[number][1] - running[number][0]) / 1e9
        yield from _of_worker(launch, ran_s, queued[number], workers[number])
    for event in (event for event in run if isinstance(event, ResultComputed)):
        covered.append((event.at.monotonic_ns - round(event.seconds * 1e9), event.at.monotonic_ns))
        yield Span("results", event.seconds, event.id)
    yield Span("between workers", _run_s(run, running) - _covered_s(covered))


def _running(run: Sequence[Event], workers: Mapping[int, Sequence[Event]]) -> dict[int, tuple[int, int]]:
    """From when until when each worker ran, by the parent's monotonic clock in nanoseconds.

    If the parent was killed before it told of a worker's end, the worker ran until the last event of either.
    """
    ends = {one.worker: one.at.monotonic_ns for one in run if isinstance(one, WorkerEnded)}
    found = {}
    for number, launch in _launches(run).items():
        since = launch.at.monotonic_ns
        heard_ns = round(sum(_heard_s(launch, workers[number])) * 1e9)
        found[number] = since, ends.get(number, max(run[-1].at.monotonic_ns, since + heard_ns))
    return found


def _launches(run: Iterable[Event]) -> dict[int, WorkerLaunched]:
    return {one.worker: one for one in run if isinstance(one, WorkerLaunched) and one.worker is not None}


def _run_s(run: Sequence[Event], running: Mapping[int, tuple[int, int]]) -> float:
    """Seconds from the first event of a run to the last one that is known, of its process or of a worker."""
    return (max(run[-1].at.monotonic_ns, *(until for _, until in running.values()), 0) - run[0].at.monotonic_ns) / 1e9


def _waits(run: Sequence[Event]) -> Iterator[tuple[Waiting, Moment, Moment]]:
    """Each wait, from when until when. One that is not over ends with its worker, or with the run."""
    open_: dict[tuple[int | None, tuple[int, int] | None], Waiting] = {}
    for event in run:
        if isinstance(event, Waiting):
            open_.setdefault((event.worker, event.job), event)  # what it waits for may change
        elif isinstance(event, (Waited, WorkerEnded)):
            wait = open_.pop((event.worker, event.job if isinstance(event, Waited) else None), None)
            if wait is not None:
                yield wait, wait.at, event.at
    for wait in open_.values():
        yield wait, wait.at, run[-1].at


def _covered_s(intervals: Iterable[tuple[int, int]]) -> float:
    """Seconds that any of the intervals covers, each given by its ends in nanoseconds."""
    total, reached = 0, 0
    for start, end in sorted(intervals):
        total += max(end - max(start, reached), 0)
        reached = max(reached, end)
    return total / 1e9


def _overlap_s(intervals: Collection[tuple[int, int]]) -> float:
    return sum(until - since for since, until in intervals) / 1e9 - _covered_s(intervals)


def _of_worker(launch: WorkerLaunched, ran_s: float, queued_s: float, events: Sequence[Event]) -> Iterator[Span]:
    """What a worker tells of, and the time before its first word and after its last, of which only the parent knows."""
    for event, following in pairwise(events):
        yield from (attrs.evolve(span, worker=launch.worker) for span in _between(event, following))
    before_s, told_s = _heard_s(launch, events)
    untold_s = max(ran_s - told_s, 0.0)
    before_s = min(before_s, untold_s) if events else min(queued_s, untold_s)
    waited_s = min(queued_s, before_s)
    if waited_s:
        yield Span("waiting", waited_s, None, launch.worker)
    if events:
        yield Span("start", before_s - waited_s, None, launch.worker)
    if events and isinstance(events[-1], Ended):
        yield Span("end", untold_s - before_s, None, launch.worker)
    elif round(untold_s - before_s, 6):  # wall clocks are written in microseconds
        yield Span("unknown", untold_s - before_s, None, launch.worker)


def _heard_s(launch: WorkerLaunched, events: Sequence[Event]) -> tuple[float, float]:
    """From a worker's launch to its first event, as far as the wall clocks agree, and from there to its last one."""
    if not events:
        return 0.0, 0.0
    return max(_wall_s(launch.at, events[0].at), 0.0), _seconds(events[0].at, events[-1].at)


def _between(event: Event, following: Event) -> Iterator[Span]:
    """What a worker did from one event to the next."""
    if isinstance(event, Phase) and event.phase == "trial" and isinstance(following, TrialEnded):
        before_s, after_s = following.parts_before_s, following.parts_after_s
        yield Span("lead-in", (following.t0_ns - event.at.monotonic_ns) / 1e9 - before_s, event.id)
        yield Span("window", (following.t1_ns - following.t0_ns) / 1e9 + before_s + after_s, event.id)
        yield Span("lead-out", (following.at.monotonic_ns - following.t1_ns) / 1e9 - after_s, event.id)
    else:
        # the engine process has phases of its own; a pause and what has no phase are for what comes next
        ours = isinstance(event, Phase) and event.phase != "pause"
        yield Span(_part(event), _seconds(event.at, following.at), getattr(event if ours else following, "id", None))


def _part(event: Event) -> str:
    """The part that begins with an event."""
    if isinstance(event, Phase):
        return _PART.get(event.phase, event.phase)
    return "start" if isinstance(event, Started) else "rest"


def _seconds(since: Moment, until: Moment) -> float:
    return (until.monotonic_ns - since.monotonic_ns) / 1e9


def _wall_s(since: Moment, until: Moment) -> float:
    return (datetime.fromisoformat(until.utc) - datetime.fromisoformat(since.utc)).total_seconds()
