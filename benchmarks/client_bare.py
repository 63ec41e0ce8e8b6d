"""What one Python process can do: a client of bare `asyncio.Protocol`s, which reads the meaning after the load.

    python benchmarks/client_bare.py URL LOAD OUT

LOAD is JSON: `kind` ("closed" or "open"), `size` (streams, or arrivals a second), `requests`, `input_tokens`,
`output_tokens` and `ramp_s`, over which the clients of a closed load begin. Writes JSON to OUT: of each request when it
was due, when it was written, when its first and last token were read, and its tokens.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

END = b"0\r\n\r\n"


class Client(asyncio.Protocol):
    """A connection, on which one request is under way at most."""

    def __init__(self, free: Callable[[Client], None]) -> None:
        self.free = free
        self.transport: Any = None
        self.pieces: list[tuple[int, bytes]] = []
        self.sent = self.due = 0

    def connection_made(self, transport: Any) -> None:
        """Keep it."""
        self.transport = transport

    def send(self, message: bytes, due: int) -> None:
        """Write a request."""
        self.pieces, self.due = [], due
        self.sent = time.monotonic_ns()
        self.transport.write(message)

    def data_received(self, data: bytes) -> None:
        """Keep the bytes and their time. Nothing else is looked at but whether they are the last."""
        self.pieces.append((time.monotonic_ns(), data))
        if data.endswith(END):
            self.free(self)


@dataclasses.dataclass
class Ended:
    """A request that has ended: when it was due and written, and the bytes of its answer with their times."""

    due: int
    sent: int
    pieces: list[tuple[int, bytes]]

    def row(self) -> list[Any]:
        """What the bytes mean."""
        times = [at for at, data in self.pieces for _ in range(data.count(b'"text":'))]
        return [self.due, self.sent, times[0], times[-1], len(times)]


def message(load: dict[str, Any]) -> bytes:
    """A request."""
    body = {
        "model": "truth", "prompt": list(range(3, 3 + load["input_tokens"])), "max_tokens": load["output_tokens"],
        "ignore_eos": True, "stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }  # fmt: skip
    data = json.dumps(body).encode()
    head = "POST /v1/completions HTTP/1.1", "host: 127.0.0.1", "content-type: application/json"
    return "\r\n".join((*head, f"content-length: {len(data)}", "", "")).encode() + data


class Run:
    """One load."""

    def __init__(self, url: str, load: dict[str, Any]) -> None:
        self.address = urlsplit(url)
        self.load = load
        self.message = message(load)
        self.ended: list[Ended] = []
        self.left = load["requests"]
        self.idle: list[Client] = []
        self.whole = asyncio.Event()

    def free(self, client: Client) -> None:
        """A request has ended: its client sends the next one, or is kept for an arrival."""
        self.ended.append(Ended(client.due, client.sent, client.pieces))
        if self.load["kind"] == "open":
            self.idle.append(client)
        else:
            self.next(client)
        if len(self.ended) == self.load["requests"]:
            self.whole.set()

    def next(self, client: Client) -> None:
        """Send one more, unless all are sent."""
        if self.left:
            self.left -= 1
            client.send(self.message, 0)

    async def connected(self) -> Client:
        """A new connection."""
        _, client = await asyncio.get_running_loop().create_connection(
            lambda: Client(self.free), self.address.hostname, self.address.port
        )
        return client

    async def arrive(self, due: int) -> None:
        """An arrival of an open load."""
        client = self.idle.pop() if self.idle else await self.connected()
        client.send(self.message, due)

    async def closed(self) -> None:
        """Clients begin one by one over the ramp."""
        clients = [await self.connected() for _ in range(self.load["size"])]
        loop = asyncio.get_running_loop()
        begin = loop.time() + 0.1
        for at, client in enumerate(clients):
            loop.call_at(begin + self.load["ramp_s"] * at / len(clients), self.next, client)

    async def open(self) -> None:
        """Arrivals of a Poisson process."""
        loop, noise, at, kept = asyncio.get_running_loop(), random.Random(7), 0.2, set()
        zero = loop.time()

        def begin(due: float) -> None:
            task = loop.create_task(self.arrive(round(due * 1e9)))
            kept.add(task)
            task.add_done_callback(kept.discard)

        for _ in range(self.load["requests"]):
            at += noise.expovariate(self.load["size"])
            loop.call_at(zero + at, begin, zero + at)

    async def run(self) -> list[list[Any]]:
        """All requests, to their ends."""
        await (self.closed() if self.load["kind"] == "closed" else self.open())
        await self.whole.wait()
        return [one.row() for one in self.ended]


async def main(url: str, load: dict[str, Any]) -> list[list[Any]]:
    """Run it in this loop."""
    return await Run(url, load).run()


if __name__ == "__main__":
    gc.disable()
    Path(sys.argv[3]).write_text(json.dumps(asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))))
