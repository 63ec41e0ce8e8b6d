"""Requests on their way through a wire, in a client process: kept as they came, and read when the load has ended."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
import traceback
from array import array
from collections.abc import Iterable, Iterator
from typing import IO

import attrs

from llem.backends.overdue import Patience
from llem.backends.wire import Answer, Asked, Exchange, Wire, WireReference
from llem.errors import ExperimentFailed, LlemError
from llem.experiment.serving.dispatch import Ended, Sender, Sent

__all__ = ["KEPT_BYTES", "REQUEST_BYTES", "Carried", "Prompted", "WireSender"]

#: What ended exchanges hold in memory; the answers of those that end later lie in a file until the load has ended.
KEPT_BYTES = 256 * 2**20
#: Of each that has ended, wherever its answer lies: the objects that say how it went.
REQUEST_BYTES = 640
#: Of each arrival, beside its bytes: two objects and their places in two lists.
ARRIVAL_BYTES = 96


@attrs.frozen
class Prompted:
    """A request as a client process has it, and when it is due in seconds after the load began (open loads)."""

    asked: Asked
    message: bytes
    due_s: float | None = None


@attrs.define(eq=False)
class Carried(Sent):
    """A request on its way through a wire. `stored`: where its bytes lie in the file, and how many arrivals; then the
    exchange has the time of the first one alone.
    """

    exchange: Exchange
    stored: tuple[int, int] | None = None


class WireSender(Sender[Prompted, Carried]):
    """Sends through a wire, and keeps what comes. Begin and close it in a running event loop.

    Args:
        kept_bytes: from this much memory on, the answers of ended exchanges go to a file.
    """

    def __init__(self, wire: Wire, reference: WireReference, kept_bytes: int = KEPT_BYTES) -> None:
        self._wire, self._kept_bytes = wire, kept_bytes
        self._loop = asyncio.get_running_loop()
        self._patience = Patience(wire, reference)
        self._file: IO[bytes] | None = None
        self._held = 0
        self._sending: Carried | None = None

    def send(self, ask: Prompted, scheduled_ns: int | None, ended: Ended[Carried]) -> Carried:
        def over(exchange: Exchange) -> None:
            if self._sending is carried:  # it failed before it was under way
                self._loop.call_soon(self._over, carried, ended)
            else:
                self._over(carried, ended)

        exchange = Exchange(ask.asked, ask.message, over)
        carried = self._sending = Carried(scheduled_ns, time.monotonic_ns(), exchange)
        try:
            self._wire.send(exchange)
        except LlemError:
            raise
        except Exception as error:  # this one cannot be sent; the next one may
            traceback.print_exc()
            exchange.end(f"the request cannot be sent: {type(error).__name__}: {error}")
        self._sending = None
        return carried

    def began(self, sent: Carried) -> bool:
        return bool(sent.exchange.times_ns)

    def abort(self, sent: Carried) -> None:
        sent.outcome = "unfinished"
        self._wire.abort(sent.exchange)

    def sweep(self, in_flight: Iterable[Carried]) -> None:
        """Let go of requests that are overdue. Raises LlemError as `Wire.read` does."""
        self._patience.sweep(sent.exchange for sent in in_flight)

    def _over(self, sent: Carried, ended: Ended[Carried]) -> None:
        exchange = sent.exchange
        exchange.message, exchange.ended = b"", _let_go_of
        sent.sent_ns = exchange.sent_ns or sent.sent_ns
        fatal: BaseException | None = None
        failure: str | None = None
        if exchange.suspect and sent.outcome != "unfinished":
            try:
                failure = self._read(exchange).failure or exchange.error
            except LlemError as error:
                fatal, failure = error, error.message
        sent.end(sent.outcome or ("error" if failure else "done"), exchange.ended_ns, failure or "")
        try:
            self._keep(sent)
        except Exception as error:  # whatever it is, the request has ended, and the load hears of it
            fatal = fatal or error
        ended(sent, fatal)

    def _read(self, exchange: Exchange) -> Answer:
        try:
            return self._wire.read(exchange)
        except LlemError:
            raise
        except Exception as error:  # what no one foresaw in one answer does not end the load
            traceback.print_exc()
            return Answer((), f"the answer cannot be read: {type(error).__name__}: {error}")

    # memory

    def _keep(self, sent: Carried) -> None:
        """Hold what came, or put it into the file where too much is held already."""
        exchange = sent.exchange
        size = sum(map(len, exchange.pieces)) + ARRIVAL_BYTES * len(exchange.pieces)
        self._held += REQUEST_BYTES
        if self._held + size <= self._kept_bytes:
            self._held += size
            return
        with _kept_or_told():
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="llem-")  # noqa: SIM115  nameless; `close` closes it
            at = self._file.tell()
            self._file.write(array("q", exchange.times_ns).tobytes())
            self._file.write(array("q", map(len, exchange.pieces)).tobytes())
            self._file.writelines(exchange.pieces)
        sent.stored = at, len(exchange.pieces)
        exchange.times_ns, exchange.pieces = exchange.times_ns[:1], []

    def answer(self, sent: Carried) -> Answer:
        """What came for a request that has ended; after the load. Raises LlemError as `Wire.read` does, and
        ExperimentFailed for what was not kept."""
        exchange = sent.exchange
        if sent.stored is not None and self._file is not None:
            at, count = sent.stored
            times, sizes = array("q"), array("q")
            with _kept_or_told():
                self._file.seek(at)
                times.frombytes(self._file.read(8 * count))
                sizes.frombytes(self._file.read(8 * count))
                exchange.times_ns, exchange.pieces = list(times), [self._file.read(size) for size in sizes]
        answer = self._read(exchange)
        exchange.times_ns, exchange.pieces = [], []
        failure = answer.failure or exchange.error
        if sent.outcome == "done" and not failure and not answer.chunks:
            failure = "the answer ended without a token"
        return Answer(answer.chunks, failure)

    def close(self) -> None:
        """Drop what is held. The wire stays open for the next load."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # what could not be written is wanted no more
                self._file.close()


def _let_go_of(_: Exchange) -> None:
    """Nobody waits for the end of an exchange that has ended, and nothing holds what did."""


@contextlib.contextmanager
def _kept_or_told() -> Iterator[None]:
    """What the file system refuses ends the load. Raises ExperimentFailed."""
    try:
        yield
    except OSError as error:
        hint = "free space in TMPDIR, the folder of temporary files, or set it to another one"
        raise ExperimentFailed(f"answers cannot be kept: {error}", hint) from error
