"""A backend without a model: it repeats the prompt. For tests, documentation and dry runs of a study."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
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
    engine_settings,
)
from llem.config.fields import DAY_S, between, option
from llem.config.models import Experiment, Sampling
from llem.findings import Finding
from llem.models.spec import Architecture, ModelSpec

__all__ = ["EchoBackend", "EchoEngine", "EchoOptions"]

#: Probabilities of the token that the echo gives next, and of each other one in a vocabulary of 65,537.
EXPECTED, OTHER = 0.5, 0.5 / 65_536


@attrs.frozen(kw_only=True)
class EchoOptions:
    """Section `echo`."""

    token_seconds: float = option(
        0.0,
        help="Wait this long before each token of a batch, and of each request of a serving load by itself.",
        unit="s",
        validator=between(0, DAY_S),
    )


class EchoEngine(Engine):
    """Answers each request with its own prompt, over and over, to the asked length.

    It computes nothing, so dtype, device and sampling have no effect on it; `effective_config` says so.
    """

    def __init__(self, options: EchoOptions) -> None:
        self.options = options

    def generate(
        self, requests: Sequence[Request], sampling: Sampling, *, token_times: bool = False
    ) -> Sequence[Completion]:
        times = self._step(max((request.output_tokens for request in requests), default=0))
        return [
            Completion(
                index=request.index,
                token_ids=tuple(_echo(request)),
                finish_reason="length",
                token_times_ns=times[: request.output_tokens] if token_times else None,
            )
            for request in requests
        ]

    async def stream(self, request: Request, sampling: Sampling) -> AsyncIterator[Chunk]:
        """As many requests at once as are sent: each waits by itself, as if no other were there."""
        for number, token in enumerate(_echo(request), start=1):
            await asyncio.sleep(self.options.token_seconds)
            reason = "length" if number == request.output_tokens else None
            yield Chunk(1, time.monotonic_ns(), (token,), reason)

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


def _echo(request: Request) -> Iterator[int]:
    """The prompt over and over, to the asked length."""
    return itertools.islice(itertools.cycle(request.token_ids), request.output_tokens)


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
        return EchoEngine(self.options)
