"""Which engine processes a study needs, and in which order each takes the trials of its experiments. Pure.

Experiments with the same engine key form a group. The setting `processes` says how many engine processes load a group's
engine, one after the other. Trial t runs in process t modulo `processes`, so further trials move no measured trial.
Within a process, trials come in blocks: block k has trial k of every experiment once. Quality belongs to the engine, so
one process of a group evaluates it for all of its experiments.

Random orders sort by a hash of the seed and of what is sorted. So the order is the same with every version of Python
and every arrangement of the file, and another experiment does not change the order of the others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence, Set
from itertools import pairwise

import attrs

from llem.config.arrival import search_s
from llem.config.models import Experiment
from llem.config.study.order import Order
from llem.protocol.order import Task, Turn
from llem.protocol.study_events import ExperimentPlan, JobPlan
from llem.study.plan.planned import PlannedExperiment

__all__ = [
    "BASIS",
    "SEARCH_BASIS",
    "Estimate",
    "Job",
    "estimate",
    "estimate_groups",
    "job_plan",
    "next_job",
    "running_order",
    "schedule",
    "williams_row",
]


@attrs.frozen
class Job:
    """What one engine process measures.

    Attributes:
        group: number of the group, in the order in which groups begin.
        process: which of the group's engine processes, from 0.
        experiments: ids, in the order of their first turn.
        turns: trials in order. Trials from an experiment's `trials` on run only where the first ones scatter too much.
            They come after all others, except with the order `sequential`.
        tasks: of quality, evaluated after the last trial. Only one of the engine processes of a group has any.
        round: only jobs of one round may change places.
    """

    group: int
    process: int
    experiments: tuple[str, ...]
    turns: tuple[Turn, ...]
    tasks: tuple[Task, ...] = ()
    round: int = attrs.field(default=attrs.Factory(lambda job: job.process, takes_self=True), kw_only=True)


#: One block: the members in the order of their turns, for block number k of a group.
Arrange = Callable[[Sequence[PlannedExperiment], int], Sequence[PlannedExperiment]]


def schedule(members: Iterable[PlannedExperiment], order: Order) -> list[Job]:
    """The job of every engine process, in running order: the first process of all groups, then the second, and so on.

    With the order `sequential`, all processes of one group come before those of the next group.
    """
    groups: dict[Hashable, list[PlannedExperiment]] = {}
    for member in members:
        groups.setdefault(member.engine, []).append(member)
    first = _group_order(list(groups.values()), order, 0)
    numbers = {id(group): number for number, group in enumerate(first)}
    if order.kind == "sequential":
        pairs = [(group, process) for group in first for process in range(_processes(group))]
    else:
        most = max((_processes(group) for group in first), default=0)
        pairs = [
            (group, process)
            for process in range(most)
            for group in _group_order(first, order, process)
            if process < _processes(group)
        ]
    jobs = [_job(numbers[id(group)], group, process, order) for group, process in pairs]
    return [attrs.evolve(job, round=0) for job in jobs] if order.kind == "sequential" else jobs


def running_order(jobs: Sequence[Job]) -> list[str]:
    """Ids in the order of their first trials."""
    return list(dict.fromkeys(name for job in jobs for name in job.experiments))


def next_job(
    waiting: Sequence[Job],
    ran_on: Mapping[int, Set[str]],
    at_work: Mapping[tuple[int, int], Set[str]],
    others: Set[str] = frozenset(),
) -> Job:
    """The waiting job that a free worker takes.

    The first choice is a job whose group ran on a GPU that is free now. So a group's engine processes run on one GPU,
    unless that would leave another GPU idle. The second choice is a job whose group ran nowhere yet, the last choice
    the first waiting job. If rounds come one after the other, as with the first processes of all groups before the
    second ones, only jobs of the lowest waiting round are candidates.

    Args:
        waiting: in running order, at least one.
        ran_on: GPUs on which groups ran, by group.
        at_work: GPUs of the jobs that workers have now, by group and process.
        others: GPUs that other studies have now.
    """
    busy = set(others).union(*at_work.values())
    tied = {group for group, _ in at_work} | {group for group, gpus in ran_on.items() if gpus}

    def rank(job: Job) -> int:
        return 0 if set(ran_on.get(job.group, ())) - busy else 1 if job.group not in tied else 2

    in_rounds = all(one.round <= other.round for one, other in pairwise(waiting))
    return min((job for job in waiting if not in_rounds or job.round == waiting[0].round), key=rank)


def _processes(group: Sequence[PlannedExperiment]) -> int:
    return max(one.experiment.processes for one in group)


def _group_order(
    groups: Sequence[list[PlannedExperiment]], order: Order, process: int
) -> list[list[PlannedExperiment]]:
    """Groups in random order by the seed, a new one for each process; `sequential` and `reverse` take the file's."""
    if order.kind in ("sequential", "reverse"):
        return list(groups) if process % 2 == 0 or order.kind == "sequential" else list(reversed(groups))
    return sorted(groups, key=lambda group: min(_hash(order.seed, "group", process, one.id) for one in group))


