"""The wire to the server: its connections, and what their bytes mean."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from llem.backends.wire import Answer, Exchange, Wire
from llem.foreign.secrets import without_key
from llem.foreign.shown import one_line
from llem_openai.connection import Connection, Owner
from llem_openai.failures import LONGEST, broken, unreached
from llem_openai.reading import Reader

__all__ = ["OpenAIWire"]

CONNECT_S = 10.0
#: Idle connections are not used again after this time: a server closes them too, some after 5 s, and may just then.
KEEPALIVE_S = 2.0
#: Bytes that are read at once.
READ = 1 << 16


class OpenAIWire(Wire):
    """HTTP/1.1 over connections that are kept and taken again, the last one first. Proxies are not used.

    Settings:
        base: URL of the server, such as http://127.0.0.1:8000/v1.
        key: of the server, which stands in its messages and is hidden wherever the server repeats it; or None.
        token_counts, token_ids, exact_prompt: as `llem_openai.reading.Reader`.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._base = str(settings["base"])
        parts = urlsplit(self._base)
        self._secure = ssl.create_default_context() if parts.scheme == "https" else None
        self._name = parts.hostname or ""
        self._address = (self._name, parts.port or (443 if self._secure else 80))
        self._key: str | None = settings["key"]
        self._reader = Reader.of(settings)
        buffer = memoryview(bytearray(READ))
        self._owner = Owner(self._base, buffer, free=self._free, over=self._over, lost=self._lost)
        self._connections: set[Connection] = set()
        self._idle: list[Connection] = []
        self._under_way: dict[Exchange, Connection | asyncio.Task[None]] = {}

    def send(self, exchange: Exchange) -> None:
        """See `Wire.send`."""
        connection = self._taken()
        exchange.sent_ns = time.monotonic_ns()  # a wait for a connection, and a second sending, are the server's
        if connection is None:
            self._connect(exchange)
        else:
            self._under_way[exchange] = connection
            connection.send(exchange)

    def abort(self, exchange: Exchange) -> None:
        """See `Wire.abort`: the connection is closed, by which the server knows to stop."""
        way = self._under_way.get(exchange)
        if isinstance(way, Connection):
            way.abort()
        elif way is not None:
            way.cancel()
        self._over(exchange, "aborted")

    def read(self, exchange: Exchange) -> Answer:
        """See `Wire.read`."""
        return self._reader.read(exchange)

    def close(self) -> None:
        """See `Wire.close`: what is under way is aborted."""
        for exchange in list(self._under_way):
            self.abort(exchange)
        for connection in list(self._connections):
            connection.abort()
        self._idle.clear()

    def _taken(self) -> Connection | None:
        """The connection that was used last; None where it has waited too long, and with it all others."""
        while self._idle:
            connection = self._idle.pop()
            if connection.closing:
                continue
            if time.monotonic() - connection.idle_since <= KEEPALIVE_S:
                return connection
            for stale in (connection, *self._idle):
                stale.abort()
            self._idle.clear()
        return None

    def _connect(self, exchange: Exchange) -> None:
        self._under_way[exchange] = asyncio.get_running_loop().create_task(self._connected(exchange))

    async def _connected(self, exchange: Exchange) -> None:
        """Send over a new connection. Whatever goes wrong ends the exchange: nobody else looks at this task."""
        try:
            connection = await self._opened()
            if connection.closing:  # taken and closed again before anything was written
                self._over(exchange, broken(self._base, None))
                return
            self._connections.add(connection)
            self._under_way[exchange] = connection
            connection.send(exchange)
        except OSError as error:
            self._over(exchange, unreached(self._base, error))
        except Exception as error:  # such as a name of a host that is none
            self._over(
                exchange, f"no connection to {self._base}: {type(error).__name__}: {one_line(str(error), LONGEST)}"
            )

    async def _opened(self) -> Connection:
        """A new connection. Raises OSError."""
        loop = asyncio.get_running_loop()
        more: dict[str, Any] = {"ssl": self._secure, "server_hostname": self._name} if self._secure else {}
        async with asyncio.timeout(CONNECT_S):
            made = await loop.create_connection(lambda: Connection(self._owner), *self._address, **more)
        transport, connection = made
        # a name is looked up once: each look-up is a thread's work, and may find another address
        if peer := transport.get_extra_info("peername"):  # none where the server has closed it already
            self._address = peer[:2]
        return connection

    # what connections tell

    def _free(self, connection: Connection) -> None:
        connection.idle_since = time.monotonic()
        self._idle.append(connection)

    def _over(self, exchange: Exchange, error: str) -> None:
        self._under_way.pop(exchange, None)
        exchange.end(without_key(error, self._key))

    def _lost(self, connection: Connection, again: Exchange | None) -> None:
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if again is not None:
            self._connect(again)
