"""How many tokens each event brings, and whether it adds up. Pure.

Counts are the server's own. Text is never tokenised again: it does not give back the tokens that were generated. What
cannot be right fails the request: RequestFailed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Literal

import attrs

from llem.backends.base import Chunk
from llem.backends.wire import Asked
from llem.foreign.shown import one_line, word
from llem_openai.failures import RequestFailed

__all__ = [
    "Tally",
    "TokenCounts",
    "choice_of",
    "counted",
    "finish_of",
    "ids_of",
    "metrics",
    "said",
    "text_of",
    "told_by",
    "usage_of",
]

#: Where the number of tokens of an event comes from: usage with the event; the ids in it; one per event that brings
#: tokens, and what the final usage has beyond that.
TokenCounts = Literal["continuous_usage", "token_ids", "final_usage"]

#: Fields of a delta, message or choice that hold generated text.
TEXTS = ("text", "content", "reasoning_content", "reasoning", "thinking", "refusal")
#: Those of them that hold reasoning.
THOUGHTS = ("reasoning_content", "reasoning", "thinking")
#: Tokens that an answer may have: so many times what was asked for, and so many more. Servers that do not honour a
#: length exceed it, which is found out otherwise; a number beyond is none.
MOST_TIMES, MOST_MORE = 10, 10_000
MOST_PROMPT = 1 << 31
#: Tokens of a prompt for each byte of its request; a template or a picture may have MOST_MORE besides.
MOST_PROMPT_TIMES = 2
#: Characters of a finish reason; and those that rows have of requests without an answer (`llem.metrics.flow`).
REASON = 64
RESERVED = ("error", "unfinished")
#: vLLM's figures of a request, in milliseconds.
FIGURE = re.compile(r"[a-z][a-z0-9_]{0,40}_ms")
MOST_FIGURES, DAY_MS = 16, 86_400_000
REPORT = "the server's stream cannot be counted; report it to its authors"


def choice_of(event: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The answer's part in an event or a whole answer; None where it has none."""
    choices = event.get("choices")
    if not choices:
        return None
    if not isinstance(choices, list) or not isinstance(choices[0], dict):
        raise _uncounted("`choices` is no list of objects")
    return choices[0]


def said(choice: Mapping[str, Any]) -> bool:
    """Whether a choice brings what was generated: text, thoughts, a refusal, a call of a tool, speech."""
    part = choice.get("delta") or choice.get("message") or choice
    if not isinstance(part, dict):
        raise _uncounted("a delta is no object")
    if any(part.get(name) for name in TEXTS):
        return True
    calls = part.get("tool_calls") or ()
    for call in (*(calls if isinstance(calls, list) else ()), {"function": part.get("function_call")}):
        made = isinstance(call, dict) and (call.get("function") or call.get("custom"))
        if isinstance(made, dict) and any(made.get(name) for name in ("name", "arguments", "input")):
            return True
    audio = part.get("audio")
    return isinstance(audio, dict) and bool(audio.get("data") or audio.get("transcript"))


def _thinks(choice: Mapping[str, Any]) -> bool:
    """Whether a choice brings reasoning, apart from the answer."""
    part = choice.get("delta") or choice.get("message") or choice
    return isinstance(part, dict) and any(part.get(name) for name in THOUGHTS)


def reasoned(usage: Mapping[str, Any] | None) -> int:
    """Tokens of reasoning by a usage; 0 where it tells of none."""
    details = (usage or {}).get("completion_tokens_details")
    return _figure(details.get("reasoning_tokens") if isinstance(details, dict) else None, MOST_PROMPT) or 0


def _role_only(choice: Mapping[str, Any]) -> bool:
    """Whether a choice says who speaks, and nothing yet."""
    delta = choice.get("delta")
    return isinstance(delta, dict) and "role" in delta and not said(choice)


def ids_of(choice: Mapping[str, Any]) -> tuple[int, ...]:
    """Token ids of a choice; none where it has none."""
    ids = choice.get("token_ids") or ()
    if not isinstance(ids, (list, tuple)) or not all(type(one) is int and 0 <= one < MOST_PROMPT for one in ids):
        raise _uncounted("`token_ids` is no list of token ids")
    return tuple(ids)


