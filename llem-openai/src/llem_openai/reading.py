"""What the bytes of an exchange mean. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from llem.backends.base import Chunk
from llem.backends.wire import Answer, Asked, Exchange
from llem.foreign.secrets import without_key, without_key_in
from llem.foreign.shown import one_line
from llem_openai.counting import Tally, TokenCounts, choice_of, said
from llem_openai.failures import RequestFailed, hopeless, in_band, refused
from llem_openai.sse import Events

__all__ = ["Reader"]

DONE = b"[DONE]"
#: Of what is shown of an answer that cannot be read: characters that are looked at, and shown.
LOOKED_AT, SHOWN = 4096, 80


@attrs.frozen
class Reader:
    """How answers of one server are read.

    Attributes:
        key: hidden wherever the server repeats it.
        token_counts: where the number of tokens of an event comes from.
        token_ids: events are to bring their tokens.
        exact_prompt: prompts go out as token ids, so that the server must count as many.
    """

    key: str | None
    token_counts: TokenCounts
    token_ids: bool
    exact_prompt: bool = True

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Reader:
        """By the settings of a wire."""
        return cls(**{field.name: settings[field.name] for field in attrs.fields(cls)})

    def read(self, exchange: Exchange) -> Answer:
        """The chunks so far; see `llem.backends.wire.Wire.read`.

        Raises:
            ConfigError: the server refuses the request.
            ExperimentFailed: it is gone, or out of memory.
        """
        tally = self._tally(exchange)
        failure = None
        try:
            self._fill(tally, exchange)
        except RequestFailed as error:
            failure = error.message
        return Answer(tally.chunks, failure if exchange.ended_ns else None)

    def chunks(self, exchange: Exchange) -> Sequence[Chunk]:
        """Of an answer that must be whole. Raises as `read`, and RequestFailed."""
        tally = self._tally(exchange)
        self._fill(tally, exchange)
        return tally.chunks

    def _tally(self, exchange: Exchange) -> Tally:
        asked, sent = self.expected(exchange.asked), exchange.size
        return Tally(self.token_counts, asked, sent, token_ids=self.token_ids)

    def expected(self, asked: Asked) -> Asked:
        """What the server must count: the tokens of a prompt only where they went out as such."""
        return asked if self.exact_prompt else attrs.evolve(asked, input_tokens=None)

    def _fill(self, tally: Tally, exchange: Exchange) -> None:
        """Take in what has come; an error that the server told goes before one of the connection."""
        for time_ns, event in self.events(exchange):
            if event.get("error"):
                raise in_band(event["error"], self.key, begun=bool(tally.chunks))
            tally.add(event, time_ns)
        self._refuse_broken(exchange)
        if exchange.ended_ns:
            tally.end()

    def events(self, exchange: Exchange) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Events with the time at which each was there, in nanoseconds; one that tells of an error holds `error`.

        An answer that is no stream is one event. Text that comes after `[DONE]` is no part of the answer; a finish
        reason or a usage that a server tells then still is. Raises as `read`, and RequestFailed.
        """
        self._refuse(exchange)
        if _is_json(exchange):
            if exchange.ended_ns and not exchange.error:
                yield exchange.times_ns[-1], _with_error(b"", self.parsed(b"".join(exchange.pieces)))
            return
        events, empty, done = Events(), True, False
        for time_ns, piece in zip(exchange.times_ns, exchange.pieces, strict=True):
            for name, data in events.feed(piece):
                empty = False
                if data == DONE:
                    done = True
                    continue
                event = {"error": self._shown(data)} if name == b"error" and data[:1] != b"{" else self.parsed(data)
                if not done or (choice := choice_of(event)) is None or not said(choice):
                    yield time_ns, _with_error(name, event)
        if empty and exchange.ended_ns and not exchange.error:
            raise self._unread(b"".join(exchange.pieces))

    def whole(self, exchange: Exchange) -> Mapping[str, Any]:
        """An answer that was asked for whole. Raises as `read`, and RequestFailed."""
        self._refuse(exchange)
        self._refuse_broken(exchange)
        answer = _with_error(b"", self.parsed(b"".join(exchange.pieces)))
        if answer.get("error"):
            raise in_band(answer["error"], self.key, begun=False)
        return answer

    def parsed(self, data: bytes) -> Mapping[str, Any]:
        """A JSON object, without the key in any of its texts and names. Raises RequestFailed for what is none."""
        try:
            found = json.loads(data)
            if self.key and (b"\\" in data or self.key.encode() in data):
                found = without_key_in(found, self.key)
        except (ValueError, RecursionError) as error:
            raise self._unread(data) from error
        if not isinstance(found, dict):
            raise self._unread(data)
        return found

    def _refuse(self, exchange: Exchange) -> None:
        """Raise for what ended before an answer could be read."""
        error = without_key(exchange.error, self.key)
        fatal = hopeless(error)
        if fatal is not None:
            raise fatal
        if exchange.status not in (0, 200) and exchange.ended_ns:
            content = error.encode() if error else b"".join(exchange.pieces)
            raise refused(exchange.status, content, self.key)

    def _refuse_broken(self, exchange: Exchange) -> None:
        if exchange.error:
            hint = "see the server's log; openai.timeout_s and openai.deadline_s say how long llem waits"
            raise RequestFailed(without_key(exchange.error, self.key), hint)

    def _unread(self, data: bytes) -> RequestFailed:
        what = f"what is neither an event nor JSON: {self._shown(data)!r}" if data.strip() else "nothing"
        return RequestFailed(f"the server answers {what}", "check openai.base_url", "invalid")

    def _shown(self, data: bytes) -> str:
        return one_line(without_key(data.decode("utf-8", errors="replace"), self.key)[:LOOKED_AT], SHOWN)


def _is_json(exchange: Exchange) -> bool:
    """Whether an answer is no stream of events, by its first byte."""
    first = next((piece.lstrip()[:1] for piece in exchange.pieces if piece.strip()), b"")
    return first == b"{"


def _with_error(name: bytes, event: Mapping[str, Any]) -> Mapping[str, Any]:
    """The event with `error` where it tells of one in another way."""
    if event.get("error"):
        return event
    if name == b"error" or event.get("object") == "error" or event.get("type") == "error":
        return {"error": event}
    return event
