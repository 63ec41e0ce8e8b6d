"""The steps of an experiment one by one, with an engine whose batches take a known time."""

from __future__ import annotations

import itertools
import os
import pkgutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from llem.backends.base import Engine
from llem.backends.check import check_backend
from llem.config.load import Layer, resolve
from llem.config.models import Baseline
from llem.errors import ConfigError, ExperimentFailed, LlemError, MachineError, StoreError
from llem.experiment import batches, procedure, worker
from llem.experiment.environment import Tenants
from llem.experiment.instruments import Instruments
from llem.experiment.procedure import BEFORE, BEGIN, baseline, calibrate, check, warm_up
from llem.experiment.session import Session
from llem.experiment.trial import LEAD_S, _conduct, digest
from llem.experiment.worker import work
from llem.findings import Finding, finding
from llem.meters.base import Domain
from llem.models.resolve import resolve_model
from llem.plugins.registry import registry
from llem.protocol.events import Calibrated, silent
from llem.protocol.order import Gap, WorkOrder


def through(session: Session, last: str) -> Session:
    """Take every step up to this one."""
    for step in (check, *BEFORE, *BEGIN):
        step(session)
        if step.__name__ == last:
            break
    return session


def test_the_steps_in_order() -> None:
    """The procedure as it can be read; the engine is loaded after everything that is cheap to find wrong."""
    assert [step.__name__ for step in BEFORE] == ["open_instruments", "load", "baseline_before"]
    assert [step.__name__ for step in BEGIN] == ["record", "warm_up", "calibrate"]


@pytest.mark.process
@pytest.mark.parametrize("kind", ["prompts", "file"])
def test_a_workload_of_text_gets_its_models_tokens(session, tmp_path: Path, kind: str) -> None:
    """What reads text is given the tokenizer of the session's model, read once for the process."""
    path = tmp_path / "mine.txt"
    path.write_text("Say hello\nSay goodbye\n")
    asked = {"kind": kind, "output_tokens": 8, **({"path": str(path)} if kind == "file" else {})}
    one = through(session(workload=asked), "record")
    first = one.workload.requests(0, 1)[0].token_ids

    assert bytes(first).decode() == one.workload.prompt_set.prompts[0].text
    assert one.process.tokenizer(one.model) is one.process.tokenizer(resolve_model("shape:tiny"))


@pytest.mark.process
def test_prompts_are_held_against_the_engines_context(session, tmp_path: Path, monkeypatch) -> None:
    """Before the first request; rows that are left out are in the engine's document, with the first of them."""
    monkeypatch.setattr(Engine, "context_length", lambda self: 20)
    path = tmp_path / "mine.txt"
    path.write_text("Say hello\nSay goodbye, and why it is that you go\n")
    asked = {"kind": "file", "path": str(path), "output_tokens": 8}
    with pytest.raises(ConfigError, match=r"mine\.txt:2: 38 tokens .* and 8 .* than the 20"):
        through(session(workload=asked), "record")
    one = through(session(workload={**asked, "too_long": "skip"}), "record")

    [told] = [found for found in one.store.engines(one.id)[0]["findings"] if found["code"] == "prompts_skipped"]
    assert told["evidence"] == {"skipped": 1, "of": 2, "rows": ["mine.txt:2"], "why": "too_long"}
    assert {request.text for request in one.workload.requests(0, 3)} == {"Say hello"}


@pytest.mark.process
def test_calibration_fills_the_window_and_leads_only_where_something_is_read(session) -> None:
    """The number of batches is the window over a batch, rounded up; leads last as long as the sensor's delay."""
    read, blind = session(meters=["steady"]), session(meters=["watch"])
    for one in (read, blind):
        through(one, "open_instruments")
        one.work.batch_s = 0.07
        calibrate(one)

    assert (read.work.batches, read.work.lead_batches) == (3, 8)
    assert (blind.work.batches, blind.work.lead_batches) == (3, 0)
    assert read.work.lead_batches * 0.07 >= LEAD_S


@pytest.mark.process
def test_a_batch_longer_than_the_window_is_one_batch(session) -> None:
    """At least one is measured, and one leads in and out."""
    one = through(session(meters=["steady"]), "open_instruments")
    one.work.batch_s = 30.0
    calibrate(one)

    assert (one.work.batches, one.work.lead_batches) == (1, 1)


