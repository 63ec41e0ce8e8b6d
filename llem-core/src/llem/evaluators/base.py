"""What an evaluator implements: it measures the quality of the configuration whose trials were measured."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar

import attrs

from llem.backends.base import Engine
from llem.config.models import Experiment, Quality
from llem.models.spec import ModelSpec
from llem.models.tokenizer import Tokenizer

__all__ = ["Context", "Evaluator", "Item", "Score"]


@attrs.frozen
class Item:
    """One scored item of a task.

    Attributes:
        id: names the item by its content, the same with every engine, so that configurations are compared by items.
        value: the item's part of the score.
        response: the engine's answer, or a digest of the answer.
    """

    id: str
    value: float
    response: str = ""


@attrs.frozen
class Score:
    """One figure of quality.

    Attributes:
        task: name of the task, such as `arc_easy`.
        metric: name of the score, such as `acc_norm`.
        value: the score.
        stderr: standard error of the score; None if the evaluator states none.
        n: number of items behind the score.
        higher_is_better: whether a higher value is better.
        items: all items, each once; empty if the evaluator keeps none.
    """

    task: str
    metric: str
    value: float
    stderr: float | None
    n: int
    higher_is_better: bool = True
    items: tuple[Item, ...] = ()


@attrs.frozen
class Context:
    """What one evaluation is about, and how it reports progress.

    Attributes:
        task: the task to evaluate, one of the section's `tasks`.
        experiment: the measured configuration; of several that share the engine, the first.
        model: the experiment's model.
        progress: call it with the number of items done and of all items. llem ends a worker that is silent for long.
        check_stop: call it between batches. It raises ExperimentFailed once the user stops the study; let it through.
    """

    task: str
    experiment: Experiment
    model: ModelSpec
    progress: Callable[[int, int], None]
    check_stop: Callable[[], None]


class Evaluator(ABC):
    """Scores a loaded engine. Constructed with its own section of the configuration, which must be cheap."""

    name: ClassVar[str]

    def __init__(self, options: Quality) -> None:
        self.options: Any = options

    def needs(self) -> Collection[str]:
        """Capabilities that a backend must have for these tasks, such as "loglikelihood" and "stop". Default: none."""
        return ()

    @abstractmethod
    def check(self, experiment: Experiment, model: ModelSpec) -> None:
        """Refuse tasks that cannot be evaluated. Called before anything is loaded, also by `llem plan`.

        Raises ConfigError for an unknown task.
        """

    @abstractmethod
    def evaluate(self, engine: Engine, tokenizer: Tokenizer, context: Context) -> Sequence[Score]:
        """Score the engine's answers to one task. The score that stands for the task comes first.

        Called once for each task, after the engine's last trial. It may raise any error: the trials then stand, and the
        task has no score.
        """

    def describe(self) -> Mapping[str, Any]:
        """What to record beside the scores: versions, number of shots, data hashes; JSON values only."""
        return {}
