"""Serving windows against constructed requests whose truth is known by hand."""

from __future__ import annotations

import math

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llem.config.slo import Slo
from llem.metrics.accounts import counted, stated
from llem.metrics.flow import flow_of
from llem.metrics.goodput import Judged, judge
from llem.metrics.requests import request_latencies
from llem.metrics.serving import allocate
from llem.metrics.work import Ceiling, serving_work, window_work

S = 1_000_000_000
MS = S // 1000


def served_study(make, *arguments, **shape):
    """The serving experiment of the builders."""
    return make.Served(make, *arguments, **shape)


def test_latencies_of_a_deterministic_stream(make):
    """First token after 50 ms, each further one after 10 ms, 64 of them: all latencies are exact."""
    found = served_study(make).metrics()
    for end in ("", "_p50", "_p90", "_p95", "_p99"):
        assert found[f"ttft{end}_s"].value == pytest.approx(0.05)
        assert found[f"tpot{end}_s"].value == pytest.approx(0.01)
        assert found[f"itl_chunk{end}_s"].value == pytest.approx(0.01)
        assert found[f"e2el{end}_s"].value == pytest.approx(0.68)
    assert (found["ttft_p50_s"].method, found["ttft_p50_s"].n) == ("batch_means", 3)
    assert (found["ttft_p50_s"].processes, found["ttft_p50_s"].covers) == (1, "one window")
    assert (found["ttft_p99_s"].method, found["ttft_p99_s"].low) == ("observed", None)


def test_latency_counts_from_the_schedule(make):
    """A request that is sent 30 ms late has waited these 30 ms; a closed load has no schedule to count from."""
    t0, t1 = make.window(0)
    late = make.served_rows(t0, t1, lag=30 * MS)
    moved = [attrs.evolve(row, scheduled_ns=None) for row in late]
    for rows, expected in ((late, 0.05), (moved, 0.02)):
        study = served_study(make)
        study.put(0, rows)
        assert study.metrics()["ttft_s"].value == pytest.approx(expected)


def test_chunks_of_several_tokens(make):
    """Nine tokens a chunk: gaps are nine times as long, time per further token is as it was."""
    found = served_study(make, chunk=9).metrics()
    assert found["tpot_p50_s"].value == pytest.approx(0.01)
    assert found["itl_chunk_p50_s"].value == pytest.approx(0.09)


def test_only_requests_that_ended_within_are_judged(make):
    """A slow request that ends after the window, and one that failed or was aborted in it, are in no latency."""
    t0, t1 = make.window(0)
    ordinary = make.served_rows(t0, t1)
    slow = make.served_row(9001, t0 + S, ttft=8 * S, tpot=MS * 100)
    failed = make.served_row(9002, t0 + S, ttft=5 * S, tpot=MS, finish_reason="error")
    aborted = make.served_row(9003, t0 + S, ttft=5 * S, tpot=MS, finish_reason="unfinished")
    study = served_study(make)
    study.put(0, [*ordinary, slow, failed, aborted])
    assert study.metrics()["ttft_p99_s"].value == pytest.approx(0.05)
    flow = flow_of(study.trials[0], study.requests[0])
    assert set(flow.completed.tolist()) < set(range(len(ordinary)))


def test_one_output_token_has_no_time_per_further_one(make):
    """A request of one token has a first one and nothing after it."""
    found = served_study(make, outputs=1).metrics()
    assert found["ttft_s"].value == pytest.approx(0.05)
    assert (found["tpot_p99_s"].reason, found["itl_chunk_s"].reason) == ("one_output_token", "one_output_token")


def test_from_three_windows_on_their_scatter_gives_the_interval(make):
    """The percentile is of all requests; its interval is Student's over windows, on logarithms."""
    study = served_study(make, 3)
    for index, ttft in enumerate((40, 50, 60)):
        study.put(index, make.served_rows(*make.window(index), ttft=ttft * MS, first=index * 1000))
    found = study.metrics()["ttft_p50_s"]
    logs = [math.log(value) for value in (0.04, 0.05, 0.06)]
    mean = sum(logs) / 3
    half = 4.302653 * math.sqrt(sum((one - mean) ** 2 for one in logs) / 2 / 3)
    assert found.value == pytest.approx(0.05)
    assert found.low == pytest.approx(0.05 * math.exp(-half), rel=1e-6)
    assert found.high == pytest.approx(0.05 * math.exp(half), rel=1e-6)
    assert (found.method, found.n, found.processes, found.covers) == ("student_t", 3, 1, "within one process")


