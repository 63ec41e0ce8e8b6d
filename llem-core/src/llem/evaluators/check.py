"""Whether the quality that a configuration asks for can be evaluated, before anything is loaded."""

from __future__ import annotations

from llem.config.models import Experiment, Quality
from llem.errors import ConfigError, Problem
from llem.evaluators.base import Evaluator
from llem.models.spec import ModelSpec
from llem.plugins.registry import Registry

__all__ = ["check_quality"]


def check_quality(experiment: Experiment, model: ModelSpec, registry: Registry, *, unmet: bool = False) -> None:
    """Ask the evaluator, where there is one.

    Args:
        unmet: leave it out where what the evaluator needs is not installed, as for a plan.

    Raises:
        ConfigError: random weights that are not forced, a backend that lacks a capability, or as `Evaluator.check`.
        UnknownPlugin, BrokenPlugin: no such evaluator, or it does not import.
        MachineError: what it needs is not installed.
    """
    wanted: Quality | None = experiment.quality
    if wanted is None:
        return
    if model.weights == "random" and not wanted.force:
        hint = "use a real model, leave quality out, or set `quality.force: true` to try it out"
        raise _refusal(Problem("quality", f"the weights of {model.name} are random, so its answers mean nothing", hint))
    if unmet and registry.reference("evaluator", wanted.evaluator).missing():
        return
    evaluator: Evaluator = registry.load("evaluator", wanted.evaluator)(wanted)
    known = registry.reference("backend", experiment.backend).capabilities
    if lacking := [name for name in evaluator.needs() if known.get(name) != "supported"]:
        about = f"these tasks need {' and '.join(lacking)}, which the {experiment.backend} backend does not support"
        raise _refusal(Problem("quality.tasks", about, "choose other tasks, or another backend"))
    evaluator.check(experiment, model)


def _refusal(problem: Problem) -> ConfigError:
    return ConfigError("quality cannot be evaluated", problems=(problem,))
