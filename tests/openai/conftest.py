"""Real servers, each a process of its own on a free port."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llem.backends.base import Chunk, Placement, Request
from llem.backends.overdue import Patience
from llem.backends.wire import Asked, Exchange
from llem.config.models import Experiment, Sampling
from llem.models.resolve import resolve_model
from llem.plugins.reference import resolve
from llem_openai.backend import OpenAIBackend
from llem_openai.config import OpenAIOptions
from llem_openai.failures import RequestFailed

ENDPOINT = str(Path(__file__).parent / "endpoint.py")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


class Running:
    """A server that runs already, started by nobody but the test."""

    def __init__(self, *flags: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/v1"
        command = [sys.executable, ENDPOINT, "--port", str(self.port), *flags]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 30
        while True:
            try:
                self.log()
                return
            except OSError:
                assert time.monotonic() < end, "the server does not come up"
                time.sleep(0.05)

    def log(self) -> dict[str, Any]:
        """What it received."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/log", timeout=10) as response:
            found: dict[str, Any] = json.load(response)
            return found

    def last(self) -> dict[str, Any]:
        """The last request: path, headers, body."""
        found: dict[str, Any] = self.log()["received"][-1]
        return found

    def stop(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="session")
def server_class() -> type[Running]:
    """For fixtures that outlive a test."""
    return Running


@pytest.fixture
def running() -> Iterator[Callable[..., Running]]:
    """Start a server with flags of `endpoint.py`."""
    made: list[Running] = []

    def start(*flags: str) -> Running:
        made.append(Running(*flags))
        return made[-1]

    yield start
    for server in made:
        server.stop()


@pytest.fixture
def start_command() -> tuple[str, list[str]]:
    """A base URL and the command of a server for it, to which flags may be added."""
    port = free_port()
    return f"http://127.0.0.1:{port}/v1", [sys.executable, ENDPOINT, "--port", str(port)]


@pytest.fixture
def experiment() -> Callable[..., Experiment]:
    """Make an experiment; `options` are keywords of OpenAIOptions."""

    def make(options: dict[str, Any] | None = None, **changes: Any) -> Experiment:
        given = {"model": "shape:tiny", "dtype": "auto", "device": "cpu", **changes}
        return Experiment(backend="openai", options=OpenAIOptions(**(options or {})), **given)

    return make


@pytest.fixture
def load(experiment: Any) -> Iterator[Callable[..., Any]]:
    """Load an engine; every one is closed at the end."""
    engines = []

    def make(options: dict[str, Any] | None = None, **changes: Any) -> Any:
        asked = experiment(options, **changes)
        engine = OpenAIBackend(asked.options).load(asked, resolve_model(asked.model), Placement("cpu"))
        engines.append(engine)
        return engine

    yield make
    for engine in engines:
        engine.close()


@pytest.fixture
def requests_of() -> Callable[..., list[Request]]:
    """Requests from (prompt length, output tokens) pairs; prompts differ from each other and are text as bytes."""

    def make(*sizes: tuple[int, int]) -> list[Request]:
        return [
            Request(index, tuple(97 + (31 * index + 13 * place) % 26 for place in range(length)), output)
            for index, (length, output) in enumerate(sizes)
        ]

    return make


def over_the_wire(engine: Any, requests: list[Request], sampling: Sampling) -> list[list[Chunk]]:
    """The chunks of requests that are sent together, as a client process of the load generator sends and reads them.

    Raises RequestFailed for one that fails.
    """
    reference = engine.wire()
    wire = resolve(reference.wire)(reference.settings)
    patience = Patience(wire, reference)

    async def one(request: Request) -> Exchange:
        ended = asyncio.Event()
        asked = Asked(request.index, len(request.token_ids) or None, request.output_tokens)
        exchange = Exchange(asked, engine.message(request, sampling), lambda _: ended.set())
        flying.add(exchange)
        wire.send(exchange)
        await ended.wait()
        return exchange

    async def every() -> list[Exchange]:
        watching = asyncio.create_task(patience.watch(lambda: flying))
        try:
            return await asyncio.gather(*(one(request) for request in requests))
        finally:
            watching.cancel()
            wire.close()

    flying: set[Exchange] = set()
    answers = [wire.read(exchange) for exchange in asyncio.run(every())]
    for answer in answers:
        if answer.failure is not None:
            raise RequestFailed(answer.failure)
    return [list(answer.chunks) for answer in answers]


@pytest.fixture
def streamed() -> Callable[..., list[list[Chunk]]]:
    """Chunks of requests over the wire: engine, requests, sampling."""

    def run(engine: Any, requests: list[Request], sampling: Sampling | None = None) -> list[list[Chunk]]:
        return over_the_wire(engine, requests, Sampling() if sampling is None else sampling)

    return run
