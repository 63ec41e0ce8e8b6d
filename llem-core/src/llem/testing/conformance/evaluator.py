"""What llem relies on in an evaluator."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import pytest

from llem.backends.base import Engine, Placement
from llem.backends.echo import EchoBackend
from llem.config.models import Experiment, Quality
from llem.errors import ConfigError, ExperimentFailed
from llem.evaluators.base import Context, Evaluator, Score
from llem.evaluators.contract import score_breaches
from llem.evaluators.items import follows, value_of
from llem.models.resolve import resolve_model
from llem.models.spec import ModelSpec
from llem.models.tokenizer import Tokenizer, load_tokenizer
from llem.plugins.faults import capability_fault
from llem.testing.conformance.plugin import PluginConformance
from llem.testing.conformance.told import expect, keep

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
        expect(options.evaluator, self.reference().name)

    def test_check_takes_known_tasks(self, options: Any, experiment: Experiment, model: ModelSpec) -> None:
        """What can be evaluated passes, and capabilities are named as backends declare them."""
        evaluator = self._evaluator(options)
        evaluator.check(experiment, model)
        expect([wrong for name in evaluator.needs() if (wrong := capability_fault(name)) is not None], [])

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
            expect([score.metric for score in scores if score.n < 1], [], f"scores of {task} without an item")
            keep(score_breaches(scores))

    def test_scores_follow_from_their_items(
        self, options: Any, engine: Engine, tokenizer: Tokenizer, experiment: Experiment, model: ModelSpec
    ) -> None:
        """A score is the weighted mean of its items, or e to it, unless it says "other": pairs are formed of items."""
        for task in options.tasks:
            for score in self._scores(options, engine, tokenizer, self._context(task, experiment, model)):
                made = value_of(score.items, score.aggregation)
                assert follows(score), f"{score.metric} is {score.value}, and its items make {made}"

    def test_the_kind_of_a_score_is_stable(
        self, options: Any, engine: Engine, tokenizer: Tokenizer, experiment: Experiment, model: ModelSpec
    ) -> None:
        """The same scores again are of the same task and metric, in the same order, direction and aggregation."""
        for task in options.tasks:
            context = self._context(task, experiment, model)
            first, again = (self._scores(options, engine, tokenizer, context) for _ in range(2))
            expect([_kind(score) for score in first], [_kind(score) for score in again])
            names = [(score.task, score.metric) for score in first]
            expect(len(set(names)), len(names), "two scores have one name")

    def test_prepare_may_be_called_again(
        self, options: Any, engine: Engine, tokenizer: Tokenizer, experiment: Experiment, model: ModelSpec
    ) -> None:
        """The same object prepared and evaluated twice gives the same items: what it read is not added to."""
        for task in options.tasks:
            evaluator, context, found = self._evaluator(options), self._context(task, experiment, model), []
            for _ in range(2):
                evaluator.prepare(tokenizer, context)
                found.append(evaluator.evaluate(engine, tokenizer, context))
            first, again = ([[item.id for item in score.items] for score in scores] for scores in found)
            expect(first, again)

    def test_a_limit_is_honoured(
        self, options: Any, engine: Engine, tokenizer: Tokenizer, experiment: Experiment, model: ModelSpec
    ) -> None:
        """`limit: 1` takes fewer items where there are several that stand for themselves, and no others."""
        few = attrs.evolve(options, limit=1)
        for task in options.tasks:
            whole = self._scores(options, engine, tokenizer, self._context(task, experiment, model))[0]
            limited = attrs.evolve(experiment, quality=few)
            one = self._scores(few, engine, tokenizer, self._context(task, limited, model))[0]
            assert {item.id for item in one.items} <= {item.id for item in whole.items}
            if options.limit != 1 and len(_apart(whole)) > 1:
                assert len(_apart(one)) < len(_apart(whole)), "`limit` is ignored"

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
                expect(len(set(names)), len(names), "two items have one name")
                expect(names, [item.id for item in second.items])

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
        expect(told, sorted(told))

    def test_description_can_be_stored(self, options: Any) -> None:
        """JSON values only."""
        told = dict(self._evaluator(options).describe())
        expect(json.loads(json.dumps(told, allow_nan=False)), told)

    def _evaluator(self, options: Any) -> Evaluator:
        made: Evaluator = self.reference().load()(options)
        return made

    def _scores(self, options: Any, engine: Engine, tokenizer: Tokenizer, context: Context) -> Sequence[Score]:
        evaluator = self._evaluator(options)
        evaluator.prepare(tokenizer, context)
        return evaluator.evaluate(engine, tokenizer, context)

    @staticmethod
    def _context(task: str, experiment: Experiment, model: ModelSpec) -> Context:
        return Context(task, experiment, model, progress=lambda done, total: None, check_stop=lambda: None)


def _kind(score: Score) -> tuple[Any, ...]:
    return score.task, score.metric, score.higher_is_better, score.aggregation


def _apart(score: Score) -> set[str]:
    """What stands for itself: clusters, and items without one."""
    return {item.cluster or item.id for item in score.items}