@pytest.mark.process
def test_an_experiment_without_a_baseline_tells_of_its_engines(session) -> None:
    """The engine idles as the first experiment wants it; that a later one wants none takes nobody's away."""
    seen: list = []
    one = through(
        session(seen.append, meters=["steady"], baseline={"seconds": 0.2, "discard_seconds": 0.0}), "baseline_before"
    )
    wanted = one.experiment.baseline
    one.experiment = attrs.evolve(one.experiment, baseline=Baseline(seconds=0.0))
    for step in BEGIN:
        step(one)
    [told] = [event for event in seen if isinstance(event, Calibrated)]
    assert one.live_instruments.domains
    assert told.after_s == wanted.length_s("after") > 0


@pytest.mark.process
def test_a_batch_that_does_not_fit_is_refused_before_it_is_made(session, monkeypatch) -> None:
    """By what the first requests took; the engine never sees it."""
    monkeypatch.setattr(batches, "AT_ONCE", 64)
    monkeypatch.setattr(batches, "free_bytes", lambda: batches.RESERVE_BYTES)
    one = through(session(load={"batch_size": 10**8}), "record")
    rss = itertools.count(0, 2**20)
    process = SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=next(rss)))
    monkeypatch.setattr(batches, "psutil", SimpleNamespace(Process=lambda: process))
    with pytest.raises(ExperimentFailed, match="100000000 requests take") as caught:
        one.work.warm_up()
    assert caught.value.code == "oom"
    assert (one.cursor, one.live_engine.batches) == (64, 0)


@pytest.mark.parametrize(
    ("free", "fits"), [(2**30 + 2**22, True), (2**30, True), (2**23, True), (2**23 - 2, False), (0, False)]
)
def test_a_load_that_fits_is_no_fault_of_a_small_machine(monkeypatch, free: int, fits: bool) -> None:
    """4 MiB more are wanted, and half of what is free is to be had where less than 2 GiB are."""
    monkeypatch.setattr(batches, "free_bytes", lambda: free)
    if fits:
        batches._check_memory(16384, 32768, 2**22)
    else:
        with pytest.raises(ExperimentFailed, match=r"32768 requests take 0\.00839 GB of memory: 0\.00419 more, and "):
            batches._check_memory(16384, 32768, 2**22)


@pytest.mark.process
def test_a_trial_whose_rows_could_not_be_read_is_refused_before_it_is_measured(session, monkeypatch) -> None:
    """By its requests, and the times of their tokens where they are asked for."""
    one = through(session(token_times=True, warmup={"batches": 1, "seconds": 0.0}), "record")
    one.work.warm_up()
    [asked] = one.work._next_batches(1)
    times = sum(request.output_tokens for request in asked)
    ran, size = one.live_engine.batches, len(asked) * batches.ROW_BYTES + times * batches.TIME_BYTES
    monkeypatch.setattr(batches, "LARGEST", size)
    batches._check_rows(asked, True)
    monkeypatch.setattr(batches, "LARGEST", size - 1)
    batches._check_rows(asked, False)
    with pytest.raises(ExperimentFailed, match=f"{times:,} times of tokens take") as caught:
        one.work.trial(0)
    assert (caught.value.code, one.live_engine.batches) == ("invalid", ran)


@pytest.mark.process
def test_warm_up_is_a_number_of_batches_and_then_a_time(session) -> None:
    """Both are fixed by the configuration; calibration gets the median time of a batch."""
    few = through(session(warmup={"batches": 3, "seconds": 0.0}), "record")
    warm_up(few)
    long = through(session(warmup={"batches": 0, "seconds": 0.15}), "record")
    begun = time.monotonic()
    warm_up(long)

    assert few.cursor == few.live_engine.batches == 3
    assert time.monotonic() - begun >= 0.15
    assert long.live_engine.batches >= 2  # one for calibration, and at least one for warmth
    assert few.work.batch_s >= 0.008


