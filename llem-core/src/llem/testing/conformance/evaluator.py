"""What llem relies on in an evaluator."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import pytest

from llem.backends.base import Engine, Placement
from llem.backends.echo import EchoBackend
from llem.config.models import Experiment, Quality
from llem.errors import ConfigError, ExperimentFailed
from llem.evaluators.base import Context, Evaluator, Score
from llem.models.resolve import resolve_model
from llem.models.spec import ModelSpec
from llem.models.tokenizer import Tokenizer, load_tokenizer
from llem.testing.conformance.plugin import PluginConformance

__all__ = ["EvaluatorConformance"]


class EvaluatorConformance(PluginConformance):
    """Inherit, return the evaluator's reference, and give its section in the fixture `options`, with one task at least.

    Scores the engine `echo` on `shape:tiny` unless fixtures differ.
    """

    @pytest.fixture(scope="class")
    @classmethod
    def options(cls) -> Any:
        """The evaluator's own section: tasks that take seconds."""
        raise NotImplementedError("return the section: an evaluator has no default tasks")

    @pytest.fixture(scope="class")
    @classmethod
    def experiment(cls, options: Any) -> Experiment:
        """The configuration that was measured."""
        return Experiment(model="shape:tiny", backend="echo", quality=options)

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls, experiment: Experiment) -> ModelSpec:
        """Its model."""
        return resolve_model(experiment.model, revision=experiment.revision, seed=experiment.weights_seed)

    @pytest.fixture(scope="class")
    @classmethod
    def tokenizer(cls, model: ModelSpec) -> Tokenizer:
        """Its tokenizer."""
        return load_tokenizer(model)

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, experiment: Experiment, model: ModelSpec) -> Iterator[Engine]:
        """A loaded engine that has the capabilities which the evaluator needs."""
        engine = EchoBackend(None).load(experiment, model, Placement("cpu"))
        yield engine
        engine.close()

    def test_section_names_the_evaluator(self, options: Any) -> None:
        """A section is a `Quality` and is found by its name, or by no other plugin's."""
        assert isinstance(options, Quality)
        assert options.evaluator == self.reference().name

    def test_check_takes_known_tasks(self, options: Any, experiment: Experiment, model: ModelSpec) -> None:
        """What can be evaluated passes, and capabilities are named as backends declare them."""
        evaluator = self._evaluator(options)
        evaluator.check(experiment, model)
        assert set(evaluator.needs()) <= {"loglikelihood", "stop", "stream", "generate"}

    def test_check_refuses_an_unknown_task(self, options: Any, experiment: Experiment, model: ModelSpec) -> None:
        """A task that is not there is told in the plan, not after hours of trials."""
        wrong = attrs.evolve(options, tasks=("no such task, surely",))
        with pytest.raises(ConfigError):
            self._evaluator(wrong).check(attrs.evolve(experiment, quality=wrong), model)

    def test_scores_are_numbers(
        self, options: Any, engine: Engine, tokenizer: Tokenizer, experiment: Experiment, model: ModelSpec
    ) -> None:
        """Each task has a score; values, standard errors and items are finite, so that they can be stored."""
        for task in options.tasks:
            scores = self._scores(options, engine, tokenizer, self._context(task, experiment, model))
            assert scores, f"no score for {task}"
            for score in scores:
                assert math.isfinite(score.value)
                assert score.stderr is None or (math.isfinite(score.stderr) and score.stderr >= 0)
                assert score.n > 0
                assert all(math.isfinite(item.value) for item in score.items)

    def test_items_are_those_of_the_score(
        self, options: Any, engine: Engine, tokenizer: Tokenizer, experiment: Experiment, model: ModelSpec
    ) -> None:
        """As many items as the score counts, each named once, and the same names in the same order again."""
        for task in options.tasks:
            first, again = (
                self._scores(options, engine, tokenizer, self._context(task, experiment, model)) for _ in range(2)
            )
            for score, second in zip(first, again, strict=True):
                names = [item.id for item in score.items]
                assert len(names) in (0, score.n)
                assert len(set(names)) == len(names), "two items have one name"
                assert names == [item.id for item in second.items]

    def test_stop_is_honoured(
        self, options: Any, engine: Engine, tokenizer: Tokenizer, experiment: Experiment, model: ModelSpec
    ) -> None:
        """What `check_stop` raises ends the evaluation: Ctrl-C acts within hours of work."""

        def stop() -> None:
            raise ExperimentFailed("stopped by the user", "go on with `--resume`", code="interrupted")

        context = attrs.evolve(self._context(options.tasks[0], experiment, model), check_stop=stop)
        with pytest.raises(ExperimentFailed, match="stopped by the user"):
            self._scores(options, engine, tokenizer, context)

    def test_progress_is_told(
        self, options: Any, engine: Engine, tokenizer: Tokenizer, experiment: Experiment, model: ModelSpec
    ) -> None:
        """A worker that tells nothing is taken to hang: items that are done are told, up to all of them."""
        told: list[tuple[int, int]] = []
        context = self._context(options.tasks[0], experiment, model)
        context = attrs.evolve(context, progress=lambda done, total: told.append((done, total)))
        self._scores(options, engine, tokenizer, context)
        assert told, "progress was never told"
        assert all(0 <= done <= total for done, total in told)
        assert told == sorted(told)

    def test_description_can_be_stored(self, options: Any) -> None:
        """JSON values only."""
        told = dict(self._evaluator(options).describe())
        assert json.loads(json.dumps(told, allow_nan=False)) == told

    def _evaluator(self, options: Any) -> Evaluator:
        made: Evaluator = self.reference().load()(options)
        return made

    def _scores(self, options: Any, engine: Engine, tokenizer: Tokenizer, context: Context) -> Sequence[Score]:
        return self._evaluator(options).evaluate(engine, tokenizer, context)

    @staticmethod
    def _context(task: str, experiment: Experiment, model: ModelSpec) -> Context:
        return Context(task, experiment, model, progress=lambda done, total: None, check_stop=lambda: None)
