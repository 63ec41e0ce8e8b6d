"""The backend `command`: nothing is loaded, and the load is a program that runs. Arguments keep their secrets."""

from __future__ import annotations

import re
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

__all__ = ["GIVEN", "HIDDEN", "CommandBackend", "CommandEngine", "Given", "find_program", "redacted"]

#: Stands for a secret.
HIDDEN = "***"
#: Words that make the name of an option or a variable one of a secret.
SECRET = re.compile(
    r"(?:^|[-_.])(?:api[-_]?keys?|keys?|token|secrets?|passw(?:or)?ds?|passwd|credentials?|bearer|auth(?:orization)?)$",
    re.IGNORECASE,
)
#: `NAME=VALUE`, also after dashes, and `NAME: VALUE`, as headers have it.
ASSIGNED = re.compile(r"(-{0,2}[A-Za-z_][\w.-]*)(=|:\s*)(.+)", re.DOTALL)
#: The same within a line of a shell, the query of an address, or JSON.
WITHIN = re.compile(
    r"""((?<![A-Za-z])(?:api[-_]?keys?|keys?|token|secrets?|passw(?:or)?ds?|credentials?)(?:=|["']\s*:\s*)["']?)"""
    r"""[^\s;&"'},]+""",
    re.IGNORECASE,
)
#: What is a secret whatever stands before it.
SECRETS = (
    re.compile(r"(?<=://)[^/@\s]+(?=@)"),
    re.compile(r"(?i)(?<=bearer )\S+"),
    re.compile(r"\b(?:hf_|sk-|ghp_|nvapi-)[A-Za-z0-9_-]{8,}"),
)


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


def redacted(argv: Sequence[str]) -> tuple[str, ...]:
    """The command without what looks like a secret: `--api-key X`, `TOKEN=X`, `Authorization: X`, `user:X@host`.

    A secret that has no such name stays. Bytes that are no UTF-8 are escaped, as a store holds text alone. Pure.
    """
    found: list[str] = []
    secret_next = False
    for word in argv:
        hidden = HIDDEN if secret_next and not word.startswith("--") else _without_secret(word)
        secret_next = word.startswith("-") and bool(SECRET.search(word))
        found.append(hidden.encode(errors="backslashreplace").decode())
    return tuple(found)


def _without_secret(word: str) -> str:
    match = ASSIGNED.fullmatch(word)
    if match and SECRET.search(match[1]):
        return f"{match[1]}{match[2]}{HIDDEN}"
    for secret in SECRETS:
        word = secret.sub(HIDDEN, word)
    return WITHIN.sub(rf"\g<1>{HIDDEN}", word)


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
