"""How late an event loop was, from its ticks."""

from __future__ import annotations

import asyncio
import time

import pytest

from llem.devices.pulse import KEPT
from llem.experiment.serving.ticks import TICK_S, Ticker, Ticks
from llem.experiment.serving.window import client_facts
from llem.store.models import RequestRow

MS = 1_000_000


def ticks(*found: tuple[int, int], cpu: int = 0) -> Ticks:
    """Of (due, late) in milliseconds; the CPU time grows by `cpu` ms from one to the next."""
    return Ticks(
        [due * MS for due, _ in found], [late * MS for _, late in found], [cpu * MS * i for i in range(len(found))],
        [0] * len(found),
    )  # fmt: skip


def row(start: int, end: int) -> RequestRow:
    return RequestRow(start, 0, 3, 1, start * MS, end * MS, token_times_ns=(end * MS,), finish_reason="length")


def test_ticks_that_did_not_come_count() -> None:
    """A loop that stood still for 20 ms kept what arrived in each of its four steps waiting."""
    assert ticks((100, 20), (125, 0)).delays(0, 1000 * MS) == [20 * MS, 15 * MS, 10 * MS, 5 * MS, 0, 0]
    assert ticks((100, 20)).delays(108 * MS, 118 * MS) == [10 * MS, 5 * MS]


def test_a_stall_is_told_with_its_times() -> None:
    """From when the tick was due to when it came, also where it reaches over an edge."""
    found = ticks((100, 300), (405, 3), (410, 21))

    assert list(found.stalls(0, 1000 * MS)) == [(100 * MS, 400 * MS), (410 * MS, 431 * MS)]
    assert list(found.stalls(399 * MS, 405 * MS)) == [(100 * MS, 400 * MS)]
    assert list(found.stalls(400 * MS, 410 * MS)) == []


def test_a_stall_in_which_nothing_ran_is_still() -> None:
    """By the processor time since the tick before: 100 ms of 300 is work, 40 is none. The first tick tells nothing.
    Nor is it still where others had the processor for most of the time.
    """
    due, late, used = [0, 100 * MS, 500 * MS, 900 * MS], [300 * MS] * 4, [7 * MS, 47 * MS, 147 * MS, 150 * MS]
    found = Ticks(due, late, used, [0, 0, 0, 200 * MS])

    assert list(found.stalls(0, 2000 * MS, still=True)) == [(100 * MS, 400 * MS)]
    assert len(list(found.stalls(0, 2000 * MS))) == 4


def test_the_longest_stalls_are_kept_and_all_are_summed() -> None:
    """100 of 30 ms and one of 90 ms."""
    found = ticks(*((due, 30) for due in range(0, 10_000, 100)), (10_000, 90))
    facts = client_facts([found], 1, [row(0, 9_000)], 0, 20_000 * MS)
    assert facts is not None
    assert len(facts.stalls) == len(facts.still) == KEPT
    assert (10_000 * MS, 10_090 * MS) in facts.stalls
    assert facts.stalled_s == pytest.approx(3.09)
    assert client_facts([found], 0, [row(0, 9_000)], 0, 20_000 * MS).still == facts.still


def test_a_still_time_counts_from_when_the_first_request_was_sent() -> None:
    """What ended in the window was sent 200 ms after the loop had begun to stand still."""
    found = client_facts([ticks((0, 0), (100, 800), (905, 0))], 1, [row(300, 1_500)], 1_000 * MS, 2_000 * MS)
    assert found is not None
    assert found.still == ((300 * MS, 900 * MS),)


def test_the_busy_share_is_of_the_window() -> None:
    """CPU time between the first and the last tick within it; nothing where there are no two."""
    found = ticks(*((due, 0) for due in range(0, 100, 5)), cpu=2)

    assert found.busy_share(20 * MS, 80 * MS) == pytest.approx(0.4)
    assert found.busy_share(20 * MS, 24 * MS) is None


def test_facts_begin_with_the_first_request_that_is_measured() -> None:
    """A stall before the window delays a request that ends in it; one before that request was sent delays none."""
    early, late = ticks((100, 50), (155, 0)), ticks((300, 50), (355, 0))
    rows = [row(200, 620), row(500, 700), row(90, 400)]

    assert client_facts([early], 1, rows, 600 * MS, 1000 * MS) is None
    facts = client_facts([late, early], 2, rows, 600 * MS, 1000 * MS)
    assert facts is not None
    assert (facts.processes, facts.delay_max_s, facts.stalls) == (2, 0.05, ((300 * MS, 350 * MS),))


@pytest.mark.paced
def test_a_loop_that_stands_still_is_seen() -> None:
    """0.3 s of work in one piece is a stall; a loop that waits has next to no delay."""

    async def act() -> tuple[Ticks, int, int]:
        ticker = Ticker()
        await asyncio.sleep(0.2)
        begin = time.monotonic_ns()
        time.sleep(0.3)
        end = time.monotonic_ns()
        await asyncio.sleep(0.05)
        return ticker.stop(), begin, end

    found, begin, end = asyncio.run(act())
    stalls = [(b, e) for b, e in found.stalls(begin, end) if e - b > 0.25e9]

    assert len(stalls) == 1
    assert stalls[0][0] <= begin + 2 * TICK_S * 1e9
    assert stalls[0][1] >= end - 1e6
    assert sorted(found.delays(begin - round(0.2e9), begin))[10] < 5 * MS
