"""Connections: how an answer's end is found, when a connection is used again, and what goes wrong on the way.

Servers here are scripts of bytes in the same loop, so that each case is exactly what it says.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import re
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

import llem_openai.connection
import llem_openai.wire
from llem.backends.wire import Asked, Exchange
from llem.errors import ConfigError, ExperimentFailed
from llem_openai.body import http_head, http_message
from llem_openai.connection import Connection, Owner
from llem_openai.wire import OpenAIWire

BODY = (
    b'data: {"choices":[{"index":0,"text":"w"}]}\n\n'
    b'data: {"choices":[{"index":0,"text":"w","finish_reason":"length"}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\ndata: [DONE]\n\n'
)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
PATIENCE_S = 30.0


def chunked(body: bytes, size: int = 50) -> bytes:
    """With a chunk's extension and a trailer, as HTTP allows them."""
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    framed = b"".join(b"%X;a=b\r\n%s\r\n" % (len(part), part) for part in parts)
    return HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + framed + b"0\r\nx-end: 1\r\n\r\n"


def measured(body: bytes, *headers: bytes) -> bytes:
    """With its length."""
    return HEAD + b"".join(header + b"\r\n" for header in headers) + b"Content-Length: %d\r\n\r\n" % len(body) + body


class Server:
    """Accepts connections and runs the script for each request; counts both."""

    def __init__(self, *scripts: bytes | Callable[[Server, asyncio.StreamWriter], Awaitable[None]]) -> None:
        self.scripts = scripts
        self.connections = self.requests = self.closed = 0
        self.heads: list[bytes] = []
        self.free = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length"))
                await reader.readexactly(int(length.partition(b":")[2]))
                self.heads.append(head)
                script = self.scripts[min(self.requests, len(self.scripts) - 1)]
                self.requests += 1
                if isinstance(script, bytes):
                    writer.write(script)
                    await writer.drain()
                else:
                    await script(self, writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        self.closed += 1


async def hang_up(_: Server, writer: asyncio.StreamWriter) -> None:
    """Close without a word."""
    writer.close()


def settings_of(base: str) -> dict[str, object]:
    """Of a wire to a server that tells its final usage."""
    return {"base": base, "key": "sk-1", "token_counts": "final_usage", "token_ids": False, "exact_prompt": True}


@contextlib.asynccontextmanager
async def wire_to(server: Server) -> AsyncIterator[OpenAIWire]:
    """A wire to it."""
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    wire = OpenAIWire(settings_of(f"http://127.0.0.1:{port}/v1"))
    try:
        yield wire
    finally:
        wire.close()
        wire.close()
        listening.close()
        until = time.monotonic() + PATIENCE_S
        while server.closed < server.connections:
            assert time.monotonic() < until, "a connection is left"
            await asyncio.sleep(0.001)


def asked(wire: OpenAIWire, ended: Callable[[Exchange], None] = lambda _: None) -> Exchange:
    """One to be sent."""
    head = http_head(wire._base + "/completions", "sk-1")
    return Exchange(Asked(0, 3, 2), http_message(head, {"prompt": [1, 2, 3]}), ended)


async def over(exchange: Exchange) -> Exchange:
    """Wait until it has ended."""
    until = time.monotonic() + PATIENCE_S
    while not exchange.ended_ns:
        assert time.monotonic() < until, "it does not end"
        await asyncio.sleep(0.001)
    return exchange


async def exchanged(wire: OpenAIWire) -> Exchange:
    """One, from its sending to its end."""
    exchange = asked(wire)
    wire.send(exchange)
    return await over(exchange)


def run(server: Server, act: Callable[[OpenAIWire], Awaitable[None]]) -> Server:
    """Run in a loop of its own."""

    async def whole() -> None:
        async with wire_to(server) as wire:
            await act(wire)

    asyncio.run(whole())
    return server


# framing, without a socket


class Told:
    """The transport and the owner of one connection, which keep what they are told."""

    def __init__(self) -> None:
        self.written = b""
        self.freed, self.aborted, self.again = 0, False, []
        buffer = memoryview(bytearray(1 << 16))
        self.owner = Owner("http://x/v1", buffer, self._free, lambda exchange, error: exchange.end(error), self._lost)
        self.connection = Connection(self.owner)
        self.connection.connection_made(self)
        self.exchange = Exchange(Asked(0, 3, 2), b"POST", lambda _: None)

    def _free(self, _: Connection) -> None:
        self.freed += 1

    def _lost(self, _: Connection, again: Exchange | None) -> None:
        self.again.append(again)

    def write(self, data: bytes) -> None:
        self.written += data

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted

    def get_extra_info(self, name: str) -> object:
        assert name == "socket"
        return self

    def setsockopt(self, level: int, option: int, value: int) -> None:
        assert (level, option, value) == (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def arrives(self, data: bytes) -> None:
        self.connection.get_buffer(-1)[: len(data)] = data
        self.connection.buffer_updated(len(data))


@pytest.mark.parametrize(
    "answer", [chunked(BODY), measured(BODY), chunked(BODY, 7)], ids=["chunked", "length", "small"]
)
def test_an_answer_cut_anywhere(answer):
    """At every byte, and byte by byte: the same body, each piece with its time, and the end with the last byte."""
    for cut in range(1, len(answer)):
        told = Told()
        told.connection.send(told.exchange)
        told.arrives(answer[:cut])
        assert told.exchange.ended_ns == 0
        told.arrives(answer[cut:])
        assert b"".join(told.exchange.pieces) == BODY
        assert len(told.exchange.pieces) == len(told.exchange.times_ns) <= 2
        assert (told.exchange.status, told.exchange.error, told.exchange.suspect) == (200, "", False)
        assert (told.freed, told.aborted) == (1, False)
    told = Told()
    told.connection.send(told.exchange)
    for byte in answer:
        assert told.exchange.ended_ns == 0
        told.arrives(bytes([byte]))
    assert b"".join(told.exchange.pieces) == BODY
    assert told.exchange.times_ns == sorted(told.exchange.times_ns)
    assert told.exchange.sent_ns <= told.exchange.times_ns[0] <= told.exchange.times_ns[-1] <= told.exchange.ended_ns


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        (measured(BODY), True),
        (measured(BODY, b"Connection: close"), False),
        (measured(BODY).replace(b"1.1", b"1.0"), False),
        (measured(BODY) + b"HTTP/1.1 408 Slow\r\n", False),
        (measured(BODY) + measured(b"second"), False),
        (measured(BODY) + b"garbage", False),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + measured(BODY), True),
        (measured(BODY).replace(b"\r\n", b"\n"), True),
    ],
)
def test_when_a_connection_is_kept(answer, kept):
    """The answer is the first one, and a connection that may say more, or closes, is not used again."""
    told = Told()
    told.connection.send(told.exchange)
    told.arrives(answer)
    assert (b"".join(told.exchange.pieces), told.exchange.status, told.exchange.error) == (BODY, 200, "")
    assert (told.freed, told.aborted) == (int(kept), not kept)


