"""Whether configurations, measured again, are where it was stated before that they would be. Pure.

The outcome is judged against the statement as it was stored, so nothing can be adapted to it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import attrs

from llem.analysis.decision import Estimated
from llem.analysis.limits import Limit, keeps
from llem.analysis.sides import Side
from llem.analysis.statement import Statement
from llem.metrics.result import Place
from llem.metrics.statistics import mean

__all__ = ["Confirmation", "Judged", "LimitJudged", "Remeasured", "judged", "process_mean"]

#: How many versions that differ a warning names.
MOST_TOLD = 5


@attrs.frozen
class Remeasured:
    """What came of measuring one configuration again.

    Attributes:
        value: the mean over the new engine processes (see `process_mean`); None with `why`.
        processes: how many of these were measured.
        places: where they ran.
        limits: for each limit of the statement, the value that it bounds; None where that is not measured.
        why: there is no value. whys: for each limit, why there is no value of it; else "".
        findings: codes of what makes the result invalid.
    """

    value: float | None
    processes: int = 0
    places: tuple[Place, ...] = ()
    limits: tuple[float | None, ...] = ()
    whys: tuple[str, ...] = ()
    why: str = ""
    findings: tuple[str, ...] = ()


@attrs.frozen
class Judged:
    """One stated interval and the outcome. `inside`: None where there is no outcome, with `why`."""

    stated: Estimated
    measured: float | None
    inside: bool | None
    why: str = ""


@attrs.frozen
class LimitJudged:
    """Whether one configuration kept one limit again. `kept`: None where its value is not measured, with `why`."""

    id: str
    limit: Limit
    found: float | None
    kept: bool | None
    why: str = ""


@attrs.frozen
class Confirmation:
    """A statement and its outcome.

    Attributes:
        configurations: for each of the statement's `ids`.
        ratio: of the runner-up over the choice; None where there is no runner-up.
        limits: for each configuration and each limit, the choice's first.
        warnings: what is not as it was, and is not in the intervals.
    """

    statement: Statement
    configurations: tuple[Judged, ...]
    ratio: Judged | None
    limits: tuple[LimitJudged, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def intervals(self) -> tuple[Judged, ...]:
        """All that was stated: of each configuration, and of their ratio."""
        return (*self.configurations, *(() if self.ratio is None else (self.ratio,)))

    @property
    def confirmed(self) -> bool | None:
        """Whether every outcome is inside its interval and every limit was kept; None where one is not known and no
        other says no."""
        told = [*(one.inside for one in self.intervals), *(one.kept for one in self.limits)]
        if False in told:
            return False
        return None if None in told else True


def process_mean(side: Side, metric: str) -> float:
    """The mean over engine processes, of each the mean over its trials, on the logarithmic scale of the posterior.

    Raises KeyError where a trial lacks the metric.
    """
    return math.exp(mean([one.mean for one in side.process_means(metric)]))


def judged(
    statement: Statement, outcomes: Mapping[str, Remeasured], software: Mapping[str, str] | None = None
) -> Confirmation:
    """Which outcomes lie in the intervals that were stated, and which limits were kept again.

    Args:
        outcomes: by id; one that is missing was not measured.
        software: versions by name, of what measured now.
    """
    found = [outcomes.get(name, Remeasured(None, why="it was not measured")) for name in statement.ids]
    configurations = tuple(
        _judged(interval, one.value, one.why) for interval, one in zip(statement.expected, found, strict=True)
    )
    ratio = None
    if statement.ratio is not None:
        first, second = found[0].value, found[1].value
        if first is None or second is None:
            ratio = Judged(statement.ratio, None, None, "one of the two has no value")
        else:
            ratio = _judged(statement.ratio, second / first)
    limits = tuple(
        _limit(name, limit, number, one)
        for name, one in zip(statement.ids, found, strict=True)
        for number, limit in enumerate(statement.limits)
    )
    warnings = [*_warnings(statement, found), *_other_software(statement.software, software or {})]
    return Confirmation(statement, configurations, ratio, limits, tuple(warnings))


def _judged(interval: Estimated, value: float | None, why: str = "") -> Judged:
    inside = None if value is None else interval.low <= value <= interval.high
    return Judged(interval, value, inside, why)


def _limit(name: str, limit: Limit, number: int, one: Remeasured) -> LimitJudged:
    value = one.limits[number] if number < len(one.limits) else None
    why = one.whys[number] if number < len(one.whys) else one.why
    if value is None:
        return LimitJudged(name, limit, None, None, why or "it was not measured")
    return LimitJudged(name, limit, value, bool(keeps(limit, value)))


def _warnings(statement: Statement, found: Sequence[Remeasured]) -> list[str]:
    told = []
    for number, (name, one) in enumerate(zip(statement.ids, found, strict=True)):
        before = statement.places[number] if number < len(statement.places) else ()
        if before and one.places and not set(one.places) <= set(before):
            was, now = (" and ".join(map(str, places)) for places in (before, one.places))
            told.append(
                f"{name} was measured on {was} and is confirmed on {now}: what boards and machines differ by is not "
                "in the intervals, unless the study itself had several"
            )
        if one.value is not None and one.processes < statement.processes:
            told.append(
                f"{name} was measured by {one.processes} of {statement.processes} engine processes; the intervals are "
                "for all of them"
            )
        if one.findings:
            told.append(f"the result of {name} is not valid: {', '.join(one.findings)}")
    return told


def _other_software(was: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """One warning for all versions that differ; what only one side knows of is not told."""
    apart = [f"{name} was {was[name]} and is {now[name]}" for name in was if name in now and was[name] != now[name]]
    if not apart:
        return []
    more = f", and {len(apart) - MOST_TOLD} more" if len(apart) > MOST_TOLD else ""
    return [f"{', '.join(apart[:MOST_TOLD])}{more}: what versions differ by is not in the intervals"]
