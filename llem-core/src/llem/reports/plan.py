"""A study before it runs, as text: the funnel, the order, every reason, and how long it takes. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from llem.config.arrival import search_s
from llem.config.models import Experiment
from llem.config.study.axes import Point
from llem.config.study.order import Order
from llem.errors import Problem
from llem.reports.figures import settings
from llem.study.plan.memory import MEMORY_BASIS, MemoryEstimate, UnknownMemory, gib
from llem.study.plan.planned import PlannedExperiment
from llem.study.plan.schedule import BASIS, SEARCH_BASIS, Estimate, estimate, estimate_groups
from llem.study.plan.study import Merged, Study, study_document

__all__ = ["duration", "plan_document", "plan_lines"]


def plan_document(study: Study) -> dict[str, Any]:
    """What `llem plan --json` prints: the study's document, the trials, and the estimate with what it is made of."""
    time = _time(study)
    return {
        **study_document(study),
        "trials": study.trials,
        "engines": time.loads,
        "evaluations": sum(_evaluations(study).values()),
        "estimate": {"least_s": time.least_s, "most_s": time.most_s, "basis": _basis(study)},
        "estimates": {one.id: _estimates(one) for one in study.experiments},
    }


def _estimates(one: PlannedExperiment) -> dict[str, Any]:
    """Time and memory of one point; memory is null where no GPU is used, and says why where it is not known."""
    time, memory = estimate([one.experiment]), one.memory
    return {"least_s": time.least_s, "most_s": time.most_s, "memory": None if memory is None else memory.document()}


def _time(study: Study) -> Estimate:
    groups: dict[object, list[Experiment]] = {}
    for one in study.experiments:
        groups.setdefault(one.engine, []).append(one.experiment)
    return estimate_groups(groups.values(), gap_s=study.file.order.gap_s, parallel=study.file.parallel)


def plan_lines(study: Study) -> Iterator[str]:
    """The plan, line by line."""
    yield study.name
    yield ""
    yield from _funnel(study)
    yield ""
    yield from _order(study)
    yield from _section("excluded", [(_values(one.point), one.by) for one in study.excluded])
    yield from _section("invalid", [(_values(one.point), _reasons(one.problems)) for one in study.invalid])
    yield from _section("merged", [(_values(one.point), _same(one)) for one in study.merged])
    for note in study.notes:
        yield ""
        yield f"note: {note}"
    yield ""
    time = _time(study)
    yield f"time, estimated: {_span(duration(time.least_s), duration(time.most_s))}"
    yield f"  ({_basis(study)})"
    yield from _quality(study)
    yield from _memory(study)


def _evaluations(study: Study) -> Counter[tuple[str, str]]:
    """How many engines are evaluated, by evaluator and task."""
    sections = {one.id: one.experiment.quality for one in study.experiments}
    keys = {
        (job.group, repr(attrs.evolve(sections[name], tasks=(task,), force=False)), sections[name].evaluator, task)
        for job in study.jobs
        for name, task in job.tasks
    }
    return Counter((evaluator, task) for *_, evaluator, task in sorted(keys))


def _quality(study: Study) -> Iterator[str]:
    """Which tasks are evaluated, and how often."""
    found = _evaluations(study)
    for evaluator in sorted({name for name, _ in found}):
        counts = {task: count for (name, task), count in found.items() if name == evaluator}
        alike = len(set(counts.values())) == 1
        tasks = ", ".join(task if alike else f"{task} ({count})" for task, count in counts.items())
        times = (
            "once for each engine" if set(counts.values()) == {_engines(study)} else f"{sum(counts.values())} in all"
        )
        yield f"quality by {evaluator}: {tasks}; {times}, after its last trial"
    if found:
        yield "  (evaluation is in no window, and its time in no estimate)"


def _engines(study: Study) -> int:
    return len({one.engine for one in study.experiments})


