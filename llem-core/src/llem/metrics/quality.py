"""Metrics of each evaluated task: its scores, the time and energy of its evaluation, and quality per joule. Pure.

No row of the catalogue names a task, for evaluators bring them: a family makes the row of each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from llem.evaluators.base import Score
from llem.evaluators.items import clusters_of, right_or_wrong
from llem.findings import Finding, finding
from llem.metrics.energies import headline_of, joules
from llem.metrics.metric import Metric
from llem.metrics.quantity import ITEMS, ONE_EVALUATION, Value, absent, possible, total
from llem.metrics.statistics import CONFIDENCE, t_quantile, wilson
from llem.store.evaluations import Evaluation, terms_of
from llem.store.models import Quantity

__all__ = [
    "FAMILIES",
    "SCORE",
    "family_of",
    "is_score",
    "quality_findings",
    "quality_metrics",
    "score_names",
    "score_quantity",
    "wanted",
]

#: How names of scores begin.
SCORE = "quality."

#: Said of what an evaluation took.
ONCE = (
    "An evaluation is made once, without warm-up and in the evaluator's own batches, so nothing says by how much "
    "another one would differ: llem ranks nothing by it."
)


def _score(task: str) -> Metric:
    return Metric(
        f"{SCORE}{task}", "", f"quality: {task}", "higher", "quality",
        "The task's score. It belongs to the engine's configuration, whatever the load. Higher is better unless the "
        'evaluator says otherwise, as of a perplexity: then the quantity has `better: "lower"`. The interval covers '
        "another draw of the task's items; `llem show DIR --quality` has differences. Further scores of a task are "
        "`quality.<task>.<metric>`.", shown=("result",),
    )  # fmt: skip


def _once_of(family: str, unit: str, label: str, doc: str, *, scoped: bool = True) -> Callable[[str], Metric]:
    """Makes the row of a figure of the evaluation itself."""

    def row(task: str) -> Metric:
        return Metric(
            f"{family}.{task}", unit, f"{label}: {task}", None, "quality", f"{doc} {ONCE}", shown=("result",),
            scoped=scoped, since=4,
        )  # fmt: skip

    return row


#: Makes the row of a task, by what its name begins with, in the order in which rows are shown.
FAMILIES: Mapping[str, Callable[[str], Metric]] = {
    "quality": _score,
    "quality_per_joule": _once_of(
        "quality_per_joule",
        "1/J",
        "quality per joule",
        "Number of items times the score, divided by the energy of the evaluation: right answers per joule where an "
        "item scores 1 or 0. Only of a score that is a plain mean over items, where higher is better.",
    ),
    "energy_per_right_answer_j": _once_of(
        "energy_per_right_answer_j",
        "J",
        "energy per right answer",
        "Energy of the evaluation divided by the number of right answers. Only where each item scores 1 or 0.",
    ),
    "evaluation_s": _once_of(
        "evaluation_s",
        "s",
        "evaluation time",
        "How long the evaluation of the task took, outside every window. An engine is evaluated once for all its "
        "experiments, and each has the same figure.",
        scoped=False,
    ),
    "evaluation_energy_j": _once_of(
        "evaluation_energy_j",
        "J",
        "evaluation energy",
        "Gross energy of that time, idle included, of the domains that the headline has. The interval is the error "
        "bound of the one reading, where the meter states one. It is in no window.",
    ),
}


def family_of(name: str) -> str | None:
    """What the name of a task's metric begins with; None for a metric of no task."""
    family, dot, task = name.partition(".")
    return family if dot and task and family in FAMILIES else None


def is_score(name: str) -> bool:
    """Whether a metric is the score of an evaluator, which tells by itself which way is better."""
    return family_of(name) == "quality"


def score_names(evaluation: Evaluation) -> dict[str, int]:
    """Names of an evaluation's scores in a Result, and their places. The first score stands for the task."""
    task, found = evaluation.task, dict[str, int]()
    for place, score in enumerate(evaluation.scores):
        within = task if score.task == task else f"{task}.{score.task}"
        found.setdefault(f"{SCORE}{within}.{score.metric}" if place else f"{SCORE}{task}", place)
    return found


