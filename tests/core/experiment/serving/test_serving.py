"""Serving loads with an engine whose tokens take a known time: the window, what is counted in it, and the probe."""

from __future__ import annotations

import gc
import statistics
import threading
import time
from itertools import pairwise
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llem.backends.base import Chunk, Request
from llem.backends.check import check_backend
from llem.config.load import Layer, resolve
from llem.config.models import OfflineLoad
from llem.errors import ConfigError, ExperimentFailed, LlemError
from llem.experiment.instruments import Instruments
from llem.experiment.procedure import BEFORE, BEGIN, check, let_go
from llem.experiment.serving.local import LocalTraffic
from llem.experiment.serving.pacing import EARLY_S, LATE_S, STRIDE
from llem.experiment.serving.stationary import RequestTimes
from llem.experiment.serving.stock import Stock
from llem.experiment.serving.traffic import Flight
from llem.experiment.serving.window import arrived_tokens, check_sum, counts, serving_facts, touching
from llem.experiment.serving.work import Serving
from llem.experiment.session import Session
from llem.experiment.trial import LEAD_S
from llem.experiment.worker import work
from llem.models.resolve import resolve_model
from llem.plugins.registry import registry
from llem.protocol.events import Calibrated, Event, Phase
from llem.workloads.arrivals import arrivals, trial_seed

pytestmark = [pytest.mark.process, pytest.mark.paced]

CLOSED = {"kind": "closed", "concurrency": 4}
OPEN = {"kind": "open", "request_rate": 40.0, "seed": 3}


@pytest.fixture
def serving(session):
    """A session with a serving load; `serving.events` holds what each session told."""
    events: list[list[Event]] = []

    def _make(**settings) -> Session:
        events.append([])
        serves = {"load": CLOSED, "meters": ["steady"], "lab": {"token_seconds": 0.005}}
        return session(events[-1].append, **{**serves, **settings})

    _make.events = events
    return _make


def through(session: Session, last: str) -> Session:
    """Take every step up to this one."""
    for step in (check, *BEFORE, *BEGIN):
        step(session)
        if step.__name__ == last:
            break
    return session


def test_a_closed_trial(serving) -> None:
    """The window is steady, what is counted is what lies within it, and each row is whole."""
    one = through(serving(window_s=0.4), "calibrate")
    trial, trace, rows = one.live_work.trial(0)
    facts = trial.serving

    assert (facts.kind, facts.concurrency, facts.request_rate, facts.seed) == ("closed", 4, None, 0)
    assert trial.duration_s >= 0.4
    # an edge may lie between the end of an answer and the client's next request
    assert {facts.in_flight_start, facts.in_flight_end} <= {3.0, 4.0}
    assert facts.in_flight_mean == pytest.approx(4.0, abs=0.2)
    assert (facts.failed, facts.unfinished) == (0, 0)
    assert facts.sent_so_far > facts.completed + 4  # with the warm-up, and around the window
    assert (facts.lag_p50_s, facts.lag_p99_s, facts.lag_max_s) == (None, None, None)
    assert (trial.batches, trial.batch_s, trial.expected_output_tokens) == (0, (), trial.output_tokens)
    within = [row for row in rows if trial.t0_ns <= row.end_ns < trial.t1_ns]
    assert trial.requests == facts.completed == len(within) > 4
    assert facts.completed_output_tokens == facts.completed_expected_tokens == 8 * len(within)
    times = [at for row in rows for at in row.token_times_ns]
    assert trial.output_tokens == sum(trial.t0_ns <= at < trial.t1_ns for at in times)
    assert trial.input_tokens == 8 * sum(trial.t0_ns <= row.token_times_ns[0] < trial.t1_ns for row in rows)
    assert all(row.start_ns < trial.t1_ns and row.end_ns >= trial.t0_ns for row in rows)
    assert {row.finish_reason for row in rows} == {"length"}
    assert all(len(row.token_times_ns) == row.output_tokens == 8 and row.chunk_tokens is None for row in rows)
    assert all(row.engine_metrics == {"queued_s": 0.5} for row in rows)
    assert trace[0].t_ns < trial.t0_ns - LEAD_S * 1e9 / 2
    assert trace[-1].t_ns > trial.t1_ns


