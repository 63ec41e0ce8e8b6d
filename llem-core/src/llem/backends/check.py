"""What a backend says of a configuration before anything is loaded, and what backends refuse alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import attrs

from llem.backends.base import Backend, Placement, Scored
from llem.backends.forms import findings_breaches
from llem.config.load import COMMAND
from llem.config.models import Experiment, Sampling
from llem.errors import TELL_AUTHORS, BrokenCheck, ConfigError, LlemError, MachineError, Problem
from llem.findings import Finding, finding
from llem.models.spec import ModelSpec
from llem.plugins.culprit import asking
from llem.plugins.registry import Registry

__all__ = [
    "Refusal",
    "adapter_refusals",
    "check_backend",
    "check_placed",
    "check_scored",
    "files_failure",
    "refused",
    "sampling_refusals",
]

#: Parameter and what is wrong with it.
Refusal = tuple[str, str]


def refused(refusals: Iterable[Refusal]) -> list[Finding]:
    """What a backend's `check` returns for them: findings `backend_check`, each with its parameter."""
    return [finding("backend_check", f"{path}: {message}", parameter=path) for path, message in refusals]


def sampling_refusals(sampling: Sampling) -> Iterator[Refusal]:
    """Settings of `sampling` that no engine can follow: a penalty that divides by 0, a choice that greedy ignores."""
    if sampling.repetition_penalty is not None and sampling.repetition_penalty <= 0:
        yield "sampling.repetition_penalty", "must be above 0; 1 is no penalty"
    for name in ("top_k", "top_p", "min_p"):
        if sampling.temperature == 0 and getattr(sampling, name) is not None:
            yield f"sampling.{name}", "has no effect at temperature 0 (greedy); leave it out or raise temperature"


def adapter_refusals(path: str, adapter: str) -> Iterator[Refusal]:
    """An adapter by the name of a folder that is none, or holds none. Any other name may be one of a hub."""
    folder = Path(adapter)
    if folder.is_dir():
        if not (folder / "adapter_config.json").is_file():
            yield path, f"{adapter} holds no adapter_config.json, so it is no adapter"
    elif adapter.startswith((".", "/", "~")):
        yield path, f"there is no folder {adapter}"


def check_scored(requests: Sequence[Scored], most: int | None, limit: str) -> None:
    """For the beginning of an engine's `loglikelihood`: no text has more tokens than the engine's `scored_length`, and
    something precedes each continuation.

    Args:
        most: that length; None refuses nothing.
        limit: in words, where it comes from, such as "the model's positions and one token that is only predicted".

    Raises ConfigError for one of which that is not so, before any is scored.
    """
    if any(one.continuation and not one.context for one in requests):
        hint = "give the token that begins texts, or else the one that ends them"
        raise ConfigError("a continuation follows no token, and a model predicts nothing from nothing", hint)
    longest = max((len(one.context) + len(one.continuation) for one in requests), default=0)
    if most is not None and longest > most:
        hint = "shorten texts to the engine's `scored_length`, from the left, before they are scored"
        raise ConfigError(f"a text of {longest} tokens exceeds the {most} that are scored: {limit}", hint)


def check_backend(
    experiment: Experiment, model: ModelSpec, registry: Registry, *, unmet: bool = False
) -> Sequence[Finding]:
    """Ask the backend whether it takes this configuration; what it remarks without refusing.

    Args:
        unmet: ask although the engine itself is not installed, as for a plan.

    Raises:
        ConfigError: listing what it refuses.
        BrokenCheck: it raises anything else, or gives no list of findings.
        UnknownPlugin, BrokenPlugin: no such backend, or it does not import.
        MachineError: the engine is not installed.
    """
    _check_stream(experiment, registry)
    made = registry.load("backend", experiment.backend, unmet=unmet)
    with asking("backend", experiment.backend, registry):
        found = _found(made(experiment.options), experiment, model)
    problems = tuple(_problem(one, experiment.backend) for one in found if one.severity == "error")
    if problems:
        raise ConfigError(f"the {experiment.backend} backend refuses this configuration", problems=problems)
    return [one for one in found if one.severity != "error"]


def _found(backend: Backend, experiment: Experiment, model: ModelSpec) -> Sequence[Finding]:
    """What its `check` gives, which are findings. Raises BrokenCheck where it gives anything else."""
    found = backend.check(experiment, model)
    for breach in findings_breaches("check", found):
        told = f"the backend {experiment.backend!r} breaks a rule of backends: {breach}"
        raise BrokenCheck(told, TELL_AUTHORS)
    return found


def check_placed(backend: Backend, experiment: Experiment, model: ModelSpec, placement: Placement) -> None:
    """Check again what hung on `device: auto`, now that it is decided. Raises ConfigError listing what is refused."""
    placed = attrs.evolve(experiment, device="cuda" if placement.device == "cuda" else "cpu")
    refusals = [found for found in _found(backend, placed, model) if found.severity == "error"]
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
    if kind == COMMAND and experiment.backend != COMMAND:
        problem = Problem("load.kind", "is `command`, which is for the backend `command`", "use `llem meter`")
        raise ConfigError(f"the {experiment.backend} backend refuses this configuration", problems=(problem,))
    if kind in ("offline", COMMAND) or _streams(experiment.backend, registry):
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


def files_failure(what: str, told: str, *, unreachable: bool) -> LlemError:
    """The error for an OSError while a model's files were sought.

    Args:
        what: "model 'name'", say.
        told: what the engine said, in one line.
        unreachable: the files are somewhere that could not be reached, rather than missing.
    """
    if unreachable:
        return MachineError(f"cannot fetch {what}: {told}", "check the network, or name a folder that holds the files")
    return ConfigError(
        f"cannot load {what}: {told}",
        "check the name and the revision, log in where the model is gated, or name a folder with config.json "
        "and weights",
    )
