"""One batch as it ran, and what is counted and stored of the batches of a window."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import attrs

from llem.backends.base import Completion, Request, prompt_tokens
from llem.metrics.accounts import known_sum
from llem.store.models import RequestRow

__all__ = ["Batch", "Requests", "Run", "counts", "request_rows", "timed"]

Requests: TypeAlias = Sequence[Request]


@attrs.frozen
class Batch:
    """One batch as it ran: requests, completions, and monotonic times around the engine's call."""

    requests: Sequence[Request]
    completions: Sequence[Completion]
    start_ns: int
    end_ns: int


#: Runs one batch.
Run: TypeAlias = Callable[[], Batch]


def timed(requests: Requests, call: Callable[[], Sequence[Completion]]) -> Batch:
    """The batch that one call of the engine ran."""
    start = time.monotonic_ns()
    completions = call()
    return Batch(requests, completions, start, time.monotonic_ns())


def counts(batches: Sequence[Batch]) -> dict[str, Any]:
    """The counts of a window's work, as a trial and a part have them."""
    done = [completion for batch in batches for completion in batch.completions]
    asked = [request for batch in batches for request in batch.requests]
    return {
        "batches": len(batches),
        "requests": len(asked),
        "input_tokens": known_sum(
            prompt_tokens(one.input_tokens, told.engine_metrics) for one, told in zip(asked, done, strict=True)
        ),
        "output_tokens": sum(completion.tokens for completion in done),
        "batch_s": tuple((batch.end_ns - batch.start_ns) / 1e9 for batch in batches),
    }


def request_rows(batches: Sequence[Batch]) -> list[RequestRow]:
    """The rows of its requests."""
    return [
        RequestRow(
            index=request.index,
            batch=number,
            input_tokens=prompt_tokens(request.input_tokens, done.engine_metrics),
            output_tokens=done.tokens,
            start_ns=batch.start_ns,
            end_ns=batch.end_ns,
            token_times_ns=done.token_times_ns,
            finish_reason=done.finish_reason,
            engine_metrics=done.engine_metrics,
        )
        for number, batch in enumerate(batches)
        for request, done in zip(batch.requests, batch.completions, strict=True)
    ]
