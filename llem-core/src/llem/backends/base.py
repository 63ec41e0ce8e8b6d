"""What a backend implements: a class that checks and loads, and the engine it loads."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Collection, Hashable, Mapping, Sequence
from typing import Any, ClassVar

import attrs

from llem.backends.requests import Chunk, Completion, Likelihood, Request, Scored, prompt_tokens
from llem.backends.sharing import engine_settings
from llem.backends.wire import WireReference
from llem.config.models import Experiment, Sampling
from llem.findings import Finding
from llem.models.spec import Architecture, ModelSpec

__all__ = [
    "DTYPE_BITS",
    "Backend",
    "Chunk",
    "Completion",
    "Engine",
    "Holding",
    "Likelihood",
    "MemoryReading",
    "Observed",
    "Placement",
    "Request",
    "Scored",
    "prompt_tokens",
]

#: Bits of a number in each format that an experiment can name.
DTYPE_BITS: Mapping[str, float] = {"float32": 32.0, "float16": 16.0, "bfloat16": 16.0}


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


@attrs.frozen
class Holding:
    """How a model will lie in GPU memory, as far as a backend knows before it is loaded.

    Attributes:
        weight_bits: of each parameter at least; None where the engine may hold fewer, or part of the weights elsewhere;
            0 where it holds none.
        cache_bits: of each element of the key-value cache; None: those of the dtype.
        copies: how many times the whole model lies on the GPUs together.
        unknown: why nothing can be said, not even by the sizes of the model; None where it can.
    """

    weight_bits: float | None = None
    cache_bits: float | None = None
    copies: int = 1
    unknown: str | None = None


@attrs.frozen
class Observed:
    """What an engine counts by itself, read at one moment.

    Attributes:
        time_ns: monotonic time at which it was read.
        levels: what stands at this moment, such as `requests_running`.
        counters: what only grows, such as `output_tokens`, since the engine began.
    """

    time_ns: int
    levels: Mapping[str, float]
    counters: Mapping[str, float]


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
        when the batch does not fit; ConfigError for requests with `stop` where it cannot honour them.
        """

    def prefilled(self, requests: Sequence[Request], sampling: Sampling) -> Callable[[], Sequence[Completion]]:
        """Compute the prompts of one batch and keep what comes of them, for as long as the function that this returns
        is kept. Each call of it decodes every token of the answers but the first, as `generate` gives them, and returns
        when they are in host memory. Capability `prefilled`.

        Raises as `generate`.
        """
        raise NotImplementedError(f"{type(self).__name__} does not keep prompts for decoding")

    def stream(self, request: Request, sampling: Sampling) -> AsyncIterator[Chunk]:
        """Run one request among others in flight, and yield its tokens as they come. Capability `stream`.

        An asynchronous generator, called by the load generator from one event loop that lives as long as the engine.
        Closing the generator early aborts the request.
        """
        raise NotImplementedError(f"{type(self).__name__} does not stream")

    def wire(self) -> WireReference | None:
        """How the load generator speaks to an engine that is a server, instead of `stream`; None for other engines."""
        return None

    def message(self, request: Request, sampling: Sampling) -> bytes:
        """All that is written to the server for one request; made before anything is timed. Goes with `wire`."""
        raise NotImplementedError(f"{type(self).__name__} has no wire")

    def loglikelihood(self, requests: Sequence[Scored]) -> Sequence[Likelihood]:
        """Likelihoods in the order of the requests, by the model alone: `sampling` has no part in them.

        A text, context and continuation together, has `scored_length` tokens at most; ConfigError for a longer one
        (`llem.backends.check.check_scored`). Capability `loglikelihood`.
        """
        raise NotImplementedError(f"{type(self).__name__} gives no likelihoods")

    def scored_length(self) -> int | None:
        """How many tokens a text may have that `loglikelihood` scores; None where the engine does not tell.

        An engine that reads all tokens but the last, which it only predicts, takes one more than `context_length`.
        """
        return self.context_length()

    def lacks(self, capability: str) -> str | None:
        """Why the loaded engine lacks a capability that its backend declares; None where it has it.

        For what shows only once it is loaded, such as what a server answers. Asked before anything is measured, where
        an evaluator needs the capability. The default lacks nothing.
        """
        return None

    @abstractmethod
    def effective_config(self) -> Mapping[str, Any]:
        """What the engine really runs with, read back from it; JSON values only."""

    @abstractmethod
    def architecture(self) -> Architecture | None:
        """Sizes of the loaded model, for operations and bytes per token; None when unknown."""

    def tokenizer_model(self, model: ModelSpec) -> ModelSpec | None:
        """The model whose tokenizer and vocabulary are those of the loaded one; None where nobody here has them.

        The default is the experiment's own model.
        """
        return model

    def takes_messages(self) -> bool:
        """Whether conversations go to the engine as they are, and it makes token ids of them by itself."""
        return False

    def random_ids(self) -> range | None:
        """Ids of which random prompts may be, where the vocabulary is not known here; None where it is."""
        return None

    def salt(self) -> str:
        """Enters the draw of random token ids, so that an engine that served others before has none of their prompts.

        Lengths do not depend on it. "" for an engine that began with this process: its prompts follow from seeds alone.
        """
        return ""

    def keeps_prompts(self) -> bool | None:
        """Whether what was computed of a prompt is used again for a later one (a prefix cache); None: not known."""
        return False

    def observe(self) -> Observed | None:
        """What the engine counts by itself; None where it tells nothing. Read beside a window, never within it."""
        return None

    def findings(self) -> Sequence[Finding]:
        """What is doubtful about the loaded engine, beyond what the backend's `check` could tell. Mostly nothing."""
        return ()

    def context_length(self) -> int | None:
        """How many tokens a prompt and its answer may have together; None where the engine does not tell."""
        return None

    @abstractmethod
    def memory(self) -> MemoryReading:
        """Peak memory since `reset_memory`."""

    def reset_memory(self) -> None:
        """Start peak memory anew, where the engine can. The default does nothing."""
        return None

    def turn_to(self, experiment: Experiment) -> None:
        """From now on this experiment is measured, of those that share the engine (`Backend.engine_key`).

        Called before each turn of another experiment, never within a window: `effective_config` speaks of it from now
        on, and whatever the engine keeps of the prompts of others, such as a prefix cache, is forgotten. The default
        does nothing.
        """
        return None

    def pids(self) -> Collection[int]:
        """Processes of the engine that may have been there before it was loaded: those of a server that was running.

        On a GPU they are no strangers. What starts while the engine loads is known without this.
        """
        return ()

    @abstractmethod
    def close(self) -> None:
        """Free the device. Called once, in a `finally`."""