def test_no_completion_in_a_window(make):
    """Requests longer than the window leave latencies and energies per request absent, with the reason."""
    study = served_study(make, ttft=S, tpot=S // 2)
    found = study.metrics()
    for name in ("ttft_s", "e2el_p99_s", "energy_per_request_p50_j", "energy_per_request_j", "requests_per_s"):
        assert found[name].reason == "no_completions", name
    assert found["energy_per_output_token_j"].value > 0


def test_rates_and_load(make):
    """Little's law on the deterministic stream: 10 per second of 0.68 s each are 6.8 in flight."""
    found = served_study(make).metrics()
    assert found["requests_per_s"].value == pytest.approx(10.0)
    assert found["in_flight_mean"].value == pytest.approx(6.8)
    assert (found["request_rate"].value, found["request_rate"].method) == (10.0, "exact")
    assert found["output_tokens_per_s"].value == pytest.approx(640.0, rel=0.01)
    assert found["capacity_share"].reason == "not_requested"


def test_capacity_from_the_probe(make):
    """The rate as a share of what the probe found."""
    probe = {"concurrency": 256, "seconds": 20.0, "requests_per_s": 40.0, "output_tokens_per_s": 2560.0}
    found = served_study(make, engine=make.engine_document(probe=probe)).metrics()
    assert found["capacity_requests_per_s"].value == 40.0
    assert found["capacity_share"].value == pytest.approx(0.25)


def test_a_closed_load_has_no_schedule(make):
    """Arrivals, lag and share of capacity do not apply, and say so."""
    found = served_study(make, kind="closed").metrics()
    for name in ("request_rate", "lag_p99_s", "capacity_requests_per_s", "capacity_share", "max_request_rate"):
        assert found[name].reason == "closed_load", name
    assert found["in_flight_mean"].value == pytest.approx(6.8)


def test_queue_time_of_the_engine(make):
    """What the engine says of its own queue; absent where it says nothing."""
    assert served_study(make).metrics()["queued_s"].reason == "not_supported"
    found = served_study(make, engine_metrics={"queued_s": 0.0}).metrics()
    assert (found["queued_s"].value, found["queued_p99_s"].value) == (0.0, 0.0)


def test_energy_per_token_and_request(make):
    """6 kJ over the tokens that came within the window, and over the requests that were completed in it."""
    study = served_study(make)
    found, trial = study.metrics(), study.trials[0]
    assert found["energy_per_output_token_j"].value == pytest.approx(found["energy_j"].value / trial.output_tokens)
    assert found["energy_per_request_j"].value == pytest.approx(found["energy_j"].value / 100)
    # requests wholly within emit 64 of the window's tokens each
    share = found["energy_j"].value * 64 / trial.output_tokens
    assert found["energy_per_request_p50_j"].value == pytest.approx(share)
    assert found["energy_per_request_p99_j"].method == "instrument"


@pytest.mark.parametrize(("before", "ended"), [(0.5, 15), (2.5, 20)])
def test_requests_that_end_together_are_not_counted_by_chance(make, before, ended):
    """Five clients in step, 3 s a request: 16.7 requests in 10 s, wherever between their ends the window lies."""
    t0, _ = make.window(0)
    rows = [
        make.served_row(5 * turn + client, t0 + round((3 * turn - before) * S), ttft=46_875_000, tpot=46_875_000)
        for turn in range(-1, 5)
        for client in range(5)
    ]
    study = served_study(make, kind="closed")
    study.put(0, [attrs.evolve(row, scheduled_ns=None) for row in rows])
    study.experiment["config"]["slo"] = attrs.asdict(Slo(ttft_s=1.0))
    found = study.metrics()
    assert study.trials[0].serving.completed == ended
    assert found["requests_per_s"].value == pytest.approx(5 / 3, rel=0.01)
    assert found["energy_per_request_j"].value == pytest.approx(found["energy_j"].value / (50 / 3), rel=0.01)
    assert found["goodput_requests_per_s"].value == pytest.approx(found["requests_per_s"].value)
    assert found["energy_per_good_request_j"].value == pytest.approx(found["energy_per_request_j"].value)


@given(
    total=st.floats(1e-6, 1e9),
    weights=st.lists(st.integers(0, 10**6), min_size=1, max_size=200).filter(any),
)
def test_allocation_sums_to_the_window(total, weights):
    """Shares add up to the last bit, nothing is given to who did nothing, and equal weights get nearly equal shares."""
    shares = allocate(total, weights)
    assert math.fsum(shares) == total
    for share, weight in zip(shares, weights, strict=True):
        assert share == pytest.approx(total * weight / sum(weights), rel=1e-9, abs=1e-12 * total)
        assert weight or share == 0


def test_allocation_needs_somebody():
    """Nothing can be allocated where nobody did anything."""
    with pytest.raises(ValueError, match="every weight is 0"):
        allocate(1.0, [0, 0])


def test_allocation_counts_tokens_within_the_window(make):
    """A request that began before the window bears what it emitted within it alone."""
    study = served_study(make)
    energy = study.trials[0].energies[0].energy_j
    shares = allocate(energy, flow_of(study.trials[0], study.requests[0]).emitted.tolist())
    first = study.requests[0][0]
    within = sum(at >= study.trials[0].t0_ns for at in first.token_times_ns)
    assert math.fsum(shares) == energy
    assert 0 < within < 64
    assert shares[0] == pytest.approx(energy * within / study.trials[0].output_tokens)


def test_goodput_joins_request_by_request(make):
    """Half the requests are late at first, the other half later on: each limit is kept by half, both by none."""
    t0, _ = make.window(0)
    rows = [
        make.served_row(i, t0 + i * S // 10, ttft=(900 if i % 2 else 50) * MS, tpot=(1 if i % 2 else 20) * MS)
        for i in range(50)
    ]
    study = served_study(make)
    study.put(0, rows)
    flow = flow_of(study.trials[0], study.requests[0])
    assert judge(flow, {"ttft_s": 0.5}) == Judged(50, 25)
    assert judge(flow, {"tpot_s": 0.01}) == Judged(50, 25)
    assert judge(flow, {"ttft_s": 0.5, "tpot_s": 0.01}) == Judged(50, 0)
    assert judge(flow, {"ttft_s": 0.5, "e2el_s": 2.0}) == Judged(50, 25)


def test_failed_requests_are_not_good(make):
    """A failed request counts among those that ended, and not among the good ones."""
    t0, _ = make.window(0)
    rows = [
        make.served_row(i, t0 + i * S // 10, ttft=MS, tpot=MS, finish_reason="error" if i % 4 == 0 else "length")
        for i in range(40)
    ]
    study = served_study(make)
    study.put(0, rows)
    study.experiment["config"]["slo"] = attrs.asdict(Slo(ttft_s=0.5))
    found = study.metrics()
    assert found["slo_attainment"].value == pytest.approx(0.75)
    assert found["goodput_requests_per_s"].value == pytest.approx(3.0)
    assert found["energy_per_good_request_j"].value == pytest.approx(found["energy_j"].value / 30)
    assert study.found("requests_failed").evidence == {"failed": 10, "trials": [0]}
    assert not study.result().valid


def test_requests_that_hang_fail_the_window_that_they_were_sent_in(make):
    """They fail when their time is over, long after a short window: it is not valid. In its sum they are in flight."""
    t0, t1 = make.window(0)
    rows = [make.served_row(i, t0 + i * S // 10, ttft=MS, tpot=MS) for i in range(40)]
    nothing = {"token_times_ns": (), "chunk_tokens": None, "output_tokens": 0}
    hung = attrs.evolve(rows[20], finish_reason="error", end_ns=t1 + 60 * S, **nothing)
    study = served_study(make)
    study.put(0, [*rows[:20], hung, *rows[21:]])
    assert study.found("requests_failed").evidence == {"failed": 1, "trials": [0]}
    assert not study.result().valid
    [trial] = study.trials
    assert (trial.serving.failed, trial.serving.in_flight_end) == (0, 1)


def test_goodput_of_a_preset(make):
    """Limits of a preset, with one that stands in its place; one token keeps the limit of further ones."""
    study = served_study(make, outputs=1)
    study.experiment["config"]["slo"] = attrs.asdict(Slo(preset="mlperf-llama-3.1-8b-interactive", ttft_s=0.04))
    assert study.metrics()["slo_attainment"].value == 0.0
    assert study.metrics()["energy_per_good_request_j"].reason == "none_good"
    assert study.found("slo_missed").evidence["limits"] == {"ttft_s": 0.04, "tpot_s": 0.03}
    study.experiment["config"]["slo"] = attrs.asdict(Slo(preset="mlperf-llama-3.1-8b-interactive"))
    assert study.metrics()["slo_attainment"].value == 1.0
    assert "slo_missed" not in study.codes()


def test_no_interval_leaves_what_is_possible(make):
    """One of three windows has every third request late, and ten times as many in flight: Student's t knows no 1."""
    study = served_study(make, 3)
    t0, _ = make.window(1, 10)
    late = [make.served_row(i, t0 + i * S // 20, ttft=(9 if i % 3 == 0 else 1) * S, tpot=MS) for i in range(100)]
    study.put(1, late)
    study.experiment["config"]["slo"] = attrs.asdict(Slo(ttft_s=5.0))
    found = study.metrics()
    assert found["slo_attainment"].value < 0.95
    assert found["slo_attainment"].high == 1.0
    assert found["slo_attainment"].half_width > 1.0 - found["slo_attainment"].value
    assert found["in_flight_mean"].low == 0.0


def test_goodput_is_not_asked_for(make):
    """Without an objective there is nothing to be good at."""
    assert served_study(make).metrics()["slo_attainment"].reason == "not_requested"


def test_work_of_whole_requests_is_that_of_the_same_batch(make):
    """Requests wholly within the window, all in step, are the work of an offline batch but for the prompts' weights."""
    t0, t1 = make.window(0)
    rows = [make.served_row(i, t0 + S, ttft=S, tpot=10 * MS, kind="closed") for i in range(4)]
    study = served_study(make, kind="closed")
    study.put(0, rows, kind="closed")
    served = serving_work(make.ARCHITECTURE, flow_of(study.trials[0], rows))
    [batch] = window_work(make.ARCHITECTURE, rows).batches
    assert served.flops == batch.prefill_flops + batch.decode_flops
    assert served.positions == batch.positions
    assert served.steps == pytest.approx(63)
    assert served.least_bytes == pytest.approx(batch.decode_bytes)
    ceiling = Ceiling(989.4e12, 4.8e12)
    assert served.least_step_s(ceiling) == pytest.approx(batch.decode_bytes / 63 / 4.8e12)
    assert t1 > rows[-1].end_ns


def test_work_is_cut_by_the_window(make):
    """Two windows side by side hold the work of one over both, prompts and tokens each counted once."""
    t0, t1 = make.window(0)
    rows = make.served_rows(t0, t1, chunk=5)
    study = served_study(make)
    middle = t0 + 3_141_592_653
    spans = ((t0, t1), (t0, middle), (middle, t1))
    whole, one, other = (
        serving_work(make.ARCHITECTURE, flow_of(attrs.evolve(study.trials[0], t0_ns=a, t1_ns=b), rows))
        for a, b in spans
    )
    assert one.flops + other.flops == whole.flops
    assert one.positions + other.positions == whole.positions
    assert one.steps + other.steps == pytest.approx(whole.steps)


def test_cached_prompt_tokens_are_no_work(make):
    """What the engine says it had cached of a prompt is not computed again."""
    t0, t1 = make.window(0)
    study = served_study(make)
    plain, cached = (
        serving_work(make.ARCHITECTURE, flow_of(study.trials[0], make.served_rows(t0, t1, engine_metrics=told)))
        for told in (None, {"cached_tokens": 64.0})
    )
    begun = sum(t0 <= row.token_times_ns[0] < t1 for row in study.requests[0])
    assert plain.positions - cached.positions == 64 * begun
    assert plain.decode_flops == cached.decode_flops


def test_utilisation_of_a_serving_window(make):
    """MFU and MBU are there, below 1; without an architecture they say why not."""
    found = served_study(make).metrics()
    assert 0 < found["mfu"].value < found["mbu"].value < 1
    blind = served_study(make, engine=make.engine_document(architecture=None)).metrics()
    assert blind["mbu"].reason == "architecture_unknown"


def test_rows_recount_to_the_facts(make):
    """What a trial says, counted one by one, is what its columns give; a changed count is seen."""
    study = served_study(make, lag=2 * MS, chunk=3)
    trial, rows = study.trials[0], study.requests[0]
    assert counted(trial, rows) == stated(trial)
    assert counted(trial, rows[1:]) != stated(trial)


def test_flow_counts_by_hand(make):
    """Two requests, one across the beginning: in flight, busy share and tokens within, by hand."""
    t0, t1 = make.window(0)
    rows = [
        make.served_row(0, t0 - S, ttft=S // 2, tpot=S, outputs=3),  # tokens at -0.5, 0.5 and 1.5 s
        make.served_row(1, t0 + 4 * S, ttft=S, tpot=S, outputs=2),  # tokens at 5 and 6 s
    ]
    study = served_study(make)
    study.put(0, rows)
    flow = flow_of(study.trials[0], rows)
    assert flow.emitted.tolist() == [2, 2]
    assert flow.in_flight(t0, t1) == pytest.approx(0.35)
    assert flow.busy_share == pytest.approx(0.35)
    assert flow.token_rates(10) == [1.0, 1.0, 0, 0, 0, 1.0, 1.0, 0, 0, 0]
    assert request_latencies(flow)["ttft_s"].tolist() == [0.5, 1.0]


def test_result_is_deterministic(make):
    """Computed twice, a serving result is the same to the bit."""
    study = served_study(make, 3, chunk=2)
    assert study.result() == study.result()
