"""What a client process keeps of its exchanges: bounded in memory, and the same from a file."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import time
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from llem.backends.overdue import Patience
from llem.backends.requests import Chunk
from llem.backends.wire import Answer, Asked, Exchange, Wire, WireReference
from llem.errors import ExperimentFailed
from llem.experiment.serving.client import _times
from llem.experiment.serving.dispatch import TOLD, Dispatcher, Source
from llem.experiment.serving.exchanges import REQUEST_BYTES, Carried, Prompted, WireSender
from llem.experiment.serving.frames import Frames, frame, told, untold

REFERENCE = WireReference("none:Given", {}, 10.0, 100.0)


class Given(Wire):
    """Answers at once with what the message says: a JSON list of pieces."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.aborted: list[Exchange] = []
        self.reads = 0

    def send(self, exchange: Exchange) -> None:
        if exchange.message == b"cannot":
            raise ValueError("no such message")
        exchange.sent_ns = time.monotonic_ns()
        if exchange.message == b"waits":
            return
        for piece in json.loads(exchange.message):
            exchange.times_ns.append(time.monotonic_ns())
            exchange.pieces.append(piece.encode())
        exchange.end()

    def abort(self, exchange: Exchange) -> None:
        self.aborted.append(exchange)
        exchange.end("aborted")

    def read(self, exchange: Exchange) -> Answer:
        self.reads += 1
        found = zip(exchange.times_ns, exchange.pieces, strict=True)
        return Answer([Chunk(0 if piece.startswith(b".") else 1, at) for at, piece in found])

    def close(self) -> None:
        return None


class Messages(Source[Prompted]):
    """These, one by one."""

    def __init__(self, messages: list[bytes]) -> None:
        self.left = [Prompted(Asked(index, 3, 4), message) for index, message in enumerate(messages)]

    def due(self) -> float | None:
        return None

    def take(self) -> Prompted | None:
        return self.left.pop(0) if self.left else None


def carried(messages: list[bytes], kept_bytes: int) -> tuple[list[tuple[Carried, Answer]], bool, Dispatcher]:
    """What came for each, read after all; and whether any lay in a file."""

    async def act() -> tuple[list[tuple[Carried, Answer]], bool, Dispatcher]:
        sender = WireSender(Given({}), REFERENCE, kept_bytes)
        dispatcher = Dispatcher(sender, Messages(messages))
        dispatcher.sequence(len(messages))
        while not dispatcher.over:
            await asyncio.sleep(0.001)
        held = sum(len(piece) for sent in dispatcher.sent for piece in sent.exchange.pieces)
        assert held <= kept_bytes
        try:
            return [(sent, sender.answer(sent)) for sent in dispatcher.sent], sender._file is not None, dispatcher
        finally:
            sender.close()

    return asyncio.run(act())


@pytest.mark.parametrize("kept_bytes", [10**9, 2_000, 0])
def test_answers_are_the_same_wherever_they_lay(kept_bytes: int) -> None:
    """What is over the bound lies in a file without a name until the load has ended, and comes back whole."""
    pieces = [["a" * 100, "b"], ["c" * 300] * 3, [], ["d"] * 50]
    found, stored, dispatcher = carried([json.dumps(one).encode() for one in pieces], kept_bytes)

    assert stored == (kept_bytes < 10**9)
    assert [len(answer.chunks) for _, answer in found] == [2, 3, 0, 50]
    assert found[2][1].failure == "the answer ended without a token"
    assert all(list(times) == sorted(times) for times in ([c.time_ns for c in a.chunks] for _, a in found))
    assert len(dispatcher.ended) == 4


@pytest.mark.parametrize("kept_bytes", [0, 10**9])
def test_what_is_held_is_all_that_requests_take(kept_bytes: int) -> None:
    """Short answers take less than what says of each how it went, which counts too."""
    count = 2_000

    async def act() -> tuple[int, int]:
        sender = WireSender(Given({}), REFERENCE, kept_bytes)
        dispatcher = Dispatcher(sender, Messages([b'["a", "b"]'] * count))
        gc.collect()
        tracemalloc.start()
        try:
            dispatcher.closed([0.0] * 10, time.monotonic_ns())
            while len(dispatcher.ended) < count:
                await asyncio.sleep(0.001)
            gc.collect()
            return tracemalloc.get_traced_memory()[0], sender._held
        finally:
            tracemalloc.stop()
            sender.close()

    taken, held = asyncio.run(act())
    assert taken < 1.2 * held
    assert held < 1000 * count


def test_many_requests_without_an_answer_are_counted_too() -> None:
    """From the bound on, further answers go to the file."""
    found, stored, _ = carried([b"[]"] * 20, 10 * REQUEST_BYTES)
    assert stored
    assert [sent.stored is not None for sent, _ in found] == [False] * 10 + [True] * 10


def test_the_first_token_of_an_answer_in_a_file_is_still_told() -> None:
    """The load's pace is judged by it while it runs."""

    async def act() -> None:
        sender = WireSender(Given({}), REFERENCE, kept_bytes=0)
        dispatcher = Dispatcher(sender, Messages([b'["a", "b"]']))
        dispatcher.sequence(1)
        while not dispatcher.over:
            await asyncio.sleep(0.001)
        [sent] = dispatcher.sent
        first_ns = _times(sent)[1]
        [first, _] = sender.answer(sent).chunks
        sender.close()
        assert first_ns == first.time_ns < sent.ended_ns

    asyncio.run(act())