def wanted(config: Mapping[str, Any], evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """Those of the tasks and in the terms that a configuration asks for, in its order."""
    section = config.get("quality")
    if section is None:
        return []
    known = {
        one.task: one for one in evaluations if one.evaluator == section["evaluator"] and one.terms == terms_of(section)
    }
    return [known[task] for task in section["tasks"] if task in known]


def quality_metrics(config: Mapping[str, Any], evaluations: Sequence[Evaluation]) -> dict[str, Quantity]:
    """Metrics of every task that is asked for; see `FAMILIES`.

    The interval of a score (see `score_quantity`) says how another draw of items would score, and nothing of
    differences between engine processes. A task without a stored score in the
    terms that are asked for has `quality.<task>` alone, as None.

    Args:
        evaluations: with their items.
    """
    known = {one.task: one for one in wanted(config, evaluations)}
    section = config.get("quality") or {}
    return {name: one for task in section.get("tasks", ()) for name, one in _of_task(task, known.get(task))}


def _of_task(task: str, found: Evaluation | None) -> Iterator[tuple[str, Quantity]]:
    if found is None or not found.scores:
        yield f"{SCORE}{task}", absent("", "not_evaluated")
        return
    for name, place in score_names(found).items():
        yield name, score_quantity(found.scores[place])
    chosen = headline_of(found.energies)
    energy = total([joules(found.energies, key) for key in chosen.keys[0]] if chosen else [])
    yield f"evaluation_s.{task}", Quantity(found.duration_s, "s", n=1, processes=1, method="evaluation")
    for name, one in _of_energy(found.scores[0], energy):
        yield f"{name}.{task}", one if chosen is None else attrs.evolve(one, scope=chosen.scope, kind=chosen.kind)


def score_quantity(score: Score) -> Quantity:
    """A score with the 95 % interval over its items; without one where no standard error is stated.

    Of items that are right or wrong it is Wilson's (1927), which stays within 0 and 1 and has a width where all items
    are right; of clusters with as many items as these are worth. Else Student's t over independent items.

    Args:
        score: with its items, where they are stored.
    """
    binary = score.aggregation == "mean" and right_or_wrong(score.items)
    low, high = _wilson(score) if binary else _student(score)
    return Quantity(
        score.value, "", low, high, None if low is None else CONFIDENCE, score.n, covers="" if low is None else ITEMS,
        method="items", better="higher" if score.higher_is_better else "lower", score=score.metric,
    )  # fmt: skip


def _independent(score: Score) -> int:
    """Clusters, and items without one."""
    return len(clusters_of(score.items)) if score.items else score.n


def _wilson(score: Score) -> tuple[float, float]:
    p, n = score.value, float(_independent(score))
    if n < score.n and score.stderr and 0 < p < 1:
        n = min(float(score.n), p * (1 - p) / score.stderr**2)
    return wilson(p, n)


def _student(score: Score) -> tuple[float | None, float | None]:
    count = _independent(score)
    if score.stderr is None or count < 2:
        return None, None
    half = t_quantile(count - 1) * score.stderr
    return score.value - half, score.value + half


def _around(value: float, half: float | None) -> tuple[float | None, float | None, float | None]:
    """Interval and confidence."""
    return (None, None, None) if half is None else (value - half, value + half, CONFIDENCE)


def _of_energy(score: Score, energy: Value) -> Iterator[tuple[str, Quantity]]:
    """What needs the energy of an evaluation, by family, without what the energy covers."""
    plain = score.aggregation == "mean" and score.higher_is_better and len({item.weight for item in score.items}) == 1
    answers = plain and right_or_wrong(score.items)
    if energy.value is None or energy.value <= 0:
        reason = energy.reason or "counter_stuck"
        fits = {"evaluation_energy_j": True, "quality_per_joule": plain, "energy_per_right_answer_j": answers}
        yield from ((name, absent(FAMILIES[name]("").unit, reason)) for name, one in fits.items() if one)
        return
    yield "evaluation_energy_j", _reading(energy.value, energy.bound)
    if plain:
        yield "quality_per_joule", _once(score, score.value * score.n / energy.value, "1/J")
    if answers:
        right = math.fsum(item.value for item in score.items)
        per = _once(score, energy.value / right, "J") if right else absent("J", "no_right_answer")
        yield "energy_per_right_answer_j", per


def _reading(energy: float, bound: float | None) -> Quantity:
    covers = "" if bound is None else ONE_EVALUATION
    found = Quantity(energy, "J", *_around(energy, bound), n=1, processes=1, covers=covers, method="evaluation")
    return possible(found)


def _once(score: Score, value: float, unit: str) -> Quantity:
    """Without an interval: nothing says how another evaluation's energy would differ."""
    return Quantity(value, unit, n=score.n, processes=1, method="evaluation")


def quality_findings(experiment: Mapping[str, Any], metrics: Mapping[str, Quantity]) -> list[Finding]:
    """That scores are of random weights."""
    scored = [name for name, one in metrics.items() if is_score(name) and one.value is not None]
    if not scored or experiment["model"]["weights"] != "random":
        return []
    message = "quality was evaluated of random weights, and says nothing about any model"
    return [finding("quality_random_weights", message)]
