"""The search for the greatest rate, from rates and outcomes that are made up; and what a window says of a rate."""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs
import pytest

from llem.config.arrival import RateSearch, search_s
from llem.config.models import OfflineLoad, OpenLoad
from llem.config.slo import Slo
from llem.errors import ExperimentFailed
from llem.experiment.serving.search import next_rate, rate_window, refuse_broken
from llem.metrics.boundary import RateSearched, RateWindow, boundary
from llem.store.models import RequestRow

S = 1_000_000_000
MS = S // 1000


def window(rate: float, kept: int, judged: int = 1000, **more) -> RateWindow:
    """A steady window, sent on time, in which so many requests kept the limits."""
    found = RateWindow(
        rate=rate, seed=1, seconds=30.0, arrived=judged, judged=judged, kept=kept, runs=((judged, kept),),
        late={"ttft_s": judged - kept}, reached_s={"ttft_s": 0.1}, in_flight_first=1.0, in_flight_last=1.0,
        lag_p99_s=0.001, steady=True, on_time=True,
    )  # fmt: skip
    return attrs.evolve(found, **more)


def rates(outcome: Callable[[float], int], search: RateSearch, share: float = 0.9) -> list[float]:
    """The rates of a whole search, where `outcome` says how many of a thousand keep the limits at a rate."""
    windows: list[RateWindow] = []
    while (rate := next_rate(windows, share, search)) is not None:
        windows.append(window(rate, outcome(rate)))
        assert len(windows) < 100
    return [one.rate for one in windows]


def test_it_doubles_and_then_takes_the_middle() -> None:
    """By hand, for a boundary at 5: 1, 2, 4, 8, then geometric means until 10 % are left between the two."""
    found = rates(lambda rate: 1000 if rate <= 5 else 0, RateSearch(tolerance=0.1))

    assert found[:4] == [1, 2, 4, 8]
    assert found[4:] == pytest.approx([5.65685, 4.75683, 5.18736], rel=1e-5)  # 5.18736 / 4.75683 = 1.0905


@pytest.mark.parametrize("true_rate", [1.0, 1.4, 2.0, 3.3, 57.0, 999.0])
def test_it_ends_within_the_tolerance(true_rate: float) -> None:
    """Whatever the boundary, the two rates beside it are at most 5 % apart; so many windows as were estimated."""
    search = RateSearch()
    found = rates(lambda rate: 1000 if rate <= true_rate else 0, search)
    beside = boundary([window(rate, 1000 if rate <= true_rate else 0) for rate in found], 0.9)

    assert beside.kept <= true_rate < beside.broken <= beside.kept * 1.05
    assert len(found) <= search.windows[1]
    assert search.windows == (2 + 4, 2 * 11 + 4)


def test_it_ends_at_the_highest_rate() -> None:
    """Which need not be a doubling of the lowest; one rate alone is no search, but may be asked for."""
    assert rates(lambda _: 1000, RateSearch(min_rate=1, max_rate=5)) == [1, 2, 4, 5]
    assert rates(lambda _: 1000, RateSearch(min_rate=3, max_rate=3)) == [3]
    assert RateSearch(min_rate=3, max_rate=3).windows[0] == 1


def test_it_ends_where_the_lowest_rate_breaks() -> None:
    """Far below the asked share: no chance, and no second window."""
    assert rates(lambda _: 0, RateSearch()) == [1]


def test_a_break_by_chance_in_the_doubling_is_tried_again() -> None:
    """29 of 30 miss 99 %, but Wilson's interval reaches it: once more, and both windows together decide."""
    search, first = RateSearch(), window(1.0, 29, 30)

    assert next_rate([first], 0.99, search) == 1.0
    assert next_rate([first, window(1.0, 80, 80)], 0.99, search) == 2.0  # 109 of 110
    assert next_rate([first, window(1.0, 60, 60)], 0.99, search) is None  # 89 of 90
    for sign in ("steady", "on_time"):
        broken = window(2.0, 1000, **{sign: False})
        assert next_rate([window(1.0, 1000), broken], 0.99, search) == 2.0
        assert next_rate([window(1.0, 1000), broken, broken], 0.99, search) == pytest.approx(math.sqrt(2))
        assert next_rate([window(1.0, 1000), broken, window(2.0, 1000)], 0.99, search) == 4.0