def test_a_ramp_does_not_hide_how_much_a_window_takes(serving) -> None:
    """Requests are made ready for all clients, though few had started during most of what was seen of the load."""
    load = {"kind": "closed", "concurrency": 16, "ramp_s": 1.5}
    one = through(serving(load=load, window_s=3.0, lab={"token_seconds": 0.002}, warmup={"seconds": 0.2}), "calibrate")
    trial, _, _ = one.live_work.trial(0)

    assert trial.serving.in_flight_mean == pytest.approx(16, abs=1.0)
    assert trial.serving.failed == trial.serving.unfinished == 0


def test_energy_is_of_the_window(serving) -> None:
    """Joules are of [t0, t1] alone: the true power times the window, whatever came before and after."""
    one = through(serving(window_s=0.5), "calibrate")
    trial, _, _ = one.live_work.trial(0)

    assert trial.energies[0].energy_j == pytest.approx(40.0 * trial.duration_s, rel=0.15)


def test_an_open_trial_follows_its_schedule(serving) -> None:
    """Scheduled times are those of the trial's seed, none is left out; the lag is of those that end in the window."""
    one = through(serving(load=OPEN, window_s=0.6), "calibrate")
    trial, _, rows = one.live_work.trial(2)
    facts = trial.serving
    rows = sorted(rows, key=lambda row: row.index)
    gaps = [b.scheduled_ns - a.scheduled_ns for a, b in pairwise(rows)]
    first = rows[0].index - 3 * STRIDE
    schedule = arrivals(40.0, 1.0, trial_seed(3, 2))
    offsets = [next(schedule) for _ in range(first + len(rows))][first:]

    assert facts.seed == trial_seed(3, 2)
    assert (facts.kind, facts.concurrency, facts.request_rate) == ("open", None, 40.0)
    assert [row.index for row in rows] == list(range(3 * STRIDE + first, 3 * STRIDE + first + len(rows)))
    assert gaps == pytest.approx([(b - a) * 1e9 for a, b in pairwise(offsets)], abs=2)
    lags = [(r.start_ns - r.scheduled_ns) / 1e9 for r in rows if trial.t0_ns <= r.end_ns < trial.t1_ns]
    assert facts.lag_max_s == max(lags)
    assert facts.lag_p50_s == statistics.median_low(lags)
    assert min(lags) >= 0
    assert facts.sent == sum(trial.t0_ns <= row.start_ns < trial.t1_ns for row in rows)


def trace(folder: Path, at: list[float]) -> dict:
    """Settings that replay a trace of requests of 8 tokens at these times; the prompt of row i has i + 1 tokens."""
    rows = [f"{time},{row + 1},8" for row, time in enumerate(at)]
    (folder / "trace.csv").write_text("\n".join(["timestamp_s,input_tokens,output_tokens", *rows, ""]))
    workload = {"kind": "trace", "path": str(folder / "trace.csv")}
    return {"workload": workload, "load": {"kind": "replay"}, "window_s": 0.6}


@pytest.mark.parametrize("speed", [1.0, 2.0])
def test_a_replayed_trial_follows_the_trace(serving, tmp_path, speed) -> None:
    """Its part of the trace at the trace's times over `speed`, each request with the length of its row."""
    at = [0.0, 0.03, 0.05, 0.4, 0.41, 0.7, 0.8, 1.1, 1.15, 1.3, 1.5, 1.8, 2.0, 2.1, 2.6, 3.0]
    settings = trace(tmp_path, at)
    one = through(serving(**settings | {"load": {"kind": "replay", "speed": speed}}), "calibrate")
    trial, _, rows = one.live_work.trial(1)
    facts = trial.serving
    rows = sorted(rows, key=lambda row: row.index)
    numbers = [row.index % 16 for row in rows]
    wanted = [(at[b] - at[a]) / speed * 1e9 for a, b in pairwise(numbers)]
    due = [row for row, time in enumerate(at) if 0.6 * speed <= time < 1.2 * speed]

    assert (facts.kind, facts.concurrency, facts.seed) == ("replay", None, 0)
    assert facts.request_rate == pytest.approx(len(due) / 0.6)
    assert [row.input_tokens for row in rows] == [number + 1 for number in numbers]
    assert [row.index for row in rows] == list(range(rows[0].index, rows[0].index + len(rows)))
    assert [b.scheduled_ns - a.scheduled_ns for a, b in pairwise(rows)] == pytest.approx(wanted, abs=100)
    lags = [(r.start_ns - r.scheduled_ns) / 1e9 for r in rows if trial.t0_ns <= r.end_ns < trial.t1_ns]
    assert facts.lag_max_s == max(lags)
    assert min(lags) >= 0
    # the window opens right before its part of the trace begins; where the machine lets it, as the finding says
    begins_ns = rows[0].scheduled_ns + (0.6 * speed - at[numbers[0]]) / speed * 1e9
    late_s = (trial.t0_ns - begins_ns) / 1e9
    assert late_s >= -EARLY_S - 0.001
    assert [found.code for found in trial.findings] == (["window_off_plan"] if late_s > LATE_S - EARLY_S else [])


