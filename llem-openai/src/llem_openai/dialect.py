"""How this server speaks, found out with one request of the very kind that will be measured."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from llem.backends.base import Request
from llem.backends.wire import Exchange
from llem.config.models import Sampling
from llem.errors import ConfigError
from llem_openai.body import CONTINUOUS, FINAL, asked_of, prompt_text, request_body
from llem_openai.client import Client
from llem_openai.config import OpenAIOptions
from llem_openai.counting import TokenCounts, choice_of, ids_of, said, told_by, usage_of
from llem_openai.reading import Reader

__all__ = ["PROBE", "PROBE_TOKENS", "Dialect", "detect", "probe"]

#: A request by which the server's ways are found out, where the workload has none to begin with.
PROBE_TOKENS = 8
PROBE = Request(index=0, token_ids=tuple(range(3, 11)), output_tokens=PROBE_TOKENS, text="Once upon a time")


@attrs.frozen
class Dialect:
    """What this server takes, as a request has shown: stream options, and how tokens of a stream are counted."""

    stream_options: Mapping[str, bool]
    token_counts: TokenCounts


async def probe(
    client: Client,
    options: OpenAIOptions,
    sampling: Sampling,
    model: str,
    request: Request,
    decode: Callable[[Sequence[int]], str] | None,
) -> Dialect:
    """Send one request, and see what comes back.

    Args:
        request: of the very kind that will be measured.
        decode: token ids to text; see `llem_openai.body.prompt_text`.

    Raises:
        ConfigError: the server refuses the request.
        ExperimentFailed: it is gone, or out of memory.
        RequestFailed: it fails, is silent, or tokens cannot be counted.
    """
    text, asked = prompt_text(options, request, decode), asked_of(request)
    for stream_options in (CONTINUOUS, FINAL):
        body = request_body(options, sampling, request, model=model, text=text, stream_options=stream_options)
        exchange = await client.exchange(body, asked)
        try:
            return Dialect(stream_options, _counts(exchange, options, client.reader))
        except ConfigError:
            if stream_options is FINAL or exchange.status == 200:
                raise
            # some servers refuse options that they do not know
    raise AssertionError("the loop returns or raises")


def _counts(exchange: Exchange, options: OpenAIOptions, reader: Reader) -> TokenCounts:
    """How tokens of this answer are counted, once they have been, with token ids where they were asked for."""
    events = [event for _, event in reader.events(exchange)]
    method = detect(events)
    broken = exchange.error or any(event.get("error") for event in events)
    told = any(ids_of(choice) for event in events if (choice := choice_of(event)) is not None)
    if options.return_token_ids and not told and not broken:
        raise ConfigError("the server gives no token ids", "set `openai.return_token_ids: false`")
    attrs.evolve(reader, token_counts=method).chunks(exchange)
    return method


def detect(events: Sequence[Mapping[str, Any]]) -> TokenCounts:
    """How tokens can be counted in a stream such as this one.

    Usage is continuous where it comes with every event that brings tokens, and has grown before the last of them: one
    that is zero or constant until the end is the final usage, told early.
    """
    choices = [(choice, usage_of(event)) for event in events if (choice := choice_of(event)) is not None]
    # of a server that holds all text back, such as that of tokens that are half a character, every event counts
    bringing = [one for one in choices if said(one[0]) or ids_of(one[0])] or choices
    speaking = [told_by(usage) for _, usage in bringing]
    if len(speaking) > 1 and _grows([-1 if one is None else one for one in speaking]):
        return "continuous_usage"
    return "token_ids" if any(ids_of(choice) for choice, _ in choices) else "final_usage"


def _grows(told: Sequence[int]) -> bool:
    """Of two numbers at least."""
    *before, last = told
    steady = all(low <= high for low, high in itertools.pairwise(told))
    grown = before[-1] > before[0] if len(before) > 1 else last > before[0]
    return min(told) >= 0 and before[-1] > 0 and steady and grown
