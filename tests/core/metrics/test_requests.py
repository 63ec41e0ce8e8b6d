"""Single requests: times per further token where tokens arrive apart, and when it is known whether limits are kept."""

from __future__ import annotations

import heapq
import math
import random

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llem.config.slo import Slo
from llem.metrics.accounts import load_counts, unbalanced
from llem.metrics.flow import flow_within
from llem.metrics.goodput import Judged, judge
from llem.metrics.requests import fates, latencies
from llem.metrics.result import compute_result
from llem.store.models import RequestRow, ServingFacts

S = 1_000_000_000
MS = S // 1000


def row(index, arrival, chunks, *, end=None, reason="length", start=None):
    """A request that arrived, and whose chunks are (time, tokens), in milliseconds after the window's beginning."""
    times = tuple(round(at * MS) for at, _ in chunks)
    counts = tuple(count for _, count in chunks)
    last = times[-1] if end is None else round(end * MS)
    begin = arrival if start is None else start
    return RequestRow(
        index, 0, 8, sum(counts), round(begin * MS), last, times, round(arrival * MS), counts, finish_reason=reason
    )


@pytest.mark.parametrize(
    ("chunks", "tpot"),
    [
        ([(100, 1), (120, 1), (140, 1)], 0.020),
        ([(100, 4), (140, 4), (180, 4), (220, 4)], 0.010),  # 120 ms for the twelve that came later
        ([(100, 1), (100, 3), (130, 3)], 0.010),  # two chunks of one read are one arrival
        ([(100, 1), (120, 1), (150, 0)], 0.020),  # what only ends the request brings no token
        ([(100, 1), (100.05, 3), (100.2, 4), (130, 3)], 0.010),  # nor do three reads that follow at once
        ([(100, 1), (100.5, 4), (101, 4)], 0.000125),  # 8,000 a second: fast, but an engine may be
        ([(100, 1), (100.3, 7), (100.7, 8)], math.nan),  # a whole answer in three reads
        ([(100, 16)], math.nan),
        ([(100, 8), (100, 8)], math.nan),
        ([(100, 1)], math.nan),
        ([], math.nan),
    ],
)
def test_time_per_further_token(chunks, tpot):
    """From the first token to the last, over those that came after the first arrival."""
    found = latencies(flow_within([row(0, 0, chunks, end=200)], 0, S))["tpot_s"][0]
    assert found == pytest.approx(tpot, nan_ok=True)


def together(make, share, *, slo=None):
    """A window of 100 requests of 16 tokens, of which so many come in one chunk."""
    t0, t1 = make.window(0)
    study = make.Served(make)
    rows = [one for one in make.served_rows(t0, t1, outputs=16) if t0 <= one.start_ns and one.end_ns < t1]
    whole = round(share * len(rows))
    rows = [
        attrs.evolve(one, token_times_ns=(one.end_ns,), chunk_tokens=(16,)) if i < whole else one
        for i, one in enumerate(rows)
    ]
    study.put(0, rows)
    if slo is not None:
        study.experiment["config"]["slo"] = attrs.asdict(slo)
    return study


def test_whole_answers_have_no_time_per_further_token(make):
    """None, with its reason; nothing is between chunks; the objective is neither kept nor broken."""
    study = together(make, 1.0, slo=Slo(tpot_s=0.001))
    found = study.metrics()
    for name in ("tpot_s", "tpot_p99_s", "itl_chunk_s", "slo_attainment", "goodput_requests_per_s"):
        assert (found[name].value, found[name].reason) == (None, "tokens_together"), name
    assert found["energy_per_good_request_j"].reason == "tokens_together"
    assert found["ttft_s"].value == pytest.approx(found["e2el_s"].value)
    assert "slo_missed" not in study.codes()


def test_a_limit_that_is_broken_is_known_whatever_the_other(make):
    """A whole answer that was late at its first token breaks the objective; one of TTFT alone needs no other time."""
    assert together(make, 1.0, slo=Slo(ttft_s=0.1, tpot_s=1.0)).metrics()["slo_attainment"].value == 0.0
    assert together(make, 1.0, slo=Slo(ttft_s=0.3)).metrics()["slo_attainment"].value == 1.0


@pytest.mark.parametrize(("share", "value"), [(0.04, 0.01), (0.07, None)])
def test_a_few_whole_answers_are_left_out(make, share, value):
    """Up to 5 % of the requests with several tokens; beyond, those left would speak for all."""
    found = together(make, share, slo=Slo(tpot_s=0.02)).metrics()
    assert found["tpot_s"].value == (None if value is None else pytest.approx(value))
    assert found["slo_attainment"].value == (None if value is None else 1.0)


