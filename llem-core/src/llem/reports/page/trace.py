"""Power traces of trials, thinned so that no peak is lost. Pure.

A counter of energy gives the mean power between two of its ticks: a step. A reading of power gives a point. Times are
seconds from the window's beginning.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from llem.meters.trace import TraceRow
from llem.reports.page.gather import significant
from llem.store.models import Trial

__all__ = ["POINTS", "thinned", "traces_of"]

#: Points of one trace at most.
POINTS = 400

Point = tuple[float, float]


def thinned(points: Sequence[Point], most: int = POINTS) -> list[Point]:
    """At most so many points, in time: of each bucket the lowest and the highest, so that every peak is kept.

    Args:
        points: time and value, in time.
        most: 4 or more.
    """
    if len(points) <= most:
        return list(points)
    buckets = (most - 2) // 2
    inner = points[1:-1]
    kept: list[Point] = [points[0]]
    for number in range(buckets):
        part = inner[len(inner) * number // buckets : len(inner) * (number + 1) // buckets]
        if part:
            ends = {min(part, key=lambda one: one[1]), max(part, key=lambda one: one[1])}
            kept += sorted(ends)
    return [*kept, points[-1]]


def traces_of(trial: Trial, rows: Iterable[TraceRow]) -> list[dict[str, Any]]:
    """The traces of one trial: one for each domain, meter and reading of energy or power.

    Args:
        rows: what was read in the trial, in any order.
    """
    groups: dict[tuple[str, str, str], list[TraceRow]] = {}
    for row in rows:
        if row.reading in ("counter_j", "power_w"):
            groups.setdefault((row.domain, row.meter, row.reading), []).append(row)
    made = (_trace(trial, key, sorted(found, key=lambda row: row.t_ns)) for key, found in sorted(groups.items()))
    return [one for one in made if one is not None]


def _trace(trial: Trial, key: tuple[str, str, str], rows: Sequence[TraceRow]) -> dict[str, Any] | None:
    domain, meter, reading = key
    counter = reading == "counter_j"
    points = list(_steps(trial, rows) if counter else _samples(trial, rows))
    if not points:
        return None
    told = next((one for one in trial.energies if (one.domain, one.meter) == (domain, meter)), None)
    first, last = _at(trial, rows[0]), _at(trial, rows[-1])
    shown = thinned(points)
    ticks = [round(_at(trial, row), 4) for row in rows] if counter else []
    return {
        "trial": trial.index,
        "process": trial.process,
        "domain": domain,
        "meter": meter,
        "reading": "counter" if counter else "power",
        "step": counter,
        "kind": None if told is None else told.kind,
        "t": [round(at, 4) for at, _ in shown],
        "w": [significant(watts) for _, watts in shown],
        "window": [0, round(trial.duration_s, 6)],
        "lead": [round(first, 4), 0] if first < 0 else None,
        "after": [round(trial.duration_s, 6), round(last, 4)] if last > trial.duration_s else None,
        "ticks": ticks if len(ticks) <= POINTS else [],
        "points": len(points),
    }


def _at(trial: Trial, row: TraceRow) -> float:
    """Seconds from the window's beginning; the middle of the span in which the value became current."""
    return ((row.t_from_ns + row.t_ns) / 2 - trial.t0_ns) / 1e9


def _steps(trial: Trial, rows: Sequence[TraceRow]) -> Iterator[Point]:
    """At each tick but the first, the mean power since the one before."""
    for before, row in zip(rows, rows[1:], strict=False):
        since, until = _at(trial, before), _at(trial, row)
        if until > since:
            yield until, (row.value - before.value) / (until - since)


def _samples(trial: Trial, rows: Sequence[TraceRow]) -> Iterator[Point]:
    for row in rows:
        yield _at(trial, row), row.value
