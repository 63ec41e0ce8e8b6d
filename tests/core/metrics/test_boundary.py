"""The greatest rate under an SLO, from windows that are made up: where it lies, and how well that is known."""

from __future__ import annotations

import attrs
import pytest

from llem.metrics.boundary import (
    Boundary,
    RateSearched,
    RateWindow,
    boundary,
    boundary_interval,
    doubtful,
    falling,
    is_kept,
)


def window(rate: float, kept: int, judged: int = 100, *, runs=None, steady=True, on_time=True) -> RateWindow:
    """A window of 30 s in which so many of the judged requests kept the limits, spread evenly where nothing is said."""
    third = judged // 3
    sizes = (third, third, judged - 2 * third)
    spread = tuple((size, round(kept * size / max(judged, 1))) for size in sizes) if runs is None else runs
    return RateWindow(
        rate=float(rate), seed=1, seconds=30.0, arrived=judged, judged=judged, kept=kept, runs=spread,
        late={"ttft_s": judged - kept}, reached_s={"ttft_s": 0.1}, in_flight_first=1.0, in_flight_last=1.0,
        lag_p99_s=0.001, steady=steady, on_time=on_time,
    )  # fmt: skip


def test_it_lies_between_the_greatest_kept_and_the_least_broken() -> None:
    """A window that keeps above one that breaks does not move it; two windows at one rate count together."""
    windows = [window(1, 100), window(2, 100), window(8, 0), window(4, 80), window(16, 100)]

    assert boundary(windows, 0.95) == Boundary(2.0, 4.0)
    assert boundary([*windows, window(4, 290, 290)], 0.95) == Boundary(2.0, 4.0)  # 370 of 390: 94.9 %
    assert boundary([*windows, window(4, 300, 300)], 0.95) == Boundary(4.0, 8.0)  # 380 of 400: 95 %
    assert boundary([window(1, 0)], 0.95) == Boundary(None, 1.0)
    assert boundary([window(1, 99)], 0.95) == Boundary(1.0, None)


def test_a_load_that_piles_up_or_is_sent_late_breaks_it() -> None:
    """Whatever the share; and where the client alone was too slow, the engine's boundary is above."""
    piled, late = window(2, 100, steady=False), window(2, 100, on_time=False)

    assert not is_kept([piled], 0.9)
    assert is_kept([piled, window(2, 95)], 0.9)
    assert boundary([window(1, 100), piled], 0.9) == Boundary(1.0, 2.0)
    assert boundary([window(1, 100), piled], 0.9).is_closed
    assert boundary([window(1, 100), late], 0.9) == Boundary(1.0, 2.0, by_client=True)
    assert not boundary([window(1, 100), late], 0.9).is_closed
    assert boundary([window(1, 100), window(2, 0, on_time=False)], 0.9).by_client  # whose fault it was is not known
    assert not boundary([window(1, 100), late, window(2, 0)], 0.9).by_client
    assert not is_kept([window(1, 0, 0)], 0.0)  # nothing was judged


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        (window(1, 29, 30), True),  # Wilson: 0.833 to 0.994
        (window(1, 25, 30), False),  # 0.664 to 0.927
        (window(1, 980, 1000), False),  # 0.969 to 0.987
        (window(1, 985, 1000), True),  # 0.975 to 0.991
        (window(1, 30, 30, steady=False), True),
        (window(1, 30, 30, on_time=False), True),
        (window(1, 0, 0), False),
    ],
)
def test_chance_may_have_broken_it(broken: RateWindow, expected: bool) -> None:
    """Where Wilson's interval of the share reaches the 99 % that are asked for."""
    assert doubtful(broken, 0.99) is expected


def test_values_that_never_rise() -> None:
    """By hand: neighbours that rise become their weighted mean, as often as it takes."""
    assert falling([1.0, 0.9, 0.5], [1, 1, 1]) == [1.0, 0.9, 0.5]
    assert falling([0.8, 1.0, 0.5], [1, 3, 1]) == pytest.approx([0.95, 0.95, 0.5])
    assert falling([0.6, 0.4, 1.0], [1, 1, 2]) == pytest.approx([0.75, 0.75, 0.75])


def test_the_interval_holds_the_bracket_and_narrows_with_requests() -> None:
    """Shares of 1, 0.97 and 0.8, asked 0.9: a straight line in the logarithm crosses at 2 · 2^(7/17) = 2.66."""

    def interval(count: int) -> tuple[float, float]:
        found = [(1, 1.0), (2, 0.97), (4, 0.8), (8, 0.0)]
        return boundary_interval([window(rate, round(share * count), count) for rate, share in found], 0.9)

    few, many = interval(100), interval(100_000)

    assert few[0] <= 2.0
    assert few[1] >= 4.0
    assert many == (2.0, 4.0)  # the crossing is known better, and nothing between the two was measured
    assert few != many
    assert interval(100) == few  # seeded