def test_an_answer_that_ends_with_its_connection():
    """Without a length or chunks, the end of the connection is its end; a broken one is none."""
    for error, words in ((None, ""), (ConnectionResetError(104, "reset by peer"), "broke: [Errno 104] reset by peer")):
        told = Told()
        told.connection.send(told.exchange)
        told.arrives(HEAD + b"\r\n" + BODY)
        assert told.exchange.ended_ns == 0
        assert told.connection.eof_received() is False
        told.connection.connection_lost(error)
        assert told.exchange.error.endswith(words)
        assert bool(told.exchange.error) == bool(words)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"SSH-2.0-OpenSSH\r\n", "not HTTP"),
        (b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81", "not HTTP"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", "not HTTP"),
        (HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n", "not HTTP"),
        (measured(b"\x1f\x8b", b"Content-Encoding: gzip"), r"compressed \(gzip\)"),
        (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n", r"compressed \(gzip, chunked\)"),
    ],
)
def test_answers_that_cannot_be_taken(answer, error):
    """They fail their request, and close the connection."""
    told = Told()
    told.connection.send(told.exchange)
    told.arrives(answer)
    assert told.exchange.ended_ns
    assert told.exchange.suspect
    assert re.search(error, told.exchange.error), told.exchange.error


def test_answers_and_heads_are_bounded(monkeypatch):
    """What does not end fills no memory."""
    monkeypatch.setattr(llem_openai.connection, "MOST", 1 << 20)
    for start, more, error in (
        (HEAD + b"\r\n", b"x" * 60_000, "an answer is longer than 1 MiB"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 10_000, "an answer is longer than 1 MiB"),
        (HEAD, b"x-a: %s\r\n" % (b"y" * 60_000), "the head of an answer is longer than 1 MiB"),
        (HEAD + b"x-a: ", b"y" * 60_000, "the head of an answer is longer than 1 MiB"),
    ):
        told = Told()
        told.connection.send(told.exchange)
        told.arrives(start)
        for _ in range(19):
            if not told.exchange.ended_ns:
                told.arrives(more)
        assert told.exchange.error == error
        assert told.aborted
        assert sum(map(len, told.exchange.pieces)) <= 2 << 20
        assert len(told.exchange.pieces) <= 20


