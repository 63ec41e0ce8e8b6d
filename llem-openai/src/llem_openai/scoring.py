"""Log likelihoods from a server that repeats the prompt with the log probabilities of its tokens (`echo`)."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from typing import Any

from llem.backends.base import Likelihood, Scored
from llem.errors import ConfigError, ExperimentFailed
from llem.foreign.shown import one_line
from llem_openai.client import Client, together
from llem_openai.config import OpenAIOptions
from llem_openai.counting import choice_of
from llem_openai.failures import RequestFailed

__all__ = ["probe_scoring", "score_all", "scoring_body"]

#: The text by which is found out whether the server echoes log probabilities.
PROBE = Scored((3,), tuple(range(4, 11)))
#: No token is less likely: that of a vocabulary of 10^6 ids, at random, has -14. Also keeps sums from overflowing.
LEAST = -1e6
#: Characters of what is shown of an answer.
LONGEST = 200
#: Most texts that the server has at once.
IN_FLIGHT = 128


def scoring_body(options: OpenAIOptions, scored: Scored, model: str) -> dict[str, Any]:
    """The JSON body: the text as a prompt, to be repeated, and one token more, which is not looked at.

    Not every server takes `max_tokens: 0`. Of the settings of `sampling` none is sent.
    """
    own = {"model": model, "prompt": [*scored.context, *scored.continuation], "max_tokens": 1, "temperature": 0}
    return {**options.extra_body, **own, "echo": True, "logprobs": 1}


async def probe_scoring(client: Client, options: OpenAIOptions, model: str) -> str | None:
    """Why this server gives no likelihoods, found out with one short text; None where it does."""
    try:
        await _score(client, options, PROBE, model)
    except (ConfigError, ExperimentFailed, RequestFailed) as error:
        return f"a completion with `echo` and `logprobs` is not answered as asked: {error}"
    return None


async def score_all(client: Client, options: OpenAIOptions, requests: Sequence[Scored], model: str) -> list[Likelihood]:
    """Likelihoods in the order of the requests, a bounded number of them at once; the first failure ends the others."""
    free = asyncio.Semaphore(IN_FLIGHT)

    async def one(scored: Scored) -> Likelihood:
        async with free:
            return await _score(client, options, scored, model)

    return await together([one(scored) for scored in requests])


async def _score(client: Client, options: OpenAIOptions, scored: Scored, model: str) -> Likelihood:
    return _likelihood(scored, await client.answer(scoring_body(options, scored, model)))


def _likelihood(scored: Scored, answer: Mapping[str, Any]) -> Likelihood:
    """Sum over the continuation's tokens; greedy when none of them has a likelier one beside it.

    Raises ExperimentFailed for an answer without a log probability for each token.
    """
    own, top = (_listed(choice_of(answer), name) for name in ("token_logprobs", "top_logprobs"))
    start = len(scored.context)
    end = start + len(scored.continuation)
    if min(len(own), len(top)) < end:
        raise ExperimentFailed(
            f"the server tells {len(own)} log probabilities and {len(top)} likeliest tokens for {end} tokens of prompt",
            "use a server that knows `echo` and `logprobs` of completions, such as vLLM",
            code="invalid",
        )
    values, best = own[start:end], top[start:end]
    if not all(map(_is_logprob, values)):
        what = one_line(repr(values), LONGEST)
        raise ExperimentFailed(f"the server tells what is no log probability: {what}", "see its log", code="invalid")
    if not all(isinstance(one, dict) and one and all(map(_is_logprob, one.values())) for one in best):
        raise ExperimentFailed("the server does not tell the likeliest token of each place", "see its log", "invalid")
    # by value: two tokens may have the same text, by which servers name them here
    likeliest = [max(one.values()) for one in best]
    return Likelihood(math.fsum(values), all(value >= most for value, most in zip(values, likeliest, strict=True)))


def _listed(choice: Mapping[str, Any] | None, name: str) -> list[Any]:
    """What a choice lists of its tokens; empty where it is no list."""
    told = (choice or {}).get("logprobs")
    found = told.get(name) if isinstance(told, dict) else None
    return found if isinstance(found, list) else []


def _is_logprob(value: object) -> bool:
    return type(value) in (int, float) and LEAST <= value <= 0  # type: ignore[operator]
