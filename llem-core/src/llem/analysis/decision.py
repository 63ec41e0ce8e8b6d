"""Which of several configurations to take, from joint draws of what each costs and of which limits it keeps. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import attrs

from llem.analysis.limits import Limit
from llem.display import Displayed
from llem.metrics.metric import Basis

__all__ = [
    "FEASIBLE",
    "SURE",
    "Contender",
    "Decided",
    "Estimated",
    "LimitOutcome",
    "Recommendation",
    "Separation",
    "Standing",
    "decide",
    "estimated",
    "told",
]

#: The set of ties holds the best with this probability; a limit that is kept with it is surely kept.
SURE = 0.95
#: A configuration is taken only if it keeps all limits with this probability at least: more likely than not.
FEASIBLE = 0.5

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
        excess: by which share of the choice's value it is expected to be worse than that (0.02 is 2 %), with its
            central 95 %; None of the choice.
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


@attrs.frozen(repr=False)
class Recommendation(Displayed):
    """Which configuration to take, how sure that is, and what it rests on.

    Attributes:
        objective: name of the metric. unit: of it. lower_is_better: whether less of it is better.
        limits: those that were asked for.
        choice: None where no configuration keeps all limits (see `blocking`, `nearest`).
        probability: that the choice keeps all limits and is the best of all that do.
        regret: by how much the best of the others that keep all limits is expected to be better than the choice, as a
            share of the larger of the two, from 0 to 1 (0.004 is 0.4 %), 0 counting where the choice is the best.
        ties: ids of the smallest set that holds the best with 95 %, the choice first.
        guaranteed: ids of those that Hsu's multiple comparison with the best cannot rule out (95 %, no prior).
        surest: id of the best of those that keep all limits with 95 % each, where the choice keeps them with less.
        contenders: all that are ranked, by probability and then by the objective.
        excluded: by id, why an experiment is not ranked.
        separations: for each tie.
        blocking: where nothing keeps all limits, the limit that excludes most, and `nearest` the configuration that
            comes nearest to keeping all.
        rests_on: what the choice rests on, in sentences. warnings: what speaks against relying on it.
        basis: of an energy, what it covers and whether it is measured or modelled.
        results: the `Results` from which it was made, for what is drawn of it; JSON does not have them.
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
    basis: Basis | None = None
    results: Any = attrs.field(default=None, eq=False)

    @property
    def best(self) -> str | None:
        """Id of the experiment to take."""
        return self.choice

    @property
    def why(self) -> Mapping[str, str]:
        """By id, why each experiment is taken, tied, worse, out, or not ranked."""
        return {**{one.id: one.why for one in self.contenders}, **self.excluded}

    def contender(self, name: str) -> Contender:
        """One of the contenders. Raises KeyError."""
        return next(one for one in self.contenders if one.id == name)

    def __repr__(self) -> str:
        first, *rest = str(self).split("\n  ")
        if self.choice is None:
            return f"<Recommendation: {first}>"
        tied = f", tied with {len(self.ties) - 1}" if len(self.ties) > 1 else ""
        return f"<Recommendation: take {self.choice[:8]}, {rest[1].partition(' that')[0]}, {rest[0]}{tied}>"

    def __str__(self) -> str:
        """The choice in a few lines; `llem recommend` prints more, and a table."""
        if self.choice is None:
            blocks = f"; {self.blocking.text} blocks most" if self.blocking else ""
            return f"no configuration keeps all limits{blocks}; nearest: {self.nearest}"
        choice, words = self.contender(self.choice), "keeps all limits and is the best of those that do"
        one, sure, of = choice.objective, told(self.probability), f", {self.basis}" if self.basis else ""
        others = [name for name in self.ties if name != self.choice]
        lines = [
            f"take {choice.id}: {', '.join(f'{path} {value}' for path, value in choice.values.items())}".rstrip(": "),
            f"{self.objective}: {one.value:.4g} {self.unit} ({one.low:.4g} to {one.high:.4g}, 95 %){of}",
            f"P {sure if sure[0] in '<>' else f'= {sure}'} that it {words if self.limits else 'is the best'}",
            *([f"tied with: {', '.join(others)}"] if others else []),
            *self.rests_on,
        ]
        return "\n  ".join(lines)