@pytest.mark.parametrize(
    ("times", "value", "reason"),
    [
        ((10, 10, 40, 40), 0.015, None),
        ((10, 10.05, 40, 40), 0.015, None),
        ((10, 20, 30, 40), 0.010, None),
        ((40,) * 4, None, "tokens_together"),
        ((40, 40.001, 40.002, 40.003), None, "tokens_together"),
    ],
)
def test_offline_tokens_that_come_at_once(make, times, value, reason):
    """Times of tokens of a batch: two that come with the first are one arrival, and all at once are none, though they
    are read one by one."""
    t0, t1 = make.window(0)
    rows = make.request_rows(0, t0, t1, token_times=True, outputs=4)
    rows = [attrs.evolve(one, token_times_ns=tuple(one.start_ns + round(at * MS) for at in times)) for one in rows]
    trace = make.trace(600.0, t0, t1)
    trial, experiment = make.make_trial(0, trace, rows, t0, t1), make.experiment_document(token_times=True)
    engines, outcomes = [make.engine_document()], [make.outcome_document()]
    found = compute_result(experiment, engines, [trial], [], {0: rows}, outcomes, {0: trace}).metrics["tpot_s"]
    assert (found.value, found.reason) == (None if value is None else pytest.approx(value), reason)


@pytest.mark.parametrize(("whole", "value"), [(1, 0.010), (4, None)])
def test_offline_answers_that_come_at_once_are_no_silent_minority(make, whole, value):
    """Of 32 requests one may have no time of a token (3 %), and four may not: the others would speak for all."""
    t0, t1 = make.window(0)
    rows = (*make.request_rows(0, t0, t1, token_times=True, outputs=4),) * 4
    times = [(40, 40, 40, 40) if i < whole else (10, 20, 30, 40) for i in range(len(rows))]
    rows = [
        attrs.evolve(one, token_times_ns=tuple(one.start_ns + at * MS for at in each))
        for one, each in zip(rows, times, strict=True)
    ]
    trace = make.trace(600.0, t0, t1)
    trial, experiment = make.make_trial(0, trace, rows, t0, t1), make.experiment_document(token_times=True)
    engines, outcomes = [make.engine_document()], [make.outcome_document()]
    found = compute_result(experiment, engines, [trial], [], {0: rows}, outcomes, {0: trace}).metrics["tpot_s"]
    assert found.value == (None if value is None else pytest.approx(value))


# fates


def test_a_request_counts_once_when_its_fate_is_known():
    """It ended, failed, or was late for certain: whoever is kept waiting counts at once, and not again at its end."""
    rows = [
        row(0, 100, [(600, 1), (900, 4)]),
        row(1, 200, [(1300, 1), (1500, 4)]),  # late at 1.2 s
        row(2, 8500, [], end=60_000, reason="unfinished"),  # late at 9.5 s
        row(3, 9500, [], end=60_000, reason="unfinished"),  # late at 10.5 s, after the window
        row(4, -1500, [(200, 1), (300, 4)]),  # was late at -0.5 s, before it
        row(5, 9000, [(9100, 1), (11_000, 4)]),  # ends after it
        row(6, 3000, [], end=3100, reason="error"),
        row(7, 4000, [(5000, 1), (5500, 4)]),  # exactly at the limit
    ]
    found = fates(flow_within(rows, 0, 10 * S), {"ttft_s": 1.0})
    assert found.rows.tolist() == [0, 1, 6, 7, 2]
    assert found.kept.tolist() == [True, False, False, True, False]
    assert judge(flow_within(rows, 0, 10 * S), {"ttft_s": 1.0}) == Judged(5, 2)
    assert judge(flow_within(rows, 10 * S, 20 * S), {"ttft_s": 1.0}) == Judged(2, 1)


def queue(rng, rate, seconds, *, servers=4, mean_s=0.4):
    """Arrivals, first come first served, times of service exponential: (arrival, begin, end) in seconds."""
    free, at, found = [0.0] * servers, 0.0, []
    while (at := at + rng.expovariate(rate)) < seconds:
        begin = max(at, heapq.heappop(free))
        end = begin + rng.expovariate(1 / mean_s)
        heapq.heappush(free, end)
        found.append((at, begin, end))
    return found


def test_attainment_of_a_queue_that_grows_is_that_of_its_arrivals():
    """A load of 1.3 times the capacity: requests that were not answered within the window broke their limit too."""
    rng, limit, t0, t1 = random.Random(5), 2.0, 4.0, 24.0
    told, true, ended = [], [], []
    for _ in range(30):
        rows, drained = [], t1 + 5.0
        for i, (at, begin, end) in enumerate(queue(rng, 13.0, t1)):
            kept = end <= drained
            chunks = [(1e3 * (begin + 0.001), 1), (1e3 * end, 1)] if kept else []
            rows.append(
                row(i, 1e3 * at, chunks, end=1e3 * min(end, drained), reason="length" if kept else "unfinished")
            )
            if t0 - limit / 2 <= at < t1 - limit / 2:  # decided half a limit later on average
                true.append(begin + 0.001 - at <= limit)
            if t0 <= end < t1:
                ended.append(begin + 0.001 - at <= limit)
        flow = flow_within([one for one in rows if one.end_ns >= t0 * S], round(t0 * S), round(t1 * S))
        found = judge(flow, {"ttft_s": limit})
        told.append(found)
    share = sum(one.good for one in told) / sum(one.judged for one in told)
    assert share == pytest.approx(np.mean(true), abs=0.03)
    assert np.mean(ended) > share + 0.05  # what ended alone looks better


