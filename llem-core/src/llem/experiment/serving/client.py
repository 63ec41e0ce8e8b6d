"""A client process: sends requests through a wire, and stamps what comes. `python -m llem.experiment.serving.client`.

Frames (`frames`) come on its standard input and go to its standard output; it ends when its input does.

    wire {reference}                        first: what to speak through
    load {kind, origin_ns, starts, count}   begin a load; requests may come before it and go on to come after it
    requests {rows}                         [index, input tokens, output tokens, due in s, bytes] each; messages follow
    sealed {on}                             a window is open: nothing more comes, and nothing is told but counts
    stop · abort                            send no more · let go of what is in flight
    end {since_ns}                          tell what came, of what ended earlier the outcome alone; forget the load

    ready {error}                           it can send, or why it cannot
    state {…}                               now and then: counts, and what failed
    answer {…} … state {…} · over           after `end`; `over` has the ticks
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import time
from array import array
from collections import deque
from collections.abc import Mapping
from typing import Any

from llem.backends.overdue import SWEEP_S
from llem.backends.wire import Asked, Wire, WireReference
from llem.errors import LlemError
from llem.experiment.serving.dispatch import Dispatcher, Source, used_up
from llem.experiment.serving.exchanges import KEPT_BYTES, Carried, Prompted, WireSender
from llem.experiment.serving.frames import Frames, frame, told
from llem.experiment.serving.ticks import Ticker
from llem.plugins.reference import resolve

__all__ = ["main"]

#: How often the worker is told how the load goes: while it settles, and within a window.
STATE_S, SEALED_STATE_S = 0.05, 0.2
#: Answers are written in lumps of this many bytes.
LUMP_BYTES = 2**20


class _Queue(Source[Prompted]):
    """Requests that the worker has sent here."""

    def __init__(self) -> None:
        self.ready: deque[Prompted] = deque()
        self.sealed = False

    def due(self) -> float | None:
        self._check()
        return self.ready[0].due_s if self.ready else None

    def take(self) -> Prompted | None:
        self._check()
        return self.ready.popleft() if self.ready else None

    def _check(self) -> None:
        if self.sealed and not self.ready:
            raise used_up()


class _Load:
    """One load, from `load` to `end`."""

    def __init__(self, wire: Wire, reference: WireReference, head: Mapping[str, Any], queue: _Queue, kept: int) -> None:
        self.sender = WireSender(wire, reference, kept)
        self.dispatcher = Dispatcher(self.sender, queue)
        self.ticker = Ticker()
        self.told = 0  # of those sent, how many that have ended were told
        kind, origin_ns = head["kind"], head["origin_ns"]
        if kind == "sequence":
            self.dispatcher.sequence(head["count"])
        elif kind == "closed":
            self.dispatcher.closed(head["starts"], origin_ns)
        else:
            self.dispatcher.open(origin_ns)

    def sweep(self) -> None:
        try:
            self.sender.sweep(self.dispatcher.in_flight)
        except Exception as error:
            self.dispatcher.fail(error)


class Client:
    """The process's one object. `run` returns when the input has ended."""

    def __init__(self, output: int, kept_bytes: int = KEPT_BYTES) -> None:
        self._output, self._kept = output, kept_bytes
        self._frames, self._queue = Frames(), _Queue()
        self._wire: Wire | None = None
        self._reference: WireReference | None = None
        self._load: _Load | None = None
        self._received = 0
        self._ended: list[list[int]] = []

    async def run(self, source: int) -> None:
        """Serve what comes on a pipe until it ends."""
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()
        os.set_blocking(source, False)

        def ready() -> None:
            try:
                while piece := os.read(source, LUMP_BYTES):
                    for head, body in self._frames.feed(piece):
                        self._do(head, body)
                    if len(piece) < LUMP_BYTES // 16:
                        return
            except BlockingIOError:
                return
            except BaseException as error:
                loop.remove_reader(source)
                if not over.done():
                    over.set_exception(error)
                return
            loop.remove_reader(source)
            if not over.done():
                over.set_result(None)

        loop.add_reader(source, ready)
        telling = asyncio.create_task(self._tell())
        try:
            await asyncio.wait((over, telling), return_when=asyncio.FIRST_COMPLETED)  # `telling` ends if it fails
            for ended in (over, telling):
                if ended.done():
                    ended.result()
        finally:
            telling.cancel()
            if self._wire is not None:
                self._wire.close()

    async def _tell(self) -> None:
        swept = 0.0
        while True:
            await asyncio.sleep(SEALED_STATE_S if self._queue.sealed else STATE_S)
            if self._load is None:
                continue
            if time.monotonic() - swept > SWEEP_S:
                swept = time.monotonic()
                self._load.sweep()
            self._state(self._load)

    def _do(self, head: Mapping[str, Any], body: bytes) -> None:
        """Obey one frame."""
        match head["name"]:
            case "wire":
                self._reference = WireReference(**head["reference"])
                try:
                    self._wire = resolve(self._reference.wire)(self._reference.settings)
                except Exception as error:
                    self._write(frame("ready", error=told(error)))
                else:
                    self._write(frame("ready", error=None))
            case "load" if self._wire is not None and self._reference is not None:
                self._load = _Load(self._wire, self._reference, head, self._queue, self._kept)
            case "requests":
                self._take(head["rows"], body)
            case "sealed":
                self._queue.sealed = head["on"]
            case "stop" if self._load is not None:
                self._load.dispatcher.stop()
            case "abort" if self._load is not None:
                self._load.dispatcher.abort()
            case "end" if self._load is not None:
                self._finish(self._load, head["since_ns"])
                self._load, self._queue, self._received = None, _Queue(), 0
                gc.collect()
            case name:
                raise LlemError(f"a client process was told {name!r} and cannot do it now", code="bug")

    def _take(self, rows: list[Any], body: bytes) -> None:
        at = 0
        for index, input_tokens, output_tokens, due_s, size in rows:
            asked = Asked(index, input_tokens, output_tokens)
            self._queue.ready.append(Prompted(asked, body[at : at + size], due_s))
            at += size
        self._received += len(rows)
        if self._load is not None:
            self._load.dispatcher.feed()

    def _state(self, load: _Load) -> None:
        """Tell how the load goes. Little of it while a window is open."""
        one = load.dispatcher
        fresh = [] if self._queue.sealed else one.ended[load.told :]
        load.told = len(one.ended)
        state = {
            "sent": len(one.sent),
            "in_flight": len(one.in_flight),
            "begun": 0 if self._queue.sealed else one.begun,
            "rounds": one.rounds,
            "received": self._received,
            "over": one.over,
            "messages": one.messages,
            "fatal": None if one.fatal is None else told(one.fatal),
            "ended": [_times(sent) for sent in fresh if sent.outcome == "done"],
        }
        self._write(frame("state", **state))

    def _finish(self, load: _Load, since_ns: int) -> None:
        """Tell everything that came. The load has ended, so that this may take its time."""
        ticks = load.ticker.stop()
        load.dispatcher.abort()
        held: list[bytes] = []
        size = 0
        try:
            for sent in load.dispatcher.sent:
                held.append(_answer(load.sender, sent, since_ns))
                if sent.failure:
                    load.dispatcher.note(sent.failure)
                size += len(held[-1])
                if size > LUMP_BYTES:
                    self._write(b"".join(held))
                    held, size = [], 0
        except LlemError as error:
            load.dispatcher.fail(error)
        finally:
            load.sender.close()
        self._write(b"".join(held))
        self._state(load)
        columns = (ticks.due_ns, ticks.late_ns, ticks.cpu_ns, ticks.waited_ns)
        self._write(frame("over", b"".join(array("q", column).tobytes() for column in columns)))

    def _write(self, data: bytes) -> None:
        """All of it, at once: little goes out while a load runs."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._output, view) :]


def _times(sent: Carried) -> list[int]:
    """When it was sent, when something first came, when it ended; and how many tokens were asked for."""
    times = sent.exchange.times_ns
    return [sent.sent_ns, times[0] if times else sent.ended_ns, sent.ended_ns, sent.exchange.asked.output_tokens]


def _answer(sender: WireSender, sent: Carried, since_ns: int) -> bytes:
    """The frame of one request: its chunks as columns of 64-bit numbers (times, tokens, and the ids if all tell).

    Of one that ended before `since_ns` its outcome alone: a load may run for an hour before its window.
    """
    answer = sender.answer(sent)
    chunks = answer.chunks if sent.ended_ns >= since_ns else ()
    if answer.failure and sent.outcome == "done":
        sent.outcome, sent.failure = "error", answer.failure
    ids = [chunk.token_ids for chunk in chunks]
    known = bool(chunks) and all(one is not None or not chunk.tokens for one, chunk in zip(ids, chunks, strict=True))
    columns = [array("q", [chunk.time_ns for chunk in chunks]), array("q", [chunk.tokens for chunk in chunks])]
    if known:
        columns += [array("q", [len(one or ()) for one in ids]), array("q", [i for one in ids for i in one or ()])]
    last = chunks[-1] if chunks else None
    return frame(
        "answer",
        b"".join(column.tobytes() for column in columns),
        index=sent.exchange.asked.index,
        scheduled_ns=sent.scheduled_ns,
        sent_ns=sent.sent_ns,
        ended_ns=last.time_ns if last is not None and sent.outcome == "done" else sent.ended_ns,
        outcome=sent.outcome,
        failure=sent.failure,
        chunks=len(chunks),
        ids=known,
        finish_reason=None if last is None else last.finish_reason,
        engine_metrics=None if last is None or last.engine_metrics is None else dict(last.engine_metrics),
    )


def main() -> None:
    """Serve until the input ends."""
    # the terminal's Ctrl-C reaches the whole group; only the worker decides when a load ends
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    output = os.dup(1)
    os.dup2(2, 1)  # whatever a wire prints
    gc.disable()  # a full collection stops every client; `end` collects
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(ValueError, OSError):  # a system may refuse what it allows; each request has a connection
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with contextlib.suppress(BrokenPipeError):  # the worker is gone
        asyncio.run(Client(output).run(0))


if __name__ == "__main__":
    main()
