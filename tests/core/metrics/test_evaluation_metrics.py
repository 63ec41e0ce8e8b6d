"""Metrics of an evaluated task, with values computed by hand."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from llem.errors import StoreError
from llem.evaluators.base import Item, Score
from llem.evaluators.items import score_of
from llem.meters.base import EnergyReading, ErrorBudget
from llem.metrics.catalogue import lower_is_better, metric_of, shown
from llem.metrics.quality import quality_metrics, score_quantity
from llem.metrics.result import compute_result
from llem.store.evaluations import Evaluation
from llem.store.models import Quantity

CONFIG = {"quality": {"evaluator": "exam", "tasks": ["sums"], "limit": None, "force": False}}
TERMS = {"limit": None}
Z = 1.959963984540054


def reading(joules: float | None, scope: str = "gpu", kind: Any = "measured", bound: float | None = None, **more: Any):
    budget = None if bound is None else ErrorBudget(bound / 2, bound / 4, bound / 4)
    domain = {"gpu": f"gpu:{more.pop('gpu', 'a')}", "cpu": "cpu:0", "dram": "dram", "node": "node"}[scope]
    return EnergyReading(more.pop("meter", "m"), domain, scope, kind, "i", joules, budget=budget, **more)


def answers(*values: float, **more: Any) -> Score:
    """A score of items with these values."""
    return score_of("sums", "acc", [Item(f"item {n}", value) for n, value in enumerate(values)], **more)


def evaluation(*scores: Score, energies: tuple[EnergyReading, ...] = (), task: str = "sums") -> Evaluation:
    return Evaluation("exam", task, TERMS, 0, scores, 12.5, energies, {})


def metrics(*scores: Score, energies: tuple[EnergyReading, ...] = ()) -> dict[str, Quantity]:
    return quality_metrics(CONFIG, [evaluation(*scores, energies=energies)])


def test_right_answers_per_joule_by_hand() -> None:
    """3 of 4 are right for 60 J ± 6: 0.05 right answers per joule, 20 J for each, and nothing says how sure that is."""
    found = metrics(answers(1, 0, 1, 1), energies=(reading(60.0, bound=6.0),))

    assert list(found) == [
        "quality.sums", "evaluation_s.sums", "evaluation_energy_j.sums", "quality_per_joule.sums",
        "energy_per_right_answer_j.sums",
    ]  # fmt: skip
    score = found["quality.sums"]
    assert (score.value, score.n, score.covers, score.method, score.better) == (0.75, 4, "items", "items", "higher")
    assert found["evaluation_s.sums"] == Quantity(12.5, "s", n=1, processes=1, method="evaluation")
    assert found["evaluation_energy_j.sums"] == Quantity(
        60.0, "J", 54.0, 66.0, 0.95, 1, 1, "one evaluation", "evaluation", scope="gpu", kind="measured"
    )
    per_joule, per_answer = found["quality_per_joule.sums"], found["energy_per_right_answer_j.sums"]
    assert (per_joule.value, per_joule.unit) == (pytest.approx(0.05), "1/J")
    assert (per_answer.value, per_answer.unit) == (pytest.approx(20.0), "J")
    for one in (per_joule, per_answer):
        assert (one.scope, one.kind, one.low, one.high, one.covers) == ("gpu", "measured", None, None, "")
        assert one.rests_on == "one evaluation"
        with pytest.raises(StoreError, match="made once: nothing is ranked by it"):
            lower_is_better("energy_per_right_answer_j.sums", [one])


@pytest.mark.parametrize(("right", "n"), [(3, 4), (490, 500), (80, 80), (0, 40), (1, 50)])
def test_the_interval_of_right_answers_is_where_the_score_test_rejects(right: int, n: int) -> None:
    """Its ends are the shares that n items would just contradict: n (p - t)² = z² t (1 - t). All right is not sure."""
    found = metrics(answers(*[1.0] * right, *[0.0] * (n - right)))["quality.sums"]

    assert found.low is not None
    assert found.high is not None
    assert 0 <= found.low <= right / n <= found.high <= 1
    for end in (found.low, found.high):
        if 0 < end < 1:
            assert n * (right / n - end) ** 2 == pytest.approx(Z**2 * end * (1 - end))
    assert found.high - found.low > 0.02


def test_clusters_widen_the_interval_of_right_answers() -> None:
    """Of 40 items in 10 clusters that are right or wrong as a whole, 10 are independent; of all right ones, too."""
    halves = [Item(str(n), float(n // 4 < 6), cluster=str(n // 4)) for n in range(40)]
    alike = [attrs.evolve(item, value=1.0) for item in halves]
    mixed, sure = (score_quantity(score_of("sums", "acc", items)) for items in (halves, alike))
    ten = score_quantity(answers(*[1.0] * 10))

    assert (sure.low, sure.high) == pytest.approx((ten.low, ten.high))
    variance = 10 / 9 * 0.6 * 0.4 / 10
    n = 0.6 * 0.4 / variance
    assert n * (0.6 - mixed.low) ** 2 == pytest.approx(Z**2 * mixed.low * (1 - mixed.low))


def test_other_scores_have_students_interval() -> None:
    """Seven texts have six degrees of freedom: 2.447 standard errors."""
    score = answers(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    found = score_quantity(score)

    assert score.stderr is not None
    assert (found.low, found.high) == pytest.approx((0.4 - 2.446912 * score.stderr, 0.4 + 2.446912 * score.stderr))


def test_the_energy_is_that_of_the_headline() -> None:
    """All GPUs, measured, and nothing else; without a GPU processor and memory; modelled where nothing measures."""
    gpus = (reading(10.0, gpu="a"), reading(20.0, gpu="b"))
    others = (reading(5.0, "cpu"), reading(2.0, "dram"), reading(100.0, "node"))
    modelled = tuple(reading(one.energy_j, one.scope, "modelled", meter="other") for one in others)
    cases = (
        ((*others, *gpus), 30.0, "gpu", "measured"),
        (others, 7.0, "cpu+dram", "measured"),
        ((*modelled, others[2]), 100.0, "node", "measured"),
        (modelled, 7.0, "cpu+dram", "modelled"),
    )
    for energies, joules, scope, kind in cases:
        found = metrics(answers(1, 0), energies=energies)["evaluation_energy_j.sums"]
        assert (found.value, found.scope, found.kind) == (joules, scope, kind)
        assert found.low is None, "no meter of these states a bound"


@pytest.mark.parametrize(
    ("energies", "reason", "scope"),
    [
        ((), "no_meter", None),
        ((reading(None, reason="counter_reset"),), "counter_reset", "gpu"),
        ((reading(5.0, gpu="a"), reading(None, gpu="b", reason="meter_failed")), "meter_failed", "gpu"),
    ],
)
def test_without_an_energy_there_is_a_reason(energies: Any, reason: str, scope: str | None) -> None:
    """For each figure that needs it; the score and the time stand."""
    found = metrics(answers(1, 0), energies=energies)

    assert found["quality.sums"].value == 0.5
    assert found["evaluation_s.sums"].value == 12.5
    for name in ("evaluation_energy_j", "quality_per_joule", "energy_per_right_answer_j"):
        one = found[f"{name}.sums"]
        assert (one.value, one.reason, one.scope, one.unit) == (None, reason, scope, metric_of(f"{name}.x").unit)


def test_a_counter_that_did_not_move_gives_no_answers_per_joule() -> None:
    """Nothing is divided by 0 J."""
    found = metrics(answers(1, 0), energies=(reading(0.0),))

    assert found["quality_per_joule.sums"].reason == "counter_stuck"
    assert found["energy_per_right_answer_j.sums"].reason == "counter_stuck"


def test_no_right_answer_has_no_energy() -> None:
    """None per joule is 0, and the energy of a right answer is unknown."""
    found = metrics(answers(0, 0, 0), energies=(reading(60.0),))

    assert found["quality_per_joule.sums"].value == 0.0
    assert (found["energy_per_right_answer_j.sums"].value, found["energy_per_right_answer_j.sums"].reason) == (
        None,
        "no_right_answer",
    )


def test_only_right_and_wrong_answers_are_counted() -> None:
    """A score in between, such as F1 of an item, has quality per joule, and no right answers."""
    found = metrics(answers(0.5, 1, 0), energies=(reading(10.0),))

    assert found["quality_per_joule.sums"].value == pytest.approx(0.15)
    assert "energy_per_right_answer_j.sums" not in found


@pytest.mark.parametrize(
    "score",
    [
        answers(1, 0, higher_is_better=False),
        answers(1, 0, aggregation="exp"),
        Score("sums", "f1", 0.5, None, 2, items=(Item("a", 1.0), Item("b", 0.0)), aggregation="other"),
        score_of("sums", "acc", [Item("a", 1.0, weight=2.0), Item("b", 0.0)]),
        Score("sums", "acc", 0.5, None, 2),
    ],
    ids=["lower is better", "exp", "other", "weighted", "without items"],
)
def test_what_is_no_sum_of_items_is_not_divided_by_joules(score: Score) -> None:
    """Twice a perplexity is no amount of anything."""
    found = metrics(score, energies=(reading(10.0),))

    assert list(found) == ["quality.sums", "evaluation_s.sums", "evaluation_energy_j.sums"]
    assert found["quality.sums"].better == ("higher" if score.higher_is_better else "lower")


def test_a_score_without_an_error_has_no_interval() -> None:
    """Nor have the figures that follow from it: the bound of the reading alone would be too narrow."""
    found = metrics(attrs.evolve(answers(0.3, 0.4), stderr=None), energies=(reading(10.0, bound=1.0),))

    for name in ("quality", "quality_per_joule"):
        one = found[f"{name}.sums"]
        assert (one.low, one.high, one.confidence, one.covers) == (None, None, None, "")


def test_further_scores_have_no_figures_of_their_own() -> None:
    """The first one stands for the task."""
    found = metrics(answers(1, 0), Score("sums", "f1", 0.3, None, 2), energies=(reading(10.0),))

    assert found["quality.sums.f1"].score == "f1"
    assert "quality_per_joule.sums.f1" not in found


def test_other_terms_are_not_taken() -> None:
    """A score with another limit, or by another evaluator, is not what is asked for."""
    for changed in ({"terms": {"limit": 3}}, {"evaluator": "test"}, {"task": "words"}):
        found = quality_metrics(CONFIG, [attrs.evolve(evaluation(answers(1.0)), **changed)])
        assert list(found) == ["quality.sums"]
        assert found["quality.sums"].reason == "not_evaluated"
    assert quality_metrics({"quality": None}, [evaluation(answers(1.0))]) == {}


@pytest.mark.parametrize(
    ("name", "unit", "lower", "scoped"),
    [
        ("quality.a.b", "", False, False),
        ("quality_per_joule.a.b", "1/J", False, True),
        ("energy_per_right_answer_j.a.b", "J", False, True),
        ("evaluation_s.a.b", "s", False, False),
        ("evaluation_energy_j.a.b", "J", False, True),
    ],
)
def test_each_task_has_a_row(name: str, unit: str, lower: bool, scoped: bool) -> None:
    """Whatever is in its name."""
    metric = metric_of(name)

    assert (metric.name, metric.unit, metric.lower_is_better, metric.scoped) == (name, unit, lower, scoped)
    assert metric.label.endswith(": a.b")


def test_rows_of_tasks_come_last_and_scores_first() -> None:
    """As a stored result has them, sorted by their names, or in another order."""
    names = sorted([*metrics(answers(1, 0), energies=(reading(1.0),)), "quality.words", "power_w"])

    assert [metric.name for metric in shown("result", names)][-6:] == [
        "quality.sums", "quality.words", "quality_per_joule.sums", "energy_per_right_answer_j.sums",
        "evaluation_s.sums", "evaluation_energy_j.sums",
    ]  # fmt: skip
    assert [metric for place in ("study", "compare", "effects", "curve") for metric in shown(place, names)
            if "." in metric.name] == []  # fmt: skip


def test_a_failure_is_forgotten_once_each_task_has_its_score(make: Any) -> None:
    """Although no meter gives its energy: what is missing then is no evaluation."""
    document = make.experiment_document(**CONFIG)
    told = [{"code": "quality_failed", "severity": "warning", "message": "m", "evidence": {}}]
    for evaluations, codes in (([], ["quality_failed"]), ([evaluation(answers(1, 0))], [])):
        result = compute_result(
            document,
            [make.engine_document()],
            [],
            [],
            {},
            [{**make.outcome_document(), "findings": told}],
            {},
            evaluations,
        )
        assert [one.code for one in result.findings if one.code == "quality_failed"] == codes
