"""How long an open load runs before its window: beyond its longest requests, but for one in a thousand."""

from __future__ import annotations

import random

import pytest

from llem.experiment.serving.stationary import RequestTimes


def times(lengths) -> RequestTimes:
    """0.1 s to the first token and 0.02 s for each further one."""
    return RequestTimes(0.1, 0.02, tuple(lengths), 0.1 + 0.02 * (sorted(lengths)[len(lengths) // 2] - 1))


def test_requests_of_one_length_lead_for_as_long_as_one_takes():
    """Nothing is longer."""
    assert times([101] * 50).lead_s == pytest.approx(2.1)


def test_at_most_one_request_in_a_thousand_is_longer_than_the_lead():
    """Lognormal lengths: those that end within the window may then have all lengths, and its p99 is that of long runs.
    A lead that lacks 1 % of the mean number in flight would be 10 mean times, and the p99 8 % short or more.
    """
    draw = random.Random(5)
    found = times([max(1, round(draw.lognormvariate(4.35, 1.0))) for _ in range(4000)])
    longer = sum(one > found.lead_s for one in found.seconds)
    assert longer <= 4
    assert found.lead_s > 10.5 * found.mean_s
