"""A backend without a model: it repeats the prompt. For tests, documentation and dry runs of a study."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, ClassVar

import attrs

from llem.backends.base import (
    Backend,
    Chunk,
    Completion,
    Engine,
    Holding,
    Likelihood,
    MemoryReading,
    Placement,
    Request,
    Scored,
)
from llem.backends.sharing import engine_settings
from llem.config.fields import DAY_S, at_least, between, option
from llem.config.models import Experiment, Sampling
from llem.errors import LlemError
from llem.findings import Finding
from llem.models.spec import Architecture, ModelSpec
from llem.models.tokenizer import Tokenizer, load_tokenizer, stops_at

__all__ = ["EchoBackend", "EchoEngine", "EchoOptions"]

#: Probabilities of the token that the echo gives next, and of each other one in a vocabulary of 65,537.
EXPECTED, OTHER = 0.5, 0.5 / 65_536


@attrs.frozen(kw_only=True)
class EchoOptions:
    """Section `echo`."""

    token_seconds: float = option(
        0.0,
        help="Wait this long before each token of a batch, or of each request of a serving load.",
        unit="s",
        validator=between(0, DAY_S),
    )
    slots: int | None = option(
        None,
        help="Requests of a serving load that are answered at a time; further ones wait for their turn. Null: as many "
        "as are sent.",
        validator=at_least(1),
    )


class EchoEngine(Engine):
    """Answers each request with its own prompt, over and over, to the asked length.

    It computes nothing, so dtype, device and sampling have no effect on it; `effective_config` says so. Of the model it
    takes the tokenizer alone, where a request has stop texts.
    """

    def __init__(self, options: EchoOptions, model: ModelSpec | None = None) -> None:
        self.options = options
        self._model = model
        self._slots = contextlib.nullcontext() if options.slots is None else asyncio.Semaphore(options.slots)

    @functools.cached_property
    def _tokenizer(self) -> Tokenizer:
        if self._model is None:
            raise LlemError("this echo was made without a model, so it knows no text", code="bug")
        return load_tokenizer(self._model)

    def _answer(self, request: Request) -> tuple[tuple[int, ...], str]:
        """Tokens, and why they end."""
        tokens = tuple(itertools.islice(itertools.cycle(request.token_ids), request.output_tokens))
        end = stops_at(tokens, request.stop, self._tokenizer) if request.stop else None
        return (tokens, "length") if end is None else (tokens[:end], "stop")

    def generate(
        self, requests: Sequence[Request], sampling: Sampling, *, token_times: bool = False
    ) -> Sequence[Completion]:
        answers = [self._answer(request) for request in requests]
        times = self._step(max((len(tokens) for tokens, _ in answers), default=0))
        return [
            Completion(
                index=request.index,
                token_ids=tokens,
                finish_reason=reason,
                token_times_ns=times[: len(tokens)] if token_times else None,
            )
            for request, (tokens, reason) in zip(requests, answers, strict=True)
        ]

    def prefilled(self, requests: Sequence[Request], sampling: Sampling) -> Callable[[], Sequence[Completion]]:
        """One step for the prompts, and one for each token of the longest answer but the first."""
        self._step(1)
        answers = [(request.index, *self._answer(request)) for request in requests]
        longest = max((len(tokens) for _, tokens, _ in answers), default=0)

        def decode() -> Sequence[Completion]:
            self._step(longest - 1)
            return [Completion(index, tokens[1:], reason) for index, tokens, reason in answers]

        return decode

    async def stream(self, request: Request, sampling: Sampling) -> AsyncIterator[Chunk]:
        """As many requests at once as there are slots: each waits by itself, as if no other were there."""
        tokens, reason = self._answer(request)
        async with self._slots:
            for number, token in enumerate(tokens, start=1):
                await asyncio.sleep(self.options.token_seconds)
                yield Chunk(1, time.monotonic_ns(), (token,), reason if number == len(tokens) else None)

    def loglikelihood(self, requests: Sequence[Scored]) -> Sequence[Likelihood]:
        """As if the token that the echo would give had the probability 1/2, and all others shared the rest."""
        return [_likelihood(request) for request in requests]

    def _step(self, steps: int) -> tuple[int, ...]:
        """Wait as a batch would that makes one token per request and step; the end of each step, monotonic ns."""
        times = []
        for _ in range(steps):
            if self.options.token_seconds:
                time.sleep(self.options.token_seconds)
            times.append(time.monotonic_ns())
        return tuple(times)

    def effective_config(self) -> Mapping[str, Any]:
        return {**attrs.asdict(self.options), "dtype": None, "device": None, "sampling": None}

    def architecture(self) -> Architecture | None:
        return None

    def memory(self) -> MemoryReading:
        return MemoryReading(None, covers="nothing: there is no model", reason="not_supported")

    def close(self) -> None:
        return None


def _likelihood(request: Scored) -> Likelihood:
    echoed = itertools.cycle(request.context)
    same = [token == expected for token, expected in zip(request.continuation, echoed, strict=False)]
    return Likelihood(sum(math.log(EXPECTED if each else OTHER) for each in same), all(same))


class EchoBackend(Backend):
    """The adapter of `EchoEngine`. Loads nothing, whatever the model."""

    name: ClassVar[str] = "echo"
    options: EchoOptions

    def __init__(self, options: EchoOptions | None = None) -> None:
        super().__init__(options or EchoOptions())

    def check(self, experiment: Experiment, model: ModelSpec) -> Sequence[Finding]:
        return []

    def holding(self, experiment: Experiment, model: ModelSpec) -> Holding:
        """It holds no model."""
        return Holding(weight_bits=0.0)

    def engine_key(self, experiment: Experiment) -> str:
        """It takes everything with each request, and remembers nothing."""
        return engine_settings(experiment, but=("sampling", "token_times", "load.kind"))

    def load(self, experiment: Experiment, model: ModelSpec, placement: Placement) -> Engine:
        return EchoEngine(self.options, model)
