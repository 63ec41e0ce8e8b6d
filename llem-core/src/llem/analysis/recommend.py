"""Which configuration to take: what is ranked, the decision, and what both rest on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from llem.analysis.decision import (
    FEASIBLE,
    SURE,
    Contender,
    Decided,
    LimitOutcome,
    Recommendation,
    Separation,
    Standing,
    decide,
    estimated,
    told,
)
from llem.analysis.difference import PAIRED
from llem.analysis.grounds import rests_on, warnings_of
from llem.analysis.limits import Limit, parse_memory, parse_power, parse_quality, parse_slo, refuse_twice
from llem.analysis.prices import require_prices
from llem.analysis.ranked import DRAWS, Kept, Objective, Ranked, gather, is_exact, real_ids
from llem.errors import ConfigError
from llem.metrics.catalogue import lower_is_better
from llem.metrics.quality import is_score

if TYPE_CHECKING:
    from llem.analysis.collection import Results

__all__ = ["DEFAULT_OBJECTIVE", "limits_of", "metric_named", "objective_of", "ranked_of", "recommended"]

#: What is minimised if nothing else is asked for.
DEFAULT_OBJECTIVE = "energy_per_output_token_j"
#: Short words for metrics that people decide by.
WORDS = {
    "energy": DEFAULT_OBJECTIVE,
    "energy_per_request": "energy_per_request_j",
    "cost": "cost_per_million_output_tokens",
    "carbon": "gco2e_per_million_output_tokens",
    "latency": "e2el_s",
    "speed": "output_tokens_per_s",
}
#: What of an experiment that is far behind is said instead of figures.
BEHIND = "its own interval puts it too far from the best, or from a limit, to look at its trials"
#: 95 % of a normal distribution lie below so many deviations.
Z_90 = 1.6448536269514722
#: More trials or processes than this separate nothing in practice.
MOST_NEEDED = 1_000


def limits_of(slo: str = "", quality: str = "", memory: str | None = None, power: str | None = None) -> list[Limit]:
    """All limits in the order in which a user gives them. Raises ConfigError for one that cannot be read."""
    found = [*(parse_slo(slo) if slo else ()), *(parse_quality(quality) if quality else ())]
    found += [parse_memory(memory)] if memory else []
    found += [parse_power(power)] if power else []
    refuse_twice(found)
    return found


def metric_named(text: str) -> str:
    """The metric that a short word stands for; any other name as it is."""
    return WORDS.get(text, text)


def objective_of(minimise: str | None, maximise: str | None) -> tuple[str, bool]:
    """The metric, and whether less of it is asked for. Raises ConfigError where both are given."""
    if minimise is not None and maximise is not None:
        what = f"both {minimise} is to be minimised and {maximise} to be maximised"
        raise ConfigError(what, "name one objective; limit the other: --slo 'output_tokens_per_s>1000'")
    return (metric_named(maximise), False) if maximise is not None else (metric_named(minimise or "energy"), True)


def ranked_of(
    results: Results,
    asked: tuple[str, bool],
    limits: Sequence[Limit],
    reference: str | None = None,
    count: int = DRAWS,
    seed: int = 0,
) -> Ranked:
    """Read what a decision on this objective under these limits rests on.

    Args:
        asked: the metric, and whether less of it is asked for.
        reference: an experiment; the beginning of its id is enough.

    Raises:
        ConfigError: the metric is the better the other way.
        StoreError: there is no such metric, nothing can be ranked, or a score that is limited does not exist.
    """
    name, lower = asked
    lower_is_better(name)  # refuses a metric without a better direction, before anything is read
    metrics = dict.fromkeys((name, *(limit.metric for limit in limits)))
    require_prices(metrics, results.prices)
    rows = list(results.overviews(metrics))
    if lower_is_better(name, [row.metrics.get(name) for row in rows]) != lower:
        right = "--maximise" if lower else "--minimise"
        raise ConfigError(f"of {name} {'more' if lower else 'less'} is better", f"use {right} {name}")
    sides = results.sides([metric for metric in metrics if not is_score(metric)])
    valid = real_ids(rows)
    return results.without_damaged(
        rows,
        lambda whole: gather(
            results.store,
            whole,
            Objective(name, lower),
            limits,
            sides,
            lambda names: results.background(sides, names, valid),
            reference=None if reference is None else results.store.find(reference),
            count=count,
            seed=seed,
        ),
    )


def recommended(results: Results, ranked: Ranked) -> Recommendation:
    """The decision on these draws, in words and figures."""
    costs, objective = ranked.costs, ranked.objective
    found = decide(costs, [one.kept for one in ranked.kept])
    points = {name: point["values"] for name, point in results.study.get("points", {}).items()}
    made = [_contender(ranked, found, costs, number, points) for number in range(len(ranked.ids))]
    order = sorted(
        range(len(made)), key=lambda i: (_PLACES.index(made[i].standing), -made[i].probability, _rank(made[i]))
    )
    named = [None if number is None else ranked.ids[number] for number in (found.choice, found.surest)]
    return Recommendation(
        objective=objective.metric,
        unit=results.metric_of(objective.metric).unit,
        lower_is_better=objective.lower,
        limits=ranked.limits,
        choice=named[0],
        probability=0.0 if found.choice is None else float(found.probability[found.choice]),
        regret=found.regret,
        ties=tuple(ranked.ids[number] for number in found.ties),
        guaranteed=_guaranteed(ranked, found),
        surest=named[1],
        contenders=tuple(made[number] for number in order),
        excluded={**ranked.excluded, **{row.id: BEHIND for row in ranked.behind}},
        separations=tuple(_separations(ranked, found)),
        blocking=None if found.blocking is None else ranked.limits[found.blocking],
        nearest=None if found.choice is not None else min(made, key=_missed).id,
        rests_on=tuple(rests_on(results, ranked)),
        warnings=tuple(warnings_of(results, ranked, found)),
    )


# contenders


_PLACES = ("choice", "tie", "worse", "out")


def _contender(
    ranked: Ranked, found: Decided, costs: Any, number: int, points: Mapping[str, Mapping[str, Any]]
) -> Contender:
    import numpy as np

    name, lower = ranked.ids[number], ranked.objective.lower
    outcomes = tuple(_outcome(one, number, name) for one in ranked.kept)
    excess = None
    if found.choice is not None and found.choice != number:
        behind = costs[:, number] - costs[:, found.choice]
        excess = estimated(np.expm1(behind) if lower else -np.expm1(-behind))
    one = Contender(
        id=name,
        values=points.get(name, {}),
        objective=estimated(ranked.drawn[:, number]),
        probability=float(found.probability[number]),
        feasible=float(found.feasible[number]),
        limits=outcomes,
        standing=_standing(found, number),
        excess=excess,
    )
    return attrs.evolve(one, why=_why(one, lower=lower))


def _standing(found: Decided, number: int) -> Standing:
    if number == found.choice:
        return "choice"
    if number in found.ties:
        return "tie"
    return "out" if found.feasible[number] < FEASIBLE else "worse"


def _outcome(kept: Kept, number: int, name: str) -> LimitOutcome:
    import numpy as np

    drawn = kept.draws[:, number]
    known = None if np.isnan(drawn).any() else estimated(drawn)
    return LimitOutcome(kept.limit, known, float(kept.kept[:, number].mean()), kept.reasons.get(name, ""))


def _why(one: Contender, *, lower: bool) -> str:
    """Why it stands where it does."""
    if one.standing == "choice":
        return "it is the most probable to keep all limits and be the best of those that do"
    if one.standing == "out":
        broken = min(one.limits, key=lambda limit: limit.probability)
        if broken.found is None:
            return f"{broken.limit.text}: not measured ({broken.reason})"
        return f"{broken.limit.text}: {broken.found.value:.4g}, kept with P {told(broken.probability)}"
    assert one.excess is not None
    words = "costs {:.1%} more" if lower else "gives {:.1%} less"
    sign = words.format(one.excess.value) + f" ({one.excess.low:.1%} to {one.excess.high:.1%})"
    return f"not told from the choice: {sign}" if one.standing == "tie" else sign


def _rank(one: Contender) -> float:
    return 0.0 if one.excess is None else one.excess.value


def _missed(one: Contender) -> tuple[float, float]:
    """How far a configuration is from keeping all limits; the nearest has the least."""
    return -one.feasible, max(map(_shortfall, one.limits), default=0.0)


def _shortfall(one: LimitOutcome) -> float:
    """By which share of the bound it is missed; of a change of a score, by how much."""
    if one.found is None:
        return math.inf
    over = (one.found.value - one.limit.bound) * (1 if one.limit.upper else -1)
    return max(0.0, over if one.limit.against or not one.limit.bound else over / abs(one.limit.bound))


# ties


def _guaranteed(ranked: Ranked, found: Decided) -> tuple[str, ...]:
    """Hsu's set among those that may keep all limits; those alone that surely do rule others out."""
    able = [name for name, chance in zip(ranked.ids, found.feasible, strict=True) if chance > 1 - SURE]
    metric = ranked.objective.metric
    if found.choice is None or not set(able) <= set(ranked.posterior.having(metric)) or _exact(ranked):
        return ()
    sure = [name for name, chance in zip(ranked.ids, found.feasible, strict=True) if chance >= SURE]
    return ranked.posterior.guaranteed(metric, ranked.objective.lower, able, sure)


