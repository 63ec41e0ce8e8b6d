"""Quality of an experiment from the scores that are stored, and what is to be said of them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llem.evaluators.base import Score
from llem.findings import Finding, finding
from llem.metrics.statistics import absent
from llem.store.evaluations import Evaluation, terms_of
from llem.store.models import Quantity

__all__ = ["quality_findings", "quality_metrics"]

#: Standard errors on either side that hold 95 % of a normal distribution.
Z_95 = 1.959963984540054


def quality_metrics(config: Mapping[str, Any], evaluations: Sequence[Evaluation]) -> dict[str, Quantity]:
    """`quality.<task>` for every task that is asked for, and `quality.<task>.<metric>` for its further scores.

    The interval is the score and 1.96 of its standard errors over the task's items: it says how another draw of items
    would score, and nothing of differences between engine processes. None where no score of a task is stored in the
    terms that are asked for.
    """
    wanted = config.get("quality")
    if wanted is None:
        return {}
    known = {
        one.task: one.scores
        for one in evaluations
        if one.evaluator == wanted["evaluator"] and one.terms == terms_of(wanted)
    }
    return {name: one for task in wanted["tasks"] for name, one in _of_task(task, known.get(task, ()))}


def _of_task(task: str, scores: Sequence[Score]) -> Iterator[tuple[str, Quantity]]:
    if not scores:
        yield f"quality.{task}", absent("", "not_evaluated")
    for number, score in enumerate(scores):
        within = task if score.task == task else f"{task}.{score.task}"
        yield f"quality.{task}" if number == 0 else f"quality.{within}.{score.metric}", _quantity(score)


def _quantity(score: Score) -> Quantity:
    if score.stderr is None:
        return Quantity(score.value, "", n=score.n, method="items")
    half = Z_95 * score.stderr
    return Quantity(score.value, "", score.value - half, score.value + half, 0.95, score.n, "items")


def quality_findings(experiment: Mapping[str, Any], metrics: Mapping[str, Quantity]) -> list[Finding]:
    """That scores are of random weights."""
    scored = [name for name, one in metrics.items() if name.startswith("quality.") and one.value is not None]
    if not scored or experiment["model"]["weights"] != "random":
        return []
    message = "quality was evaluated of random weights, and says nothing about any model"
    return [finding("quality_random_weights", message)]