def text_of(choice: Mapping[str, Any]) -> str | None:
    """A whole answer's text, of completions or of chat."""
    message = choice.get("message")
    text = choice.get("text", message.get("content") if isinstance(message, dict) else None)
    return text.encode("utf-8", errors="replace").decode() if isinstance(text, str) else None


def finish_of(choice: Mapping[str, Any]) -> str | None:
    """Why the answer ended, as a row can hold it; None where it goes on. Raises RequestFailed: it has failed."""
    reason = choice.get("finish_reason")
    if not reason:
        return None
    if not isinstance(reason, str):
        raise _uncounted("`finish_reason` is no text")
    told = word(reason, REASON)
    if told in RESERVED:
        raise RequestFailed(f"the server ended the answer with the finish reason {told}", "see its log", "invalid")
    return told or None


def usage_of(event: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What an event or a whole answer says of numbers of tokens; None where it says nothing."""
    usage = event.get("usage")
    if usage is not None and not isinstance(usage, dict):
        raise _uncounted("`usage` is no object")
    return usage or None


def told_by(usage: Mapping[str, Any] | None, most: float = math.inf) -> int | None:
    """Generated tokens by a usage; None where it does not tell them."""
    total = None if usage is None else usage.get("completion_tokens")
    if total is None:
        return None
    if type(total) is not int or not 0 <= total <= most:
        raise _uncounted(f"the usage counts {one_line(repr(total), 40)} generated tokens")
    return total


def counted(usage: Mapping[str, Any] | None, asked: Asked) -> int:
    """Generated tokens by the server's final usage.

    Raises RequestFailed where there is none, or the prompt was not taken as it was sent.
    """
    total = told_by(usage, MOST_TIMES * asked.output_tokens + MOST_MORE)
    if usage is None or total is None:
        raise RequestFailed(
            "the server tells no usage, so tokens cannot be counted",
            "use a server that honours `stream_options: {include_usage: true}`",
            code="invalid",
        )
    prompt = usage.get("prompt_tokens")
    if asked.input_tokens is not None and prompt != asked.input_tokens:
        raise RequestFailed(
            f"the server counts {one_line(repr(prompt), 40)} tokens in a prompt of {asked.input_tokens} token ids",
            "it does not take token ids as they are: set `openai.prompt: text`",
            code="invalid",
        )
    return total


def metrics(usage: Mapping[str, Any], more: object, asked: Asked, sent: int) -> dict[str, float] | None:
    """What the server says of one request beyond its output: figures that can be right only.

    Args:
        sent: bytes of the request.
    """
    found: dict[str, float] = {}
    prompt = _figure(usage.get("prompt_tokens"), MOST_PROMPT_TIMES * sent + MOST_MORE)
    if asked.input_tokens is None and prompt is not None:
        found["prompt_tokens"] = prompt
    details = usage.get("prompt_tokens_details")
    cached = _figure(details.get("cached_tokens") if isinstance(details, dict) else None, prompt or 0)
    if cached is not None:
        found["cached_tokens"] = cached
    figures = [one for one in more.items() if FIGURE.fullmatch(one[0])] if isinstance(more, dict) else []
    for name, value in figures[:MOST_FIGURES]:  # vLLM, with --enable-per-request-metrics
        if type(value) in (int, float) and 0 <= value <= DAY_MS:
            found[f"{name.removesuffix('_ms')}_s"] = value / 1000
    return found or None


def _figure(value: object, most: int) -> int | None:
    return value if type(value) is int and 0 <= value <= most else None


class Tally:
    """The chunks of one stream, so that their tokens sum to the server's final usage.

    Args:
        sent: bytes of the request.

    Attributes:
        chunks: as far as the stream has come.
    """

    def __init__(self, method: TokenCounts, asked: Asked, sent: int, *, token_ids: bool) -> None:
        self._method, self._asked, self._sent, self._wants_ids = method, asked, sent, token_ids
        self._most = MOST_TIMES * asked.output_tokens + MOST_MORE
        self._tokens = self._told = 0
        self._usage: Mapping[str, Any] | None = None
        self._more: object = None
        self._finish: str | None = None
        self._end_ns = 0
        self._thought = False
        self._behind_ns: int | None = None  # of the event whose tokens the next usage tells
        self.chunks: list[Chunk] = []

    def add(self, event: Mapping[str, Any], time_ns: int) -> None:
        """Take in an event that has arrived."""
        usage = usage_of(event)
        told = told_by(usage, self._most)
        if told is not None:
            if told < self._told:
                self._fail(f"the usage goes down, from {self._told} to {told} tokens")
            self._told = told
        self._usage = usage or self._usage
        self._more = event.get("metrics") or self._more
        choice = choice_of(event)
        if choice is None:
            return
        self._end_ns = time_ns
        self._finish = finish_of(choice) or self._finish
        self._thought = self._thought or _thinks(choice)
        ids = ids_of(choice)
        tokens = self._new(told, choice, len(ids))
        if self._wants_ids and len(ids) != tokens:
            self._fail(f"an event brings {len(ids)} token ids and adds {tokens} tokens to the usage")
        if tokens:
            self._tokens += tokens
            at = time_ns if self._behind_ns is None else self._behind_ns
            self.chunks.append(Chunk(tokens, at, token_ids=ids if self._wants_ids else None))
        if self._is_behind(choice, told):
            self._behind_ns = time_ns if tokens or self._behind_ns is None else self._behind_ns

    def _is_behind(self, choice: Mapping[str, Any], told: int | None) -> bool:
        """Whether the usage does not have what this event brings: from the first text on, that of some servers is one
        event late."""
        first = not self.chunks and told == 0 and self._method == "continuous_usage"
        return said(choice) and (first or self._behind_ns is not None)

    def _new(self, told: int | None, choice: Mapping[str, Any], ids: int) -> int:
        if self._method == "token_ids":
            return ids
        if self._method == "final_usage":
            return int(said(choice))
        if told is None or (not self.chunks and _role_only(choice)):
            return 0  # the next usage has it
        return told - self._tokens

    def end(self) -> None:
        """The stream has ended, and a last chunk ends the request.

        Tokens of reasoning that the server counts and does not show had come before the first that it shows. Others
        that no event told of came with those that did: a few with the last text, which they may have ended; as many as
        there were events or more, evenly with each, as each event then has several tokens.
        """
        if self._finish is None:
            self._fail("the stream ended before its finish_reason")
        total = counted(self._usage, self._asked)
        rest = total - self._tokens
        if rest < 0 or (rest and self._wants_ids):
            self._fail(f"the events brought {self._tokens} tokens, and the usage says {total}")
        found = metrics(self._usage or {}, self._more, self._asked, self._sent) or {}
        if rest and self._behind_ns is not None:
            self.chunks.append(Chunk(rest, self._behind_ns, () if self._wants_ids else None))
            rest = 0
        if rest:
            found["tokens_without_event"] = rest
        hidden = 0 if self._thought else min(reasoned(self._usage), rest)
        if hidden:
            found["tokens_hidden"] = hidden
        if rest and self.chunks:
            self._share_out(rest - hidden)
            self.chunks[0] = attrs.evolve(self.chunks[0], tokens=self.chunks[0].tokens + hidden)
            rest = 0
        self.chunks.append(Chunk(rest, self._end_ns, () if self._wants_ids else None, self._finish, found or None))

    def _share_out(self, rest: int) -> None:
        each, more = divmod(rest, len(self.chunks))
        shares = [each] * (len(self.chunks) - 1) + [each + more]
        self.chunks = [
            attrs.evolve(chunk, tokens=chunk.tokens + share) if share else chunk
            for chunk, share in zip(self.chunks, shares, strict=True)
        ]

    def _fail(self, what: str) -> None:
        raise _uncounted(what)


def _uncounted(what: str) -> RequestFailed:
    return RequestFailed(what, REPORT, code="invalid")
