"""Requests that a server keeps waiting: which are overdue, and letting go of them.

Progress means tokens. A server that sends comments to keep a connection alive has not answered, so what came has to be
read; and reading costs time, so a request is read only once it is older than it may be without another token.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

from llem.backends.wire import Exchange, Wire, WireReference

__all__ = ["SWEEP_S", "Patience"]

#: Two looks at the requests are so far apart at least; a client process looks when it tells how the load goes, which is
#: every 0.3 s, and every 0.4 s while a window is open. One is let go of so long after its time at most, or later where
#: a sweep does not get through.
SWEEP_S = 0.25
#: A sweep reads answers for this long at most; what is left has its turn in the next one.
READING_S = 0.005


class Patience:
    """How long one server's requests may take: `silence_s` without a new token, `deadline_s` in all.

    The load generator's processes and an offline batch use the same one:

        patience = Patience(wire, reference)
        watching = asyncio.create_task(patience.watch(lambda: in_flight))    # cancel it in a `finally`

    What is overdue is aborted through the wire; its exchange has the reason as `error`, and `ended` is called.
    """

    def __init__(self, wire: Wire, reference: WireReference) -> None:
        self._wire = wire
        self._silence_ns = round(reference.silence_s * 1e9)
        self._deadline_ns = round(reference.deadline_s * 1e9)
        self._silence_s, self._deadline_s = reference.silence_s, reference.deadline_s
        self._token: dict[Exchange, int] = {}  # when its last token came, as far as it was read

    def overdue(self, exchange: Exchange, now_ns: int) -> str | None:
        """Why an exchange on its way has failed by now, in words; None where it may go on.

        Raises LlemError as `Wire.read` does.
        """
        begun = exchange.sent_ns
        if now_ns - begun > self._deadline_ns:
            return f"the answer was not complete within {self._deadline_s:g} s of the request"
        if now_ns - self._token.get(exchange, begun) <= self._silence_ns:
            return None
        if exchange.times_ns and now_ns - exchange.times_ns[-1] <= self._silence_ns:
            self._token[exchange] = self._last_token(exchange, begun)
            if now_ns - self._token[exchange] <= self._silence_ns:
                return None
        return f"no token came for {self._silence_s:g} s"

    def _last_token(self, exchange: Exchange, begun: int) -> int:
        """When the last token came; `begun` where none has come yet."""
        return max((chunk.time_ns for chunk in self._wire.read(exchange).chunks if chunk.tokens > 0), default=begun)

    def forget(self, exchange: Exchange) -> None:
        """The exchange is over."""
        self._token.pop(exchange, None)

    def sweep(self, in_flight: Iterable[Exchange]) -> None:
        """Let go of what is overdue, for as long as a sweep may take."""
        for over in [one for one in self._token if one.ended_ns]:
            self.forget(over)
        until = time.monotonic() + READING_S
        for exchange in tuple(in_flight):
            if not exchange.ended_ns and (why := self.overdue(exchange, time.monotonic_ns())):
                exchange.error = why
                self._wire.abort(exchange)
            if time.monotonic() > until:
                break

    async def watch(self, in_flight: Callable[[], Iterable[Exchange]]) -> None:
        """Sweep until cancelled. Raises LlemError as `Wire.read` does."""
        while True:
            await asyncio.sleep(SWEEP_S)
            self.sweep(in_flight())
