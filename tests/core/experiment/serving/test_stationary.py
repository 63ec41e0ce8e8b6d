"""How long a load has to run before it is measured: by the tail of the times that its requests take."""

from __future__ import annotations

import random
import statistics
from itertools import takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llem.backends.base import Chunk, Request
from llem.experiment.serving.stationary import RequestTimes, least_lead, request_times
from llem.experiment.serving.traffic import Answered, Flight
from llem.workloads.arrivals import arrivals


def lognormal(count: int, sigma: float = 1.0, median: float = 100.0, seed: int = 1) -> tuple[int, ...]:
    rng = random.Random(seed)
    return tuple(max(1, round(median * rng.lognormvariate(0.0, sigma))) for _ in range(count))


@given(st.lists(st.floats(0.01, 100.0), min_size=1, max_size=40), st.floats(0.001, 0.5))
def test_it_is_the_least_time_that_lacks_so_little(seconds: list[float], lacking: float) -> None:
    """E[(S - t)+] is the bound there, and more a little before."""
    lead = least_lead(seconds, lacking)

    def lacks(at: float) -> float:
        return sum(max(one - at, 0.0) for one in seconds) / sum(seconds)

    assert lacks(lead) <= lacking * (1 + 1e-6) + 1e-9
    assert lead == 0.0 or lacks(lead * 0.99) > lacking


def test_fixed_lengths_need_one_request_time() -> None:
    """All requests take as long, so that after that time as many end as begin."""
    times = RequestTimes(0.1, 0.02, (256,) * 50, 5.2)

    assert times.mean_s == pytest.approx(5.2)
    assert times.lead_s == pytest.approx(5.2, rel=0.02)


def test_spread_lengths_need_several_mean_times() -> None:
    """Lognormal lengths of sigma 1: ten mean times and more for a large sample, and five at least for a small one."""
    large, small = (RequestTimes(0.0, 0.01, lognormal(count), 1.0) for count in (20_000, 12))

    assert 8 < large.lead_s / large.mean_s < 16
    assert small.lead_s >= 5 * small.mean_s or small.longest_s <= 1.5 * small.mean_s


@pytest.mark.parametrize("seed", range(5))
def test_a_load_is_stationary_after_its_lead(seed: int) -> None:
    """Simulated: an open load with lognormal lengths, without queueing. Where the window opens as many are in flight as
    Little's law says; after one median request time there are far fewer.
    """
    rate, token_s = 200.0, 0.01
    lengths = lognormal(60_000, seed=seed)
    times = RequestTimes(0.0, token_s, lengths[:256], 1.0)
    expected = rate * token_s * statistics.fmean(lengths)
    starts = list(takewhile(lambda at: at < 60.0, arrivals(rate, 1.0, seed)))

    def in_flight(at: float) -> int:
        return sum(begin <= at < begin + token_s * count for begin, count in zip(starts, lengths, strict=False))

    settled = statistics.fmean(in_flight(times.lead_s + wait) for wait in (0.0, 1.0, 2.0, 3.0))
    assert settled == pytest.approx(expected, rel=0.12)
    assert in_flight(1.0) < 0.75 * expected


def test_few_long_answers_in_the_warm_up_hide_no_tail() -> None:
    """The pace is of the warm-up, the lengths are of what is to come."""
    flights = [answered(1.0, 0.1, 10) for _ in range(3)]
    times = request_times(flights, [10] * 9 + [500], exact=True)

    assert times.first_s == pytest.approx(1.0)
    assert times.token_s == pytest.approx(0.1)
    assert times.longest_s == pytest.approx(50.9)
    assert times.lead_s > 5 * times.mean_s
    assert times.drain_s >= 1.5 * 50.9


def test_answers_that_may_end_early_tell_their_own_lengths() -> None:
    """A limit of 4096 tokens that no answer reaches makes no lead of minutes."""
    times = request_times([answered(1.0, 0.1, count) for count in (10, 12, 20)], [4096] * 9, exact=False)

    assert times.tokens == (10, 12, 20)
    assert times.longest_s == pytest.approx(2.9)


def answered(first_s: float, token_s: float, count: int) -> Flight:
    at = [round((first_s + number * token_s) * 1e9) for number in range(count)]
    flight = Flight(Request(0, (1,), count), None, 0, [Chunk(1, one) for one in at])
    flight.end("done", at[-1])
    return flight


def sums(count: int, *each: int) -> Answered:
    """So many alike: sent, first, ended (ns), and tokens asked for."""
    found = Answered()
    for _ in range(count):
        found.add(*each)
    return found


def test_the_pace_follows_what_is_answered_meanwhile() -> None:
    """From twenty answers on; those that are answered first are short, and the lengths to come are not."""
    times = RequestTimes(1.0, 0.1, (10, 200), 5.0)
    one = (0, 2_000_000_000, 3_800_000_000, 10)
    slow = sums(20, *one)

    assert times.again(sums(19, *one)) == times
    assert times.again(slow).first_s == pytest.approx(2.0)
    assert times.again(slow).token_s == pytest.approx(0.2)
    assert times.again(slow).tokens == (10, 200)


def test_answers_that_end_early_have_the_usual_length() -> None:
    """They ask for 500 tokens each and end after 10 on average, of 0.2 s each."""
    times = RequestTimes(1.0, 0.1, (5, 15), 2.0, exact=False)
    early = sums(20, 0, 1_000_000_000, 2_800_000_000, 500)

    assert times.again(early).token_s == pytest.approx(0.2)
