"""What a backend says of a configuration before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from llem.backends.base import Backend, Placement
from llem.config.models import Experiment
from llem.errors import ConfigError, Problem
from llem.findings import Finding
from llem.models.spec import ModelSpec
from llem.plugins.registry import Registry

__all__ = ["check_backend", "check_placed"]


def check_backend(
    experiment: Experiment, model: ModelSpec, registry: Registry, *, unmet: bool = False
) -> Sequence[Finding]:
    """Ask the backend whether it takes this configuration; what it remarks without refusing.

    Args:
        unmet: ask although the engine itself is not installed, as for a plan.

    Raises:
        ConfigError: listing what it refuses.
        UnknownPlugin, BrokenPlugin: no such backend, or it does not import.
        MachineError: the engine is not installed.
    """
    _check_stream(experiment, registry)
    backend = registry.load("backend", experiment.backend, unmet=unmet)(experiment.options)
    found: Sequence[Finding] = backend.check(experiment, model)
    refused = tuple(_problem(one, experiment.backend) for one in found if one.severity == "error")
    if refused:
        raise ConfigError(f"the {experiment.backend} backend refuses this configuration", problems=refused)
    return [one for one in found if one.severity != "error"]


def check_placed(backend: Backend, experiment: Experiment, model: ModelSpec, placement: Placement) -> None:
    """Check again what hung on `device: auto`, now that it is decided. Raises ConfigError listing what is refused."""
    placed = attrs.evolve(experiment, device="cuda" if placement.device == "cuda" else "cpu")
    refusals = [found for found in backend.check(placed, model) if found.severity == "error"]
    if refusals:
        raise ConfigError(
            f"backend {backend.name} cannot run this on {placement.device}",
            problems=tuple(Problem("", refusal.message) for refusal in refusals),
        )


def _problem(refusal: Finding, backend: str) -> Problem:
    """The refusal at the parameter that it names; its message may begin with that parameter."""
    path = str(refusal.evidence.get("parameter") or refusal.evidence.get("field") or backend)
    return Problem(path, refusal.message.removeprefix(f"{path}: "))


def _check_stream(experiment: Experiment, registry: Registry) -> None:
    """A serving load needs a backend that streams."""
    kind = experiment.load.kind
    if kind == "offline" or _streams(experiment.backend, registry):
        return
    able = [name for name in registry.names("backend") if _streams(name, registry)]
    hint = f"use {{kind: offline}}, or a backend that does: {', '.join(able)}"
    message = f"is {kind!r}, and the {experiment.backend} backend does not stream"
    raise ConfigError(
        f"the {experiment.backend} backend refuses this configuration",
        problems=(Problem("load.kind", message, hint),),
    )


def _streams(backend: str, registry: Registry) -> bool:
    return registry.reference("backend", backend).capabilities.get("stream") == "supported"
