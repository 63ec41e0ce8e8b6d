"""How the load generator speaks to a server: what is written, and what the bytes that come back mean.

An engine that is a server gives a `Wire` besides `stream`, whose every step would cost the load generator time: the
generator's own processes write prepared messages and keep what arrives with its time, and the meaning of the bytes is
found out when the load has ended.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from llem.backends.requests import Chunk

__all__ = ["Answer", "Asked", "Exchange", "Wire", "WireReference"]


@attrs.frozen
class WireReference:
    """What a client process needs to speak to the server.

    Attributes:
        wire: "module:Class" of a `Wire`.
        settings: what it is constructed with; JSON values. It goes through a pipe and is never stored, so it may hold
            a key.
        silence_s: longest time without a new token, from sending on; then the request has failed.
        deadline_s: longest time of one request; then it has failed, tokens or not.
        processes: how many client processes; None leaves it to the load.
    """

    wire: str
    settings: Mapping[str, Any]
    silence_s: float
    deadline_s: float
    processes: int | None = None


@attrs.frozen
class Asked:
    """What reading an answer needs to know of its request.

    Attributes:
        index: of the request.
        input_tokens: of its prompt, if it has token ids; the wire knows whether they went out as such.
        output_tokens: asked for.
    """

    index: int
    input_tokens: int | None
    output_tokens: int


@attrs.define(eq=False)
class Exchange:
    """One request on its way through a wire, which fills in all but the first three.

    Attributes:
        asked: of the request.
        message: what is written, whole.
        ended: called once, in the event loop, when the exchange is over in whatever way.
        sent_ns: monotonic time at which `Wire.send` gave it away: right before the first byte was written to the
            socket, or before a connection was asked for.
        times_ns, pieces: monotonic time at which bytes of the answer's body were read, and the bytes; of one length.
        ended_ns: when the answer was complete, or failed, or was aborted; 0 while it is on its way.
        status: the wire's own code of the answer (HTTP's status), 0 before it is known.
        error: what broke the transport, in words; "" otherwise.
        suspect: the answer may be an error and is to be read at once, not when the load has ended.
        size: bytes of the message, which is let go of when the exchange is over.
    """

    asked: Asked
    message: bytes
    ended: Callable[[Exchange], None]
    sent_ns: int = 0
    times_ns: list[int] = attrs.field(factory=list)
    pieces: list[bytes] = attrs.field(factory=list)
    ended_ns: int = 0
    status: int = 0
    error: str = ""
    suspect: bool = False
    size: int = attrs.field(init=False)

    @size.default
    def _size_of_message(self) -> int:
        return len(self.message)

    def end(self, error: str = "") -> None:
        """The exchange is over; a second call does nothing. An `error` that is there already, such as of a request that
        was let go of because it is overdue, stays."""
        if not self.ended_ns:
            self.ended_ns = time.monotonic_ns()
            self.error = self.error or error
            self.suspect = self.suspect or bool(self.error)
            self.ended(self)


@attrs.frozen
class Answer:
    """What the bytes of an exchange mean.

    Attributes:
        chunks: in order of arrival, as far as the answer came; the last of a whole answer has the finish reason.
        failure: why the request failed, in words; None for a whole answer, and for one that is still on its way.
    """

    chunks: Sequence[Chunk]
    failure: str | None = None


class Wire(ABC):
    """Speaks to one server from one event loop. Constructed with `WireReference.settings`."""

    @abstractmethod
    def send(self, exchange: Exchange) -> None:
        """Begin an exchange, now, and return at once. Called in a running event loop.

        It stamps `sent_ns`, once: what is waited for after it, such as a connection, is the server's time.
        Nothing is parsed on the way but what tells that the answer is complete.
        """

    @abstractmethod
    def abort(self, exchange: Exchange) -> None:
        """Let go of an exchange, so that the server stops with it; `exchange.ended` is called before this returns."""

    @abstractmethod
    def read(self, exchange: Exchange) -> Answer:
        """What has come so far. Pure; for an exchange on its way, ended or aborted; its `error` is the failure.

        Raises LlemError for what every such request would meet: a refusal, a server that is gone.
        """

    @abstractmethod
    def close(self) -> None:
        """Close every connection. Called in the running event loop; may be called twice."""