def test_a_message_that_cannot_be_sent_is_one_failure(capfd: pytest.CaptureFixture[str]) -> None:
    """The others go on; what went wrong is in the log and in the words of the failure."""
    found, _, dispatcher = carried([b"cannot", b'["x"]'], 10**6)

    assert [sent.outcome for sent, _ in found] == ["error", "done"]
    assert found[0][0].failure == "the request cannot be sent: ValueError: no such message"
    assert len(dispatcher.messages) == 1 <= TOLD
    assert "no such message" in capfd.readouterr().err


def full(**_: Any) -> Any:
    """A file on a device without space."""
    return open("/dev/full", "w+b")


def missing(**_: Any) -> Any:
    """No folder for temporary files can be written to."""
    raise FileNotFoundError(2, "No usable temporary directory found")


@pytest.mark.parametrize("temporary", [full, missing])
@pytest.mark.parametrize("size", [10, 100_000])
def test_answers_that_cannot_be_kept_end_the_load(temporary: Any, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is told once the file needs it; every request has ended, also one that is let go of then."""
    if temporary is full and not Path("/dev/full").exists():
        pytest.skip("no such device here")
    monkeypatch.setattr("llem.experiment.serving.exchanges.tempfile.TemporaryFile", temporary)

    async def act() -> None:
        sender = WireSender(Given({}), REFERENCE, kept_bytes=0)
        dispatcher = Dispatcher(sender, Messages([b"waits", json.dumps(["a" * size]).encode()]))
        dispatcher.closed([0.0, 0.0], time.monotonic_ns())
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    while not dispatcher.ended:
                        await asyncio.sleep(0.001)
            dispatcher.abort()
            assert [sent.outcome for sent in dispatcher.ended] == ["done", "unfinished"]
            assert not dispatcher.in_flight
            with pytest.raises(ExperimentFailed, match=r"answers cannot be kept: .*No ") as told:
                raise dispatcher.fatal or sender.answer(dispatcher.ended[0])  # the file's buffer may hold a short one
            assert "TMPDIR" in told.value.hint
        finally:
            sender.close()

    asyncio.run(act())


def overdue(sent_s: float, pieces: list[tuple[float, bytes]], now_s: float) -> tuple[str | None, int]:
    """Verdict on an exchange at a time, with silence of 10 s and a deadline of 100 s; and how often it was read."""
    wire = Given({})
    exchange = Exchange(Asked(0, 3, 4), b"", lambda _: None, sent_ns=round(sent_s * 1e9))
    exchange.times_ns = [round(at * 1e9) for at, _ in pieces]
    exchange.pieces = [piece for _, piece in pieces]
    return Patience(wire, REFERENCE).overdue(exchange, round(now_s * 1e9)), wire.reads


@pytest.mark.parametrize(
    ("pieces", "now_s", "why", "reads"),
    [
        ([], 10.9, None, 0),
        ([], 11.1, "no token came for 10 s", 0),
        ([(5.0, b"t")], 14.9, None, 1),  # older than it may be unread; read once
        ([(5.0, b"t")], 15.1, "no token came for 10 s", 0),  # nothing at all came: no need to read
        ([(5.0, b"t"), (9.0, b"."), (14.0, b".")], 15.1, "no token came for 10 s", 1),  # comments are no progress
        ([(1.0 + at, b"t") for at in range(99)], 100.9, None, 1),
        ([(1.0 + at, b"t") for at in range(110)], 101.1, "the answer was not complete within 100 s of the request", 0),
    ],
)
def test_progress_means_tokens(pieces: list[tuple[float, bytes]], now_s: float, why: str | None, reads: int) -> None:
    """Silence counts from the last token, or from the sending; a deadline holds whatever comes."""
    assert overdue(1.0, pieces, now_s) == (why, reads)


def test_what_is_overdue_is_let_go_of_with_its_reason() -> None:
    """Through the wire, which may say that it was aborted: the reason stays; and nothing is kept of it."""
    wire = Given({})
    patience = Patience(wire, WireReference("none:Given", {}, 0.0, 100.0))
    ended: list[str] = []
    exchange = Exchange(Asked(0, 3, 4), b"", lambda one: ended.append(one.error), sent_ns=time.monotonic_ns())
    patience.sweep([exchange])
    patience.sweep([])

    assert ended == ["no token came for 0 s"]
    assert wire.aborted == [exchange]
    assert not patience._token


def test_frames_come_whole_out_of_any_pieces() -> None:
    """Whatever the pieces of the pipe are."""
    data = frame("a", b"\n{}\n", x=1) + frame("b") + frame("c", bytes(range(256)))
    for size in (1, 3, 7, len(data)):
        frames = Frames()
        found = [one for at in range(0, len(data), size) for one in frames.feed(data[at : at + size])]
        assert [(head["name"], body) for head, body in found] == [
            ("a", b"\n{}\n"),
            ("b", b""),
            ("c", bytes(range(256))),
        ]
        assert found[0][0]["x"] == 1


def test_errors_pass_a_pipe_as_they_are(capfd: pytest.CaptureFixture[str]) -> None:
    """Those of llem whole; others as a fault of the load generator, with the traceback in the log."""
    from llem.errors import ConfigError, LlemError

    same = untold(told(ConfigError("wrong", "do right", "config_invalid")))
    assert isinstance(same, ConfigError)
    assert (same.message, same.hint, same.code) == ("wrong", "do right", "config_invalid")
    other = untold(told(KeyError("x")))
    assert isinstance(other, LlemError)
    assert other.code == "bug"
    assert "KeyError" in capfd.readouterr().err
    assert gc.isenabled()
