"""Which of several configurations to take, from joint draws of what each costs and of which limits it keeps. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import attrs

from llem.analysis.limits import Limit

__all__ = ["Contender", "Estimated", "LimitOutcome", "Recommendation", "Separation"]

#: Where a contender stands: the one to take; not separated from it; surely worse; breaks a limit.
Standing = Literal["choice", "tie", "worse", "out"]


@attrs.frozen
class Estimated:
    """The median of the posterior of a value, and its central 95 %."""

    value: float
    low: float
    high: float


@attrs.frozen
class LimitOutcome:
    """How one configuration stands to one limit.

    Attributes:
        found: in the unit of the limit's bound; None where it is not measured.
        probability: that the limit is kept; 0 where it is not measured, because nothing says that it is.
        reason: code of why it is not measured; else "".
    """

    limit: Limit
    found: Estimated | None
    probability: float
    reason: str = ""


@attrs.frozen
class Contender:
    """One configuration that is ranked.

    Attributes:
        id: of the experiment. values: of the study's axes.
        objective: in the unit of the objective.
        probability: that it keeps all limits and is the best of those that do.
        feasible: probability that it keeps all limits.
        limits: one for each limit, in the user's order.
        excess: by which share it is expected to be worse than the choice (0.02 is 2 %), with its central 95 %; None
            of the choice.
        standing, why: where it stands, and why, in words.
    """

    id: str
    values: Mapping[str, Any]
    objective: Estimated
    probability: float
    feasible: float
    limits: tuple[LimitOutcome, ...]
    standing: Standing
    excess: Estimated | None = None
    why: str = ""


@attrs.frozen
class Separation:
    """What would tell the choice from one that it is tied with.

    Attributes:
        other: id of the tied one.
        unit: "trials" in the engine processes that both share, or "processes" of each.
        now: how many of these there are of the one that has fewer. needed: about how many would separate them with
            95 %; None where the two are too alike for any number up to 1,000.
    """

    other: str
    unit: Literal["trials", "processes"]
    now: int
    needed: int | None


@attrs.frozen
class Recommendation:
    """Which configuration to take, how sure that is, and what it rests on.

    Attributes:
        objective: name of the metric. unit: of it. lower_is_better: whether less of it is better.
        limits: those that were asked for.
        choice: None where no configuration keeps all limits (see `blocking`, `nearest`).
        probability: that the choice keeps all limits and is the best of all that do.
        regret: by which share of the objective the choice is expected to be worse than the best of the others that keep
            all limits (0.004 is 0.4 %).
        ties: ids of the smallest set that holds the best with 95 %, the choice first.
        guaranteed: ids of those that Hsu's multiple comparison with the best cannot rule out (95 %, no prior).
        surest: id of the best of those that keep all limits with 95 % each, where the choice keeps them with less.
        contenders: all that are ranked, by probability and then by the objective.
        excluded: by id, why an experiment is not ranked.
        separations: for each tie.
        blocking: where nothing keeps all limits, the limit that excludes most, and `nearest` the configuration that
            comes nearest to keeping all.
        rests_on: what the choice rests on, in sentences. warnings: what speaks against relying on it.
    """

    objective: str
    unit: str
    lower_is_better: bool
    limits: tuple[Limit, ...]
    choice: str | None
    probability: float
    regret: float | None
    ties: tuple[str, ...]
    guaranteed: tuple[str, ...]
    surest: str | None
    contenders: tuple[Contender, ...]
    excluded: Mapping[str, str] = attrs.field(factory=dict)
    separations: tuple[Separation, ...] = ()
    blocking: Limit | None = None
    nearest: str | None = None
    rests_on: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def best(self) -> str | None:
        """Id of the experiment to take."""
        return self.choice

    def contender(self, name: str) -> Contender:
        """One of the contenders. Raises KeyError."""
        return next(one for one in self.contenders if one.id == name)
