"""What llem relies on in what a workload gives. Held before the first request is sent; the conformance suite holds the
same and more. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from llem.backends.base import Request
from llem.errors import Breach
from llem.workloads.base import Workload

__all__ = ["request_breaches", "workload_breaches"]

PAGE = "docs/howto/write-a-plugin.md"
#: So many of the first requests are looked at.
FIRST = 4


def workload_breaches(workload: Workload) -> Iterator[Breach]:
    """Of the first requests, and of the same ones asked for again; and of what is recorded. Raises what it raises."""
    first = workload.requests(0, FIRST)
    yield from request_breaches(first, 0, FIRST)
    rule = "the same settings and index give the same request, however many are asked for at a time"
    if list(workload.requests(1, FIRST - 1)) != list(first[1:]):
        yield Breach(rule, f"other requests 1 to {FIRST - 1}", "those of the first time", PAGE)
    rule, told = "what `describe` gives can be stored: JSON values only", workload.describe()
    try:
        json.dumps(dict(told), allow_nan=False)
    except (TypeError, ValueError) as error:
        yield Breach(rule, str(error), "what json.dumps takes", PAGE)


def request_breaches(requests: Sequence[Request], start: int, count: int) -> Iterator[Breach]:
    """Of what `requests(start, count)` gave."""
    given, asked = [one.index for one in requests], list(range(start, start + count))
    if given != asked:
        yield Breach("requests are those of the indices that are asked for, in order", f"{given}", f"{asked}", PAGE)
    for one in requests:
        odd = next((token for token in one.token_ids if type(token) is not int or token < 0), None)
        if odd is not None:
            got = f"{odd!r} ({type(odd).__name__}) in request {one.index}"
            yield Breach("token ids of prompts are Python integers from 0 on", got, "an int from 0 on", PAGE)
        if not one.token_ids and one.text is None and one.messages is None:
            yield Breach(
                "a request has a prompt", f"none in request {one.index}", "token ids, a text or messages", PAGE
            )
        if type(one.output_tokens) is not int or one.output_tokens < 1:
            got = f"{one.output_tokens!r} of request {one.index}"
            yield Breach("a request asks for one token at least", got, "an int from 1 on", PAGE)
