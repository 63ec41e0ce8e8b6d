"""The evaluator's interface, held by a small real one."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from llem.backends.base import Engine, Placement, Request
from llem.backends.echo import EchoBackend
from llem.config.models import Experiment, Sampling
from llem.evaluators.base import Context, Evaluator, Score
from llem.models.resolve import resolve_model
from llem.models.spec import ModelSpec
from llem.models.tokenizer import Tokenizer, load_tokenizer


class Repeats(Evaluator):
    """How often the answer begins with the question."""

    name = "repeats"

    def check(self, experiment: Experiment, model: ModelSpec) -> None:
        return None

    def evaluate(self, engine: Engine, tokenizer: Tokenizer, context: Context) -> Sequence[Score]:
        ids = tuple(tokenizer.encode(self.options))
        (answer,) = engine.generate([Request(0, ids, len(ids))], Sampling())
        return [Score("repeats", "exact", float(answer.token_ids == ids), stderr=None, n=1)]


def test_evaluator_scores_the_engine_it_is_given() -> None:
    """An evaluator needs the engine and the tokenizer, and nothing else."""
    model = resolve_model("shape:tiny")
    engine = EchoBackend(None).load(Experiment(backend="echo"), model, Placement("cpu"))
    context = Context("repeats", Experiment(backend="echo"), model, lambda done, total: None, lambda: None)
    (score,) = Repeats("hello").evaluate(engine, load_tokenizer(model), context)
    assert (score.value, score.n, score.higher_is_better) == (1.0, 1, True)


def test_evaluate_must_be_written() -> None:
    """A class without it cannot be constructed."""
    with pytest.raises(TypeError, match="evaluate"):
        type("Empty", (Evaluator,), {"name": "empty"})(None)
