"""Metrics of each evaluated task: its scores, the time and energy of its evaluation, and quality per joule. Pure.

No row of the catalogue names a task, for evaluators bring them: a family makes the row of each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from llem.evaluators.base import Score
from llem.findings import Finding, finding
from llem.metrics.energies import headline_of, joules
from llem.metrics.metric import Metric
from llem.metrics.quantity import ITEMS, ONE_EVALUATION, Value, absent, total
from llem.metrics.statistics import CONFIDENCE, Z_95
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
    "wanted",
]

#: How names of scores begin.
SCORE = "quality."


def _score(task: str) -> Metric:
    return Metric(
        f"{SCORE}{task}", "", f"quality: {task}", "higher", "quality",
        "The task's score. It belongs to the engine's configuration, whatever the load. Higher is better unless the "
        'evaluator says otherwise, as of a perplexity: then the quantity has `better: "lower"`. The interval covers '
        "another draw of the task's items. Further scores of a task are `quality.<task>.<metric>`.", shown=("result",),
    )  # fmt: skip


def _per_joule(task: str) -> Metric:
    return Metric(
        f"quality_per_joule.{task}", "1/J", f"quality per joule: {task}", "higher", "quality",
        "Number of items times the score, divided by the energy of the evaluation: right answers per joule where an "
        "item scores 1 or 0. Only of a score that is a plain mean over items, where higher is better. The interval "
        "joins that of the score and the error bound of the one reading of the energy, where the meter states one.",
        shown=("result",), scoped=True, since=4,
    )  # fmt: skip


def _per_right_answer(task: str) -> Metric:
    return Metric(
        f"energy_per_right_answer_j.{task}", "J", f"energy per right answer: {task}", "lower", "quality",
        "Energy of the evaluation divided by the number of right answers. Only where each item scores 1 or 0. The "
        "interval is that of its inverse, on a logarithmic scale.", shown=("result",), scoped=True, since=4,
    )  # fmt: skip


def _seconds(task: str) -> Metric:
    return Metric(
        f"evaluation_s.{task}", "s", f"evaluation time: {task}", "lower", "quality",
        "How long the evaluation of the task took, outside every window. An engine is evaluated once for all its "
        "experiments, and each has the same figure.", shown=("result",), since=4,
    )  # fmt: skip


def _energy(task: str) -> Metric:
    return Metric(
        f"evaluation_energy_j.{task}", "J", f"evaluation energy: {task}", "lower", "quality",
        "Gross energy of that time, of the domains that the headline has. One reading, whose error bound is the "
        "interval. It is in no window.", shown=("result",), scoped=True, since=4,
    )  # fmt: skip


#: Makes the row of a task, by what its name begins with, in the order in which rows are shown.
FAMILIES: Mapping[str, Callable[[str], Metric]] = {
    "quality": _score,
    "quality_per_joule": _per_joule,
    "energy_per_right_answer_j": _per_right_answer,
    "evaluation_s": _seconds,
    "evaluation_energy_j": _energy,
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

    The interval of a score is the score and 1.96 of its standard errors over the task's items: it says how another draw
    of items would score, and nothing of differences between engine processes. A task without a stored score in the
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
        yield name, _quantity(found.scores[place])
    chosen = headline_of(found.energies)
    energy = total([joules(found.energies, key) for key in chosen.keys[0]] if chosen else [])
    yield f"evaluation_s.{task}", Quantity(found.duration_s, "s", n=1, processes=1, method="evaluation")
    for name, one in _of_energy(found.scores[0], energy):
        yield f"{name}.{task}", one if chosen is None else attrs.evolve(one, scope=chosen.scope, kind=chosen.kind)


def _quantity(score: Score) -> Quantity:
    half = None if score.stderr is None else Z_95 * score.stderr
    return Quantity(
        score.value, "", *_around(score.value, half), n=score.n, covers="" if half is None else ITEMS,
        method="items", better="higher" if score.higher_is_better else "lower", score=score.metric,
    )  # fmt: skip


def _around(value: float, half: float | None) -> tuple[float | None, float | None, float | None]:
    """Interval and confidence."""
    return (None, None, None) if half is None else (value - half, value + half, CONFIDENCE)


def _of_energy(score: Score, energy: Value) -> Iterator[tuple[str, Quantity]]:
    """What needs the energy of an evaluation, by family, without what the energy covers."""
    plain = score.aggregation == "mean" and score.higher_is_better and len({item.weight for item in score.items}) == 1
    answers = plain and all(item.value in (0.0, 1.0) for item in score.items)
    if energy.value is None or energy.value <= 0:
        reason = energy.reason or "counter_stuck"
        fits = {"evaluation_energy_j": True, "quality_per_joule": plain, "energy_per_right_answer_j": answers}
        yield from ((name, absent(FAMILIES[name]("").unit, reason)) for name, one in fits.items() if one)
        return
    bound = energy.bound or 0.0
    yield "evaluation_energy_j", _reading(energy.value, energy.bound)
    if plain:
        yield "quality_per_joule", _per_energy(score, energy.value, bound)
    if answers:
        right = math.fsum(item.value for item in score.items)
        per = _energy_per(score, right, energy.value, bound) if right else absent("J", "no_right_answer")
        yield "energy_per_right_answer_j", per


def _reading(energy: float, bound: float | None) -> Quantity:
    covers = "" if bound is None else ONE_EVALUATION
    return Quantity(energy, "J", *_around(energy, bound), n=1, processes=1, covers=covers, method="evaluation")


def _per_energy(score: Score, energy: float, bound: float) -> Quantity:
    """The sum of the items' scores per joule. The draw of items and the error of the reading are independent, so that
    the squares of their half-widths add."""
    value, half = score.value * score.n / energy, None
    if score.stderr is not None:
        half = math.hypot(Z_95 * score.stderr * score.n / energy, value * bound / energy)
    covers = "" if half is None else ITEMS
    return Quantity(value, "1/J", *_around(value, half), n=score.n, processes=1, covers=covers, method="evaluation")


def _energy_per(score: Score, right: float, energy: float, bound: float) -> Quantity:
    """Joules per right answer. The interval is that of its inverse in shares of the value, taken of the logarithm."""
    value = energy / right
    if score.stderr is None:
        return Quantity(value, "J", n=score.n, processes=1, method="evaluation")
    half = math.hypot(Z_95 * score.stderr * score.n / right, bound / energy)
    low, high = value * math.exp(-half), value * math.exp(half)
    return Quantity(value, "J", low, high, CONFIDENCE, score.n, 1, ITEMS, "evaluation")


def quality_findings(experiment: Mapping[str, Any], metrics: Mapping[str, Quantity]) -> list[Finding]:
    """That scores are of random weights."""
    scored = [name for name, one in metrics.items() if is_score(name) and one.value is not None]
    if not scored or experiment["model"]["weights"] != "random":
        return []
    message = "quality was evaluated of random weights, and says nothing about any model"
    return [finding("quality_random_weights", message)]
