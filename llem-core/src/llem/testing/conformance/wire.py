"""What llem relies on in an engine that is a server, which its load generator speaks to over a wire."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import attrs
import pytest

from llem.backends.base import Engine, Request
from llem.backends.contract import stream_breaches
from llem.backends.wire import Answer, Asked, Exchange, Wire, WireReference
from llem.plugins.reference import resolve
from llem.testing.conformance.engine import GREEDY, EngineUnderTest
from llem.testing.conformance.told import expect, keep

__all__ = ["WireConformance"]

#: How often a check looks whether something has come.
POLL_S = 0.001


class WireConformance(EngineUnderTest):
    """Inherit beside `BackendConformance` where `Engine.wire` gives one, instead of `StreamConformance`.

    Attributes:
        patience_s: within this time a request must have ended.
        long_tokens: output tokens of a request that does not end while a check looks at it.
    """

    patience_s: float = 60.0
    long_tokens: int = 64

    def test_wire_is_declared(self, engine: Engine) -> None:
        """A serving load is refused unless the reference says `supported`; other processes make the wire from JSON."""
        expect(self.reference().capabilities.get("stream"), "supported")
        told = json.loads(json.dumps(attrs.asdict(_reference(engine))))
        assert issubclass(resolve(told["wire"]), Wire)
        assert told["silence_s"] > 0
        assert told["deadline_s"] > 0

    def test_wire_messages_are_bytes(self, engine: Engine, requests: Sequence[Request]) -> None:
        """One for each request, and the same one for the same request: they are made before anything is timed."""
        made = [engine.message(request, GREEDY) for request in requests]
        assert all(isinstance(message, bytes) and message for message in made)
        expect(made, [engine.message(request, GREEDY) for request in requests])

    def test_wire_counts_are_exact(self, engine: Engine, requests: Sequence[Request]) -> None:
        """With ignore_eos the chunks of a request bring exactly the asked tokens, and ids where they bring any."""
        for request in requests:
            [(exchange, answer)] = self._exchanged(engine, [request])
            keep(stream_breaches(request.index, answer.chunks, exchange.sent_ns, exchange.ended_ns))
            expect(sum(chunk.tokens for chunk in answer.chunks), request.output_tokens)

    def test_wire_ends_with_its_reason(self, engine: Engine, requests: Sequence[Request]) -> None:
        """The last chunk says why the request ended, and no other does; an answer that is right needs no look."""
        for exchange, answer in self._exchanged(engine, requests):
            expect((exchange.error, exchange.suspect), ("", False))
            expect([chunk.finish_reason is None for chunk in answer.chunks[:-1]], [True] * (len(answer.chunks) - 1))
            expect(answer.chunks[-1].finish_reason, "length")

    def test_wire_times_are_of_arrival(self, engine: Engine, requests: Sequence[Request]) -> None:
        """Times are `time.monotonic_ns()`: of the sending, of each arrival and of the end, in this order."""
        for request in requests:
            before = time.monotonic_ns()
            [(exchange, answer)] = self._exchanged(engine, [request])
            times = [before, exchange.sent_ns, *exchange.times_ns, exchange.ended_ns, time.monotonic_ns()]
            expect(times, sorted(times), "times go backwards")
            expect(len(exchange.times_ns), len(exchange.pieces))
            told = [chunk.time_ns for chunk in answer.chunks]
            expect(told, sorted(told), "times of chunks go backwards")
            assert set(told) <= set(exchange.times_ns), "a chunk has a time at which nothing arrived"

    def test_wire_gives_what_generate_gives(self, engine: Engine, requests: Sequence[Request]) -> None:
        """Greedy decoding of a request alone makes the same tokens by either way."""
        for request in requests:
            [generated] = engine.generate([request], GREEDY)
            [(_, answer)] = self._exchanged(engine, [request])
            if generated.token_ids is None or any(chunk.token_ids is None for chunk in answer.chunks if chunk.tokens):
                pytest.skip("the engine tells the number of tokens only")
            expect(tuple(token for chunk in answer.chunks for token in chunk.token_ids or ()), generated.token_ids)

    def test_wire_runs_many_at_once(self, engine: Engine, requests: Sequence[Request]) -> None:
        """Requests in flight together each get their own tokens, whole, and none waits for its turn."""
        long = attrs.evolve(requests[0], index=1000, output_tokens=self.long_tokens)
        many = [long, *(attrs.evolve(request, index=i) for i, request in enumerate([*requests, *requests]))]
        found = self._exchanged(engine, many)
        told = [sum(chunk.tokens for chunk in answer.chunks) for _, answer in found]
        expect(told, [request.output_tokens for request in many])
        assert found[1][0].times_ns[0] < found[0][0].ended_ns, "one request after the other"

    def test_wire_reads_what_has_come(self, engine: Engine, requests: Sequence[Request]) -> None:
        """Reading changes nothing, and a request on its way has not failed; `ended` is called once."""
        long = attrs.evolve(requests[0], index=1000, output_tokens=self.long_tokens)
        ended: asyncio.Queue[Exchange] = asyncio.Queue()

        async def act(wire: Wire) -> None:
            exchange = Exchange(_asked(long), engine.message(long, GREEDY), ended.put_nowait)
            wire.send(exchange)
            while not exchange.times_ns:
                await asyncio.sleep(POLL_S)
            early = wire.read(exchange)
            if not exchange.ended_ns:
                expect(early.failure, None)
            await ended.get()
            answer = wire.read(exchange)
            expect(wire.read(exchange), answer)
            expect(answer.failure, None)
            assert sum(chunk.tokens for chunk in early.chunks) <= long.output_tokens

        self._run(engine, act)
        expect(ended.qsize(), 0, "further calls of `ended`")

    def test_wire_aborts(self, engine: Engine, requests: Sequence[Request]) -> None:
        """A request that is let go of has ended when `abort` returns; others go on and new ones come."""
        long = attrs.evolve(requests[0], index=1000, output_tokens=self.long_tokens)

        async def act(wire: Wire) -> None:
            ended: list[Exchange] = []
            exchange = Exchange(_asked(long), engine.message(long, GREEDY), ended.append)
            other = asyncio.ensure_future(_send(wire, engine, requests[0]))
            wire.send(exchange)
            await asyncio.sleep(0)
            wire.abort(exchange)
            expect(ended, [exchange])
            assert exchange.ended_ns
            for survivor in (await other, await _send(wire, engine, requests[0])):
                answer = wire.read(survivor)
                expect(answer.failure, None)
                expect(sum(chunk.tokens for chunk in answer.chunks), requests[0].output_tokens)

        self._run(engine, act)

    def _exchanged(self, engine: Engine, requests: Sequence[Request]) -> Sequence[tuple[Exchange, Answer]]:
        """Requests that are sent together, and their answers, whole."""

        async def act(wire: Wire) -> Sequence[tuple[Exchange, Answer]]:
            sent = await asyncio.gather(*(_send(wire, engine, request) for request in requests))
            return [(exchange, wire.read(exchange)) for exchange in sent]

        found: Sequence[tuple[Exchange, Answer]] = self._run(engine, act)
        expect([answer.failure for _, answer in found], [None] * len(found))
        return found

    def _run(self, engine: Engine, act: Callable[[Wire], Coroutine[Any, Any, Any]]) -> Any:
        """In a loop of its own, as in a client process, with the wire that one would make."""
        reference = _reference(engine)

        async def patient() -> Any:
            wire: Wire = resolve(reference.wire)(reference.settings)
            try:
                return await asyncio.wait_for(act(wire), self.patience_s)
            finally:
                wire.close()
                wire.close()

        return asyncio.run(patient())


def _reference(engine: Engine) -> WireReference:
    reference = engine.wire()
    assert reference is not None, "the engine has no wire"
    return reference


def _asked(request: Request) -> Asked:
    return Asked(request.index, len(request.token_ids), request.output_tokens)


async def _send(wire: Wire, engine: Engine, request: Request) -> Exchange:
    """One request to its end."""
    over = asyncio.Event()
    exchange = Exchange(_asked(request), engine.message(request, GREEDY), lambda _: over.set())
    wire.send(exchange)
    assert exchange.sent_ns, "`send` does not say when"
    if not exchange.ended_ns:
        await over.wait()
    return exchange