def _hash(*parts: object) -> bytes:
    return _digest(":".join(map(str, parts)))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _job(number: int, group: Sequence[PlannedExperiment], process: int, order: Order) -> Job:
    taking = [one for one in group if process < one.experiment.processes]
    due = {one.id: one.experiment.least_trials for one in taking}
    most = {one.id: one.experiment.most_trials for one in taking}
    if order.kind == "sequential":
        turns = [(one.id, index) for one in taking for index in range(process, most[one.id], one.experiment.processes)]
    else:
        arrange = _ARRANGE[order.kind](order.seed)
        turns = [
            *_blocks(taking, process, {}, due, arrange),
            *_blocks(taking, process, due, most, arrange),
        ]
    tasks = _tasks(group) if process == _evaluated(group) else ()
    return Job(number, process, tuple(dict.fromkeys(name for name, _ in turns)), tuple(turns), tasks)


def _evaluated(group: Iterable[PlannedExperiment]) -> int | None:
    """Which engine process of a group evaluates: where the first of its experiments takes its last trial."""
    return min((one.experiment.processes - 1 for one in group if one.experiment.quality is not None), default=None)


def _tasks(group: Iterable[PlannedExperiment]) -> tuple[Task, ...]:
    return tuple((one.id, task) for one in group if one.experiment.quality for task in one.experiment.quality.tasks)


def _blocks(
    members: Sequence[PlannedExperiment],
    process: int,
    start: Mapping[str, int],
    end: Mapping[str, int],
    arrange: Arrange,
) -> Iterator[Turn]:
    """The trials of one process from `start` to before `end`, block by block."""
    for number in range(max(len(range(process, end[one.id], one.experiment.processes)) for one in members)):
        due = {
            one.id: index
            for one in members
            if start.get(one.id, 0) <= (index := process + number * one.experiment.processes) < end[one.id]
        }
        if due:  # the block's number over all processes, so that no two processes have the same arrangements
            for member in arrange(members, number * _processes(members) + process):
                if member.id in due:
                    yield member.id, due[member.id]


def _random(seed: int) -> Arrange:
    return lambda members, block: sorted(members, key=lambda one: _digest(f"{seed}:{block}:{one.id}"))


def _there_and_back(_: int) -> Arrange:
    return lambda members, block: members if block % 2 == 0 else list(reversed(members))


def _williams(seed: int) -> Arrange:
    """The seed decides which experiment is which letter, and the order of the rows."""

    def arrange(members: Sequence[PlannedExperiment], block: int) -> Sequence[PlannedExperiment]:
        count = len(members)
        lettered = sorted(members, key=lambda one: _hash(seed, "letter", one.id))
        rows = sorted(range(count if count % 2 == 0 else 2 * count), key=lambda row: _hash(seed, "row", row))
        return [lettered[letter] for letter in williams_row(count, rows[block % len(rows)])]

    return arrange


