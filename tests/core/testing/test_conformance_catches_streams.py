"""The suites of streams and likelihoods fail for engines that are wrong: one seeded fault each."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import attrs
import pytest

from llem.backends.base import Chunk, Completion, Likelihood, Request, Scored
from llem.backends.check import check_scored
from llem.backends.echo import EchoEngine, EchoOptions
from llem.builtin import llem_backends
from llem.config.models import Sampling
from llem.plugins import Reference
from llem.testing.conformance import LikelihoodConformance, StreamConformance

REQUESTS = [Request(i, tuple(range(i, i + n)), m) for i, n, m in ((5, 3, 4), (6, 9, 7), (7, 1, 1))]
VOCAB = 4096
FAILED = (AssertionError, TimeoutError, pytest.fail.Exception)


class Kit(StreamConformance, LikelihoodConformance):
    """The suites as a plain object; named so that pytest does not collect it."""

    patience_s = 2.0
    capabilities = {"stream": "supported", "loglikelihood": "supported"}

    def reference(self) -> Reference:
        return Reference("echo", "llem.backends.echo:EchoBackend", capabilities=self.capabilities)


class Undeclared(Kit):
    """A reference that keeps silent about both."""

    capabilities = {}


def chunks_of(engine: EchoEngine, request: Request) -> AsyncIterator[Chunk]:
    return EchoEngine.stream(engine, request, Sampling())


class OneTooFew(EchoEngine):
    async def stream(self, request: Request, sampling: Sampling) -> AsyncIterator[Chunk]:
        async for chunk in chunks_of(self, attrs.evolve(request, output_tokens=max(request.output_tokens - 1, 1))):
            yield chunk


class CountsTwice(EchoEngine):
    async def stream(self, request: Request, sampling: Sampling) -> AsyncIterator[Chunk]:
        async for chunk in chunks_of(self, request):
            yield attrs.evolve(chunk, token_ids=None if chunk.token_ids is None else chunk.token_ids * 2)


class NoReason(EchoEngine):
    async def stream(self, request: Request, sampling: Sampling) -> AsyncIterator[Chunk]:
        async for chunk in chunks_of(self, request):
            yield attrs.evolve(chunk, finish_reason=None)


class TimesOfTheWall(EchoEngine):
    async def stream(self, request: Request, sampling: Sampling) -> AsyncIterator[Chunk]:
        async for chunk in chunks_of(self, request):
            yield attrs.evolve(chunk, time_ns=time.time_ns())


class OtherTokens(EchoEngine):
    async def stream(self, request: Request, sampling: Sampling) -> AsyncIterator[Chunk]:
        async for chunk in chunks_of(self, request):
            yield attrs.evolve(chunk, token_ids=(0,))


class OneByOne(EchoEngine):
    turn: asyncio.Lock | None = None

    async def stream(self, request: Request, sampling: Sampling) -> AsyncIterator[Chunk]:
        self.turn = self.turn or asyncio.Lock()
        async with self.turn:
            async for chunk in chunks_of(self, request):
                yield chunk


class Blocks(EchoEngine):
    async def stream(self, request: Request, sampling: Sampling) -> AsyncIterator[Chunk]:
        for number in range(request.output_tokens):
            yield Chunk(1, time.monotonic_ns(), (number,), "length" if number + 1 == request.output_tokens else None)


class AbortKillsAll(EchoEngine):
    dead = False

    async def stream(self, request: Request, sampling: Sampling) -> AsyncIterator[Chunk]:
        ended = False
        try:
            async for chunk in chunks_of(self, request):
                if self.dead:
                    raise RuntimeError("the engine is gone")
                yield chunk
            ended = True
        finally:
            self.dead = self.dead or not ended


class HoldsOn(EchoEngine):
    """Does not notice that nobody reads any more."""

    async def stream(self, request: Request, sampling: Sampling) -> AsyncIterator[Chunk]:
        try:
            async for chunk in chunks_of(self, request):
                yield chunk
        except (GeneratorExit, asyncio.CancelledError):
            await asyncio.sleep(60)
            raise


STREAMS = [
    (OneTooFew, "test_stream_counts_are_exact"),
    (CountsTwice, "test_stream_counts_are_exact"),
    (NoReason, "test_stream_ends_with_its_reason"),
    (TimesOfTheWall, "test_stream_times_are_of_arrival"),
    (OtherTokens, "test_stream_gives_what_generate_gives"),
    (OneTooFew, "test_stream_runs_many_at_once"),
    (OneByOne, "test_stream_overlaps"),
    (Blocks, "test_stream_leaves_the_loop_free"),
    (AbortKillsAll, "test_stream_aborts"),
    (HoldsOn, "test_stream_aborts"),
]


class OffByOne(EchoEngine):
    def loglikelihood(self, requests: Sequence[Scored]) -> Sequence[Likelihood]:
        return super().loglikelihood([attrs.evolve(one, continuation=one.continuation[1:]) for one in requests])


class CountsTheContext(EchoEngine):
    def loglikelihood(self, requests: Sequence[Scored]) -> Sequence[Likelihood]:
        found = super().loglikelihood(requests)
        return [attrs.evolve(f, logprob=f.logprob - len(r.context)) for f, r in zip(found, requests, strict=True)]


class MeanNotSum(EchoEngine):
    def loglikelihood(self, requests: Sequence[Scored]) -> Sequence[Likelihood]:
        found = super().loglikelihood(requests)
        return [attrs.evolve(f, logprob=f.logprob / len(r.continuation)) for f, r in zip(found, requests, strict=True)]


class AlwaysGreedy(EchoEngine):
    def loglikelihood(self, requests: Sequence[Scored]) -> Sequence[Likelihood]:
        return [attrs.evolve(found, greedy=True) for found in super().loglikelihood(requests)]


class Probabilities(EchoEngine):
    def loglikelihood(self, requests: Sequence[Scored]) -> Sequence[Likelihood]:
        return [attrs.evolve(found, logprob=2.0**found.logprob) for found in super().loglikelihood(requests)]


class SortedByLength(EchoEngine):
    def loglikelihood(self, requests: Sequence[Scored]) -> Sequence[Likelihood]:
        ordered = sorted(requests, key=lambda one: len(one.context))
        found = super().loglikelihood(ordered)
        return [attrs.evolve(each, logprob=each.logprob - i) for i, each in enumerate(found)]


class OthersAreLikelier(EchoEngine):
    def loglikelihood(self, requests: Sequence[Scored]) -> Sequence[Likelihood]:
        return [attrs.evolve(f, logprob=f.logprob - 99 * f.greedy) for f in super().loglikelihood(requests)]


class OneContextOneAnswer(EchoEngine):
    """It remembers what it computed of a context, and forgets which continuation that was of."""

    def loglikelihood(self, requests: Sequence[Scored]) -> Sequence[Likelihood]:
        first: dict[tuple[int, ...], Likelihood] = {}
        found = zip(requests, super().loglikelihood(requests), strict=True)
        return [first.setdefault(one.context, each) if len(one.continuation) == 1 else each for one, each in found]


class AHundredAtMost(EchoEngine):
    def loglikelihood(self, requests: Sequence[Scored]) -> Sequence[Likelihood]:
        found = super().loglikelihood(requests)
        return [attrs.evolve(each, logprob=each.logprob - (place > 100)) for place, each in enumerate(found)]


class CutsLongTexts(EchoEngine):
    """As one that truncates in silence, whatever length it tells."""

    def scored_length(self) -> int:
        return 400

    def loglikelihood(self, requests: Sequence[Scored]) -> Sequence[Likelihood]:
        check_scored(requests, 400, "of this test")
        return super().loglikelihood([attrs.evolve(one, continuation=one.continuation[:100]) for one in requests])


class TakesOneMore(EchoEngine):
    def scored_length(self) -> int:
        return 400


class EmptyIsImpossible(EchoEngine):
    def loglikelihood(self, requests: Sequence[Scored]) -> Sequence[Likelihood]:
        found = zip(requests, super().loglikelihood(requests), strict=True)
        return [each if one.continuation else Likelihood(-9.0, False) for one, each in found]


class RemembersBatches(EchoEngine):
    made = 0

    def generate(self, requests: Sequence[Request], sampling: Sampling, **more: Any) -> Sequence[Completion]:
        self.made += 1
        return super().generate(requests, sampling, **more)

    def loglikelihood(self, requests: Sequence[Scored]) -> Sequence[Likelihood]:
        return [attrs.evolve(each, logprob=each.logprob - self.made) for each in super().loglikelihood(requests)]


class SaysItLacksThem(EchoEngine):
    def lacks(self, capability: str) -> str | None:
        return "it does not feel like it" if capability == "loglikelihood" else None


LIKELIHOODS = [
    (OneContextOneAnswer, "test_choices_of_one_context"),
    (AHundredAtMost, "test_many_at_once"),
    (CutsLongTexts, "test_a_long_text_is_scored_whole"),
    (TakesOneMore, "test_a_long_text_is_scored_whole"),
    (EmptyIsImpossible, "test_nothing_is_certain"),
    (RemembersBatches, "test_scoring_and_generating_are_apart"),
    (SaysItLacksThem, "test_the_engine_lacks_none"),
    (CountsTheContext, "test_likelihood_sums_over_the_continuation"),
    (MeanNotSum, "test_likelihood_sums_over_the_continuation"),
    (Probabilities, "test_likelihoods_are_of_probabilities"),
    (SortedByLength, "test_likelihoods_come_in_order"),
    (OffByOne, "test_likelihood_sums_over_the_continuation"),
    (AlwaysGreedy, "test_greedy_is_what_generate_gives"),
    (OthersAreLikelier, "test_greedy_token_is_the_likeliest"),
]


def run(check: str, engine: EchoEngine, kit: Kit | None = None) -> None:
    kit = kit or Kit()
    method = getattr(kit, check)
    with asyncio.Runner() as runner:
        given: dict[str, Any] = {"engine": engine, "runner": runner, "requests": REQUESTS, "vocab_size": VOCAB}
        given["many"] = [attrs.evolve(request, index=i) for i, request in enumerate(REQUESTS * 2)]
        asked = [attrs.evolve(request, output_tokens=4) for request in REQUESTS]
        done = engine.generate(asked, Sampling())
        given["continued"] = [Scored(r.token_ids, d.token_ids or ()) for r, d in zip(asked, done, strict=True)]
        names = tuple(inspect.signature(method).parameters)
        for way in ("aclose", "cancel") if "way" in names else ("",):
            method(**{name: given[name] for name in names if name != "way"}, **({"way": way} if way else {}))


@pytest.mark.parametrize(
    ("engine", "check"), [*STREAMS, *LIKELIHOODS], ids=lambda value: getattr(value, "__name__", value)
)
def test_faulty_engine_is_caught(engine: type[EchoEngine], check: str) -> None:
    """The check passes for the right engine and fails for the faulty one."""
    run(check, EchoEngine(EchoOptions(token_seconds=0.001)))
    with pytest.raises((*FAILED, RuntimeError)):
        run(check, engine(EchoOptions(token_seconds=0.001)))


@pytest.mark.parametrize("check", ["test_stream_is_declared", "test_likelihood_is_declared"])
def test_an_undeclared_capability_is_caught(check: str) -> None:
    """What the reference does not promise is never used, so its suite must not pass."""
    run(check, EchoEngine(EchoOptions()))
    with pytest.raises(FAILED):
        run(check, EchoEngine(EchoOptions()), Undeclared())


def test_echo_declares_both() -> None:
    """The built-in backend streams and scores."""
    [echo] = [reference for reference in llem_backends() if reference.name == "echo"]

    assert (echo.capabilities["stream"], echo.capabilities["loglikelihood"]) == ("supported", "supported")
