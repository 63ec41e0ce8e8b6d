"""The backend `command`: nothing is loaded, and the load is a program that runs."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, ClassVar

import attrs

from llem.backends.base import Backend, Completion, Engine, Holding, MemoryReading, Placement, Request
from llem.backends.check import Refusal, refused
from llem.config.load import COMMAND
from llem.config.models import PRESETS, CommandLoad, Experiment, Sampling
from llem.devices.nvml import Nvml
from llem.errors import ConfigError, LlemError
from llem.findings import Finding
from llem.models.spec import Architecture, ModelSpec

__all__ = ["GIVEN", "CommandBackend", "CommandEngine", "Given", "find_program"]


@attrs.frozen
class Given:
    """A command as it was typed, with its secrets, and the environment in which it was; for this process alone.

    Attributes:
        output: the file descriptor that its standard output goes to; None for ours.
        codes: exit codes of its runs so far; below 0 for a signal.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    output: int | None = None
    codes: list[int] = attrs.field(factory=list)


#: What `llem meter` runs, which is not to be stored.
GIVEN: ContextVar[Given | None] = ContextVar("llem_command", default=None)


def find_program(argv: Sequence[str]) -> None:
    """Raise ConfigError where the command names no program that can be run."""
    if shutil.which(argv[0]) is None:
        hint = "check its spelling and PATH; a command of the shell needs `-- sh -c '…'`"
        raise ConfigError(f"the command {argv[0]!r} is not found, or cannot be run", hint, "command_not_found")


class CommandEngine(Engine):
    """What is known of a command: its words, what it told, and the processes that belong to what is measured.

    Attributes:
        told: what `effective_config` gives; the trials add to it.
    """

    def __init__(self, load: CommandLoad, pids: Collection[int]) -> None:
        self._pids = tuple(dict.fromkeys((*load.server_pids, *pids)))
        self.told: dict[str, Any] = {"command": list(load.argv), "gpu_processes": list(pids)}

    def generate(
        self, requests: Sequence[Request], sampling: Sampling, *, token_times: bool = False
    ) -> Sequence[Completion]:
        raise LlemError("a command is no engine: it generates nothing for llem", code="bug")

    def effective_config(self) -> Mapping[str, Any]:
        return self.told

    def architecture(self) -> Architecture | None:
        return None

    def memory(self) -> MemoryReading:
        return MemoryReading(None, covers="nothing: llem does not see the command's memory", reason="not_supported")

    def pids(self) -> Collection[int]:
        return self._pids

    def close(self) -> None:
        return None


class CommandBackend(Backend):
    """The adapter of commands."""

    name: ClassVar[str] = COMMAND

    def check(self, experiment: Experiment, model: ModelSpec) -> Sequence[Finding]:
        return refused(_refusals(experiment))

    def canonical(self, experiment: Experiment) -> Experiment:
        """Where the requests are written, and which processes serve them, is another one each time."""
        if not isinstance(experiment.load, CommandLoad):
            return experiment
        return attrs.evolve(experiment, load=attrs.evolve(experiment.load, requests=None, server_pids=()))

    def holding(self, experiment: Experiment, model: ModelSpec) -> Holding:
        return Holding(weight_bits=0.0)

    def load(self, experiment: Experiment, model: ModelSpec, placement: Placement) -> Engine:
        """Loads nothing. Who is on the GPUs already is the server that the command asks, where it tells requests."""
        load = experiment.load
        if not isinstance(load, CommandLoad):
            raise LlemError("a command needs a load of kind `command`", code="bug")
        return CommandEngine(load, _tenants(placement) if load.requests is not None else ())


def _tenants(placement: Placement) -> list[int]:
    if not placement.gpu_uuids:
        return []
    nvml = Nvml.open()
    try:
        return sorted({pid for uuid in placement.gpu_uuids for pid in nvml.compute_pids(uuid)})
    finally:
        nvml.close()


def _refusals(experiment: Experiment) -> Iterator[Refusal]:
    """Settings that a command does not follow, since llem neither loads a model nor sends requests."""
    if experiment.load.kind != COMMAND:
        yield "load.kind", f"must be `command`, got {experiment.load.kind!r}"
    if experiment.quality is not None:
        yield "quality", "llem cannot ask a command; evaluate with another backend"
    if experiment.warmup.seconds:
        yield "warmup.seconds", "must be 0: a command runs from its start to its exit; `warmup.batches` runs it before"
    plain = {"dtype": attrs.fields(Experiment).dtype.default, "sampling": Sampling()}
    for name, default in plain.items():
        if getattr(experiment, name) != default:
            yield name, "has no effect on a command; remove it"
    if experiment.window_s != PRESETS[experiment.preset]["window_s"]:
        yield "window_s", "has no effect on a command: a window is the command's run; remove it"
