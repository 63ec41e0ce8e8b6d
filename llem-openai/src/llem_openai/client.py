"""Talks to the server: one answer at once, or its events as they arrive."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import aiohttp

from llem.errors import ExperimentFailed
from llem_openai.failures import refused, stream_error, transport
from llem_openai.sse import Events

__all__ = ["Client", "bearer"]

CONNECT_S = 10.0
#: Idle connections are not used again after this time: a server closes them too, some after 5 s, and may just then.
KEEPALIVE_S = 2.0


class Client:
    """Requests to one path of the server.

    Connections belong to the event loop in which they were opened, so each loop has its own.

    Args:
        base: such as http://127.0.0.1:8000/v1.
        path: below it.
        key: sent as bearer token.
        timeout_s: longest silence.
    """

    def __init__(self, base: str, path: str, key: str | None, timeout_s: float) -> None:
        self._base, self._url, self._key = base, f"{base}/{path}", key
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=timeout_s)
        self._sessions: dict[asyncio.AbstractEventLoop, aiohttp.ClientSession] = {}

    def _post(self, body: Mapping[str, Any]) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        loop = asyncio.get_running_loop()
        if loop not in self._sessions:
            self._sessions[loop] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_S),
                headers={"accept-encoding": "identity", **bearer(self._key)},
                timeout=self._timeout,
            )
        return self._sessions[loop].post(self._url, json=body, allow_redirects=False)

    async def answer(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """The whole answer.

        Raises:
            ConfigError: the server refuses the request (4xx).
            ExperimentFailed: it is gone, out of memory, or answers what is no JSON.
            RequestFailed: it failed with this request.
        """
        with transport(self._base):
            async with self._post(body) as response:
                content = await response.read()
        if response.status != 200:
            raise refused(response.status, content, self._key)
        return self._parsed(content)

    async def events(self, body: Mapping[str, Any]) -> AsyncGenerator[tuple[int, Mapping[str, Any]], None]:
        """Events with their monotonic time of arrival in nanoseconds. Raises as `answer`.

        Closing the iterator closes the connection, by which the server knows to stop.
        """
        with transport(self._base):
            async with self._post(body) as response:
                if response.status != 200:
                    raise refused(response.status, await response.read(), self._key)
                events = Events()
                async for piece in response.content.iter_any():
                    now = time.monotonic_ns()
                    for data in events.feed(piece):
                        if data != b"[DONE]":
                            yield now, self._event(data)

    def _event(self, data: bytes) -> Mapping[str, Any]:
        event = self._parsed(data)
        if event.get("error"):
            raise stream_error(event["error"], self._key)
        return event

    def _parsed(self, data: bytes) -> Mapping[str, Any]:
        try:
            found = json.loads(data)
        except ValueError as error:
            raise ExperimentFailed(
                f"{self._url} answers what is not JSON: {data[:80]!r}", "check openai.base_url", "invalid"
            ) from error
        if not isinstance(found, dict):
            raise ExperimentFailed(f"{self._url} answers {data[:80]!r}", "check openai.base_url", "invalid")
        return found

    def close(self) -> None:
        """Close the connections of every loop that is still open."""
        for loop, session in self._sessions.items():
            if not loop.is_closed():
                loop.run_until_complete(session.close())
        self._sessions.clear()


def bearer(key: str | None) -> dict[str, str]:
    """The header with the key."""
    return {} if key is None else {"authorization": f"Bearer {key}"}
