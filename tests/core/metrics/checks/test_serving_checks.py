"""Findings of serving loads: each appears when its cause is there, and not otherwise."""

from __future__ import annotations

import heapq
import random

import attrs
import pytest

from llem.analysis.overview import comparable, latency_energy_curve, overview_of

S = 1_000_000_000
MS = S // 1000


def served_study(make, *arguments, **shape):
    """The serving experiment of the builders."""
    return make.Served(make, *arguments, **shape)


def queue(make, t0, t1, seed, *, rate, servers=8, mean_s=0.5, before=20, first=0):
    """M/M/c: Poisson arrivals, exponential times of service, first come first served; rows that touch the window."""
    noise = random.Random(seed)
    free = [-float(before)] * servers
    at, rows, index = -float(before), [], first
    while True:
        at += noise.expovariate(rate)
        if at >= (t1 - t0) / S:
            break
        begin = max(at, heapq.heappop(free))
        span = noise.expovariate(1 / mean_s)
        heapq.heappush(free, begin + span)
        step = max(int(span * S) // 32, 1)
        arrival = t0 + int(at * S)
        rows.append(make.served_row(index, arrival, ttft=int((begin - at) * S) + step, tpot=step, outputs=32))
        index += 1
    return [row for row in rows if row.end_ns >= t0]


def queued(make, count, *, seconds=60, **shape):
    """A study of so many windows of the queue."""
    study = served_study(make, count, seconds=seconds)
    for i in range(count):
        rows = queue(make, *make.window(i, seconds), seed=i, first=i * 100_000, **shape)
        study.put(i, rows, seconds=seconds, rate=shape["rate"])
    return study


def test_a_good_open_load_has_no_findings(make):
    """Five windows of a queue at half its capacity: valid, publishable, nothing to remark."""
    study = queued(make, 5, rate=8)
    study.experiment["config"]["target_half_width"] = 0.2
    result = study.result()
    assert result.findings == ()
    assert result.publishable


@pytest.mark.parametrize("count", [1, 5])
def test_over_saturation(make, count):
    """A fifth more arrivals than the queue can serve is told, with the rise; 85 % of them is not."""
    over = queued(make, count, rate=19.2).found("over_saturated")
    assert over.evidence["in_flight_last"] > 1.5 * over.evidence["in_flight_first"]
    assert over.evidence["arrived"] > 1.05 * over.evidence["ended"]
    assert "over_saturated" not in queued(make, count, rate=13.6).codes()


def test_a_rise_that_leaves_little_over_is_no_saturation(make):
    """Requests in flight rise steadily by half, yet 3 % of the arrivals are left over: a queue that wanders."""
    t0, _ = make.window(0)
    arrivals = [t0 + i * S // 20 for i in range(-60, 200)]
    rows = [
        make.served_row(i, at, ttft=S // 2 + max(at - t0, 0) // 30, tpot=MS // 100) for i, at in enumerate(arrivals)
    ]
    study = served_study(make)
    study.put(0, [row for row in rows if row.end_ns >= t0])
    facts = study.trials[0].serving
    assert facts.in_flight_end > 1.4 * facts.in_flight_start
    assert "over_saturated" not in study.codes()


def test_a_closed_load_is_never_over_saturated(make):
    """A closed load waits for the engine; nothing can pile up."""
    study = served_study(make, kind="closed")
    rows = [attrs.evolve(row, scheduled_ns=None) for row in queue(make, *make.window(0, 60), seed=1, rate=24)]
    study.put(0, rows, kind="closed", seconds=60)
    assert "over_saturated" not in study.codes()


def test_few_completions(make):
    """100 requests are too few for a p99, 200 are not."""
    assert served_study(make).found("few_completions").evidence == {"completed": 100}
    assert "few_completions" not in served_study(make, 2).codes()


@pytest.mark.parametrize(("held", "told"), [(0, False), (6, False), (7, True), (63, True)])
def test_chunks_that_come_together(make, held, told):
    """Of 63 gaps in each request, more than a tenth is none: the delivery was timed, not the engine."""
    study = served_study(make)
    t0, t1 = make.window(0, 10)
    rows = [row for row in make.served_rows(t0, t1) if t0 <= row.start_ns and row.end_ns < t1]
    study.put(0, [attrs.evolve(row, token_times_ns=held_back(row.token_times_ns, held)) for row in rows])
    assert ("chunks_together" in study.codes()) == told
    if told:
        found = study.found("chunks_together")
        assert found.evidence == {"together": held * len(rows), "gaps": 63 * len(rows)}
        assert found.severity == "warning"


def untold(make, share, hidden=0.0, outputs=100):
    """A window whose requests have this share of tokens without an event, or hidden ones, by the server's word."""
    study = served_study(make)
    told = {"tokens_without_event": share * outputs} | ({"tokens_hidden": hidden * outputs} if hidden else {})
    rows = [
        attrs.evolve(row, engine_metrics=told)
        for row in make.served_rows(*make.window(0, 10), chunk=4, outputs=outputs)
    ]
    study.put(0, rows)
    return study


@pytest.mark.parametrize(("share", "told"), [(0.0, False), (0.04, False), (0.06, True), (0.75, True)])
def test_tokens_that_no_event_told(make, share, told):
    """More than 5 % of the tokens: their times are an estimate, which stands."""
    study = untold(make, share)
    assert ("tokens_untold" in study.codes()) == told
    assert study.metrics()["tpot_s"].value > 0
    if told:
        found = study.found("tokens_untold")
        assert found.evidence["untold"] / found.evidence["tokens"] == pytest.approx(share)
        said = "assume that they came evenly" if share > 0.5 else "assume that they came with its last event"
        assert said in found.message  # of 100 tokens in 25 events: 6 are fewer than these, 75 are more


def test_tokens_that_the_server_hid_have_no_time(make):
    """Half of each answer is reasoning that nobody saw: no TPOT, whatever the events that were seen say."""
    study = untold(make, 0.5, hidden=0.5)
    found = study.metrics()
    assert (found["tpot_s"].value, found["tpot_s"].reason) == (None, "tokens_together")
    assert found["ttft_s"].value > 0
    assert "50.0% are of reasoning" in study.found("tokens_untold").message
    assert untold(make, 0.04, hidden=0.04).metrics()["tpot_s"].value > 0


def test_whole_answers_are_no_estimate(make):
    """All tokens in one event: there is no time of a token, so none is doubtful."""
    study = served_study(make)
    rows = [
        attrs.evolve(
            row, token_times_ns=(row.end_ns,), chunk_tokens=(64,), engine_metrics={"tokens_without_event": 63.0}
        )
        for row in make.served_rows(*make.window(0, 10))
    ]
    study.put(0, rows)
    assert "tokens_untold" not in study.codes()


def test_four_tokens_a_chunk_are_not_held_back(make):
    """Each chunk has its own time, and the last, empty one, which ends the request with it, is no gap."""
    study = served_study(make)
    t0, t1 = make.window(0, 10)
    rows = [
        attrs.evolve(row, token_times_ns=(*row.token_times_ns, row.end_ns), chunk_tokens=(*row.chunk_tokens, 0))
        for row in make.served_rows(t0, t1, chunk=4)
    ]
    study.put(0, rows)
    assert "chunks_together" not in study.codes()


@pytest.mark.parametrize(("times", "tokens"), [((), 0), ((5,), 3)], ids=["hangs", "long answers"])
def test_a_window_without_a_completion_is_not_valid(make, times, tokens):
    """A server that never answers; and one whose answers outlast the window, whose tokens are a speed at least."""
    study = served_study(make, kind="closed")
    t0, t1 = make.window(0)
    row = make.served_row(0, t0 - S, ttft=0, tpot=0, kind="closed", finish_reason="unfinished")
    at = tuple(t0 + one * S for one in times)
    rows = [
        attrs.evolve(
            row, index=i, end_ns=t1 + 20 * S, token_times_ns=at, chunk_tokens=(3,) * len(at), output_tokens=tokens
        )
        for i in range(4)
    ]
    study.put(0, rows, kind="closed", unfinished=4)
    result = study.result()
    found = study.found("no_completions")
    assert found.evidence == {
        "in_flight": 4,
        "without_token": 0 if tokens else 4,
        "output_tokens": 4 * tokens,
        "trials": [0],
    }
    assert not result.valid
    speed = result.metrics["output_tokens_per_s"]
    assert (speed.value, speed.reason) == ((1.2, None) if tokens else (None, "no_completions"))
    assert result.metrics["requests_per_s"].reason == "no_completions"


def held_back(times, count):
    """The last `count` chunks before the end wait for the last one."""
    return (*times[: len(times) - 1 - count], *[times[-1]] * (count + 1))


def test_unfinished_requests_are_remarked_upon(make):
    """Requests that were aborted after the window are counted, and the result stays valid."""
    study = served_study(make)
    study.put(0, study.requests[0], unfinished=3)
    found = study.found("requests_unfinished")
    assert (found.evidence, found.severity) == ({"unfinished": 3, "trials": [0]}, "info")
    assert study.result().valid


def test_parity_is_of_completed_requests(make):
    """A window cuts through requests: their tokens are compared where they were completed."""
    assert "token_count_mismatch" not in served_study(make).codes()
    study = served_study(make)
    study.put(0, study.requests[0], expected=100 * 64 + 1)
    assert study.found("token_count_mismatch").evidence == {"output_tokens": 6400, "expected": 6401, "trials": [0]}


def test_drift_of_the_token_rate_over_windows(make):
    """Every window slows down by a third: no steady state. One of five that does is the load's own scatter."""

    def slowing(index, slows):
        t0, _ = make.window(index)
        gaps = [S // 10 + (i * S // 1500 if slows else 0) for i in range(130)]
        starts = [t0 - 3 * S + sum(gaps[:i]) for i in range(130)]
        return [make.served_row(index * 1000 + i, at, ttft=50 * MS, tpot=10 * MS) for i, at in enumerate(starts)]

    def codes(slow):
        study = served_study(make, 5)
        for i in range(5):
            study.put(i, [row for row in slowing(i, i in slow) if row.end_ns >= make.window(i)[0]])
        return {found.evidence["what"] for found in study.result().findings if found.code == "no_steady_state"}

    assert codes({0, 1, 2, 3, 4}) == {"output tokens per second"}
    assert codes({2}) == set()


def test_long_requests_that_come_by_chance_are_no_drift(make):
    """Of a single window: the same few requests stream in several of its parts, which so rise and fall together."""
    told = 0
    for seed in range(40):
        noise, (t0, t1) = random.Random(seed), make.window(0)
        at, rows = t0 - 6 * S, []
        while (at := at + round(noise.expovariate(6) * S)) < t1:
            rows.append(make.served_row(len(rows), at, ttft=100 * MS, tpot=20 * MS, outputs=128))
        study = served_study(make)
        study.put(0, [row for row in rows if row.end_ns >= t0])
        told += "no_steady_state" in study.codes()
    assert told <= 2


def test_a_single_window_of_short_requests_that_slows_down_is_told(make):
    """By half from its beginning to its end, in a window of hundreds of requests."""
    t0, t1 = make.window(0)
    at, rows = t0 - S, []
    while at < t1:
        rows.append(make.served_row(len(rows), at, ttft=10 * MS, tpot=2 * MS, outputs=64))
        at += 20 * MS + max(0, at - t0) * 20 * MS // (t1 - t0)
    study = served_study(make)
    study.put(0, [row for row in rows if row.end_ns >= t0])
    assert study.found("no_steady_state").evidence["share"] == pytest.approx(-0.68, abs=0.05)


def health(make, percent):
    return {make.GPU: {"utilisation_percent": {"mean": percent}, "power_limit_w": 700.0}}


def test_an_idle_gpu_at_low_load_waits_for_nobody(make):
    """Requests are in flight a third of the time, and the GPU is busy as long: not bound by the host. Less is."""
    t0, t1 = make.window(0)
    rows = make.served_rows(t0, t1, rate=1, ttft=20 * MS, tpot=5 * MS)
    study = served_study(make)
    study.put(0, rows)
    for percent, told in ((34.0, False), (20.0, True)):
        study.trials[0] = attrs.evolve(study.trials[0], health=health(make, percent))
        assert ("host_bound" in study.codes()) == told
    assert study.found("host_bound").evidence["in_flight_share"] == pytest.approx(0.335, abs=0.01)


def test_slow_steps_at_low_power(make):
    """Gaps of 30 ms where the hardware needs 3.3, at a quarter of the limit; at full power they are its own work."""
    slow = served_study(make, tpot=30 * MS, watts=174.0).found("host_bound").evidence
    assert slow["step_s"] == pytest.approx(0.03)
    assert slow["step_ratio"] == pytest.approx(9, rel=0.1)
    assert "host_bound" not in served_study(make, tpot=30 * MS, watts=600.0).codes()
    assert "host_bound" not in served_study(make, tpot=8 * MS, watts=174.0).codes()


def curve(make):
    """Results of three rates, of one of them with another dtype, and of an offline load."""
    found = []
    for number, (rate, dtype) in enumerate([(20, "bfloat16"), (5, "bfloat16"), (10, "bfloat16"), (10, "float16")]):
        study = served_study(make)
        study.put(0, make.served_rows(*make.window(0), rate=rate), rate=float(rate))
        load = {"kind": "open", "request_rate": float(rate), "capacity_share": None, "burstiness": 1.0}
        study.experiment = make.experiment_document(f"exp-{number}", load=load, dtype=dtype, slo=None)
        found.append(study.result())
    offline = attrs.evolve(found[0], id="offline", config=make.experiment_document()["config"])
    return [overview_of(result) for result in (*found, offline)]


def test_curves_are_of_results_that_differ_in_rate_alone(make):
    """The other dtype and the offline load are in no curve; points come by rate, with their metrics."""
    [group] = comparable(curve(make))
    points = latency_energy_curve(group)
    assert [point.metrics["request_rate"].value for point in points] == [5.0, 10.0, 20.0]
    energies = [point.metrics["energy_per_output_token_j"].value for point in points]
    assert energies == sorted(energies, reverse=True)
    assert [point.id for point in points] == ["exp-1", "exp-2", "exp-0"]


def test_replays_at_several_speeds_make_a_curve(make):
    """By the arrivals that came of it; an open load of the same rate is in another one."""
    replays = []
    for number, speed in enumerate((2, 1)):
        study = served_study(make)
        study.put(0, make.served_rows(*make.window(0), rate=10 * speed), kind="replay", rate=10.0 * speed)
        load = {"kind": "replay", "speed": speed}
        study.experiment = make.experiment_document(f"replay-{number}", load=load, dtype="bfloat16", slo=None)
        replays.append(overview_of(study.result()))
    groups = comparable([*curve(make), *replays])

    assert [[point.id for point in latency_energy_curve(group)] for group in groups] == [
        ["exp-1", "exp-2", "exp-0"],
        ["replay-1", "replay-0"],
    ]
    assert [point.metrics["request_rate"].value for point in latency_energy_curve(groups[1])] == [10.0, 20.0]


def test_curve_leaves_out_what_has_no_rate(make):
    """A closed load, or an experiment without a trial, has no place on the axis of rates."""
    closed = overview_of(served_study(make, kind="closed").result())
    assert latency_energy_curve([closed]) == ()
