"""The capacity of an engine, from requests that are made up."""

from __future__ import annotations

import pytest

from llem.backends.base import Chunk, Request
from llem.errors import ExperimentFailed
from llem.experiment.serving.traffic import Flight
from llem.experiment.serving.window import capacity

S = 1_000_000_000


def flight(index: int, asked: int, times: list[int], outcome: str = "done") -> Flight:
    """A request that got one token at each of these times."""
    made = Flight(Request(index, (1,), asked), None, 0, [Chunk(1, at, (7,)) for at in times])
    made.end(outcome, times[-1] if times else 0)
    return made


def test_it_is_tokens_over_the_tokens_of_a_request() -> None:
    """Where requests are made whole, all that were sent tell their length; tokens outside the probe count nothing."""
    flights = [flight(0, 2, [S // 2, S]), flight(1, 6, [S, 2 * S, 3 * S], "unfinished")]
    probe = capacity(2, flights, S, 3 * S, exact=True)

    assert (probe.concurrency, probe.seconds) == (2, 2.0)
    assert probe.output_tokens_per_s == 1.5  # three of the five
    assert probe.requests_per_s == 1.5 / 4


@pytest.mark.parametrize(("outcome", "length"), [("done", 2), ("unfinished", 8)])
def test_where_requests_may_stop_early_those_that_ended_tell_their_length(outcome: str, length: int) -> None:
    """What was asked for stands in where none has ended."""
    probe = capacity(1, [flight(0, 8, [0, S - 1], outcome)], 0, S, exact=False)

    assert probe.requests_per_s == 2.0 / length


@pytest.mark.parametrize("flights", [[], [flight(0, 2, [2 * S], "unfinished")]])
def test_no_token_is_no_capacity(flights: list[Flight]) -> None:
    """Nothing can be said where none came while it was probed."""
    with pytest.raises(ExperimentFailed, match="no token came"):
        capacity(4, flights, 0, S, exact=True)
