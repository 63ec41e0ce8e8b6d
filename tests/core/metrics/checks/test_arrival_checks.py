"""Whether as many requests arrived as were asked for, and whether the load was stationary."""

from __future__ import annotations

import itertools

import attrs
import numpy as np
import pytest

from llem.metrics.checks.arrivals import _chance
from llem.workloads.arrivals import arrivals, trial_seed

S = 1_000_000_000
MS = S // 1000


def of_rate(make, seen, asked, *, kind="open", **load):
    """An experiment of one window of ten seconds with so many arrivals per second where others were asked for."""
    study = make.Served(make, kind=kind)
    study.put(0, make.served_rows(*make.window(0), rate=seen), kind=kind, rate=float(asked))
    study.experiment["config"]["load"].update(load)
    return study


@pytest.mark.parametrize(
    ("seen", "asked", "severity"),
    [(10, 10, None), (10, 10.9, None), (10, 12, "info"), (10, 15, "warning"), (10, 6, "warning")],
)
def test_arrivals_beside_those_asked_for(make, seen, asked, severity):
    """100 arrivals: 120 asked for is chance, 150 is not; both numbers are metrics."""
    study = of_rate(make, seen, asked)
    assert study.metrics()["request_rate"].value == asked
    assert study.metrics()["arrival_rate"].value == seen
    assert ("rate_off" in study.codes()) == (severity is not None)
    if severity:
        found = study.found("rate_off")
        assert found.severity == severity
        assert (found.evidence["seen"], found.evidence["asked"]) == (seen, asked)
        assert f"{seen:.4g} requests/s arrived in the windows where {asked:.4g} were asked for" in found.message


def test_bursts_make_a_rate_far_off_no_wonder(make):
    """A burstiness of 0.1 has ten times the variance of a Poisson process."""
    assert of_rate(make, 10, 15, burstiness=1.0).found("rate_off").severity == "warning"
    assert of_rate(make, 10, 15, burstiness=0.1).found("rate_off").severity == "info"


@pytest.mark.parametrize(("asked", "told"), [(10, False), (10.4, False), (12, True)])
def test_a_replay_has_the_arrivals_of_its_trace(make, asked, told):
    """No chance is in it."""
    assert ("rate_off" in of_rate(make, 10, asked, kind="replay").codes()) == told


def test_a_closed_load_has_no_rate(make):
    """Its clients send when they have an answer."""
    study = make.Served(make, kind="closed")
    assert study.metrics()["arrival_rate"].reason == "closed_load"
    assert "rate_off" not in study.codes()


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0])
def test_the_chance_is_that_of_schedules(burstiness):
    """Counts of 400 schedules in windows of 50 s: about as many are below a chance of 10 % as it says."""
    low = 0
    for seed in range(400):
        at = list(itertools.takewhile(lambda t: t < 60, arrivals(2.0, burstiness, trial_seed(1, seed))))
        low += _chance(sum(t >= 10 for t in at), 100.0, burstiness) < 0.1
    assert 0.04 < low / 400 < 0.16


@pytest.mark.parametrize(("lost", "told"), [(0, False), (30, True)])
def test_requests_of_the_schedule_that_were_not_sent(make, lost, told):
    """The seed tells how many were due: the last thirty were never sent."""
    t0, _ = make.window(0)
    study = make.Served(make)
    at = list(itertools.takewhile(lambda t: t < 12, arrivals(30.0, 1.0, 0)))
    rows = [make.served_row(i, t0 - 2 * S + round(one * S), ttft=50 * MS, tpot=MS) for i, one in enumerate(at)]
    rows = [row for row in rows if row.end_ns >= t0]
    study.put(0, rows[: len(rows) - lost], rate=30.0, lead_s=2.0)
    missing = study.found("rate_off").evidence.get("missing") if "rate_off" in study.codes() else None
    assert missing == (30 if told else None)


# stationary


def lognormal(make, rng, index, *, lead_s, seconds, rate=11.5, sigma=1.0):
    """M/G/infinity from `lead_s` before the window on: mean 2 s a request, Poisson arrivals."""
    t0, _ = make.window(index, seconds)
    count = rng.poisson(rate * (lead_s + seconds))
    at = np.sort(rng.uniform(-lead_s, seconds, count))
    took = 2 * np.exp(sigma * rng.standard_normal(count) - sigma**2 / 2)
    rows = []
    for i, (begin, span) in enumerate(zip(at, took, strict=True)):
        arrival, end = t0 + round(begin * S), t0 + round((begin + span) * S)
        times = (arrival + round(span * S / 10), end)
        row = make.served_row(index * 10_000 + i, arrival, ttft=0, tpot=0, outputs=2)
        rows.append(attrs.evolve(row, end_ns=end, token_times_ns=times, chunk_tokens=(1, 1)))
    return [row for row in rows if row.end_ns >= t0]


def stationary(make, rng, *, lead_s, told_s, seconds=7, windows=3):
    study = make.Served(make, windows, seconds=seconds, rate=1)
    for index in range(windows):
        rows = lognormal(make, rng, index, lead_s=lead_s, seconds=seconds)
        study.put(index, rows, seconds=seconds, rate=11.5, lead_s=told_s)
    return study


def test_a_load_that_has_just_begun_is_found(make):
    """A lead of one median (1.21 s) with lognormal lengths lacks half of what is in flight: always found."""
    rng = np.random.default_rng(1)
    found = [stationary(make, rng, lead_s=1.213, told_s=1.213).found("not_stationary") for _ in range(8)]
    assert np.mean([one.evidence["lacking"] for one in found]) == pytest.approx(0.53, abs=0.05)
    assert np.mean([one.evidence["mean_off"] for one in found]) == pytest.approx(-0.36, abs=0.06)
    assert found[0].message.startswith("the load had run for 1.21 s when the windows opened, where requests take ")


def test_a_load_that_has_run_by_its_tail_is_not(make):
    """Ten mean times of lead: hardly one in twenty is told."""
    rng = np.random.default_rng(2)
    told = sum("not_stationary" in stationary(make, rng, lead_s=20.0, told_s=20.0).codes() for _ in range(20))
    assert told <= 2


def test_without_a_known_lead_requests_in_flight_tell(make):
    """An older trial does not tell its lead. By Little's law, or, where they rise enough, as a load that piles up."""
    rng = np.random.default_rng(3)
    codes = [stationary(make, rng, lead_s=0.6, told_s=None, windows=5).codes() for _ in range(6)]
    assert sum(bool(one & {"not_stationary", "over_saturated"}) for one in codes) >= 5


def test_littles_law_at_the_windows_beginning(make):
    """Twice as many in flight as arrivals times their mean time, for the first second: left over from before."""
    t0, _ = make.window(0)
    study = make.Served(make, rate=20)
    left = [make.served_row(9000 + i, t0 - S, ttft=S, tpot=30 * MS, outputs=32) for i in range(40)]
    study.put(0, [*study.requests[0], *left], rate=20.0)
    found = study.found("not_stationary")
    assert found.evidence["in_flight_expected"] == pytest.approx(13.6, rel=0.01)
    assert found.evidence["in_flight_first"] > 40
    assert "not_stationary" not in make.Served(make, rate=20).codes()