def test_a_replay_of_a_trace_that_is_too_short(serving, tmp_path) -> None:
    """It begins again with other requests, and every trial from there on says so."""
    one = through(serving(**trace(tmp_path, [0.0, 0.1, 0.2, 0.5, 0.7])), "calibrate")
    (first, _, begun), (second, _, again) = map(one.live_work.trial, range(2))

    assert [found.code for found in (*first.findings, *second.findings)] == ["trace_repeated"]
    assert not {row.index for row in begun} & {row.index for row in again}
    assert first.requests > 0 < second.requests


def test_trials_differ_in_their_seed_and_not_in_their_configuration(serving) -> None:
    """Trial n has the same schedule and the same requests in every configuration, and another one than trial m."""
    found = []
    for token_seconds in (0.001, 0.004):
        one = through(serving(load=OPEN, lab={"token_seconds": token_seconds}), "calibrate")
        found.append([(t.serving.seed, r[0].index // STRIDE) for t, _, r in map(one.live_work.trial, range(2))])

    assert found[0] == found[1]
    assert len({seed for seed, _ in found[0]}) == 2
    assert [index for _, index in found[0]] == [1, 2]


def test_chunks_of_several_tokens_are_kept_as_they_came(serving) -> None:
    """One time for each chunk with the number of its tokens; an empty last chunk only ends the request."""
    one = through(serving(lab={"token_seconds": 0.002, "chunk": 3}), "calibrate")
    trial, _, rows = one.live_work.trial(0)

    assert {row.chunk_tokens for row in rows} == {(3, 3, 2)}
    assert {len(row.token_times_ns) for row in rows} == {3}
    assert {row.output_tokens for row in rows} == {8}
    assert trial.output_tokens == sum(
        tokens
        for row in rows
        for at, tokens in zip(row.token_times_ns, row.chunk_tokens, strict=True)
        if trial.t0_ns <= at < trial.t1_ns
    )


def test_failed_requests_are_counted_and_stored(serving) -> None:
    """Every third fails at its second token: rows with what had come, a count, and the rest goes on."""
    one = through(serving(lab={"token_seconds": 0.002, "fail_in": "stream", "every": 3}), "calibrate")
    trial, _, rows = one.live_work.trial(0)
    failed = [row for row in rows if row.finish_reason == "error" and trial.t0_ns <= row.end_ns < trial.t1_ns]

    assert trial.serving.failed == len(failed) > 0
    assert {(row.output_tokens, len(row.token_times_ns)) for row in failed} == {(1, 1)}
    assert trial.serving.completed == trial.requests > len(failed)
    assert trial.serving.completed_output_tokens == 8 * trial.requests


def test_a_dead_engine_ends_the_experiment(serving) -> None:
    """When it refuses everything from some request on, the cause is the error, and the meters are ready again."""
    one = through(serving(), "calibrate")
    one.live_engine.lab = attrs.evolve(one.live_engine.lab, fail_in="stream", after=one.live_engine.streamed)
    with pytest.raises(ExperimentFailed, match="in a row, the last with RuntimeError: device lost"):
        one.live_work.trial(0)
    one.live_engine.lab = attrs.evolve(one.live_engine.lab, fail_in=None)
    trial, _, _ = one.live_work.trial(1)

    assert trial.energies[0].energy_j is not None


@pytest.mark.parametrize("part", ["touching", "serving_facts", "check_sum", "finish"])
def test_a_trace_ends_though_nothing_is_made_of_it(serving, monkeypatch, part) -> None:
    """Whatever fails between the load and the trial: the meters are read no longer, and are ready again."""
    ends: list[tuple[int, int]] = []
    end = Instruments.end
    monkeypatch.setattr(Instruments, "end", lambda self, *window: (ends.append(window), end(self, *window))[1])
    one = through(serving(), "calibrate")

    def broken(*_, **__):
        raise LlemError("cannot be counted", code="bug")

    with monkeypatch.context() as patch:
        patch.setattr(f"llem.experiment.serving.work.{part}", broken)
        with pytest.raises(LlemError, match="cannot be counted"):
            one.live_work.trial(0)

    assert len(ends) == 1
    trial, _, _ = one.live_work.trial(1)
    assert trial.energies[0].energy_j is not None


def test_no_memory_is_no_memory(serving) -> None:
    """An engine that says it has run out is believed at its first word."""
    one = serving(lab={"fail_in": "stream", "error": "memory", "token_seconds": 0.001})
    with pytest.raises(MemoryError):
        through(one, "warm_up")


def test_a_warm_up_in_which_nothing_succeeds_fails(serving) -> None:
    """Before a load of hundreds begins, a single request must have worked."""
    one = serving(lab={"fail_in": "stream", "token_seconds": 0.001})
    with pytest.raises(ExperimentFailed, match="no request of the warm-up succeeded"):
        through(one, "warm_up")


def test_the_warm_up_is_single_requests_and_then_the_load(serving) -> None:
    """`warmup.batches` requests one by one, then as many clients as asked for; it learns how long a request takes."""
    single = through(serving(warmup={"batches": 3, "seconds": 0.0}), "warm_up")
    loaded = through(serving(warmup={"batches": 1, "seconds": 0.3}), "warm_up")

    assert single.live_engine.streamed == 3
    assert loaded.live_engine.streamed >= 1 + 4
    assert single.live_work.e2el_s >= 0.04
    assert loaded.live_engine.in_flight == 0


def test_the_capacity_probe(serving) -> None:
    """A closed load's rate, found in the engine's document; the schedule is the asked share of it."""
    load = {"kind": "open", "capacity_share": 0.5, "probe_concurrency": 8, "probe_seconds": 0.6}
    one = through(serving(load=load), "calibrate")
    work = one.live_work
    assert isinstance(work, Serving)
    [engine] = one.store.engines(one.id)
    told = [event.phase for event in serving.events[0] if isinstance(event, Phase)]
    trial, _, _ = work.trial(0)

    assert engine["probe"] == attrs.asdict(work.probe)
    assert engine["environment"]
    assert engine["probe"]["concurrency"] == 8
    # 8 clients, 8 tokens of 5 ms and what the loop adds: a rate that cannot be more than 200 per second
    assert 50 < engine["probe"]["requests_per_s"] <= 201
    assert engine["probe"]["output_tokens_per_s"] == pytest.approx(8 * engine["probe"]["requests_per_s"])
    assert trial.serving.request_rate == work.request_rate == 0.5 * engine["probe"]["requests_per_s"]
    assert told == ["load", "warm-up", "capacity probe", "warm-up"]


def test_long_requests_count_in_a_short_probe(serving, tmp_path) -> None:
    """Where requests of 2 and of 60 tokens take turns, one is worth 31, whichever of them end while it is probed."""
    (tmp_path / "trace.csv").write_text("input_tokens,output_tokens\n8,2\n8,60\n")
    workload = {"kind": "trace", "path": str(tmp_path / "trace.csv")}
    load = {"kind": "open", "capacity_share": 0.5, "probe_concurrency": 8, "probe_seconds": 0.2}
    probe = through(serving(workload=workload, load=load), "warm_up").live_work.probe

    assert probe.output_tokens_per_s / probe.requests_per_s == pytest.approx(31, abs=2)


def test_a_probe_opens_when_its_last_client_has_started(serving, tmp_path, monkeypatch) -> None:
    """Where one long request is followed by short ones, those that begin again are no clients that have started."""
    (tmp_path / "trace.csv").write_text("input_tokens,output_tokens\n8,60\n" + "8,1\n" * 4000)
    told: dict[str, float] = {}
    closed, settle = LocalTraffic.closed, LocalTraffic.settle

    def begin(traffic: LocalTraffic, concurrency: int, ramp_s: float) -> None:
        told.update(begun=time.monotonic(), last_start_s=ramp_s * (concurrency - 1) / concurrency)
        closed(traffic, concurrency, ramp_s)

    async def settled(traffic: LocalTraffic, first_tokens: int, least_s: float) -> None:
        await settle(traffic, first_tokens, least_s)
        told["waited_s"] = time.monotonic() - told["begun"]

    monkeypatch.setattr(LocalTraffic, "closed", begin)
    monkeypatch.setattr(LocalTraffic, "settle", settled)
    load = {"kind": "open", "capacity_share": 0.5, "probe_concurrency": 8, "probe_seconds": 0.2}
    workload = {"kind": "trace", "path": str(tmp_path / "trace.csv")}
    lab, warmup = {"token_seconds": 0.02}, {"batches": 1, "seconds": 0.0}
    through(serving(workload=workload, load=load, lab=lab, warmup=warmup), "warm_up")

    assert told["last_start_s"] >= 1.0
    assert told["waited_s"] >= told["last_start_s"]


def test_windows_of_a_search_are_sealed(serving, monkeypatch) -> None:
    """As those of trials: no request is made within, and enough are there."""
    seals: list[tuple[bool, int]] = []
    made: list[int] = []
    seal, more = LocalTraffic.seal, Stock._more
    monkeypatch.setattr(
        LocalTraffic, "seal", lambda self, on: (seals.append((on, time.monotonic_ns())), seal(self, on))[1]
    )
    monkeypatch.setattr(Stock, "_more", lambda self, *size: (made.append(time.monotonic_ns()), more(self, *size))[1])
    load = {"kind": "open", "request_rate": "max", "search": {"min_rate": 100, "max_rate": 200, "window_s": 0.5}}
    searched = through(serving(load=load, slo={"ttft_s": 60.0}), "warm_up").live_work.searched
    edges = [at for now, (before, at) in zip([False, *(on for on, _ in seals)], seals, strict=False) if before != now]

    assert [one.rate for one in searched.windows] == [100, 200]
    assert len(edges) == 4
    for begin, end, window in zip(edges[::2], edges[1::2], searched.windows, strict=True):
        assert 0.5 <= window.seconds <= (end - begin) / 1e9
        assert not [at for at in made if begin < at < end]


def test_shares_of_one_engine_are_of_one_capacity(serving) -> None:
    """A second experiment with the same requests takes the probe of the first; with other requests it probes anew."""
    probing = {"kind": "open", "probe_concurrency": 8, "probe_seconds": 0.4}
    first = through(serving(load={**probing, "capacity_share": 0.5}), "warm_up")
    half = attrs.evolve(first.experiment, load=attrs.evolve(first.experiment.load, capacity_share=0.25))
    other = attrs.evolve(half, workload=attrs.evolve(half.workload, seed=99))

    found = []
    for experiment in (half, other):
        session = attrs.evolve(first, experiment=experiment)
        session.work = Serving(session)
        session.work.warm_up()
        found.append(session.work.probe)

    assert found[0] is first.live_work.probe
    assert len(first.process.probes) == 2
    assert found[1] is not found[0]


def test_an_over_saturated_load_leaves_requests_behind(serving, monkeypatch) -> None:
    """More arrivals than ends: requests in flight grow within the window, and those left over are aborted and told."""
    monkeypatch.setattr("llem.experiment.serving.stationary.DRAIN_LEAST_S", 0.1)
    one = through(serving(load={"kind": "open", "request_rate": 60.0}), "calibrate")
    one.live_engine.options = attrs.evolve(one.live_engine.options, token_seconds=1.0)  # it slows down from here on
    one.live_work.times = RequestTimes(0.001, 0.001, (1,), 0.001)
    trial, _, rows = one.live_work.trial(0)

    assert trial.serving.in_flight_end > trial.serving.in_flight_start
    assert trial.serving.unfinished == sum(row.finish_reason == "unfinished" for row in rows) > 0
    assert one.live_engine.in_flight == 0


def test_the_wish_to_stop_ends_a_trial_within_a_second(serving) -> None:
    """A window of a minute is not waited for; nothing stays in flight, nothing is stored."""
    one = through(serving(window_s=60.0), "calibrate")
    threading.Timer(0.8, one.process.stop.set).start()
    since = time.monotonic()
    with pytest.raises(ExperimentFailed) as caught:
        one.live_work.trial(0)

    assert caught.value.code == "interrupted"
    assert time.monotonic() - since < 10  # far from sixty, on a machine however busy
    assert one.live_engine.in_flight == 0
    assert gc.isenabled()


def test_no_garbage_is_collected_within_a_trial(serving, monkeypatch) -> None:
    """The collector is off while requests are under way, and on again afterwards."""
    import llem_lab

    seen = []
    stream = llem_lab.LabEngine.stream

    def watched(self, request, sampling):
        seen.append(gc.isenabled())
        return stream(self, request, sampling)

    one = through(serving(), "calibrate")
    monkeypatch.setattr(llem_lab.LabEngine, "stream", watched)
    one.live_work.trial(0)

    assert set(seen) == {False}
    assert gc.isenabled()


def test_the_procedure_with_a_serving_load(serving, monkeypatch) -> None:
    """All steps, from the check to the last trial; the loop is closed with the engine."""
    one = serving(warmup={"seconds": 0.2}, trials=2, max_trials=2)
    closed = []
    monkeypatch.setattr("llem.experiment.worker.let_go", lambda process: (closed.append(process), let_go(process)))
    assert work(one.order, registry(), serving.events[0].append, threading.Event()) == "done"
    [trials] = [one.store.trials(one.id)]
    rows = one.store.requests(one.id, 1)
    [calibrated] = [event for event in serving.events[0] if isinstance(event, Calibrated)]

    assert [trial.index for trial in trials] == [0, 1]
    assert trials[1].first_index == min(row.index for row in rows)
    assert trials[1].output_tokens > 0
    assert calibrated.trial_s > 0.2 + 2 * LEAD_S
    with pytest.raises(RuntimeError, match="Runner is closed"):
        closed[0].runner.get_loop()


def test_a_backend_that_does_not_stream_is_refused_before_it_loads(lab) -> None:
    """The error stands at `load.kind` and names the backends that do."""
    settings = {**lab, "backend": "mute", "load": CLOSED}
    experiment = resolve([Layer("test", settings)], registry()).experiment
    with pytest.raises(ConfigError) as caught:
        check_backend(experiment, resolve_model("shape:tiny"), registry())

    [problem] = caught.value.problems
    assert (problem.path, problem.message) == ("load.kind", "is 'closed', and the mute backend does not stream")
    assert "echo" in problem.hint
    assert "lab" in problem.hint
    assert "mute" not in problem.hint
    offline = attrs.evolve(experiment, load=OfflineLoad())
    assert check_backend(offline, resolve_model("shape:tiny"), registry()) == []


# what is counted, from flights that are made up


def flight(sent: int, times: list[int], end: int, outcome: str = "done", scheduled: int | None = None) -> Flight:
    chunks = [Chunk(2, at, (1, 2)) for at in times]
    made = Flight(Request(sent, (1, 2, 3), 2 * len(times)), scheduled, sent, chunks)
    made.end(outcome, end)
    return made


def facts_of(flights: list[Flight], t0: int, t1: int):
    rows = touching(flights, t0, t1)
    asked = {one.request.index: one.request.output_tokens for one in flights}
    facts = serving_facts(rows, t0, t1, asked, kind="open", concurrency=None, request_rate=1.0, seed=0)
    return rows, counts(rows, t0, t1), facts


def test_tokens_count_where_they_arrive() -> None:
    """The edges cut through requests: one that began before the window, one within it, and one that ends after."""
    flights = [
        flight(0, [90, 110], 110, scheduled=0),
        flight(120, [130, 140], 140, scheduled=118),
        flight(150, [199, 200], 200, scheduled=150),
        flight(10, [20], 20, scheduled=10),
        flight(200, [210], 210, scheduled=200),
    ]
    rows, counted, facts = facts_of(flights, 100, 200)

    assert [row.index for row in rows] == [0, 120, 150]
    assert counted == {
        "batches": 0,
        "batch_s": (),
        "requests": 2,
        "input_tokens": 6,
        "output_tokens": 2 * 4,
        "expected_output_tokens": 2 * 4,
    }
    assert (facts.sent, facts.completed, facts.failed, facts.unfinished) == (2, 2, 0, 0)
    assert facts.completed_output_tokens == facts.completed_expected_tokens == 8
    assert (facts.in_flight_start, facts.in_flight_end) == (1.0, 1.0)  # what ends at the edge ends after it
    assert facts.in_flight_mean == pytest.approx((10 + 20 + 50) / 100)
    assert (facts.lag_p50_s, facts.lag_max_s) == (0.0, 2e-9)


def test_the_lag_is_of_the_requests_whose_latencies_count() -> None:
    """Those that ended within the window, however early they were due; one that was sent after it has no part."""
    late = [flight(90, [120], 130, scheduled=20), flight(260, [270], 270, scheduled=150)]
    rows, counted, facts = facts_of(late, 100, 200)

    assert len(rows) == 2
    assert (counted["output_tokens"], facts.sent, facts.completed) == (2, 0, 1)
    assert facts.lag_max_s == facts.lag_p50_s == pytest.approx(70e-9)


@given(st.lists(st.tuples(*[st.integers(0, 900)] * 3, st.sampled_from(["done", "error"])), max_size=30), st.data())
def test_every_request_of_a_window_has_one_outcome(drawn, data) -> None:
    """In flight at the start and sent = completed, failed and in flight at the end, wherever the edges fall."""
    t0, length = data.draw(st.integers(0, 900)), data.draw(st.integers(1, 500))
    flights = [flight(a, [a + b], a + b + c, outcome) for a, b, c, outcome in drawn]
    _, _, facts = facts_of(flights, t0, t0 + length)

    check_sum(facts)
    with pytest.raises(LlemError, match="are accounted for"):
        check_sum(attrs.evolve(facts, sent=facts.sent + 1))


def test_failed_and_unfinished_requests_complete_nothing() -> None:
    """They are counted as what they are; their tokens in the window count, for they cost energy."""
    flights = [flight(100, [110], 120, "error"), flight(100, [110], 300, "unfinished")]
    _, counted, facts = facts_of(flights, 100, 200)

    assert (facts.completed, facts.failed, facts.unfinished) == (0, 1, 1)
    assert counted["requests"] == 0
    assert counted["output_tokens"] == 4


@given(
    st.lists(st.tuples(st.integers(0, 900), st.lists(st.integers(1, 400), max_size=5)), max_size=20),
    st.integers(0, 500),
    st.integers(1, 500),
    st.integers(1, 500),
)
def test_windows_that_follow_each_other_share_nothing(drawn, t0: int, first: int, second: int) -> None:
    """Counts of two adjacent windows add up to those of both together: each token and each end is in exactly one."""
    flights = []
    for sent, steps in drawn:
        times = [sent + sum(steps[: i + 1]) for i in range(len(steps))]
        flights.append(flight(sent, times, times[-1] if times else sent, "done" if times else "error"))
    edges = (t0, t0 + first, t0 + first + second)
    parts = [counts(touching(flights, a, b), a, b) for a, b in ((edges[0], edges[1]), (edges[1], edges[2]))]
    whole = counts(touching(flights, edges[0], edges[2]), edges[0], edges[2])

    for name in ("requests", "input_tokens", "output_tokens"):
        assert whole[name] == parts[0][name] + parts[1][name]
    assert whole["output_tokens"] == arrived_tokens(flights, edges[0], edges[2])