@pytest.mark.process
def test_a_trial_counts_the_window_alone(session) -> None:
    """Lead batches are the same work and appear in no number; requests go on where the warm-up ended."""
    one = through(session(meters=["steady"], load={"batch_size": 2}), "calibrate")
    before, made, work = one.cursor, one.live_engine.batches, one.work
    trial, rows, requests = work.trial(0)

    assert one.live_engine.batches - made == work.batches + 2 * work.lead_batches
    assert trial.batches == len(trial.batch_s) == work.batches
    assert trial.requests == len(requests) == 2 * work.batches
    assert trial.first_index == requests[0].index == before + 2 * work.lead_batches
    assert [row.index for row in requests] == list(range(trial.first_index, trial.first_index + trial.requests))
    assert all(trial.t0_ns <= row.start_ns < row.end_ns <= trial.t1_ns for row in requests)
    assert rows[0].t_ns < trial.t0_ns < trial.t1_ns < rows[-1].t_ns
    assert one.cursor == before + 2 * (work.batches + 2 * work.lead_batches)


def test_the_digest_is_of_the_output(session) -> None:
    """Two engines that make the same of the same requests agree; other requests give another digest."""
    digests = []
    for _ in range(2):
        one = through(session(meters=["watch"]), "record")
        one.work.batches = 3
        digests.append([one.work.trial(index)[0].output_digest for index in range(2)])

    assert digests[0] == digests[1]
    assert digests[0][0] != digests[0][1]


def test_there_is_no_digest_of_what_is_not_known() -> None:
    """An engine that tells numbers of tokens only is not said to have made the same as another such engine."""
    assert digest([(1, 2), None]) == ""


@pytest.mark.process
def test_a_trial_that_fails_leaves_the_meters_ready(session) -> None:
    """The reader stops reading, so that the next window can begin."""
    one = through(session(meters=["steady"]), "calibrate")
    one.live_engine.lab = attrs.evolve(one.live_engine.lab, fail_in="generate", after=0)
    with pytest.raises(RuntimeError, match="device lost"):
        one.work.trial(0)
    one.live_engine.lab = attrs.evolve(one.live_engine.lab, fail_in=None)
    trial, _, _ = one.work.trial(1)

    assert trial.energies[0].energy_j is not None


@pytest.mark.process
def test_the_engines_error_is_told_though_the_meters_are_gone_too(session) -> None:
    """Where both fail, what ended the trial is the engine's failure."""
    one = through(session(meters=["steady"]), "calibrate")
    one.live_engine.lab = attrs.evolve(one.live_engine.lab, fail_in="generate", error="memory")
    os.kill(one.live_instruments._sampler.pid, signal.SIGSTOP)  # so that `begin` is taken, and nothing answered
    threading.Timer(0.3, os.kill, (one.live_instruments._sampler.pid, signal.SIGKILL)).start()
    with pytest.raises(MemoryError):
        one.work.trial(0)


def idle(session: Session, phase: str):
    """The idle measurement that the session's experiment asks for."""
    wanted = session.experiment.baseline
    return baseline(session.process, wanted, phase)


def test_baseline_discards_its_beginning(session) -> None:
    """What is kept is what lies after the part in which power settles; afterwards half of it."""
    one = through(session(meters=["watch"], baseline={"seconds": 1.2, "discard_seconds": 0.2}), "load")
    begun = time.monotonic_ns()
    (before, _), (after, _) = idle(one, "before"), idle(one, "after")

    assert before.t0_ns - begun >= 0.2e9
    assert before.duration_s == pytest.approx(1.0, abs=0.3)
    assert after.duration_s == pytest.approx(0.5, abs=0.3)
    assert before.readings[0].energy_j == pytest.approx(30.0 * before.duration_s, rel=0.05)


@pytest.mark.process
def test_a_baseline_that_fails_leaves_no_meter_being_read(session, monkeypatch) -> None:
    """Another step follows where it is only told, and nothing is read then that nobody asked for."""
    import llem_lab

    one = through(session(meters=["watch"], baseline={"seconds": 1.2, "discard_seconds": 0.2}), "load")
    ends: list[tuple[int, int]] = []
    end = Instruments.end
    monkeypatch.setattr(Instruments, "end", lambda self, *window: (ends.append(window), end(self, *window))[1])

    def lost(self) -> None:
        raise MachineError("the meter is gone", "", "meter_failed")

    monkeypatch.setattr(llem_lab.WatchMeter, "begin", lost)
    with pytest.raises(MachineError, match="the meter is gone"):
        baseline(one.process, one.experiment.baseline, "before")

    assert len(ends) == 1