def test_no_break_of_the_bisection_is_tried_again() -> None:
    """There a wrong step costs no more than the tolerance of the next ones."""
    before = [window(1.0, 1000), window(2.0, 0)]

    assert next_rate([*before, window(math.sqrt(2), 985)], 0.99, RateSearch()) == pytest.approx(2**0.25)


def row(index: int, arrival: int, first: int | None, end: int, tokens: int = 5, reason: str = "length") -> RequestRow:
    """A request that came, had its first token, and ended so many milliseconds after the window's beginning."""
    times = () if first is None else (first, *(end for _ in range(tokens - 1)))
    count = len(times)
    at = tuple(t * MS for t in times)
    return RequestRow(index, 0, 8, count, arrival * MS, end * MS, at, arrival * MS, None, reason)


def seen(rows: list[RequestRow], slo: Slo, seconds: float = 10.0) -> RateWindow:
    """What a window says that begins at 0."""
    return rate_window(rows, 0, round(seconds * S), rate=2.0, seed=7, slo=slo, usual_s=0.5)


def test_a_request_counts_when_its_fate_is_known() -> None:
    """It ended, or it was late for certain: those kept waiting count at once, and not again at their end."""
    slo = Slo(ttft_s=1.0, attainment=0.5)
    rows = [
        row(0, 100, 600, 900),
        row(1, 200, 1300, 1500),  # late at 1.2 s
        row(2, 8500, None, 60_000, reason="unfinished"),  # late at 9.5 s
        row(3, 9500, None, 60_000, reason="unfinished"),  # late at 10.5 s, after the window
        row(4, -1500, 200, 300),  # was late at -0.5 s, before it
        row(5, 9000, 9100, 11_000),  # ends after it
        row(6, 3000, None, 3100, reason="error"),
        row(7, 4000, 5000, 5500),  # exactly at the limit
    ]
    found = seen(rows, slo)

    assert (found.rate, found.seed, found.seconds) == (2.0, 7, 10.0)
    assert (found.judged, found.kept) == (5, 2)  # 0, 7; 1, 2 and 6 did not
    assert found.late == {"ttft_s": 2}
    assert found.reached_s == {"ttft_s": 1.0}  # three of the five took no more
    assert found.arrived == 7
    assert [size for size, _ in found.runs] == [1, 2, 2]
    assert sum(kept for _, kept in found.runs) == 2


def test_each_limit_judges() -> None:
    """Time per further token from the first to the last, of requests with more than one; the whole time."""
    rows = [row(0, 0, 100, 500), row(1, 0, 100, 510), row(2, 0, 100, 100, tokens=1), row(3, 1000, 1100, 1150)]

    assert seen(rows, Slo(tpot_s=0.1)).kept == 3  # 400, 410 and 50 ms for four tokens, and none
    assert seen(rows, Slo(tpot_s=0.1)).late == {"tpot_s": 1}
    assert seen(rows, Slo(e2el_s=0.2)).kept == 2
    assert seen(rows, Slo(e2el_s=0.2, tpot_s=0.1)).late == {"e2el_s": 2, "tpot_s": 1}


def test_more_than_the_engine_bears_is_not_steady() -> None:
    """Requests in flight rise along a line, and over 5 % of the arrivals are left; half of that is steady."""
    over = [row(i, 100 * i, 100 * i + 50 * i, 100 * i + 60 * i) for i in range(100)]
    calm = [row(i, 100 * i, 100 * i + 20, 100 * i + 50) for i in range(100)]

    assert not seen(over, Slo(ttft_s=60)).steady
    assert seen(over, Slo(ttft_s=60)).in_flight_last > seen(over, Slo(ttft_s=60)).in_flight_first
    assert seen(calm, Slo(ttft_s=60)).steady