def test_misses_in_clumps_widen_it() -> None:
    """The same counts, but all misses of a window in one run: the requests are worth fewer independent ones."""
    clumped = {2: ((100, 100), (100, 100), (100, 91)), 2.4: ((100, 100), (100, 100), (100, 55))}

    def interval(runs) -> tuple[float, float]:
        spread = [window(2, 291, 300, runs=runs.get(2)), window(2.4, 255, 300, runs=runs.get(2.4))]
        return boundary_interval([window(1, 300, 300), *spread, window(4, 0, 300)], 0.9)

    even, clumps = interval({}), interval(clumped)

    assert clumps[0] < even[0]
    assert clumps[1] > even[1]


def test_where_every_request_must_keep_them_it_is_the_bracket() -> None:
    """No number of requests shows a share of 1. Without a boundary there is no interval."""
    assert boundary_interval([window(1, 100), window(2, 99)], 1.0) == (1.0, 2.0)
    with pytest.raises(ValueError, match="no boundary"):
        boundary_interval([window(1, 100)], 0.9)


def test_it_is_read_back_from_its_document() -> None:
    """As an engine's document has it: lists for tuples, and fields of a later version left aside."""
    found = RateSearched(rate=1.0, attainment=0.9, limits={"ttft_s": 0.5}, windows=(window(1, 99), window(2, 0)))
    document = attrs.asdict(found)
    document["windows"] = [{**one, "runs": [list(run) for run in one["runs"]], "new": 1} for one in document["windows"]]

    assert RateSearched.stored(document) == found


def searched(rate: float | None, *windows: RateWindow) -> RateSearched:
    """A search for 90 % within half a second."""
    return RateSearched(rate=rate, attainment=0.9, limits={"ttft_s": 0.5}, windows=windows)


@pytest.fixture
def result(make):
    """The result of a served experiment whose engine processes made these searches."""

    def _result(*searches: RateSearched):
        served = make.Served(make)
        served.engines = [
            {**make.engine_document(), "process": process, "rate_search": attrs.asdict(one)}
            for process, one in enumerate(searches)
        ]
        return served.result()

    return _result


def test_one_search_has_its_own_interval(result) -> None:
    """It covers the one process; no remark is made."""
    found = result(searched(1.0, window(1, 99), window(2, 0)))
    metric = found.metrics["max_request_rate"]

    assert (metric.value, metric.unit, metric.n, metric.processes) == (1.0, "request/s", 2, 1)
    assert (metric.low, metric.high) == boundary_interval([window(1, 99), window(2, 0)], 0.9)
    assert (metric.method, metric.covers) == ("search", "within one process")
    assert metric.rests_on == "2 windows of a search, one process"
    assert "boundary_above" not in {one.code for one in found.findings}


def test_several_searches_scatter(result) -> None:
    """Processes that searched by themselves: Student's interval over them."""
    metric = result(
        searched(1.0, window(1, 99), window(2, 0)), searched(3.0, window(3, 99), window(4, 0))
    ).metrics["max_request_rate"]  # fmt: skip

    assert (metric.value, metric.processes, metric.covers) == (2.0, 2, "over processes")
    assert metric.high == pytest.approx(2.0 + 12.7062047)  # t of one degree of freedom, standard error 1


@pytest.mark.parametrize(
    ("windows", "why"),
    [
        ((window(1, 99), window(2, 99)), "2 requests/s keep the SLO (the highest rate asked for)"),
        ((window(2, 99), window(4, 99, on_time=False)), "2 requests/s keep the SLO (llem sends late from 4 on)"),
    ],
)
def test_a_boundary_that_was_not_reached(result, windows, why: str) -> None:
    """The value is absent with its reason, and a remark names the rate that was kept."""
    found = result(searched(2.0, *windows))
    [remark] = [one for one in found.findings if one.code == "boundary_above"]

    assert (found.metrics["max_request_rate"].value, found.metrics["max_request_rate"].reason) == (
        None,
        "boundary_above",
    )
    assert remark.severity == "info"
    assert remark.message == f"{why}: the boundary lies above"
    assert remark.evidence["request_rate"] == 2.0


def test_other_loads_have_no_such_rate(make) -> None:
    """Nobody asked for it; and a lowest rate that breaks the SLO is a reason of its own."""
    served = make.Served(make)

    assert served.metrics()["max_request_rate"].reason == "not_requested"
    served.engines = [{**make.engine_document(), "rate_search": attrs.asdict(searched(None, window(1, 0)))}]
    assert served.metrics()["max_request_rate"].reason == "slo_broken"