@pytest.mark.parametrize(
    ("answer", "suspect"),
    [
        (measured(BODY), False),
        (measured(b""), True),
        (measured(b'{"error": {}}'), True),
        (measured(b'data: {"error": {}}\n\ndata: [DONE]\n\n'), True),
        (measured(b"event: error\ndata: x\n\n"), True),
        (measured(BODY).replace(b"200", b"500"), True),
    ],
)
def test_what_is_read_at_once(answer, suspect):
    """An answer that may be an error, by a look at its edges."""
    told = Told()
    told.connection.send(told.exchange)
    told.arrives(answer)
    assert told.exchange.suspect is suspect


# over sockets


@pytest.mark.process
def test_a_connection_is_used_again_the_last_one_first():
    """One after the other takes one connection; three at once take three, and the next one the last that was free."""
    server = Server(chunked(BODY))

    async def act(wire):
        for _ in range(3):
            exchange = await exchanged(wire)
            assert (exchange.status, exchange.error) == (200, "")
            assert [chunk.tokens for chunk in wire.read(exchange).chunks] == [1, 1, 0]
        assert server.connections == 1
        three = [asked(wire) for _ in range(3)]
        for exchange in three:
            wire.send(exchange)
        for exchange in three:
            await over(exchange)
        assert server.connections == 3

    run(server, act)
    assert b"accept-encoding: identity\r\n" in server.heads[0]
    assert b"authorization: Bearer sk-1\r\n" in server.heads[0]
    assert server.heads[0].startswith(b"POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1:")


@pytest.mark.process
def test_the_next_one_may_be_sent_when_one_has_ended():
    """From within `ended`, on the connection that has just become free: a closed client's way."""
    server = Server(measured(BODY))

    async def act(wire):
        rest = [asked(wire) for _ in range(50)]
        for one, following in zip(rest, [*rest[1:], None], strict=True):
            one.ended = lambda _, following=following: following and wire.send(following)
        wire.send(rest[0])
        await over(rest[-1])
        assert all(one.status == 200 and not one.error for one in rest)

    assert run(server, act).connections == 1


@pytest.mark.process
def test_an_old_connection_is_not_used_again(monkeypatch):
    """The server may close it just then."""
    monkeypatch.setattr(llem_openai.wire, "KEEPALIVE_S", 0.0)
    server = Server(measured(BODY))

    async def act(wire):
        for _ in range(3):
            await exchanged(wire)

    assert run(server, act).connections == 3


@pytest.mark.process
def test_a_kept_connection_that_the_server_closed_is_no_failure():
    """Nothing came of an answer: the message goes out once more, on a new connection. What it took is the server's."""

    async def hang_up_late(_: Server, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.1)
        writer.close()

    server = Server(measured(BODY), hang_up_late, measured(BODY))

    async def act(wire):
        first = await exchanged(wire)
        second = await exchanged(wire)
        assert (second.status, second.error, wire.read(second).failure) == (200, "", None)
        assert first.ended_ns < second.sent_ns < second.times_ns[0] - 0.1e9

    server = run(server, act)
    assert (server.connections, server.requests) == (2, 3)


@pytest.mark.process
def test_the_wait_for_a_connection_is_the_servers():
    """A request counts as sent from when it asks for one: a slow one is no lag of the client, and in every latency."""

    async def act(wire):
        loop = asyncio.get_running_loop()
        connect = loop.create_connection

        async def slowly(*given, **more):
            await asyncio.sleep(0.1)
            return await connect(*given, **more)

        loop.create_connection = slowly
        exchange = asked(wire)
        wire.send(exchange)
        sent_ns = exchange.sent_ns
        assert 0 < sent_ns <= time.monotonic_ns()
        await over(exchange)
        assert sent_ns == exchange.sent_ns < exchange.times_ns[0] - 0.1e9

    run(Server(measured(BODY)), act)


@pytest.mark.process
def test_a_new_connection_that_the_server_closes_is_a_failure():
    """It is not tried again and again."""

    async def act(wire):
        exchange = await exchanged(wire)
        assert "closed before the answer was complete" in exchange.error
        assert "broke" in wire.read(exchange).failure

    assert run(Server(hang_up), act).requests == 1


@pytest.mark.process
def test_a_reset_within_an_answer():
    """The request has failed, with what came before; the next one has a new connection."""

    async def reset(_: Server, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked(BODY)[:180])
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.transport.abort()

    server = Server(measured(BODY), reset, measured(BODY))

    async def act(wire):
        await exchanged(wire)
        answer = wire.read(await exchanged(wire))
        assert "broke" in answer.failure
        assert [chunk.tokens for chunk in answer.chunks] == [1]
        assert wire.read(await exchanged(wire)).failure is None

    assert run(server, act).requests == 3


