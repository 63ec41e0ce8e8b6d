"""One connection to the server: HTTP/1.1 as far as these servers use it, and the time at which bytes arrive."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any

import attrs
import httptools

from llem.backends.wire import Exchange
from llem.foreign.shown import one_line
from llem_openai.failures import broken

__all__ = ["Connection", "Owner"]

#: Bytes of an answer's head, and of an answer, at most.
MOST_HEAD, MOST = 1 << 20, 64 << 20
#: Where these stand at an answer's edges it may be an error; an error may be followed by an event that ends the stream.
SIGNS = (b'"error"', b"event: error", b"event:error")
LAST_PIECES = 3


@attrs.frozen
class Owner:
    """Whom a connection tells.

    Attributes:
        base: of the server, for messages.
        buffer: where every connection's transport puts what it reads: it is read out before the next one is served.
        free: the connection has taken an answer in and can be used again; told before the exchange ends.
        over: an exchange has ended, with what broke it or "".
        lost: the connection is closed, with the exchange that may be tried again on a new one.
    """

    base: str
    buffer: memoryview
    free: Callable[[Connection], None]
    over: Callable[[Exchange, str], None]
    lost: Callable[[Connection, Exchange | None], None]


class Connection(asyncio.BufferedProtocol):
    """Writes one exchange at a time, and appends what comes to it.

    Nothing is done for an arrival but to note its time and to have the C parser take the framing off.
    """

    def __init__(self, owner: Owner) -> None:
        self._owner, self._buffer = owner, owner.buffer
        self._parser = httptools.HttpResponseParser(self)
        # some servers end lines of a head with a line feed alone, or write blanks after a chunk's size
        self._parser.set_dangerous_leniencies(
            lenient_optional_lf_after_cr=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._feed = self._parser.feed_data
        self._transport: Any = None
        self._exchange: Exchange | None = None
        self._times: list[int] = []
        self._pieces: list[bytes] = []
        self._now = self._at = 0  # of this arrival, and of the last one that had a part of the body
        self._size, self._most = 0, MOST_HEAD
        self._status = 0
        self._complete = self._keep = self._by_close = False
        self._refusal = ""
        self.used = False
        self.idle_since = 0.0

    # what the wire asks

    def send(self, exchange: Exchange) -> None:
        """Write a message, now."""
        self._exchange = exchange
        self._times, self._pieces = exchange.times_ns, exchange.pieces
        self._at, self._size, self._most, self._status = 0, 0, MOST_HEAD, 0
        self._complete, self._by_close, self._refusal = False, True, ""
        self._transport.write(exchange.message)

    @property
    def closing(self) -> bool:
        """Whether it takes no more."""
        return bool(self._transport.is_closing())

    def abort(self) -> None:
        """Close at once, whatever is under way; the server sees it. The exchange is not told."""
        self._exchange = None
        if self._transport is not None:
            self._transport.abort()

    # what the transport tells

    def connection_made(self, transport: Any) -> None:
        """Small messages go out at once."""
        self._transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def get_buffer(self, sizehint: int) -> memoryview:
        """The one buffer."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes have arrived, just now."""
        self._now = time.monotonic_ns()
        self._size += nbytes
        try:
            self._feed(self._buffer[:nbytes])
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._keep = False
            if not self._complete:
                self._refusal = self._refusal or f"the server answers what is not HTTP: {one_line(str(error), 200)}"
        if self._exchange is None:  # it speaks unasked, mostly to say that it closes the connection
            self._transport.abort()
        elif self._complete:
            self._finish(self._exchange)
        elif self._refusal:
            self._fail(self._exchange, self._refusal)
        elif self._size > self._most:
            part = "an answer" if self._status else "the head of an answer"
            self._fail(self._exchange, f"{part} is longer than {self._most >> 20} MiB")

    def eof_received(self) -> bool:
        """The server writes no more: the transport closes."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Closed, by whomever."""
        exchange, self._exchange = self._exchange, None
        again = None
        if exchange is not None:
            if self.used and self._size == 0:  # closed while the message was on its way
                again = exchange
            elif self._status and self._by_close and exc is None:
                exchange.suspect = suspicious(exchange)
                self._owner.over(exchange, "")
            else:
                self._owner.over(exchange, broken(self._owner.base, exc))
        self._owner.lost(self, again)

    # what the parser tells, from within `buffer_updated`

    def on_message_begin(self) -> None:
        """A second answer to one request is not one of ours."""
        if self._complete:
            self._keep = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Only what tells where the answer ends, or that it cannot be taken."""
        name = name.lower()
        if name == b"content-length" or (name == b"transfer-encoding" and value.strip().lower() == b"chunked"):
            self._by_close = False
        elif name in (b"content-encoding", b"transfer-encoding") and value.strip().lower() not in (b"", b"identity"):
            coding = one_line(value.decode("latin-1"), 40)
            self._refusal = f"the server sends its answer compressed ({coding}), though `identity` was asked for"
        elif name == b"location":
            self._refusal = "the server redirects to " + value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """The status; of an interim one (1xx) nothing is kept."""
        if self._complete or self._exchange is None:
            return
        status = self._parser.get_status_code()
        if status >= 200:
            self._status = self._exchange.status = status
            self._most = MOST
            if not 300 <= status < 400 and self._refusal.startswith("the server redirects"):
                self._refusal = ""  # elsewhere it names what was made

    def on_body(self, body: bytes) -> None:
        """A part of the answer; what arrived at once is one piece."""
        if self._now == self._at:
            if not self._complete:
                self._pieces[-1] += body
        else:
            self._at = self._now
            self._times.append(self._now)
            self._pieces.append(body)

    def on_message_complete(self) -> None:
        """Whole, unless it was an interim answer."""
        if self._status and not self._complete:
            self._complete, self._keep = True, self._parser.should_keep_alive()

    # ends

    def _finish(self, exchange: Exchange) -> None:
        self._exchange = None
        exchange.suspect = suspicious(exchange)
        if self._keep and not self.closing:
            self.used = True
            self._owner.free(self)
        else:
            self._transport.abort()
        self._owner.over(exchange, self._refusal)

    def _fail(self, exchange: Exchange, error: str) -> None:
        self._exchange = None
        self._transport.abort()
        self._owner.over(exchange, error)


def suspicious(exchange: Exchange) -> bool:
    """Whether an answer may be an error, by a look at its edges."""
    pieces = exchange.pieces
    if exchange.status != 200 or not pieces:
        return True
    return any(sign in piece for piece in (pieces[0], *pieces[-LAST_PIECES:]) for sign in SIGNS)