def told(probability: float) -> str:
    """A probability in words: what draws count is never quite certain."""
    return "< 0.01" if probability < 0.01 else "> 0.99" if probability > 0.99 else f"{probability:.2f}"


def estimated(draws: Any) -> Estimated:
    """Median and central 95 % of draws."""
    import numpy as np

    low, value, high = np.quantile(draws, (0.025, 0.5, 0.975))
    return Estimated(float(value), float(low), float(high))


@attrs.frozen
class Decided:
    """What draws say of k configurations, by their numbers.

    Attributes:
        choice: number of the configuration to take; None where none keeps all limits with `FEASIBLE` at least.
        probability: of each, that it keeps all limits and costs least of those that do (k,).
        feasible: of each, that it keeps all limits (k,).
        regret: see `Recommendation`; None without a choice, or where nothing else ever keeps the limits.
        ties: numbers of the smallest set that holds the best with `SURE`, the choice first.
        surest: number of the one with the least cost of those that keep all limits with `SURE`, where the choice does
            not; else None.
        blocking: number of the limit without which the most draws have a configuration that keeps the others; None with
            a choice.
    """

    choice: int | None
    probability: Any
    feasible: Any
    regret: float | None
    ties: tuple[int, ...]
    surest: int | None = None
    blocking: int | None = None


def decide(costs: Any, kept: Sequence[Any]) -> Decided:
    """Count the draws.

    A draw counts for the configuration that costs least of all that keep every limit in it; where several cost the same
    there, each gets its part. The ties are the smallest set whose probabilities sum to `SURE` of the sum of all: of the
    draws in which anything keeps the limits.

    Args:
        costs: draws of the logarithm of what each costs, less is better (draws, k).
        kept: for each limit, whether it is kept in each draw (draws, k).
    """
    import numpy as np

    all_kept = np.ones(costs.shape, dtype=bool)
    for one in kept:
        all_kept &= one
    feasible = all_kept.mean(axis=0)
    masked = np.where(all_kept & ~np.isnan(costs), costs, np.inf)
    least = masked.min(axis=1, keepdims=True)
    winners = (masked == least) & np.isfinite(least)
    shares = winners / np.maximum(winners.sum(axis=1, keepdims=True), 1)
    probability = shares.mean(axis=0)
    middle = np.median(costs, axis=0)
    order = sorted(range(costs.shape[1]), key=lambda i: (-probability[i], middle[i], i))
    able = [i for i in order if feasible[i] >= FEASIBLE]
    if not able:
        return Decided(None, probability, feasible, None, (), blocking=_blocking(kept))
    choice = able[0]
    ties = _ties(probability, [choice, *(i for i in order if i != choice)])
    sure = [i for i in range(costs.shape[1]) if feasible[i] >= SURE]
    surest = min(sure, key=lambda i: (middle[i], i)) if sure and feasible[choice] < SURE else None
    return Decided(choice, probability, feasible, _regret(masked, choice), ties, surest)


def _ties(probability: Any, order: Sequence[int]) -> tuple[int, ...]:
    whole, held = float(probability.sum()), 0.0
    for number, i in enumerate(order):
        held += float(probability[i])
        if held >= SURE * whole - 1e-12:
            return tuple(order[: number + 1])
    return tuple(order)


def _regret(masked: Any, choice: int) -> float | None:
    """Mean of 1 - exp(-excess) over the best of the others, over draws in which the choice is feasible: without another
    one that is, it is the best. None where no other one ever is.

    A share of the larger of the two is 1 at most. Ratios to the smaller one have no mean, because logarithms have
    Student's t; with one degree of freedom, as of two trials, the logarithms have none either.
    """
    import numpy as np

    others = np.delete(masked, choice, axis=1).min(axis=1, initial=np.inf)
    there = np.isfinite(masked[:, choice])
    if not (there & np.isfinite(others)).any():
        return None
    return float(-np.expm1(-np.maximum(masked[there, choice] - others[there], 0.0)).mean())


def _blocking(kept: Sequence[Any]) -> int | None:
    """The limit without which most draws have something that keeps the rest; of equal ones the one least kept."""
    import numpy as np

    def without(number: int) -> tuple[float, float]:
        rest = [one for place, one in enumerate(kept) if place != number]
        able = np.logical_and.reduce(rest).any(axis=1).mean() if rest else 1.0
        return float(able), -float(kept[number].mean())

    return max(range(len(kept)), key=without, default=None)