def test_a_client_that_sends_late_is_told() -> None:
    """Half of the limit that counts from the arrival; of the usual time of a request where there is none."""
    rows = [attrs.evolve(row(i, 100 * i, 100 * i + 80, 100 * i + 90), start_ns=(100 * i + 60) * MS) for i in range(90)]

    assert seen(rows, Slo(ttft_s=0.7)).lag_p99_s == pytest.approx(0.06)
    assert seen(rows, Slo(ttft_s=0.12)).on_time
    assert not seen(rows, Slo(ttft_s=0.11)).on_time
    assert not seen(rows, Slo(ttft_s=0.5, e2el_s=0.11)).on_time
    assert seen(rows, Slo(tpot_s=1)).on_time  # 60 ms of 500
    slow = [attrs.evolve(one, start_ns=one.start_ns + 200 * MS, end_ns=one.end_ns + 300 * MS) for one in rows]
    assert not seen(slow, Slo(tpot_s=1)).on_time
    assert seen([], Slo(ttft_s=0.5)).on_time
    assert seen([], Slo(ttft_s=0.5)).judged == 0


def test_a_lowest_rate_that_breaks_ends_the_experiment() -> None:
    """The message says which latency, how many and how much; another outcome than a crash, so the engine lives on."""
    lowest = window(0.5, 12, 30, late={"ttft_s": 18}, reached_s={"ttft_s": 2.31}, steady=False, in_flight_last=9.25)
    broken = RateSearched(rate=None, attainment=0.9, limits={"ttft_s": 0.5}, windows=(lowest,))
    with pytest.raises(ExperimentFailed) as caught:
        refuse_broken(broken)

    assert caught.value.code == "invalid"
    assert caught.value.message == (
        "the SLO is broken at the lowest rate, 0.5 requests/s: 12 of 30 requests kept every limit, "
        "where 90.00% should; ttft within 0.5 s: 18 of 30 late, 90.00% took up to 2.31 s; "
        "requests in flight rose from 1.0 to 9.2"
    )
    assert "min_rate" in caught.value.hint
    refuse_broken(attrs.evolve(broken, rate=0.5))


def test_whole_answers_cannot_be_judged_by_the_time_per_token() -> None:
    """They keep no such limit and break none: a search by it says so, as the metric does, beyond 5 % of them."""
    apart = [row(i, 100 * i, 100 * i + 50, 100 * i + 70) for i in range(100)]

    def some(whole: int) -> list[RequestRow]:
        return [row(i, 100 * i, 100 * i + 50, 100 * i + 50) if i < whole else apart[i] for i in range(100)]

    few = seen(some(5), Slo(tpot_s=0.5))
    assert (few.judged, few.kept, few.late) == (95, 95, {"tpot_s": 0})
    assert seen(some(50), Slo(ttft_s=0.5)).kept == 100
    for whole in (6, 100):
        with pytest.raises(ExperimentFailed, match=f"cannot judge 2 requests/s: of 100 requests {whole} got") as end:
            seen(some(whole), Slo(tpot_s=0.5))
        assert end.value.code == "invalid"


def test_a_lowest_rate_of_which_nothing_ends_says_so() -> None:
    """Nothing is known of the engine then."""
    found = seen([], Slo(tpot_s=0.5))
    broken = RateSearched(rate=None, attainment=0.9, limits={"tpot_s": 0.5}, windows=(found,))

    assert (found.judged, found.kept) == (0, 0)
    with pytest.raises(ExperimentFailed, match="nothing to judge at the lowest rate, 2 requests/s"):
        refuse_broken(broken)


def test_the_time_of_a_search() -> None:
    """Windows at least and at most; nothing for loads without one."""
    load = OpenLoad(request_rate="max", search=RateSearch(min_rate=1, max_rate=8, tolerance=1, window_s=10))

    assert search_s(load) == (20.0, 80.0)  # 1, 2; or 1, 2, 4, 8, each twice
    assert search_s(OpenLoad(request_rate=1.0)) == (0.0, 0.0)
    assert search_s(OfflineLoad()) == (0.0, 0.0)
