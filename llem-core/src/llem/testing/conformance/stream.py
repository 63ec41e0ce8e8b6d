"""What llem relies on in an engine that streams."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, suppress
from typing import Any

import attrs
import pytest

from llem.backends.base import Chunk, Engine, Request
from llem.backends.contract import stream_breaches
from llem.testing.conformance.engine import GREEDY, EngineUnderTest
from llem.testing.conformance.told import expect, keep

__all__ = ["StreamConformance"]


class StreamConformance(EngineUnderTest):
    """Inherit beside `BackendConformance` where the backend declares the capability `stream`.

    Attributes:
        patience_s: within this time a request must have ended, and an aborted one must have left the engine.
        long_tokens: output tokens of a request that does not end while a check looks at it.
    """

    patience_s: float = 60.0
    long_tokens: int = 64

    @pytest.fixture(scope="class")
    @classmethod
    def many(cls, requests: Sequence[Request]) -> Sequence[Request]:
        """Requests that are in flight together, each of another length."""
        return [attrs.evolve(request, index=i) for i, request in enumerate([*requests, *requests])]

    def test_stream_is_declared(self) -> None:
        """A load that streams is refused before anything is loaded unless the reference says `supported`."""
        expect(self.reference().capabilities.get("stream"), "supported")

    def test_stream_counts_are_exact(self, runner: asyncio.Runner, engine: Engine, requests: Sequence[Request]) -> None:
        """With ignore_eos the chunks of a request bring exactly the asked tokens, and ids where they bring any."""
        for request in requests:
            before = time.monotonic_ns()
            chunks = self._streamed(runner, engine, [request])[0]
            keep(stream_breaches(request.index, chunks, before, time.monotonic_ns()))
            expect(sum(chunk.tokens for chunk in chunks), request.output_tokens)

    def test_stream_ends_with_its_reason(
        self, runner: asyncio.Runner, engine: Engine, requests: Sequence[Request]
    ) -> None:
        """The last chunk says why the request ended, and no other does."""
        for chunks in self._streamed(runner, engine, requests):
            expect([chunk.finish_reason is None for chunk in chunks[:-1]], [True] * (len(chunks) - 1))
            expect(chunks[-1].finish_reason, "length")

    def test_stream_times_are_of_arrival(
        self, runner: asyncio.Runner, engine: Engine, requests: Sequence[Request]
    ) -> None:
        """Times are `time.monotonic_ns()` of each chunk, in order, from the sending of the request on."""
        for request in requests:
            before = time.monotonic_ns()
            chunks = self._streamed(runner, engine, [request])[0]
            keep(stream_breaches(request.index, chunks, before, time.monotonic_ns()))

    def test_stream_gives_what_generate_gives(
        self, runner: asyncio.Runner, engine: Engine, requests: Sequence[Request]
    ) -> None:
        """Greedy decoding of a request alone makes the same tokens by either way."""
        for request in requests:
            [generated] = engine.generate([request], GREEDY)
            [chunks] = self._streamed(runner, engine, [request])
            if generated.token_ids is None or any(chunk.token_ids is None for chunk in chunks if chunk.tokens):
                pytest.skip("the engine tells the number of tokens only")
            expect(tuple(token for chunk in chunks for token in chunk.token_ids or ()), generated.token_ids)

    def test_stream_runs_many_at_once(self, runner: asyncio.Runner, engine: Engine, many: Sequence[Request]) -> None:
        """Requests in flight together each get their own tokens, whole."""
        found = self._streamed(runner, engine, many)
        expect([sum(chunk.tokens for chunk in chunks) for chunks in found], [each.output_tokens for each in many])

    def test_stream_overlaps(self, runner: asyncio.Runner, engine: Engine, requests: Sequence[Request]) -> None:
        """A second request gets its first token before a long first one has ended: none waits for its turn."""
        long = self._long(requests)
        together = self._streamed(runner, engine, [long, attrs.evolve(requests[0], index=long.index + 1)])
        assert together[1][0].time_ns < together[0][-1].time_ns, "one request after the other"

    def test_stream_leaves_the_loop_free(
        self, runner: asyncio.Runner, engine: Engine, requests: Sequence[Request]
    ) -> None:
        """The loop has its turn while a request is under way: a client that is blocked cannot send on time."""

        async def beats() -> int:
            stream = asyncio.ensure_future(_collect(engine.stream(self._long(requests), GREEDY)))
            count = 0
            while not stream.done():
                await asyncio.sleep(0)
                count += 1
            await stream
            return count

        assert self._run(runner, beats()) > 1

    @pytest.mark.parametrize("way", ["aclose", "cancel"])
    def test_stream_aborts(self, runner: asyncio.Runner, engine: Engine, requests: Sequence[Request], way: str) -> None:
        """A request whose stream is closed, or whose reader is cancelled, ends; others go on and new ones come."""

        async def abort() -> Sequence[Chunk]:
            other = asyncio.ensure_future(_collect(engine.stream(requests[0], GREEDY)))
            await (_close_early if way == "aclose" else _cancel_early)(engine, self._long(requests))
            return await other

        survivor = self._run(runner, abort())
        expect(sum(chunk.tokens for chunk in survivor), requests[0].output_tokens)
        [after] = self._streamed(runner, engine, requests[:1])
        expect(sum(chunk.tokens for chunk in after), requests[0].output_tokens)

    def test_stream_and_generate_take_turns(
        self, runner: asyncio.Runner, engine: Engine, requests: Sequence[Request]
    ) -> None:
        """An engine that has streamed still generates, and the other way round."""
        for _ in range(2):
            self._streamed(runner, engine, requests)
            done = engine.generate(requests, GREEDY)
            expect([each.tokens for each in done], [request.output_tokens for request in requests])

    def _long(self, requests: Sequence[Request]) -> Request:
        return attrs.evolve(requests[0], index=1000, output_tokens=self.long_tokens)

    def _streamed(
        self, runner: asyncio.Runner, engine: Engine, requests: Sequence[Request]
    ) -> Sequence[Sequence[Chunk]]:
        """The chunks of requests that are sent together."""

        async def together() -> Sequence[Sequence[Chunk]]:
            return await asyncio.gather(*(_collect(engine.stream(request, GREEDY)) for request in requests))

        found: Sequence[Sequence[Chunk]] = self._run(runner, together())
        return found

    def _run(self, runner: asyncio.Runner, act: Any) -> Any:
        async def patient() -> Any:
            return await asyncio.wait_for(act, self.patience_s)

        return runner.run(patient())


async def _collect(stream: AsyncIterator[Chunk]) -> Sequence[Chunk]:
    return [chunk async for chunk in stream]


async def _close_early(engine: Engine, request: Request) -> None:
    async with aclosing(engine.stream(request, GREEDY)) as stream:  # type: ignore[type-var]
        async for _ in stream:
            break


async def _cancel_early(engine: Engine, request: Request) -> None:
    begun = asyncio.Event()

    async def read() -> None:
        async for _ in engine.stream(request, GREEDY):
            begun.set()

    reader = asyncio.ensure_future(read())
    await begun.wait()
    reader.cancel()
    with suppress(asyncio.CancelledError):
        await reader
