"""The suite of evaluators passes for one that is right, and catches what is wrong."""

from __future__ import annotations

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
    method(**{name: given[name] for name in method.__code__.co_varnames[1 : method.__code__.co_argcount]})


@pytest.mark.process  # one check imports the plugin in a process of its own
@pytest.mark.parametrize("check", CHECKS)
def test_a_right_evaluator_passes(check: str) -> None:
    """Every check of the suite holds for it."""
    run(check)


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
        (Deaf, "test_stop_is_honoured"),
        (Mute, "test_progress_is_told"),
        (TellsATuple, "test_description_can_be_stored"),
    ],
)
def test_a_wrong_evaluator_is_caught(wrong: type, check: str) -> None:
    """Each fault by the check that is for it."""
    with pytest.raises(FAILED):
        run(check, wrong)