def test_no_baseline_without_meters_or_when_none_is_wanted(session) -> None:
    """Nothing is waited for that nobody would read."""
    for settings in ({"meters": []}, {"meters": ["watch"], "baseline": {"seconds": 0.0}}):
        one = through(session(**{"baseline": {"seconds": 60.0}, **settings}), "load")

        assert idle(one, "before") is None


@pytest.mark.process
def test_a_wish_to_stop_ends_the_baseline(session) -> None:
    """A minute of idleness is not waited for."""
    one = through(session(meters=["steady"], baseline={"seconds": 60.0}), "load")
    threading.Timer(0.2, one.process.stop.set).start()
    with pytest.raises(ExperimentFailed) as caught:
        idle(one, "before")

    assert caught.value.code == "interrupted"


def test_what_is_used_before_its_step_is_a_bug(session) -> None:
    """And says so, instead of an attribute error deep in the engine."""
    one = session()
    for use in (
        lambda: one.live_engine,
        lambda: one.live_instruments,
        lambda: one.live_work,
        lambda: one.next_requests(1),
    ):
        with pytest.raises(LlemError) as caught:
            use()
        assert caught.value.code == "bug"


@pytest.mark.process
@pytest.mark.parametrize("fails", [None, "load", "baseline_before", "record", "calibrate"])
def test_engine_and_meters_are_let_go_whatever_happens(session, monkeypatch, fails: str | None) -> None:
    """Each closed once, in whatever step the procedure ended."""
    one = session(meters=["steady"])
    closed = []

    def broken(steps):
        def fail(_) -> None:
            raise OSError("pulled the plug")

        return tuple(fail if step.__name__ == fails else step for step in steps)

    monkeypatch.setattr(worker, "BEFORE", broken(BEFORE))
    monkeypatch.setattr(procedure, "BEGIN", broken(BEGIN))
    monkeypatch.setattr(Instruments, "close", lambda self, close=Instruments.close: (closed.append("m"), close(self)))
    monkeypatch.setattr("llem_lab.LabEngine.close", lambda self: closed.append("e"))
    outcome = work(one.order, registry(), silent, threading.Event())
    [document] = one.store.outcomes(one.id)

    assert (outcome, document["outcome"]) == (("crash", "crash") if fails else ("done", "done"))
    assert document["error"] == ("OSError: pulled the plug" if fails else None)
    assert closed == (["m"] if fails == "load" else ["e", "m"])


@pytest.mark.process
def test_an_engine_that_changes_the_working_folder_takes_no_file_along(session, tmp_path, monkeypatch) -> None:
    """With a folder of results that was named from where the study began."""
    one = session()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(tmp_path)
    generate = "llem_lab.LabEngine.generate"
    monkeypatch.setattr(generate, strays(elsewhere, pkgutil.resolve_name(generate)))
    order = attrs.evolve(one.order, store=os.path.relpath(one.store.path))
    try:
        outcome = work(order, registry(), silent, threading.Event())
        assert Path.cwd() == elsewhere
    finally:
        os.chdir(tmp_path)

    assert outcome == "done"
    assert list(elsewhere.iterdir()) == []
    assert one.store.trial_indices(one.id) == {index for _, index in order.turns}


def strays(folder: Path, generate: Callable[..., Any]) -> Callable[..., Any]:
    """Such an engine's method."""

    def strayed(*arguments: Any, **named: Any) -> Any:
        os.chdir(folder)
        return generate(*arguments, **named)

    return strayed


def test_what_a_backend_refuses_is_a_configuration_error(monkeypatch, lab) -> None:
    """Every refusal with the field that it is about; what it only remarks on is passed on."""
    import llem_lab

    said = [
        finding("backend_check", "no such kernel", field="lab.kernel"),
        Finding("backend_check", "warning", "this is slow"),
        finding("backend_check", "too many"),
    ]
    monkeypatch.setattr(llem_lab.LabBackend, "check", lambda self, experiment, model: said)
    experiment = resolve([Layer("test", lab)], registry()).experiment
    model = resolve_model("shape:tiny")
    with pytest.raises(ConfigError) as caught:
        check_backend(experiment, model, registry())
    assert str(caught.value) == (
        "the lab backend refuses this configuration\n  lab.kernel: no such kernel\n  lab: too many"
    )

    del said[2], said[0]
    assert [one.message for one in check_backend(experiment, model, registry())] == ["this is slow"]


