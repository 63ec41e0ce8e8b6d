"""F9 and F10: drift, of a board and of an engine. Pure but for the reading of stores."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from typing import Any

import attrs
from benchmarks.validation.chart import BLUE, GREEN, GREY, ORANGE, Line, Series, chart, stacked
from benchmarks.validation.figure import Check, Figure, percent
from benchmarks.validation.known_figures import LEVEL, REQUEST, compared
from benchmarks.validation.raw import NotMeasured, Raw, Recording, Segment, side_with
from benchmarks.validation.regression import fit
from benchmarks.validation.windows import S

from llem.analysis.sides import Side
from llem.meters.window import Course
from llem.metrics.changes import Change, cells, changes
from llem.metrics.statistics import mean_interval, welch_ratio

__all__ = ["blocks", "drift"]

#: Seconds of a cell of the slope's fit.
CELL_S = 5


def drift(raw: Raw) -> Figure:
    """F9: power and temperature from idle into a constant load, and where they change."""
    found = raw.recording("thermal")
    [constant] = found.of("constant")
    reference_s = constant.about["reference_s"]
    begin_ns, reference_ns = constant.begin_ns, found.bare[0][0]
    watts = _by_second(found, begin_ns, reference_ns + round(reference_s * S))
    after = _by_second(found, reference_ns, reference_ns + round(reference_s * S))
    warm_s = (reference_ns - begin_ns) / S
    _, [change] = changes([cells(watts, min(len(watts), 100))])
    _, [left] = changes([cells(after, min(len(after), 100))])
    # an edge between two windows is known to some ms, and what it errs by in one is of the other sign in the next
    longer = cells(after, len(after) // CELL_S)
    line = fit([[1.0, CELL_S * i / 60] for i in range(len(longer))], longer).terms[1]
    level = statistics.mean(after)
    per_minute, ends = line.value / level, [end / level for end in (line.low, line.high)]
    heat = Course(*zip(*_seconds(found, constant), strict=True))
    degrees = [heat.at(i + 0.5) for i in range(len(watts))]
    steady = mean_interval(after)
    middles = [i + 0.5 for i in range(len(watts))]
    marks = [Line("x", 0.0, "", GREY), *(Line("x", at * len(watts)) for at in _places(change))]
    since = "time since the load began, s"
    shown = stacked(
        "Power and temperature over time",
        [
            chart(
                "Power of each second",
                (since, ""),
                ("power of each second, W", ""),
                [Series(name="", xs=middles, ys=watts, colour=BLUE, kind="both")],
                [*marks, Line("x", warm_s, "declared warm", GREEN)],
            ),
            chart(
                "Temperature",
                (since, ""),
                ("temperature, °C", ""),
                [Series(name="", xs=middles, ys=degrees, colour=ORANGE, kind="line")],
                [*marks, Line("x", warm_s, "", GREEN)],
            ),
        ],
    )

    def bound(slope: float) -> tuple[str, bool]:
        return "at most 0.1 % a minute", slope <= 0.001

    return Figure(
        name="F9",
        title="Thermal drift",
        parts=("thermal",),
        done=f"A constant load runs from idle. Its power by the second comes from the "
        "counter. "
        "llem's own search for changes looks for the shape that fits best. The first "
        f"{warm_s:.0f} s are declared warm-up; the slope is of the next "
        f"{reference_s:g} s, by cells of {CELL_S} s.",
        checks=(
            Check("slope after the warm-up", f"{percent(per_minute, 3)} a minute", *bound(abs(per_minute))),
            Check(
                "its 95 % interval",
                f"{percent(ends[0], 3)} to {percent(ends[1], 3)} a minute",
                *bound(max(map(abs, ends))),
            ),
        ),
        notes=(
            f"From the first second on {_words(change, len(watts))}. After the warm-up {_words(left, len(after))}.",
            f"The board warms from {degrees[0]:.0f} to {max(degrees):.0f} °C. Its power after the warm-up is "
            f"{steady.value:.1f} W, at {percent(steady.value / _limit(found), 1)} of its limit, which holds it there.",
        ),
        plots={"F9": shown},
        numbers={"slope_per_minute": per_minute, "slope_ends": ends, "change_s": change.begin * len(watts)},
    )


def _places(change: Change) -> set[float]:
    """Where a series changes, as shares of it; nowhere if chance explains it."""
    return {change.begin, change.end} if change.p_value <= LEVEL else set()


def _words(change: Change, seconds: int) -> str:
    if change.p_value > LEVEL:
        best = f"{change.shape} of {percent(change.share)}"
        return f"no change is found (the best shape is a {best}, p = {change.p_value:.2g})"
    where = " to ".join(f"{at * seconds:.0f} s" for at in sorted(_places(change)))
    return (
        f"there is a {change.shape} of {percent(change.share)} (p = {change.p_value:.2g}) at {where}, red in the plot"
    )


def _by_second(found: Recording, begin_ns: int, end_ns: int) -> list[float]:
    """Mean watts of each whole second, by the counter."""
    edges = [begin_ns + i * S for i in range((end_ns - begin_ns) // S + 1)]
    return [found.both(*span)[0] for span in itertools.pairwise(edges)]


def _seconds(found: Recording, one: Segment) -> list[tuple[float, float]]:
    read = found.health("temperature_c", one.begin_ns, one.end_ns)
    return [((t - one.begin_ns) / 1e9, value) for t, value in read]


def _limit(found: Recording) -> float:
    return found.domains[0][1].power_limit_w or math.nan


def blocks(raw: Raw) -> Figure:
    """F10: two experiments of the same work under drift, in sequence and in blocks."""
    sides: dict[str, list[Side]] = {}
    for order in ("sequential", "blocks"):
        store, names = raw.store("drift", f"drift-{order}")
        if len(names) < 2:
            raise NotMeasured(f"the study `drift-{order}` was stopped before its second experiment")
        sides[order] = [side_with(store, name, REQUEST) for name in names[:2]]
    found = {order: compared(*both) for order, both in sides.items()}
    naive = welch_ratio(*(side.values[REQUEST] for side in sides["sequential"]))
    rows: list[tuple[str, Any]] = [
        ("in sequence, t-test of the trials alone", naive),
        ("in sequence, `llem compare`", found["sequential"].ratio),
        ("in blocks, `llem compare`", found["blocks"].ratio),
    ]
    table = [["design", "false effect, 95 %", "p"]] + [
        [name, f"{percent(one.value - 1)} [{percent(one.low - 1)}, {percent(one.high - 1)}]", f"{one.p_value:.2g}"]
        for name, one in rows
    ]
    blocked = found["blocks"].ratio
    return Figure(
        name="F10",
        title="Blocks against sequence",
        parts=("drift",),
        done="Two experiments do the same work, on an engine that does 0.06 % more with every batch. They run once "
        "one after the "
        "other, and once in random blocks.",
        checks=(
            Check(
                "in sequence, the trials alone show an effect that is none",
                f"{percent(naive.value - 1)}, p = {naive.p_value:.2g}",
                "p ≤ 0.05",
                (naive.p_value or 0.0) <= LEVEL,
            ),
            Check(
                "in blocks, no effect",
                f"{percent(blocked.value - 1)}, p = {blocked.p_value:.2g}",
                "the interval contains 0",
                blocked.low <= 1 <= blocked.high,
            ),
        ),
        notes=("In sequence, `llem compare` widens its interval by what drift may be, and says so.",),
        table=table,
        plots={"F10": stacked("Joules per request over time", [_course(order, sides[order]) for order in sides])},
        numbers={name: attrs.asdict(one) for name, one in rows},
    )


def _course(order: str, both: Sequence[Side]) -> str:
    begin = min(run.t0_ns for side in both for run in side.runs)
    return chart(
        f"Joules per request over time, {order}",
        (f"time since the first trial, s: {order}", ""),
        ("energy per request, J", ""),
        [
            Series(
                name=name,
                xs=[(run.t0_ns - begin) / 1e9 for run in side.runs],
                ys=list(side.values[REQUEST]),
                colour=colour,
            )
            for name, side, colour in zip(("first experiment", "second experiment"), both, (BLUE, ORANGE), strict=True)
        ],
    )