_ARRANGE: Mapping[str, Callable[[int], Arrange]] = {
    "blocks": _random,
    "reverse": _there_and_back,
    "williams": _williams,
}


def williams_row(count: int, row: int) -> list[int]:
    """A row of Williams's design: over all rows each letter follows each other one equally often.

    There are `count` rows of an even number of letters, and twice as many of an odd one: those of the square, and the
    same read backwards. Source: E. J. Williams, Australian Journal of Scientific Research A 2 (1949) 149.
    """
    zigzag = [(step + 1) // 2 if step % 2 else -(step // 2) for step in range(count)]
    letters = [(row + move) % count for move in zigzag]
    return letters if row < count else letters[::-1]


#: How long a worker takes to start and to load an engine, as a guess: nothing is known before the first was timed.
LOAD_S = 5.0
#: What the estimate is made of; and the same of a study that looks for a rate.
BASIS = (
    f"{LOAD_S:g} s for the load of every engine and an idle baseline before and after, warm-up and trials × window of "
    "every experiment, with the least and the most trials; larger models, compilation and batches longer than a window "
    "come on top"
)
SEARCH_BASIS = BASIS.replace("warm-up and", "warm-up, windows of a rate search and")


@attrs.frozen
class Estimate:
    """Seconds, with as few trials as asked for and with as many as allowed; and how often an engine is loaded."""

    least_s: float
    most_s: float
    loads: int


def estimate(experiments: Iterable[Experiment]) -> Estimate:
    """The time that experiments ask for, each with an engine for itself."""
    return estimate_groups([one] for one in experiments)


def estimate_groups(groups: Iterable[Sequence[Experiment]], *, gap_s: float = 0.0, parallel: int = 1) -> Estimate:
    """The time that experiments ask for. Knows nothing of the machine; see `BASIS`.

    Args:
        groups: experiments that share engines, the ones of each group.
        gap_s: pause before each trial.
        parallel: workers at once.
    """
    least = most = 0.0
    loads = 0
    for group in groups:
        processes = max(one.processes for one in group)
        loads += processes
        around = processes * (LOAD_S + sum(_baselines_s(group[0]))) + sum(
            one.processes * one.warmup.seconds for one in group
        )
        searches = [search_s(one.load) for one in group]
        least += around + sum(one.least_trials * (one.windows_s + gap_s) for one in group) + sum(s for s, _ in searches)
        most += around + sum(one.most_trials * (one.windows_s + gap_s) for one in group)
        # processes side by side each search; one after the other they take what the first has found
        most += sum(s * (one.processes if parallel > 1 else 1) for (_, s), one in zip(searches, group, strict=True))
    return Estimate(least / parallel, most / parallel, loads)


def _baselines_s(experiment: Experiment) -> tuple[float, float]:
    """Before the trials and after them; none where no meter is to be read."""
    if experiment.meters == ():
        return 0.0, 0.0
    return experiment.baseline.length_s("before"), experiment.baseline.length_s("after")


def job_plan(job: Job, experiments: Mapping[str, Experiment], *, gap_s: float = 0.0) -> JobPlan:
    """What one engine process will do, in seconds, as the event `study` has it; see `BASIS`. Experiments are by id."""
    counts: dict[str, int] = {}
    for name, index in job.turns:
        one = experiments[name]
        counts[name] = counts.get(name, 0) + (index < one.least_trials)
    searched = job.process == 0  # the later ones take what it has found
    before_s, after_s = _baselines_s(experiments[next(iter(counts))]) if counts else (0.0, 0.0)
    planned = {
        name: ExperimentPlan(count, one.windows_s + gap_s, one.warmup.seconds + searched * search_s(one.load)[0])
        for name, count in counts.items()
        for one in (experiments[name],)
    }
    tasks = tuple(dict.fromkeys(task for _, task in job.tasks))
    return JobPlan((job.group, job.process), planned, before_s, after_s, tasks, LOAD_S)
