"""How many tokens each event brings, and whether it adds up. Pure.

Counts are the server's own. Text is never tokenised again: it does not give back the tokens that were generated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from llem.backends.base import Chunk, Request
from llem.errors import ExperimentFailed

__all__ = ["Tally", "TokenCounts", "counted", "detect", "metrics", "said"]

#: Where the number of tokens of an event comes from: usage with the event; the ids in it; one per event that brings
#: text, and what the final usage has beyond that in the last chunk.
TokenCounts = Literal["continuous_usage", "token_ids", "final_usage"]


def _choice(event: Mapping[str, Any]) -> Mapping[str, Any] | None:
    choices = event.get("choices")
    return choices[0] if choices else None


def said(choice: Mapping[str, Any]) -> bool:
    """Whether a choice brings text, thoughts included."""
    part = choice.get("delta") or choice.get("message") or choice
    return any(part.get(name) for name in ("text", "content", "reasoning_content", "reasoning"))


def detect(events: list[Mapping[str, Any]]) -> TokenCounts:
    """How tokens can be counted in a stream such as this one.

    Usage is continuous where it comes with every event that has text, and with two of them at least: with one event
    alone it cannot be told from the final usage.
    """
    choices = [(choice, event.get("usage")) for event in events if (choice := _choice(event)) is not None]
    speaking = [usage for choice, usage in choices if said(choice) or choice.get("token_ids")]
    if len(speaking) > 1 and all(speaking):
        return "continuous_usage"
    return "token_ids" if any(choice.get("token_ids") for choice, _ in choices) else "final_usage"


def counted(usage: Mapping[str, Any] | None, request: Request, *, exact_prompt: bool) -> int:
    """Generated tokens by the server's final usage.

    Args:
        exact_prompt: the prompt went out as token ids, so that the server must count as many.

    Raises ExperimentFailed where there is none, or the prompt was not taken as it was sent.
    """
    total = None if usage is None else usage.get("completion_tokens")
    if usage is None or type(total) is not int:
        raise ExperimentFailed(
            "the server tells no usage, so tokens cannot be counted",
            "use a server that honours `stream_options: {include_usage: true}`",
            code="invalid",
        )
    prompt = usage.get("prompt_tokens")
    if exact_prompt and prompt != len(request.token_ids):
        raise ExperimentFailed(
            f"the server counts {prompt} tokens in a prompt of {len(request.token_ids)} token ids",
            "it does not take token ids as they are: set `openai.prompt: text`",
            code="invalid",
        )
    return total


def metrics(usage: Mapping[str, Any], more: Mapping[str, Any] | None, *, exact_prompt: bool) -> dict[str, float] | None:
    """What the server says of one request beyond its output: figures only."""
    found: dict[str, float] = {}
    if not exact_prompt and usage.get("prompt_tokens") is not None:
        found["prompt_tokens"] = usage["prompt_tokens"]
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
    if cached is not None:
        found["cached_tokens"] = cached
    for name, value in (more or {}).items():  # vLLM, with --enable-per-request-metrics
        if name.endswith("_ms") and isinstance(value, (int, float)):
            found[f"{name.removesuffix('_ms')}_s"] = value / 1000
    return found or None


class Tally:
    """The chunks of one stream, so that their tokens sum to the server's final usage."""

    def __init__(self, method: TokenCounts, request: Request, *, exact_prompt: bool, token_ids: bool) -> None:
        self._method, self._request = method, request
        self._exact_prompt, self._wants_ids = exact_prompt, token_ids
        self._tokens = 0
        self._usage: Mapping[str, Any] | None = None
        self._more: Mapping[str, Any] | None = None
        self._finish: str | None = None
        self._end_ns = 0

    def chunk(self, event: Mapping[str, Any], time_ns: int) -> Chunk | None:
        """What an event brings; None where it brings no tokens."""
        self._usage = event.get("usage") or self._usage
        self._more = event.get("metrics") or self._more
        choice = _choice(event)
        if choice is None:
            return None
        self._end_ns = time_ns
        self._finish = choice.get("finish_reason") or self._finish
        ids = tuple(choice.get("token_ids") or ())
        tokens = self._new(event.get("usage"), choice, len(ids))
        if tokens == 0:
            return None
        if tokens < 0 or (self._wants_ids and len(ids) != tokens):
            self._fail(f"an event brings {len(ids)} token ids and adds {tokens} tokens to the usage")
        self._tokens += tokens
        return Chunk(tokens, time_ns, token_ids=ids if self._wants_ids else None)

    def _new(self, usage: Mapping[str, Any] | None, choice: Mapping[str, Any], ids: int) -> int:
        if usage is not None and usage.get("completion_tokens") is not None:
            return int(usage["completion_tokens"]) - self._tokens
        if self._method == "continuous_usage":
            return 0  # the next usage has it
        return ids if self._method == "token_ids" else int(said(choice))

    def last(self) -> Chunk:
        """The chunk that ends the request, with the tokens that no event has told of."""
        if self._finish is None:
            self._fail("the stream ended before its finish_reason")
        total = counted(self._usage, self._request, exact_prompt=self._exact_prompt)
        rest = total - self._tokens
        if rest < 0 or (rest and self._wants_ids):
            self._fail(f"the events brought {self._tokens} tokens, and the usage says {total}")
        found = metrics(self._usage or {}, self._more, exact_prompt=self._exact_prompt) or {}
        if rest:
            found["tokens_without_event"] = rest
        return Chunk(rest, self._end_ns, () if self._wants_ids else None, self._finish, found or None)

    def _fail(self, what: str) -> None:
        raise ExperimentFailed(
            f"request {self._request.index}: {what}",
            "the server's stream cannot be counted; report it to its authors",
            code="invalid",
        )