def _same(one: Merged) -> str:
    because = f": {', '.join(one.because)} changes nothing" if one.because else ""
    both = ", evaluated for the tasks of both" if any(path.startswith("quality") for path in one.point.values) else ""
    return f"the same experiment as {one.into.id}{both}{because}"


def _basis(study: Study) -> str:
    """What the estimate is made of."""
    return SEARCH_BASIS if any(search_s(one.experiment.load)[1] for one in study.experiments) else BASIS


def _span(least: str, most: str) -> str:
    return least if least == most else f"{least} to {most}"


def _memory(study: Study) -> Iterator[str]:
    """The least and the most that a point needs, of those whose memory is known, and why that of others is not."""
    memories = [one.memory for one in study.experiments]
    known = [memory.total_bytes for memory in memories if isinstance(memory, MemoryEstimate)]
    reasons = Counter(memory.reason for memory in memories if isinstance(memory, UnknownMemory))
    if known:
        yield f"GPU memory, estimated: {_span(gib(min(known)), gib(max(known)))} a point"
        yield f"  ({MEMORY_BASIS})"
    for reason, count in reasons.items():
        yield f"GPU memory, unknown for {count} point{'s' if count > 1 else ''}: {reason}"


def _funnel(study: Study) -> Iterator[str]:
    yield f"{study.declared:>8,}  declared"
    for word in ("excluded", "invalid", "merged"):
        yield f"{-len(getattr(study, word)):>8,}  {word}"
    each = {one.experiment.trials for one in study.experiments}
    trials = f" × {each.pop()} trials" if len(each) == 1 else ""
    yield f"{len(study.experiments):>8,}  to run{trials} = {study.trials:,} trials at least"


def _order(study: Study) -> Iterator[str]:
    engines = _engines(study)
    loads = len(study.jobs)
    shared = f"{engines} engine" + ("s" if engines > 1 else "")
    yield f"order: {_how(study.file.order)}; {shared}, loaded {loads} time{'s' if loads > 1 else ''}"
    for one in study.experiments:
        if one.id == study.reference:
            count = one.experiment.processes
            where = "at the beginning, in the middle and at the end" if count == 3 else "from the beginning to the end"
            yield f"reference: {one.id}, {count} engine processes {where}"
    width = len(str(len(study.experiments)))
    times = [duration(estimate([one.experiment]).least_s) for one in study.experiments]
    memories = [one.memory for one in study.experiments]
    sizes = [_size(memory) for memory in memories]
    columns = [(column, max(map(len, column))) for column in (times, sizes) if any(column)]
    for number, one in enumerate(study.experiments, 1):
        told = "  ".join(f"{column[number - 1]:>{longest}}" for column, longest in columns)
        yield f"  {number:>{width}}  {one.id}  {told}  {_values(one.point)}".rstrip()


def _size(memory: MemoryEstimate | UnknownMemory | None) -> str:
    if isinstance(memory, MemoryEstimate):
        return gib(memory.total_bytes)
    return "" if memory is None else "unknown"


def _how(order: Order) -> str:
    if order.kind == "sequential":
        return "as in the file, all trials of one experiment after the other"
    if order.kind == "reverse":
        return "blocks as in the file, every other one backwards"
    balanced = ", each after each other equally often" if order.kind == "williams" else ""
    return f"blocks at random, seed {order.seed}{balanced}"


def _section(name: str, rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Points by reason, each reason told once."""
    if not rows:
        return
    yield ""
    yield f"{name}:"
    by_reason: dict[str, list[str]] = {}
    for point, reason in rows:
        by_reason.setdefault(reason, []).append(point)
    for reason, points in by_reason.items():
        yield f"  {reason}"
        for point in points:
            yield f"    {point}"


def _reasons(problems: Sequence[Problem]) -> str:
    return "; ".join(str(problem) for problem in problems)


def _values(point: Point) -> str:
    return settings(point.values) or "the base alone"


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60:,} h {minutes % 60:02d} min"