def _exact(ranked: Ranked) -> bool:
    """Whether the objective is exact, so that there is no error to compare with, and nothing more to learn of it."""
    return any(is_exact(row, ranked.objective.metric) for row in ranked.rows)


def _separations(ranked: Ranked, found: Decided) -> Iterator[Separation]:
    """What would tell the choice from each tie in the objective; nothing where this tells them, and a limit is in
    doubt."""
    metric = ranked.objective.metric
    having = set(ranked.posterior.having(metric))
    if found.choice is None or ranked.ids[found.choice] not in having or _exact(ranked):
        return
    first = ranked.sides[ranked.ids[found.choice]]
    for number in found.ties[1:]:
        if ranked.ids[number] not in having:
            continue
        other = ranked.sides[ranked.ids[number]]
        one = ranked.background.difference(first, other, metric)
        paired = one.method == PAIRED
        processes = (len({run.process for run in side.runs}) for side in (first, other))
        now = one.n if paired else min(processes)
        more = (Z_90 * one.estimate.error / one.estimate.value) ** 2 if one.estimate.value else math.inf
        if ranked.kept and more <= 1:
            continue
        needed = max(now + 1, math.ceil(now * more)) if now * more <= MOST_NEEDED else None
        yield Separation(ranked.ids[number], "trials" if paired else "processes", now, needed)
