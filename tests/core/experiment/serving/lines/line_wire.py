"""A wire of a few lines, and its server: tests of client processes need one, and the core has none.

A request is a line of JSON; the answer has a line for each token (`t`), for each comment (`.`), and ends with `end` or
`error <why>`. `python line_wire.py` prints its port and serves until its input ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from llem.backends.requests import Chunk
from llem.backends.wire import Answer, Exchange, Wire
from llem.errors import ExperimentFailed


class _Connection(asyncio.Protocol):
    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        if self.exchange.ended_ns:
            transport.abort()
            return
        transport.write(self.exchange.message)

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        exchange.times_ns.append(time.monotonic_ns())
        exchange.pieces.append(data)
        if data.endswith(b"end\n"):
            exchange.end()
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.exchange.suspect = self.exchange.suspect or not self.exchange.ended_ns
        self.exchange.end("" if self.exchange.pieces else "the connection was lost")


class LineWire(Wire):
    """Settings: `port`; `stall_at` and `stall_s`: its n-th sending blocks the loop; `dies_at`: the process dies."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings
        if settings.get("refuses"):
            raise ExperimentFailed("this wire refuses to begin")
        self.count = 0
        self.open: dict[Exchange, tuple[_Connection, asyncio.Task[Any]]] = {}

    def send(self, exchange: Exchange) -> None:
        self.count += 1
        if self.count == self.settings.get("stall_at"):
            time.sleep(self.settings["stall_s"])
        if self.count == self.settings.get("dies_at"):
            import os

            os._exit(7)
        exchange.sent_ns = time.monotonic_ns()
        loop = asyncio.get_running_loop()
        connection = _Connection(exchange)
        made = loop.create_connection(lambda: connection, "127.0.0.1", self.settings["port"])
        task = loop.create_task(made)
        self.open[exchange] = connection, task
        task.add_done_callback(lambda done: self._made(exchange, done))

    def _made(self, exchange: Exchange, done: asyncio.Task[Any]) -> None:
        if not done.cancelled() and done.exception() is not None:
            exchange.end(str(done.exception()))

    def abort(self, exchange: Exchange) -> None:
        connection, task = self.open.pop(exchange)
        task.cancel()
        if connection.transport is not None:
            connection.transport.abort()
        exchange.end()

    def read(self, exchange: Exchange) -> Answer:
        chunks, failure = [], exchange.error or None
        for at_ns, piece in zip(exchange.times_ns, exchange.pieces, strict=True):
            for line in piece.decode().split("\n"):
                if line == "t":
                    chunks.append(Chunk(1, at_ns, (len(chunks),)))
                elif line == "end":
                    chunks.append(Chunk(0, at_ns, (), "length", {"queued_s": 0.5}))
                elif line.startswith("error "):
                    failure = line.removeprefix("error ")
                elif line.startswith("fatal "):
                    raise ExperimentFailed(line.removeprefix("fatal "), "ask another server", "invalid")
        whole = bool(chunks) and chunks[-1].finish_reason is not None
        if exchange.ended_ns and exchange.suspect and not whole and not failure:
            failure = "the answer broke off"
        return Answer(chunks, failure)

    def close(self) -> None:
        for connection, task in self.open.values():
            task.cancel()
            if connection.transport is not None:
                connection.transport.abort()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One request: `tokens`, `first_s`, `token_s`, and `mode`."""
    asked = json.loads(await reader.readline())
    mode = asked.get("mode", "")
    try:
        if mode in ("error", "fatal", "late"):
            kind, end = ("error", "end\n") if mode == "late" else (mode, "")
            writer.write(f"{kind} {asked['why']}\n{end}".encode())
            return
        due = time.monotonic() + asked["first_s"]
        for number in range(asked["tokens"]):
            while mode == "comments" and number == 1:
                writer.write(b".\n")
                await asyncio.sleep(0.05)
            if mode == "truncate" and number == 1:
                return
            if mode == "hang" and number == 1:
                await asyncio.sleep(3600)
            await asyncio.sleep(max(due - time.monotonic(), 0))
            due += asked["token_s"]
            writer.write(b"t\n" if number + 1 < asked["tokens"] else b"t\nend\n")
            await writer.drain()
        await reader.read(1)
    except ConnectionError:
        return
    finally:
        writer.close()


async def main() -> None:
    """Serve until the input ends."""
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    threading.Thread(target=lambda: (sys.stdin.read(), loop.call_soon_threadsafe(over.set)), daemon=True).start()
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await over.wait()


if __name__ == "__main__":
    asyncio.run(main())