class Backend(ABC):
    """The adapter of an engine. Constructed with its own section of the configuration."""

    name: ClassVar[str]

    def __init__(self, options: Any) -> None:
        self.options = options
        #: With this `load` waits between two looks: `wait(seconds, why)` does nothing for so long. A worker tells the
        #: user what is waited for where it lasts, and raises ExperimentFailed once it is to stop.
        self.wait: Callable[[float, str], None] = lambda seconds, why: time.sleep(seconds)

    @abstractmethod
    def check(self, experiment: Experiment, model: ModelSpec) -> Sequence[Finding]:
        """What is wrong with this configuration, before anything is loaded. Must not import the engine.

        A declared parameter is consumed or refused here, never ignored.
        """

    def lacks(self, experiment: Experiment, capability: str) -> str | None:
        """Why this configuration lacks a capability that the backend declares; None where it has it.

        For settings that exclude it, such as a cache whose reuse hides likelihoods. Must not import the engine. The
        default lacks nothing.
        """
        return None

    def canonical(self, experiment: Experiment) -> Experiment:
        """The same experiment without what changes nothing: settings that equal the engine's own default, or have no
        effect beside the others, as None (or the experiment's own default). Must not import the engine.

        Experiments that are equal then are one experiment: they have the same id, and a study runs it once. Leave in
        what is not certain. The default changes nothing.
        """
        return experiment

    def known(self, experiment: Experiment, model: ModelSpec) -> ModelSpec:
        """The model as far as it is certain to be what the engine runs: with weights "unknown" where another process
        has loaded whatever it likes. Must not import the engine. The default is the model as it is named."""
        return model

    def holding(self, experiment: Experiment, model: ModelSpec) -> Holding:
        """How the model will lie in GPU memory; for estimates before anything is loaded. Must not import the engine.

        The default says nothing for certain.
        """
        return Holding()

    def engine_key(self, experiment: Experiment) -> Hashable:
        """What an engine is made with: experiments of equal keys are measured with one engine, turn by turn.

        The default is every setting but the workload, the figures of the load, and how it is measured. Sampling counts,
        since an engine may build on it; a backend whose engine takes it with each request leaves it out
        (`engine_settings(experiment, but=("sampling",))`). One whose engine is made for the load, or cannot forget the
        prompts of others, adds the load and the workload.
        """
        return engine_settings(experiment)

    @abstractmethod
    def load(self, experiment: Experiment, model: ModelSpec, placement: Placement) -> Engine:
        """Load the model, once `check` has taken the experiment with the device that `placement` names.

        Raises LlemError for what the user can mend.
        """
