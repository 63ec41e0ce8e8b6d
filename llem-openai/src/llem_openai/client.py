"""Requests in an event loop of our own: batches, the probe, likelihoods. Over the wire that the load generator uses."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from llem.backends.overdue import Patience
from llem.backends.wire import Asked, Exchange, WireReference
from llem_openai.body import http_message
from llem_openai.checks import sends_text
from llem_openai.config import OpenAIOptions
from llem_openai.counting import TokenCounts
from llem_openai.reading import Reader
from llem_openai.wire import OpenAIWire

__all__ = ["Client", "reference_of", "together"]

T = TypeVar("T")

#: Of a request whose answer is not counted.
UNCOUNTED = Asked(0, None, 0)


class Client:
    """Requests to one path of the server. Close it in a `finally`.

    Args:
        reference: of the wire, with how long a request may take.
        head: of every message, to which the length and the body are added.
    """

    def __init__(self, reference: WireReference, head: bytes) -> None:
        self.head = head
        self._runner, self._open = asyncio.Runner(), True
        self._wire = OpenAIWire(reference.settings)
        self._patience = Patience(self._wire, reference)
        self._in_flight: set[Exchange] = set()
        self.reader = Reader.of(reference.settings)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run to the end, while requests that the server keeps waiting are let go of."""
        return self._runner.run(self._watched(work))

    async def _watched(self, work: Coroutine[Any, Any, T]) -> T:
        working = asyncio.ensure_future(work)
        watching = asyncio.ensure_future(self._patience.watch(lambda: self._in_flight))
        try:
            await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                watching.result()  # raises: nothing else ends it
            return working.result()
        finally:
            for task in (working, watching):
                task.cancel()
            await asyncio.wait((working, watching))

    async def exchange(self, body: Mapping[str, Any], asked: Asked = UNCOUNTED) -> Exchange:
        """One request to its end, however it ends. Cancelling aborts it."""
        ended = asyncio.Event()
        exchange = Exchange(asked, http_message(self.head, body), lambda _: ended.set())
        self._in_flight.add(exchange)
        self._wire.send(exchange)
        try:
            await ended.wait()
        finally:
            self._in_flight.discard(exchange)
            if not exchange.ended_ns:
                self._wire.abort(exchange)
        return exchange

    async def answer(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """The whole answer.

        Raises:
            ConfigError: the server refuses the request (4xx).
            ExperimentFailed: it is gone, or out of memory.
            RequestFailed: it failed with this request.
        """
        return self.reader.whole(await self.exchange(body))

    def close(self) -> None:
        """Close the connections and the loop. May be called twice."""
        if self._open:
            self._open = False
            self._runner.run(self._let_go())
            self._runner.close()

    async def _let_go(self) -> None:
        self._wire.close()
        await asyncio.sleep(0)  # transports close in the loop's next turn


async def together(works: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """The results in order; the first failure ends the others, so that none goes on unseen."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in works]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


def reference_of(options: OpenAIOptions, base: str, key: str | None, token_counts: TokenCounts) -> WireReference:
    """The wire to a server whose ways are known."""
    settings = {
        "base": base,
        "key": key,
        "token_counts": token_counts,
        "token_ids": options.return_token_ids,
        "exact_prompt": not sends_text(options),
    }
    return WireReference(
        "llem_openai.wire:OpenAIWire", settings, options.timeout_s, options.deadline_s, options.client_processes
    )
