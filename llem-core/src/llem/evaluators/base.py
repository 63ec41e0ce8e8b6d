"""What an evaluator implements: it measures the quality of the configuration whose trials were measured.

And what the core checks of it before anything loads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar, Literal

import attrs

from llem.backends.base import Backend, Engine
from llem.config.models import Experiment, Quality
from llem.errors import BrokenPlugin, ConfigError, Problem
from llem.models.spec import ModelSpec
from llem.models.tokenizer import Tokenizer
from llem.plugins.culprit import asking
from llem.plugins.faults import capability_fault
from llem.plugins.registry import Registry

__all__ = ["Aggregation", "Context", "Evaluator", "Item", "Score", "check_loaded", "check_quality"]


#: How items make a score: "mean" is the weighted mean of their values; "exp" is e to that mean (a perplexity); "other"
#: is anything else (F1, BLEU), which no item has a part of.
Aggregation = Literal["mean", "exp", "other"]


@attrs.frozen
class Item:
    """One scored item of a task.

    Attributes:
        id: names the item by its content, the same with every engine, so that configurations are compared by items.
        value: the item's own score, on the scale that `Score.aggregation` takes the mean of.
        response: the engine's answer, or a digest of the answer.
        weight: the item's share in the score, above 0: bytes of a text for bits per byte, 1 for a right answer.
        cluster: what items that are not independent have in common, such as the document that they ask about. Empty:
            the item stands for itself.
    """

    id: str
    value: float
    response: str = ""
    weight: float = 1.0
    cluster: str = ""


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
        aggregation: how the items make the value. Two configurations are compared item by item unless it is "other".
    """

    task: str
    metric: str
    value: float
    stderr: float | None
    n: int
    higher_is_better: bool = True
    items: tuple[Item, ...] = ()
    aggregation: Aggregation = "mean"


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

    def prepare(self, tokenizer: Tokenizer, context: Context) -> None:
        """Read the task's data and make what needs no engine, before time and energy of the evaluation are counted.

        Called before each `evaluate`, on the same object. The default does nothing.
        """
        return None

    @abstractmethod
    def evaluate(self, engine: Engine, tokenizer: Tokenizer, context: Context) -> Sequence[Score]:
        """Score the engine's answers to one task. The score that stands for the task comes first.

        Called once for each task, after the engine's last trial. It may raise any error: the trials then stand, and the
        task has no score.
        """

    def describe(self) -> Mapping[str, Any]:
        """What to record beside the scores: versions, number of shots, data hashes; JSON values only."""
        return {}


def check_quality(experiment: Experiment, model: ModelSpec, registry: Registry, *, unmet: bool = False) -> None:
    """Ask the evaluator of an experiment that has one.

    Args:
        unmet: leave it out where what the evaluator needs is not installed, as for a plan.

    Raises:
        ConfigError: random weights that are not forced, a backend that lacks a capability, or as `Evaluator.check`;
            BrokenCheck: that raises anything else.
        UnknownPlugin, BrokenPlugin: no such evaluator, it does not import, or it needs a capability that there is not.
        MachineError: what it needs is not installed.
    """
    wanted: Quality = experiment.quality
    if model.weights == "random" and not wanted.force:
        hint = "use a real model, leave quality out, or set `quality.force: true` to try it out"
        raise _refusal(Problem("quality", f"the weights of {model.name} are random, so its answers mean nothing", hint))
    if unmet and registry.reference("evaluator", wanted.evaluator).missing():
        return
    evaluator: Evaluator = registry.load("evaluator", wanted.evaluator)(wanted)
    with asking("evaluator", wanted.evaluator, registry):
        evaluator.check(experiment, model)
    if wrong := next(filter(None, map(capability_fault, evaluator.needs())), None):
        raise BrokenPlugin(f"evaluator {wanted.evaluator!r} needs what no backend has: {wrong}", "tell its authors")
    known = registry.reference("backend", experiment.backend).capabilities
    if lacking := [name for name in evaluator.needs() if known.get(name) != "supported"]:
        about = f"these tasks need {' and '.join(lacking)}, which the {experiment.backend} backend does not support"
        raise _refusal(Problem("quality.tasks", about, "choose other tasks, or another backend"))
    if unmet and registry.reference("backend", experiment.backend).missing():
        return
    backend: Backend = registry.load("backend", experiment.backend)(experiment.options)
    _refuse_lacking(evaluator, lambda capability: backend.lacks(experiment, capability))


def check_loaded(experiment: Experiment, engine: Engine, registry: Registry) -> None:
    """Ask the loaded engine whether it has what the evaluator needs. Raises ConfigError where it has not."""
    _refuse_lacking(registry.load("evaluator", experiment.quality.evaluator)(experiment.quality), engine.lacks)


def _refuse_lacking(evaluator: Evaluator, lacks: Callable[[str], str | None]) -> None:
    for capability in evaluator.needs():
        if (why := lacks(capability)) is not None:
            about = f"these tasks need {capability}, which is not to be had: {why}"
            raise _refusal(Problem("quality.tasks", about, "change what the message names, or choose other tasks"))


def _refusal(problem: Problem) -> ConfigError:
    return ConfigError("quality cannot be evaluated", problems=(problem,))
