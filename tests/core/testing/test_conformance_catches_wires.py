"""The suite of wires fails for wires that are wrong: one seeded fault each. The server is in memory."""

from __future__ import annotations

import asyncio
import inspect
import json
import time
from collections.abc import Mapping
from typing import Any

import attrs
import pytest

from llem.backends.base import Chunk, Request
from llem.backends.echo import EchoEngine, EchoOptions
from llem.backends.wire import Answer, Exchange, Wire, WireReference
from llem.config.models import Sampling
from llem.plugins import Reference
from llem.testing.conformance import WireConformance

REQUESTS = [Request(i, tuple(range(i, i + n)), m) for i, n, m in ((5, 3, 4), (6, 9, 7), (7, 1, 1))]
TOKEN_S = 0.001
FAILED = (AssertionError, TimeoutError, TypeError, pytest.fail.Exception)


class MemoryWire(Wire):
    """Each token is an arrival of its id; the answer is complete with the last."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.tasks: dict[Exchange, asyncio.Task[None]] = {}

    def send(self, exchange: Exchange) -> None:
        exchange.sent_ns = time.monotonic_ns()
        self.tasks[exchange] = asyncio.get_running_loop().create_task(self.answer(exchange))

    async def answer(self, exchange: Exchange) -> None:
        for token in json.loads(exchange.message):
            await asyncio.sleep(TOKEN_S)
            exchange.times_ns.append(time.monotonic_ns())
            exchange.pieces.append(str(token).encode())
        exchange.status = 200
        exchange.end()

    def abort(self, exchange: Exchange) -> None:
        self.tasks[exchange].cancel()
        exchange.end("aborted")

    def read(self, exchange: Exchange) -> Answer:
        told = zip(exchange.times_ns, exchange.pieces, strict=True)
        chunks = [Chunk(1, time_ns, (int(piece),)) for time_ns, piece in told]
        if exchange.ended_ns and not exchange.error:
            chunks.append(Chunk(0, exchange.times_ns[-1], (), "length"))
        return Answer(chunks, exchange.error or None)

    def close(self) -> None:
        for task in self.tasks.values():
            task.cancel()


class MemoryEngine(EchoEngine):
    """Its messages hold the answers."""

    wire_class = MemoryWire
    settings: Mapping[str, Any] = {}

    def wire(self) -> WireReference | None:
        return WireReference(f"{__name__}:{self.wire_class.__name__}", self.settings, 60.0, 60.0)

    def message(self, request: Request, sampling: Sampling) -> bytes:
        [done] = self.generate([request], sampling)
        return json.dumps(done.token_ids).encode()


class Kit(WireConformance):
    """The suite as a plain object; named so that pytest does not collect it."""

    patience_s = 5.0
    capabilities = {"stream": "supported"}

    def reference(self) -> Reference:
        return Reference("echo", "llem.backends.echo:EchoBackend", capabilities=self.capabilities)


class Undeclared(Kit):
    """A reference that keeps silent about it."""

    capabilities = {}


class NoWire(MemoryEngine):
    def wire(self) -> WireReference | None:
        return None


class SettingsOfPython(MemoryEngine):
    settings = {"key": b"bytes"}


class OtherMessages(MemoryEngine):
    count = 0

    def message(self, request: Request, sampling: Sampling) -> bytes:
        self.count += 1
        return super().message(request, sampling) + b" " * self.count


class OtherTokens(MemoryEngine):
    def message(self, request: Request, sampling: Sampling) -> bytes:
        return json.dumps([0] * request.output_tokens).encode()


class OneTooFew(MemoryWire):
    def read(self, exchange: Exchange) -> Answer:
        answer = super().read(exchange)
        return attrs.evolve(answer, chunks=answer.chunks[1:])


class NoReason(MemoryWire):
    def read(self, exchange: Exchange) -> Answer:
        answer = super().read(exchange)
        return attrs.evolve(answer, chunks=[attrs.evolve(chunk, finish_reason=None) for chunk in answer.chunks])


class AlwaysSuspect(MemoryWire):
    async def answer(self, exchange: Exchange) -> None:
        exchange.suspect = True
        await super().answer(exchange)


class NeverSent(MemoryWire):
    def send(self, exchange: Exchange) -> None:
        super().send(exchange)
        exchange.sent_ns = 0


class SentLater(NeverSent):
    """It counts from when it had a connection."""

    async def answer(self, exchange: Exchange) -> None:
        await asyncio.sleep(TOKEN_S)
        exchange.sent_ns = time.monotonic_ns()
        await super().answer(exchange)


class TimesOfTheWall(MemoryWire):
    async def answer(self, exchange: Exchange) -> None:
        exchange.sent_ns = time.time_ns()
        await super().answer(exchange)


class SpreadsTimes(MemoryWire):
    def read(self, exchange: Exchange) -> Answer:
        answer = super().read(exchange)
        chunks = [attrs.evolve(chunk, time_ns=chunk.time_ns - 1) for chunk in answer.chunks]
        return attrs.evolve(answer, chunks=chunks)


class OneByOne(MemoryWire):
    turn: asyncio.Lock | None = None

    async def answer(self, exchange: Exchange) -> None:
        self.turn = self.turn or asyncio.Lock()
        async with self.turn:
            await super().answer(exchange)


class FailsEarly(MemoryWire):
    def read(self, exchange: Exchange) -> Answer:
        answer = super().read(exchange)
        return answer if exchange.ended_ns else attrs.evolve(answer, failure="it has no end")


class ReadsOnce(MemoryWire):
    def read(self, exchange: Exchange) -> Answer:
        answer = super().read(exchange)
        if exchange.ended_ns:
            exchange.pieces, exchange.times_ns = exchange.pieces[:1], exchange.times_ns[:1]
        return answer


class AbortsLater(MemoryWire):
    def abort(self, exchange: Exchange) -> None:
        asyncio.get_running_loop().call_soon(super().abort, exchange)


class AbortKillsAll(MemoryWire):
    def abort(self, exchange: Exchange) -> None:
        for each in self.tasks:
            super().abort(each)


def with_wire(wire: type[MemoryWire]) -> type[MemoryEngine]:
    """An engine with this wire."""
    return type(wire.__name__, (MemoryEngine,), {"wire_class": wire})


FAULTS = [
    (NoWire, "test_wire_is_declared"),
    (SettingsOfPython, "test_wire_is_declared"),
    (OtherMessages, "test_wire_messages_are_bytes"),
    (with_wire(OneTooFew), "test_wire_counts_are_exact"),
    (with_wire(NoReason), "test_wire_ends_with_its_reason"),
    (with_wire(AlwaysSuspect), "test_wire_ends_with_its_reason"),
    (with_wire(NeverSent), "test_wire_times_are_of_arrival"),
    (with_wire(SentLater), "test_wire_times_are_of_arrival"),
    (with_wire(TimesOfTheWall), "test_wire_times_are_of_arrival"),
    (with_wire(SpreadsTimes), "test_wire_times_are_of_arrival"),
    (OtherTokens, "test_wire_gives_what_generate_gives"),
    (with_wire(OneByOne), "test_wire_runs_many_at_once"),
    (with_wire(FailsEarly), "test_wire_reads_what_has_come"),
    (with_wire(ReadsOnce), "test_wire_reads_what_has_come"),
    (with_wire(AbortsLater), "test_wire_aborts"),
    (with_wire(AbortKillsAll), "test_wire_aborts"),
]


def run(check: str, engine: EchoEngine, kit: Kit | None = None) -> None:
    method = getattr(kit or Kit(), check)
    given: dict[str, Any] = {"engine": engine, "requests": REQUESTS}
    names = tuple(inspect.signature(method).parameters)
    method(**{name: given[name] for name in names})


@pytest.mark.parametrize(("engine", "check"), FAULTS, ids=lambda value: getattr(value, "__name__", value))
def test_faulty_wire_is_caught(engine: type[MemoryEngine], check: str) -> None:
    """The check passes for the right wire and fails for the faulty one."""
    run(check, MemoryEngine(EchoOptions()))
    with pytest.raises(FAILED):
        run(check, engine(EchoOptions()))


def test_an_undeclared_wire_is_caught() -> None:
    """A serving load would be refused."""
    run("test_wire_is_declared", MemoryEngine(EchoOptions()))
    with pytest.raises(FAILED):
        run("test_wire_is_declared", MemoryEngine(EchoOptions()), Undeclared())
