"""The suite of evaluators passes for one that is right, and catches what is wrong."""

from __future__ import annotations

import inspect
import math
from typing import Any

import attrs
import pytest

from llem.backends.base import Placement
from llem.backends.echo import EchoBackend
from llem.config.models import Experiment
from llem.models.resolve import resolve_model
from llem.models.tokenizer import load_tokenizer
from llem.plugins import Reference
from llem.testing.conformance import EvaluatorConformance

FAILED = (AssertionError, pytest.fail.Exception, ValueError)
MODEL = resolve_model("shape:tiny")


@pytest.fixture(autouse=True)
def _lab(lab: Any) -> None:
    """The plugin of the tests can be imported."""


CHECKS = [name for name in dir(EvaluatorConformance) if name.startswith("test_")]


def run(check: str, wrong: type | None = None) -> None:
    """One check of the suite, for the evaluator of the tests, or for one that differs from it."""
    import llem_lab

    class Kit(EvaluatorConformance):
        def reference(self) -> Reference:
            return Reference("spelling", "llem_lab:Spelling", config="llem_lab:SpellingOptions", summary="Spelling.")

        def _evaluator(self, options: Any) -> Any:
            return type("Made", (wrong, llem_lab.Spelling) if wrong else (llem_lab.Spelling,), {})(options)

    options = llem_lab.SpellingOptions(tasks=("fruit", "colour"))
    experiment = Experiment(backend="echo", quality=options)
    given = {
        "options": options,
        "experiment": experiment,
        "model": MODEL,
        "tokenizer": load_tokenizer(MODEL),
        "engine": EchoBackend(None).load(experiment, MODEL, Placement("cpu")),
    }
    method = getattr(Kit(), check)
    method(**{name: given[name] for name in inspect.signature(method).parameters})


@pytest.mark.process  # one check imports the plugin in a process of its own
@pytest.mark.parametrize("check", CHECKS)
def test_a_right_evaluator_passes(check: str) -> None:
    """Every check of the suite holds for it."""
    run(check)


class Prepared:
    """Right: what it needs, it reads when it is prepared."""

    def prepare(self, tokenizer: Any, context: Any) -> None:
        self.read = context.task

    def evaluate(self, engine: Any, tokenizer: Any, context: Any) -> Any:
        assert self.read == context.task
        return super().evaluate(engine, tokenizer, context)  # type: ignore[misc]


EVALUATING = [name for name in CHECKS if "engine" in inspect.signature(getattr(EvaluatorConformance, name)).parameters]


@pytest.mark.parametrize("check", EVALUATING)
def test_each_check_prepares_first(check: str) -> None:
    """An evaluator that reads its data there passes."""
    run(check, Prepared)


class TakesAnything:
    def check(self, experiment: Any, model: Any) -> None:
        return None


class NeedsMagic:
    def needs(self) -> tuple[str, ...]:
        return ("magic",)


class Changed:
    """Scores with one thing changed."""

    def changed(self, score: Any) -> Any:
        raise NotImplementedError

    def evaluate(self, *given: Any) -> Any:
        first, *rest = super().evaluate(*given)  # type: ignore[misc]
        return [self.changed(first), *rest]


class NotANumber(Changed):
    def changed(self, score: Any) -> Any:
        return attrs.evolve(score, value=math.nan)


class OneItemLess(Changed):
    def changed(self, score: Any) -> Any:
        return attrs.evolve(score, items=score.items[1:])


class OneNameForAll(Changed):
    def changed(self, score: Any) -> Any:
        return attrs.evolve(score, items=tuple(attrs.evolve(item, id="x") for item in score.items))


class NeverTheSameNames(Changed):
    def changed(self, score: Any) -> Any:
        return attrs.evolve(score, items=tuple(attrs.evolve(item, id=str(id(item))) for item in score.items))


class NoScore:
    def evaluate(self, *given: Any) -> Any:
        return []