@pytest.mark.process
def test_a_server_that_is_gone():
    """No further request need be tried: reading one says so."""

    async def act():
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            base = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
            wire = OpenAIWire(settings_of(base))
            exchange = await exchanged(wire)
        assert exchange.status == 0
        with pytest.raises(ExperimentFailed, match="the server is gone"):
            wire.read(exchange)

    asyncio.run(act())


@pytest.mark.process
def test_a_peer_that_has_gone_again_has_no_name(monkeypatch):
    """A connection may be reset before asyncio asks whom it leads to. The request goes on, and ends as it may."""

    def unknown(_: socket.socket) -> object:
        raise OSError(errno.ENOTCONN, "not connected")

    monkeypatch.setattr(socket.socket, "getpeername", unknown)

    async def act(wire):
        assert wire.read(await exchanged(wire)).failure is None

    run(Server(measured(BODY)), act)


@pytest.mark.process
def test_servers_that_reset_at_once_lose_no_request():
    """Each ends, whenever its connection was reset."""

    async def whole():
        with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
            wire = OpenAIWire(settings_of(f"http://127.0.0.1:{listening.getsockname()[1]}/v1"))
            exchanges = [asked(wire) for _ in range(300)]
            resetting = threading.Thread(target=reset_each, args=(listening, len(exchanges)), daemon=True)
            resetting.start()
            for exchange in exchanges:
                wire.send(exchange)
                await over(exchange)
            wire.close()
        assert all("broke" in exchange.error for exchange in exchanges)

    asyncio.run(whole())


def reset_each(listening: socket.socket, count: int) -> None:
    """Accept so many connections, and reset each."""
    for _ in range(count):
        accepted, _ = listening.accept()
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        accepted.close()


@pytest.mark.process
def test_whatever_keeps_a_connection_from_opening_ends_the_request():
    """A name that is none raises no OSError."""

    async def act():
        exchange = await exchanged(OpenAIWire(settings_of("http://a..b:8000/v1")))
        assert exchange.error.startswith("no connection to http://a..b:8000/v1: UnicodeError: ")

    asyncio.run(act())


@pytest.mark.process
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_never_followed(status):
    """The other server hears nothing, least of all the key."""
    other = Server(measured(BODY))

    async def act(wire):
        async with wire_to(other) as elsewhere:
            there = elsewhere._base
            server.scripts = (
                b"HTTP/1.1 %d Moved\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % (status, there.encode()),
            )
            exchange = await exchanged(wire)
            with pytest.raises(ConfigError, match=rf"\({status}\): the server redirects to {there}"):
                wire.read(exchange)

    server = Server(b"")
    run(server, act)
    assert other.connections == 0


@pytest.mark.process
def test_abort_lets_the_server_know():
    """`ended` is called before it returns, and the connection is closed."""

    async def slow(server: Server, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked(BODY)[:150])
        await writer.drain()
        server.free.set()

    server = Server(slow)

    async def act(wire):
        ended = []
        exchange = asked(wire, ended.append)
        wire.send(exchange)
        await server.free.wait()
        wire.abort(exchange)
        assert ended == [exchange]
        assert exchange.ended_ns
        wire.abort(exchange)
        assert ended == [exchange]
        until = time.monotonic() + PATIENCE_S
        while not server.closed:
            assert time.monotonic() < until, "the server does not see it"
            await asyncio.sleep(0.01)
        assert wire.read(exchange).failure == "aborted"

    run(server, act)


@pytest.mark.process
def test_abort_before_there_is_a_connection():
    """Nothing is sent any more."""
    server = Server(measured(BODY))

    async def act(wire):
        exchange = asked(wire)
        wire.send(exchange)
        wire.abort(exchange)
        assert exchange.error == "aborted"
        await asyncio.sleep(0.05)

    assert run(server, act).requests == 0


@pytest.mark.process
def test_closing_aborts_what_is_under_way():
    """Every exchange ends, and no connection is left."""

    async def never(_: Server, __: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0)

    server = Server(never)

    async def act(wire):
        exchanges = [asked(wire) for _ in range(3)]
        for exchange in exchanges:
            wire.send(exchange)
        while server.requests < 2:
            await asyncio.sleep(0.001)
        wire.close()
        assert [exchange.error for exchange in exchanges] == ["aborted"] * 3

    run(server, act)


@pytest.mark.process
def test_a_server_that_speaks_unasked_is_not_used_again():
    """Some say 408 before they close an idle connection: it is no answer to the next request."""

    async def late(server: Server, writer: asyncio.StreamWriter) -> None:
        writer.write(measured(BODY))
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(measured(b"too late").replace(b"200 OK", b"408 Request Timeout"))
        await writer.drain()

    async def act(wire):
        await exchanged(wire)
        await asyncio.sleep(0.3)
        assert wire.read(await exchanged(wire)).failure is None

    assert run(Server(late), act).connections == 2