def test_throttling_and_strangers_are_findings_of_the_trial() -> None:
    """A slowed GPU and a foreign process make the result invalid, the power cap alone does not."""
    pids = {901}
    tenants = Tenants(lambda: set(pids))
    pids |= {7, 12}
    watched = SimpleNamespace(tenants=tenants)
    health = {
        "gpu:A": {
            "throttle": {"sw_power_cap": 0.5, "hw_thermal_slowdown": 0.1, "hw_power_brake": 1.0},
            "throttle_readings": 10,
        },
        "gpu:B": {"throttle": {"sw_power_cap": 1 / 6}, "throttle_readings": 6},
        "gpu:D": {"throttle": {"gpu_idle": 1.0}, "throttle_readings": 1},
        "gpu:C": {},
    }
    found = _conduct(watched, health)  # type: ignore[arg-type]

    assert [(one.code, one.severity, one.message) for one in found] == [
        (
            "throttled",
            "error",
            "gpu:A slowed down: hw_thermal_slowdown in 10 % of 10 readings, hw_power_brake in 100 % of 10 readings",
        ),
        ("power_capped", "info", "the driver lowered the clocks of gpu:A for its power limit in 50 % of 10 readings"),
        ("power_capped", "info", "the driver lowered the clocks of gpu:B for its power limit in 17 % of 6 readings"),
        ("foreign_process", "error", "3 other process(es) on the GPU: 7, 12, 901"),
    ]
    assert found[0].evidence == {
        "domain": "gpu:A",
        "reasons": ["hw_thermal_slowdown", "hw_power_brake"],
        "share": 1.0,
        "shares": {"hw_thermal_slowdown": 0.1, "hw_power_brake": 1.0},
        "readings": 10,
    }
    assert found[2].evidence == {"domain": "gpu:B", "share": 1 / 6, "readings": 6}
    assert _conduct(SimpleNamespace(tenants=None), {}) == []  # type: ignore[arg-type]


def test_a_library_that_gives_no_reading_is_none_with_a_reason(session, monkeypatch) -> None:
    """None for a domain, or the domain left out: never 0."""
    import llem_lab

    domains = [Domain(f"cpu:{n}", "cpu", "modelled", "a stop watch", method="window") for n in range(3)]
    monkeypatch.setattr(llem_lab.WatchMeter, "open", lambda self: domains)
    monkeypatch.setattr(llem_lab.WatchMeter, "end", lambda self: {"cpu:0": 5.0, "cpu:1": None})
    one = through(session(meters=["watch"]), "open_instruments")
    instruments = one.live_instruments
    instruments.begin()
    instruments.window_begin()
    instruments.window_end()
    readings, rows, findings = instruments.end(0, 1)

    assert [(r.domain, r.energy_j, r.reason) for r in readings] == [
        ("cpu:0", 5.0, None),
        ("cpu:1", None, "meter_failed"),
        ("cpu:2", None, "meter_failed"),
    ]
    assert (rows, findings) == ([], [])


@pytest.mark.process
def test_meters_opened_before_one_that_fails_are_closed(session, monkeypatch) -> None:
    """No library is left running because the next meter is not there."""
    import llem_lab

    closed = []
    monkeypatch.setattr(llem_lab.WatchMeter, "close", lambda self: closed.append("watch"))
    monkeypatch.setattr("llem.study.run.preflight.try_meter", lambda *_: None)
    one = session(meters=["watch", "absent"])
    with pytest.raises(MachineError, match="no power meter answers"):
        through(one, "open_instruments")

    assert closed == ["watch"]


def test_an_order_survives_its_file(tmp_path: Path) -> None:
    """What a launcher writes is what the worker reads."""
    turns = (("a", 0), ("b", 0), ("b", 1))
    order = WorkOrder("/some/store", 2, 1, ("a", "b"), turns, Gap(1.5, 2.0, 60.0), ("GPU-1",), True)
    order.write(tmp_path / "order.json")

    assert WorkOrder.read(tmp_path / "order.json") == order
    assert order.experiment_id == "a"


def test_an_order_that_cannot_be_written_says_what_is_in_its_place(tmp_path: Path) -> None:
    """An error of llem with a hint, not of the operating system."""
    (tmp_path / "order.json").mkdir()
    with pytest.raises(StoreError, match="is a folder, where llem writes a file\n  give another path"):
        WorkOrder("/some/store", 0, 0, ("abc",), (("abc", 0),)).write(tmp_path / "order.json")
