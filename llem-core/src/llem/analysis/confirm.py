"""Whether configurations, measured again, are where it was stated before that they would be. Pure.

A statement is made from draws of the posterior predictive distribution: the mean over so many new engine processes of
each configuration. Its intervals hold 95 % of such outcomes, if the model of the study is right. The outcome is judged
against the statement as it was stored, so nothing can be adapted to it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import attrs

from llem.analysis.decision import Estimated, Recommendation
from llem.analysis.limits import Limit
from llem.analysis.sides import Side
from llem.errors import ConfigError, StoreError
from llem.metrics.metric import Basis
from llem.metrics.result import Place
from llem.metrics.statistics import mean

__all__ = [
    "Confirmation",
    "Judged",
    "LimitJudged",
    "Predictive",
    "Remeasured",
    "Statement",
    "in_order",
    "judged",
    "process_mean",
    "stated",
    "to_confirm",
]

#: Ends of the interval that is stated, and its middle, as shares of the draws.
SHARES = (0.025, 0.5, 0.975)


class Predictive(Protocol):
    """What is needed of a `llem.analysis.posterior.Posterior`."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Configurations, in the order of the columns of draws."""

    def predicted(self, metric: str, processes: int) -> Any:
        """Joint draws of the logarithm of the mean over so many new engine processes: an array (count, k)."""


@attrs.frozen
class Statement:
    """What is stated before configurations are measured again.

    Attributes:
        metric: its name. unit: of it. lower_is_better: whether less of it is better.
        processes: new engine processes of each configuration.
        ids: the choice and, where there is one, the runner-up.
        expected: for each of `ids`, the median of the mean over the new processes, and its central 95 %.
        ratio: the same of the runner-up's mean over the choice's; None where there is no runner-up.
        limits: those that the recommendation keeps.
        store: folder of the results that the statement rests on.
        places: for each of `ids`, where it was measured.
        basis: of an energy, what it covers.
    """

    metric: str
    unit: str
    lower_is_better: bool
    processes: int
    ids: tuple[str, ...]
    expected: tuple[Estimated, ...]
    ratio: Estimated | None = None
    limits: tuple[Limit, ...] = ()
    store: str = ""
    places: tuple[tuple[Place, ...], ...] = ()
    basis: Basis | None = None


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


def to_confirm(recommendation: Recommendation) -> tuple[str, ...]:
    """Ids of the choice and of the runner-up: the next one that may keep all limits, where there is one.

    Raises StoreError (nothing_to_confirm) where nothing is recommended.
    """
    choice = recommendation.choice
    if choice is None:
        what = "no configuration keeps all limits, so there is no choice to confirm"
        raise StoreError(what, "widen a limit, or measure other configurations", "nothing_to_confirm")
    others = (one.id for one in recommendation.contenders if one.id != choice and one.standing != "out")
    return (choice, *list(others)[:1])


def stated(
    posterior: Predictive,
    metric: str,
    ids: Sequence[str],
    processes: int,
    *,
    unit: str = "",
    lower_is_better: bool = True,
    limits: Sequence[Limit] = (),
    sides: Mapping[str, Side] | None = None,
    store: str = "",
) -> Statement:
    """The intervals in which the means over new engine processes lie with 95 %.

    Args:
        ids: of the posterior; the choice and, at most, one more.
        processes: new engine processes of each.
        sides: where each was measured and what its energy covers; only these are taken from them.

    Raises:
        ConfigError: fewer than one process.
        StoreError: the posterior has no such configuration, or it has no such metric.
    """
    import numpy as np

    if processes < 1:
        raise ConfigError(f"{processes} engine processes confirm nothing", "give 1 at least, such as `--confirm 3`")
    missing = [name for name in ids if name not in posterior.ids]
    if missing:
        raise StoreError(f"experiment {missing[0]} is not among those that are ranked", "", "nothing_to_confirm")
    draws = posterior.predicted(metric, processes)[:, [posterior.ids.index(name) for name in ids]]
    if not np.isfinite(draws).all():
        raise StoreError(f"not every one of {', '.join(ids)} has the metric {metric!r}", "", "nothing_to_confirm")
    known = [(sides or {}).get(name) for name in ids]
    return Statement(
        metric=metric,
        unit=unit,
        lower_is_better=lower_is_better,
        processes=processes,
        ids=tuple(ids),
        expected=tuple(_central(draws[:, column]) for column in range(len(ids))),
        ratio=_central(draws[:, 1] - draws[:, 0]) if len(ids) > 1 else None,
        limits=tuple(limits),
        store=store,
        places=tuple(() if side is None else in_order(side.places) for side in known),
        basis=next((side.basis for side in known if side is not None), None),
    )


def _central(logs: Any) -> Estimated:
    """Median and central 95 % of what these are the logarithms of."""
    import numpy as np

    low, middle, high = np.exp(np.quantile(logs, SHARES))
    return Estimated(float(middle), float(low), float(high))


def in_order(places: frozenset[Place]) -> tuple[Place, ...]:
    """Places in an order that does not depend on how they were met."""
    return tuple(sorted(places, key=lambda one: (one.gpus, one.environment)))


def process_mean(side: Side, metric: str) -> float:
    """The mean over engine processes, of each the mean over its trials, on the logarithmic scale of the posterior.

    Raises KeyError where a trial lacks the metric.
    """
    return math.exp(mean([one.mean for one in side.process_means(metric)]))


def judged(statement: Statement, outcomes: Mapping[str, Remeasured]) -> Confirmation:
    """Which outcomes lie in the intervals that were stated, and which limits were kept again.

    Args:
        outcomes: by id; one that is missing was not measured.
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
    return Confirmation(statement, configurations, ratio, limits, tuple(_warnings(statement, found)))


def _judged(interval: Estimated, value: float | None, why: str = "") -> Judged:
    inside = None if value is None else interval.low <= value <= interval.high
    return Judged(interval, value, inside, why)


def _limit(name: str, limit: Limit, number: int, one: Remeasured) -> LimitJudged:
    value = one.limits[number] if number < len(one.limits) else None
    why = one.whys[number] if number < len(one.whys) else one.why
    if value is None:
        return LimitJudged(name, limit, None, None, why or "it was not measured")
    kept = value <= limit.bound if limit.upper else value >= limit.bound
    return LimitJudged(name, limit, value, kept)


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
