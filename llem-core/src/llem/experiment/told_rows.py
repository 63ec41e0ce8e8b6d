"""Rows of requests that another tool tells: tokens of chunks, and whether they can be what happened. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from llem.store.models import RequestRow

__all__ = ["check_rows", "spread"]

#: Tokens that one request has at most: more is a damaged file.
MOST_TOKENS = 1_000_000_000


def check_rows(rows: Iterable[RequestRow]) -> None:
    """Raise ValueError for a count that is none, and for times that run backwards."""
    for row in rows:
        for count in (row.input_tokens, row.output_tokens):
            if type(count) is not int or not 0 <= count <= MOST_TOKENS:
                raise ValueError(f"request {row.index} has {str(count)[:20]!r} for a number of tokens")
        times = (row.start_ns, *(row.token_times_ns or ()), row.end_ns)
        if any(later < earlier for earlier, later in itertools.pairwise(times)):
            raise ValueError(f"times of request {row.index} run backwards")


def spread(tokens: int, chunks: int) -> tuple[int, ...]:
    """One token in the first chunk, and the others spread evenly over the rest: their sum is right."""
    if chunks == 1 or tokens < 2:
        return (tokens, *(0,) * (chunks - 1))
    rest, further = tokens - 1, chunks - 1
    return (1, *(rest * (i + 1) // further - rest * i // further for i in range(further)))
