"""What passes between llem and an engine: requests, and what is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

__all__ = ["Chunk", "Completion", "Likelihood", "Request", "Scored", "prompt_tokens"]


@attrs.frozen
class Request:
    """One prompt as token ids, and how many tokens to make of it.

    Attributes:
        index: position in the workload's endless, seeded sequence.
        token_ids: the prompt. Empty only where `text` or `messages` has it and nothing here can make token ids of it.
        output_tokens: tokens to generate (exactly, with `ignore_eos` and no `stop`).
        stop: texts that end the answer: it ends with the token that completes the first of them, and its finish reason
            is "stop". Special tokens are no text. Capability `stop`.
        text: the prompt as its source has it, for engines that take text; None where it is token ids from the start.
        messages: a conversation as its source has it, for engines that take one; None for a prompt.
    """

    index: int
    token_ids: tuple[int, ...]
    output_tokens: int
    stop: tuple[str, ...] = ()
    text: str | None = None
    messages: tuple[Mapping[str, Any], ...] | None = None

    @property
    def input_tokens(self) -> int | None:
        """Tokens of the prompt; None where nothing here can count them."""
        return len(self.token_ids) or None


@attrs.frozen
class Completion:
    """What the engine made of one request.

    Attributes:
        index: of the request.
        token_ids: the generated tokens alone: no prompt, no padding; None where the engine tells their number only.
        finish_reason: "length" or "stop".
        token_times_ns: monotonic time of each token, when asked for and the engine has them.
        engine_metrics: what the engine itself says about the request (`queued_s`, `prefill_s`, `decode_s`,
            `cached_tokens`, …), where it keeps such figures.
        token_count: how many tokens, where `token_ids` is None.
        text: the answer, where the engine gives text and no token ids; else None. Servers cut the stop text off.
    """

    index: int
    token_ids: tuple[int, ...] | None
    finish_reason: str = "length"
    token_times_ns: tuple[int, ...] | None = None
    engine_metrics: Mapping[str, float] | None = None
    token_count: int | None = None
    text: str | None = None

    def __attrs_post_init__(self) -> None:
        if (self.token_ids is None) == (self.token_count is None):
            raise ValueError("give the generated tokens, or their number where there are none to give")

    @property
    def tokens(self) -> int:
        """How many tokens were generated."""
        return len(self.token_ids) if self.token_ids is not None else self.token_count or 0


@attrs.frozen
class Chunk:
    """Output of one request that reached the host at one moment.

    Attributes:
        tokens: how many tokens it brings, by the engine's own count; 0 in a last chunk that only ends the request.
        time_ns: monotonic time at which it arrived.
        token_ids: the tokens; None where the engine tells their number only (an endpoint that sends text).
        finish_reason: "length", "stop", … in the last chunk, None before.
        engine_metrics: in the last chunk, as in `Completion`.
    """

    tokens: int
    time_ns: int
    token_ids: tuple[int, ...] | None = None
    finish_reason: str | None = None
    engine_metrics: Mapping[str, float] | None = None


def prompt_tokens(known: int | None, told: Mapping[str, float] | None) -> int | None:
    """Tokens of a request's prompt: as the engine counts them where it was given text (`prompt_tokens` of the figures
    that it tells of the request), else as they are known by token ids; None where nobody counted."""
    counted = (told or {}).get("prompt_tokens")
    return known if counted is None else int(counted)


@attrs.frozen
class Scored:
    """A context and a continuation, as token ids, whose likelihood is asked for.

    The context is not empty. An empty continuation is certain: its logarithm is 0, and greedy decoding gives it.
    """

    context: tuple[int, ...]
    continuation: tuple[int, ...]


@attrs.frozen
class Likelihood:
    """Natural logarithm of the continuation's probability given its context, and whether greedy decoding gives it."""

    logprob: float
    greedy: bool
