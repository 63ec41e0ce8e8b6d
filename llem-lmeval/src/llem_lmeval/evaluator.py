"""The evaluator: lm-eval asks the loaded engine, and its scores become llem's."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import math
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import version
from typing import Any, ClassVar

import attrs
from lm_eval.evaluator import evaluate

from llem.backends.base import Engine
from llem.config.models import Experiment
from llem.errors import ConfigError, ExperimentFailed
from llem.evaluators.base import Context, Evaluator, Score
from llem.models.spec import ModelSpec
from llem.models.tokenizer import Tokenizer
from llem_lmeval.checks import configure, facts, no_template, template_problems
from llem_lmeval.config import LmEvalOptions
from llem_lmeval.model import EngineLM
from llem_lmeval.quiet import Draws, Progress, quiet
from llem_lmeval.scores import items_hash, scores_of
from llem_lmeval.tasks import Loaded, find, load

__all__ = ["LmEvalEvaluator"]


#: Settings of a task that name files.
PATHS = ("dataset_kwargs", "config_source")


@attrs.frozen
class _Ready:
    """A task that is loaded, and the random numbers that it draws."""

    task: str
    loaded: Loaded
    draws: Draws


class LmEvalEvaluator(Evaluator):
    """Tasks of lm-eval on the loaded engine."""

    name: ClassVar[str] = "lmeval"
    options: LmEvalOptions

    def __init__(self, options: LmEvalOptions) -> None:
        super().__init__(options)
        self._ready: _Ready | None = None
        self._about: dict[str, Any] = {}

    def needs(self) -> Collection[str]:
        """What the tasks ask for: "loglikelihood" to choose and to score texts, "stop" to answer."""
        return sorted(facts(self.options).needs)

    def check(self, experiment: Experiment, model: ModelSpec) -> None:
        """Find and load every task, make its first request, and refuse what cannot be evaluated.

        Raises:
            ConfigError: an unknown or broken task, data that cannot be reached, settings that no task can be asked
                with.
        """
        problems = (*facts(self.options).problems, *template_problems(self.options, model))
        if problems:
            raise ConfigError("these tasks cannot be evaluated", problems=problems)

    def prepare(self, tokenizer: Tokenizer, context: Context) -> None:
        """Load the task with its data.

        Raises:
            ConfigError: the model has no chat template, and one is to be applied; the task is unknown.
        """
        if self.options.apply_chat_template and not tokenizer.chat_template:
            raise ConfigError("these tasks cannot be evaluated", problems=(no_template(context.model),))
        index = find(attrs.evolve(self.options, tasks=(context.task,)))
        with quiet(context.check_stop), Draws(self.options.seeds) as draws:
            loaded = load(index, context.task)
            configure(loaded, self.options)
        self._ready = _Ready(context.task, loaded, draws)

    def evaluate(self, engine: Engine, tokenizer: Tokenizer, context: Context) -> Sequence[Score]:
        """Score one task, group or tag.

        Raises:
            ConfigError: texts that this engine cannot take, such as answers longer than its context.
            ExperimentFailed: the task's score is no number, or the user stopped.
        """
        if self._ready is None or self._ready.task != context.task:
            self.prepare(tokenizer, context)
        assert self._ready is not None
        ready, self._ready = self._ready, None  # lm-eval leaves the answers in its tasks: they serve once
        progress = Progress(context.progress, context.check_stop, lambda: _requests(ready.loaded))
        lm = EngineLM(engine, tokenizer, self.options, context.model.name, progress)
        with quiet(progress.alive), ready.draws:
            results = self._results(lm, ready.loaded)
            scores = scores_of(ready.loaded, results, self.options.cluster_by)
        kept = _finite(scores)
        left_out = [f"{one.task}.{one.metric}" for one in scores if one not in kept]
        self._about = {**_about(results, lm), "chat_template": _digest(self._template(lm)), "no_number": left_out}
        return kept

    def _results(self, lm: EngineLM, loaded: Loaded) -> Mapping[str, Any]:
        options = self.options
        multiturn = options.fewshot_as_multiturn
        found: Mapping[str, Any] = evaluate(
            lm=lm,
            task_dict={"tasks": dict(loaded.tasks), "groups": dict(loaded.groups)},
            limit=options.limit,
            bootstrap_iters=options.bootstrap_iters,
            system_instruction=options.system_instruction,
            apply_chat_template=options.apply_chat_template,
            fewshot_as_multiturn=options.apply_chat_template if multiturn is None else multiturn,
            confirm_run_unsafe_code=options.confirm_run_unsafe_code,
        )
        return found

    def _template(self, lm: EngineLM) -> str | None:
        return lm.chat_template(self.options.apply_chat_template)

    def describe(self) -> Mapping[str, Any]:
        """Versions, shots, seeds, hashes, batch sizes in effect, and how many texts were cut; after `evaluate`."""
        return {"lm_eval": version("lm_eval"), "seeds": attrs.asdict(self.options.seeds), **self._about}


def _requests(loaded: Loaded) -> int:
    """All requests that lm-eval has made."""
    return sum(one.repeats or 1 for task in loaded.tasks.values() for one in task.instances or ())


def _finite(scores: Sequence[Score]) -> tuple[Score, ...]:
    """Scores that can be stored. Further scores that are no number are left out, and named in `describe`.

    Raises ExperimentFailed where the score that stands for the task is none.
    """
    kept = tuple(one for one in scores if _is_finite(one))
    if not kept or kept[0] is not scores[0]:
        first = scores[0]
        wrong = sum(not math.isfinite(item.value) for item in first.items)
        about = f"{first.task}: {first.metric} is {first.value}, and {wrong} of {first.n} items have no finite value"
        raise ExperimentFailed(about, "the model may give such texts no probability at all", "quality")
    return kept


def _is_finite(score: Score) -> bool:
    return math.isfinite(score.value) and all(math.isfinite(item.value) for item in score.items)


def _about(results: Mapping[str, Any], lm: EngineLM) -> dict[str, Any]:
    """JSON values: lm-eval has numpy's among its own."""
    filters = {
        name: list(dict.fromkeys(str(row["filter"]) for row in rows)) for name, rows in results["samples"].items()
    }
    return {
        "task_versions": {name: str(one) for name, one in results["versions"].items()},
        "num_fewshot": {name: int(shots or 0) for name, shots in results["n-shot"].items()},
        # named as versions are, so that a task that was changed is not compared with what it was
        "task_version_hashes": {name: _digest(_content(one)) for name, one in results["configs"].items()},
        "documents": {name: dict(one) for name, one in results["n-samples"].items()},
        "document_hashes": items_hash(results),
        "filters": filters,
        "max_length": lm.max_length,
        "batch_size": lm.batch_size,
        "cut_texts": lm.cut,
        "system_dropped": lm.system_dropped,
    }


def _content(value: Any) -> str:
    """A task's settings as text, the same in every process and wherever its files lie: functions by their source, and
    without the paths of its data, whose documents have a hash of their own."""
    if isinstance(value, Mapping):
        kept = {str(name): one for name, one in value.items() if name not in PATHS}
        return "{" + ", ".join(f"{name!r}: {_content(one)}" for name, one in sorted(kept.items())) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_content, value)) + "]"
    if isinstance(value, functools.partial):
        return _content([value.func, value.args, value.keywords])
    if value is None or isinstance(value, (str, int, float)):
        return repr(value)
    with contextlib.suppress(TypeError, OSError):  # no function or class, or one whose file is gone
        return inspect.getsource(value)
    return str(getattr(value, "__qualname__", type(value).__qualname__))


def _digest(text: str | None) -> str | None:
    return None if text is None else hashlib.sha256(text.encode()).hexdigest()[:16]