class Deaf:
    def evaluate(self, engine: Any, tokenizer: Any, context: Any) -> Any:
        return super().evaluate(engine, tokenizer, attrs.evolve(context, check_stop=lambda: None))  # type: ignore[misc]


class Mute:
    def evaluate(self, engine: Any, tokenizer: Any, context: Any) -> Any:
        return super().evaluate(engine, tokenizer, attrs.evolve(context, progress=lambda *_: None))  # type: ignore[misc]


class OffByALittle(Changed):
    def changed(self, score: Any) -> Any:
        return attrs.evolve(score, value=score.value + 1e-6)


class NoWeight(Changed):
    def changed(self, score: Any) -> Any:
        return attrs.evolve(score, items=tuple(attrs.evolve(item, weight=0.0) for item in score.items))


class OwnAggregation(Changed):
    def changed(self, score: Any) -> Any:
        return attrs.evolve(score, aggregation="median")


class Capricious(Changed):
    turns = 0

    def changed(self, score: Any) -> Any:
        Capricious.turns += 1
        return attrs.evolve(score, higher_is_better=Capricious.turns % 2 == 0)


class TwoOfOneName(Changed):
    def evaluate(self, *given: Any) -> Any:
        return [*super().evaluate(*given)] * 2  # type: ignore[misc]

    def changed(self, score: Any) -> Any:
        return score


class AddsUp:
    """Its items grow by those of each preparation."""

    def prepare(self, tokenizer: Any, context: Any) -> None:
        self.read = [*getattr(self, "read", ()), context.task]

    def evaluate(self, *given: Any) -> Any:
        first, *rest = super().evaluate(*given)  # type: ignore[misc]
        more = [attrs.evolve(item, id=f"{item.id} {n}") for n in range(len(self.read)) for item in first.items]
        return [attrs.evolve(first, items=tuple(more), n=len(more)), *rest]


class Unlimited:
    def evaluate(self, *given: Any) -> Any:
        self.options = attrs.evolve(self.options, limit=None)  # type: ignore[has-type]
        return super().evaluate(*given)  # type: ignore[misc]


class OthersOfALimit(Changed):
    def changed(self, score: Any) -> Any:
        if self.options.limit is None:  # type: ignore[attr-defined]
            return score
        return attrs.evolve(score, items=tuple(attrs.evolve(item, id=f"few {item.id}") for item in score.items))


class TellsATuple:
    def describe(self) -> dict[str, Any]:
        return {"shots": (0, 5)}


@pytest.mark.parametrize(
    ("wrong", "check"),
    [
        (TakesAnything, "test_check_refuses_an_unknown_task"),
        (NeedsMagic, "test_check_takes_known_tasks"),
        (NotANumber, "test_scores_are_numbers"),
        (NoScore, "test_scores_are_numbers"),
        (OneItemLess, "test_items_are_those_of_the_score"),
        (OneNameForAll, "test_items_are_those_of_the_score"),
        (NeverTheSameNames, "test_items_are_those_of_the_score"),
        (NoWeight, "test_scores_are_numbers"),
        (OwnAggregation, "test_scores_are_numbers"),
        (OffByALittle, "test_scores_follow_from_their_items"),
        (Capricious, "test_the_kind_of_a_score_is_stable"),
        (TwoOfOneName, "test_the_kind_of_a_score_is_stable"),
        (AddsUp, "test_prepare_may_be_called_again"),
        (Unlimited, "test_a_limit_is_honoured"),
        (OthersOfALimit, "test_a_limit_is_honoured"),
        (Deaf, "test_stop_is_honoured"),
        (Mute, "test_progress_is_told"),
        (TellsATuple, "test_description_can_be_stored"),
    ],
)
def test_a_wrong_evaluator_is_caught(wrong: type, check: str) -> None:
    """Each fault by the check that is for it."""
    with pytest.raises(FAILED):
        run(check, wrong)