# every request has one outcome


REASONS = st.sampled_from(["length", "error", "unfinished"])


@given(st.lists(st.tuples(st.integers(-20, 30), st.integers(0, 40), REASONS), max_size=40))
def test_every_request_has_one_outcome(drawn):
    """In flight at the beginning and sent, or completed, failed and in flight at the end: also at the very edges."""
    rows = [row(i, at, [(at + took, 1)], reason=reason) for i, (at, took, reason) in enumerate(drawn)]
    rows = [one for one in rows if one.end_ns >= 0 and one.start_ns < 20 * MS]
    counts = load_counts(flow_within(rows, 0, 20 * MS))
    facts = ServingFacts("open", None, 1.0, 0, completed_expected_tokens=0, **counts)
    assert unbalanced(facts) is None
    assert facts.in_flight_start + facts.sent == len(rows)


def test_a_request_that_is_lost_is_told():
    """The numbers that do not add up."""
    facts = ServingFacts("open", None, 1.0, 0, 10, 5, 1, 0, None, None, None, 2.0, 3.0, 4.0, 5, 5)
    assert unbalanced(facts) == (13.0, 10.0)


# one rule for the edges


@pytest.mark.parametrize(
    ("failed", "aborted"), [(0.0, 0.0), (0.1, 0.0), (0.0, 0.1), (0.1, 0.1)], ids=["plain", "failed", "aborted", "both"]
)
def test_rates_are_right_where_requests_fail_or_are_aborted(make, failed, aborted):
    """Lengths of 1 to 400 tokens at 100 a second, 8 arrivals per second: what is served is known, whoever fails."""
    rng = random.Random(11)
    t0, t1 = make.window(0, 20)
    found, good = [], 1 - failed
    for _ in range(6):
        rows, at, index = [], t0 - 6 * S, 0
        while (at := at + round(rng.expovariate(8.0) * S)) < t1:
            index += 1
            one = make.served_row(index, at, ttft=50 * MS, tpot=10 * MS, outputs=rng.randint(1, 400))
            fate = rng.random()
            if fate < failed:  # half way
                half = len(one.token_times_ns) // 2
                kept = one.token_times_ns[:half]
                one = attrs.evolve(
                    one, token_times_ns=kept, chunk_tokens=(1,) * half, output_tokens=half, finish_reason="error",
                    end_ns=kept[-1] if kept else at + 50 * MS,
                )  # fmt: skip
            elif fate < failed + aborted and one.end_ns >= t1:  # still running when the load ended
                one = attrs.evolve(one, finish_reason="unfinished", end_ns=max(one.end_ns, t1 + S))
            if one.end_ns >= t0:
                rows.append(one)
        study = make.Served(make)
        study.put(0, rows, seconds=20)
        found.append(study.metrics()["requests_per_s"].value)
    assert np.mean(found) == pytest.approx(8.0 * good, rel=0.1)
    assert max(found) / min(found) < 1.5


@pytest.mark.parametrize("fate", ["length", "error", "unfinished"])
def test_clients_in_step_have_one_rule_whatever_became_of_one(make, fate):
    """Five clients in step, 3 s a request: 15 ends within 10 s where 16.7 requests were served. One that fails is none
    of them; one that is still running at the end is as much as its tokens within the window."""
    t0, t1 = make.window(0)
    rows = [
        make.served_row(5 * turn + client, t0 + 3 * turn * S - S // 2, ttft=46_875_000, tpot=46_875_000, kind="closed")
        for turn in range(-1, 5)
        for client in range(5)
    ]
    rows = [row for row in rows if row.end_ns >= t0 and row.start_ns < t1]
    served = 50 / 3
    if fate == "error":  # of the requests that lie whole within the window
        place = next(i for i, row in enumerate(rows) if row.start_ns >= t0)
        rows[place] = attrs.evolve(rows[place], finish_reason="error")
        served -= 1
    elif fate == "unfinished":
        rows[-1] = attrs.evolve(rows[-1], finish_reason="unfinished")
    study = make.Served(make, kind="closed")
    study.put(0, rows, kind="closed")
    assert study.metrics()["requests_per_s"].value == pytest.approx(served / 10, rel=0.005)
