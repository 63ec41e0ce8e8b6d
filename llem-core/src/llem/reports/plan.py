"""A study before it runs, as text: the funnel, the order, every reason, and how long it takes. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from llem.errors import Problem
from llem.study.axes import Point
from llem.study.document import study_document
from llem.study.estimate import BASIS, Estimate, estimate
from llem.study.expand import Study

__all__ = ["duration", "plan_document", "plan_lines", "setting"]


def plan_document(study: Study) -> dict[str, Any]:
    """What `llem plan --json` prints: the study's document, the trials, and the estimate with what it is made of."""
    time = _time(study)
    return {
        **study_document(study),
        "trials": study.trials,
        "estimate": {"least_s": time.least_s, "most_s": time.most_s, "basis": BASIS},
    }


def _time(study: Study) -> Estimate:
    return estimate(one.identified.experiment for one in study.experiments)


def plan_lines(study: Study) -> Iterator[str]:
    """The plan, line by line."""
    yield study.name
    yield ""
    yield from _funnel(study)
    yield ""
    yield from _order(study)
    yield from _section("excluded", [(_values(one.point), one.by) for one in study.excluded])
    yield from _section("invalid", [(_values(one.point), _reasons(one.problems)) for one in study.invalid])
    same = [(_values(one.point), f"the same experiment as {one.into.identified.id}") for one in study.merged]
    yield from _section("merged", same)
    for note in study.notes:
        yield ""
        yield f"note: {note}"
    yield ""
    time = _time(study)
    span = duration(time.least_s)
    if time.most_s > time.least_s:
        span += f" to {duration(time.most_s)}"
    yield f"time, estimated: {span}"
    yield f"  ({BASIS})"


def _funnel(study: Study) -> Iterator[str]:
    yield f"{study.declared:>8,}  declared"
    for word in ("excluded", "invalid", "merged"):
        yield f"{-len(getattr(study, word)):>8,}  {word}"
    each = {one.identified.experiment.trials for one in study.experiments}
    trials = f" × {each.pop()} trials" if len(each) == 1 else ""
    yield f"{len(study.experiments):>8,}  to run{trials} = {study.trials:,} trials at least"


def _order(study: Study) -> Iterator[str]:
    order = study.file.order
    how = "as in the file" if order.kind == "file" else f"at random, seed {order.seed}"
    yield f"order: {how}"
    width = len(str(len(study.experiments)))
    for number, one in enumerate(study.experiments, 1):
        yield f"  {number:>{width}}  {one.identified.id}  {_values(one.point)}".rstrip()


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
    return " ".join(f"{path}={setting(value)}" for path, value in point.values.items()) or "the base alone"


def setting(value: Any) -> str:
    """A value of an axis in few characters, as YAML would have it."""
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60:,} h {minutes % 60:02d} min"
