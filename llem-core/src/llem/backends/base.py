"""What a backend implements: a class that checks and loads, and the engine it loads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import attrs

from llem.config.models import Experiment, Sampling
from llem.findings import Finding
from llem.models.spec import Architecture, ModelSpec

__all__ = ["Backend", "Completion", "Engine", "MemoryReading", "Placement", "Request"]


@attrs.frozen
class Request:
    """One prompt as token ids, and how many tokens to make of it.

    Attributes:
        index: position in the workload's endless, seeded sequence.
        token_ids: the prompt; never empty.
        output_tokens: tokens to generate (exactly, with `ignore_eos`).
    """

    index: int
    token_ids: tuple[int, ...]
    output_tokens: int


@attrs.frozen
class Completion:
    """What the engine made of one request.

    Attributes:
        index: of the request.
        token_ids: the generated tokens alone: no prompt, no padding.
        finish_reason: "length" or "stop".
        token_times_ns: monotonic time of each token, when asked for and the engine has them.
    """

    index: int
    token_ids: tuple[int, ...]
    finish_reason: str = "length"
    token_times_ns: tuple[int, ...] | None = None


@attrs.frozen
class MemoryReading:
    """Peak memory in bytes since the last `reset_memory`, and in words what it covers."""

    peak_bytes: int | None
    covers: str
    reason: str | None = None


@attrs.frozen
class Placement:
    """Where to run: "cpu" or "cuda", and the GPUs' UUIDs in order. Visible devices are already set by the worker."""

    device: str
    gpu_uuids: tuple[str, ...] = ()


class Engine(ABC):
    """A loaded model, ready to generate.

    Capabilities beyond `generate` are declared in the plugin's `Reference`.
    """

    @abstractmethod
    def generate(
        self, requests: Sequence[Request], sampling: Sampling, *, token_times: bool = False
    ) -> Sequence[Completion]:
        """Run one batch; return when every token is in host memory.

        Completions come in the order of the requests. Raises MemoryError (or the engine's own out-of-memory error)
        when the batch does not fit.
        """

    @abstractmethod
    def effective_config(self) -> Mapping[str, Any]:
        """What the engine really runs with, read back from it; JSON values only."""

    @abstractmethod
    def architecture(self) -> Architecture | None:
        """Sizes of the loaded model, for operations and bytes per token; None when unknown."""

    @abstractmethod
    def memory(self) -> MemoryReading:
        """Peak memory since `reset_memory`."""

    def reset_memory(self) -> None:
        """Start peak memory anew, where the engine can. The default does nothing."""
        return None

    @abstractmethod
    def close(self) -> None:
        """Free the device. Called once, in a `finally`."""


class Backend(ABC):
    """The adapter of an engine. Constructed with its own section of the configuration."""

    name: ClassVar[str]

    def __init__(self, options: Any) -> None:
        self.options = options

    @abstractmethod
    def check(self, experiment: Experiment, model: ModelSpec) -> Sequence[Finding]:
        """What is wrong with this configuration, before anything is loaded. Must not import the engine.

        A declared parameter is consumed or refused here, never ignored.
        """

    @abstractmethod
    def load(self, experiment: Experiment, model: ModelSpec, placement: Placement) -> Engine:
        """Load the model. Raises LlemError for what the user can mend."""
