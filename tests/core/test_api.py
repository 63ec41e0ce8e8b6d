"""`llem.run` as a whole: every part of a run, real processes and a real store, a second each."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import attrs
import psutil
import pytest

import llem
from llem.experiment.instruments import Instruments
from llem.findings import finding
from llem.metrics.verify import verify
from llem.protocol.events import Calibrated, Event, Phase, Power, TrialEnded
from llem.protocol.lines import stored_events
from llem.protocol.study_events import StudyEvent
from llem.store.store import Store

pytestmark = pytest.mark.process


def transcript(events: list[Event]) -> list[str]:
    """The order of events in words, without those around the experiment and power, which comes by the clock."""
    names = [f"{e.kind} {e.phase}" if isinstance(e, Phase) else e.kind for e in events]
    return [name for name in names if name not in ("power", "study", "started", "ended", "worker ended", "result")]


def children() -> list[int]:
    """Processes that this one started and that still run."""
    return [child.pid for child in psutil.Process().children(recursive=True) if child.status() != "zombie"]


@pytest.mark.parametrize("launcher", ["process", "inline"])
def test_a_run_measures_stores_and_leaves_nothing_running(tmp_path: Path, short, launcher: str) -> None:
    """The whole way: events in order, exact counts, a store that verifies, no process left."""
    events: list[Event] = []
    result = llem.run(out=tmp_path / "out", launcher=launcher, on_event=events.append, **short)

    assert (result.outcome, result.valid, result.trials, result.error) == ("done", True, 1, None)
    assert transcript(events) == [
        "worker",
        "phase load",
        "loaded",
        "phase warm-up",
        "calibrated",
        "phase trial",
        "trial",
        "outcome",
    ]
    store = Store.open(tmp_path / "out")
    [trial] = store.trials(result.id)
    [calibrated] = [event for event in events if isinstance(event, Calibrated)]
    assert (trial.batches, trial.requests) == (calibrated.batches,) * 2
    assert trial.output_tokens == trial.expected_output_tokens == 8 * trial.batches
    assert trial.input_tokens == 8 * trial.batches
    assert len(trial.batch_s) == len(store.requests(result.id, 0)) == trial.batches
    assert result.metrics["energy_j"].reason == "no_meter"
    assert verify(store) == []
    assert llem.load_results(tmp_path / "out") == {result.id: result}
    assert children() == []


def test_both_launchers_measure_the_same_experiment(tmp_path: Path, short) -> None:
    """The launcher is not part of what is measured: id, work and tokens are the same."""
    results, digests = [], []
    for launcher in ("process", "inline"):
        out = tmp_path / launcher
        result = llem.run(out=out, launcher=launcher, **short)
        results.append(result)
        rows = Store.open(out).requests(result.id, 0)
        digests.append([(row.input_tokens, row.output_tokens) for row in rows])

    assert results[0].id == results[1].id
    assert results[0].effective == results[1].effective
    assert results[0].config == results[1].config
    fewest = min(map(len, digests))  # how many there are is a matter of speed
    assert fewest > 1
    assert digests[0][:fewest] == digests[1][:fewest]


def test_trials_are_as_many_as_asked(tmp_path: Path, short) -> None:
    """`trials` and `max_trials` alike give exactly that many, numbered from 0, each on further requests."""
    result = llem.run(out=tmp_path / "out", launcher="inline", **{**short, "trials": 3, "max_trials": 3})
    trials = Store.open(tmp_path / "out").trials(result.id)

    assert result.trials == 3
    assert [trial.index for trial in trials] == [0, 1, 2]
    firsts = [trial.first_index for trial in trials]
    assert firsts == [1 + sum(trial.batches for trial in trials[:n]) for n in range(3)]  # one went into the warm-up
    assert result.metrics["output_tokens_per_s"].method == "student_t"


def test_trials_end_early_when_the_interval_is_narrow(tmp_path: Path, short) -> None:
    """More trials than the least are made only while the interval is wider than asked."""
    wide = {**short, "trials": 2, "max_trials": 3, "window_s": 0.1}
    easy = llem.run(out=tmp_path / "easy", launcher="inline", **{**wide, "target_half_width": 1000.0})
    never = llem.run(out=tmp_path / "never", launcher="inline", **{**wide, "target_half_width": 0.0})

    assert (easy.trials, never.trials) == (2, 3)
    assert "interval_wide" in {found.code for found in never.findings}


def test_trials_are_spread_over_engine_processes(tmp_path: Path, short) -> None:
    """Each of several engine processes loads anew and runs its part of the trials; together they run all."""
    events: list[Event] = []
    settings = {**short, "preset": "publication", "trials": 3, "max_trials": 3, "processes": 2}
    settings["warmup"] = {"seconds": 0.0, "batches": 1}
    result = llem.run(out=tmp_path / "out", on_event=events.append, **settings)
    store = Store.open(tmp_path / "out")
    one = ["worker", "phase load", "loaded", "phase warm-up", "calibrated"]
    trial = ["phase trial", "trial"]

    assert (result.outcome, result.trials) == ("done", 3)
    assert [(t.index, t.process) for t in store.trials(result.id)] == [(0, 0), (1, 1), (2, 0)]
    assert [engine["process"] for engine in store.engines(result.id)] == [0, 1]
    assert transcript(events) == [*one, *trial, *trial, "outcome", *one, *trial, "outcome"]
    assert [e.trial for e in events if isinstance(e, TrialEnded)] == [0, 2, 1]
    assert verify(store) == []


def test_where_each_value_came_from_is_stored(tmp_path: Path, short) -> None:
    """File, call, preset and default are told apart in the result."""
    study = tmp_path / "study.yaml"
    study.write_text("name: told\nbase:\n  backend: echo\n  load: {batch_size: 2}\n  sampling: {seed: 3}\n")
    del short["backend"]
    result = llem.run(study, out=tmp_path / "out", launcher="inline", **{**short, "sampling": {"seed": 4}})
    told = {key: result.sources[key] for key in ("backend", "load.batch_size", "sampling.seed", "trials", "dtype")}

    assert told == {
        "backend": "file study.yaml",
        "load.batch_size": "file study.yaml",
        "sampling.seed": "python",
        "trials": "preset quick",
        "dtype": "default",
    }
    assert (result.config["load"]["batch_size"], result.config["sampling"]["seed"]) == (2, 4)
    assert Store.open(tmp_path / "out").study()["name"] == "told"
    [trial] = Store.open(tmp_path / "out").trials(result.id)
    assert trial.requests == 2 * trial.batches


def test_energy_of_a_plugins_meter_gross_and_net(tmp_path: Path, lab) -> None:
    """A counter by a plugin: gross is watts times seconds within its bound, net is gross less idle power, exactly."""
    events: list[Event] = []
    settings = {**lab, "meters": ["steady"], "steady": {"watts": 80.0}, "window_s": 0.5}
    settings["baseline"] = {"seconds": 0.5, "discard_seconds": 0.0}
    result = llem.run(out=tmp_path / "out", on_event=events.append, **settings)
    store = Store.open(tmp_path / "out")
    [trial] = store.trials(result.id)
    [reading] = trial.energies
    [domain] = result.domains

    assert transcript(events) == [
        "worker",
        "phase load",
        "loaded",
        "phase baseline before",
        "baseline",
        "phase warm-up",
        "calibrated",
        "phase trial",
        "trial",
        "outcome",
        "phase baseline after",
        "baseline",
    ]
    assert (domain.meter, domain.domain, domain.kind) == ("steady", "node", "measured")
    assert reading.budget is not None
    assert abs(reading.energy_j - 80.0 * trial.duration_s) <= reading.budget.bound_j
    assert domain.idle_power_w.value == pytest.approx(80.0, rel=0.03)
    net = reading.energy_j - domain.idle_power_w.value * trial.duration_s
    assert result.metrics["energy_net_j"].value == pytest.approx(net, abs=1e-9)
    assert result.metrics["energy_j"].value == reading.energy_j
    assert result.metrics["energy_per_output_token_j"].value == pytest.approx(reading.energy_j / trial.output_tokens)
    assert [b.phase for b in store.baselines(result.id)] == ["before", "after"]
    assert store.engines(result.id)[0]["domains"][0]["meter"] == "steady"
    assert verify(store) == []


def test_what_the_last_baseline_finds_is_in_the_result(tmp_path: Path, lab, monkeypatch) -> None:
    """A meter that fails in the idle time after the trials: its engine's document and the result say so."""
    phases: list[str] = []
    end = Instruments.end

    def failing(self, t0_ns: int, t1_ns: int):
        readings, rows, findings = end(self, t0_ns, t1_ns)
        late = [finding("meter_failed", "steady failed on node: unplugged")] if phases[-1] == "baseline after" else []
        return readings, rows, [*findings, *late]

    monkeypatch.setattr(Instruments, "end", failing)
    settings = {**lab, "meters": ["steady"], "baseline": {"seconds": 0.2, "discard_seconds": 0.0}}
    result = llem.run(
        out=tmp_path / "out",
        launcher="inline",
        on_event=lambda event: phases.append(event.phase) if isinstance(event, Phase) else None,
        **settings,
    )
    [engine] = Store.open(tmp_path / "out").engines(result.id)

    assert [one["message"] for one in engine["findings"]] == ["steady failed on node: unplugged"]
    assert "steady failed on node: unplugged" in [one.message for one in result.findings]
    assert verify(Store.open(tmp_path / "out")) == []


def test_meters_of_every_kind_in_one_run(tmp_path: Path, lab) -> None:
    """A counter read in a process of its own and a library that measures by itself, each with its own truth."""
    result = llem.run(out=tmp_path / "out", launcher="inline", **{**lab, "meters": ["watch", "steady"]})
    by_meter = {domain.meter: domain for domain in result.domains}
    seconds = result.metrics["duration_s"].value

    assert list(by_meter) == ["watch", "steady"]
    assert by_meter["watch"].kind == "modelled"
    assert by_meter["watch"].energy_j.value == pytest.approx(30.0 * seconds, rel=0.05)
    assert by_meter["steady"].energy_j.value == pytest.approx(40.0 * seconds, rel=0.25)
    assert result.metrics["energy_j"].kind == "measured"
    assert result.metrics["energy_j"].value == by_meter["steady"].energy_j.value
    assert verify(Store.open(tmp_path / "out")) == []


def test_a_meter_that_fails_in_the_window_makes_the_result_invalid(tmp_path: Path, lab) -> None:
    """The run ends well, the energy is None with a reason, and a finding has the meter's own words."""
    result = llem.run(
        out=tmp_path / "out", launcher="inline", **{**lab, "meters": ["failing"], "failing": {"reads": 5}}
    )

    assert (result.outcome, result.valid) == ("done", False)
    assert result.metrics["energy_j"].value is None
    assert "failing failed on node: node gives no more readings (trial 0)" in [f.message for f in result.findings]


def test_a_named_meter_that_is_absent_stops_everything_before_it_begins(tmp_path: Path, lab) -> None:
    """The meter's own message, and not so much as a folder."""
    with pytest.raises(llem.MachineError) as caught:
        llem.run(out=tmp_path / "out", **{**lab, "meters": ["steady", "absent"]})

    assert caught.value.message == "no power meter answers on the serial line"
    assert caught.value.exit_code == 3
    assert not (tmp_path / "out").exists()


def test_the_default_meters_are_tried_and_missed_without_complaint(tmp_path: Path, short, lab) -> None:
    """Installed meters that nobody named are not used; built-in ones that are not here are findings, no more."""
    result = llem.run(out=tmp_path / "out", launcher="inline", **short)
    missing = [found for found in result.findings if found.code in ("meter_unavailable", "meter_permission")]

    assert "steady" not in {domain.meter for domain in result.domains}
    assert {found.evidence["meter"] for found in missing} >= {"nvml"}
    assert {found.severity for found in missing} == {"info"}
    assert result.valid


def test_an_inline_run_leaves_the_callers_environment_as_it_was(tmp_path: Path, short, monkeypatch) -> None:
    """The worker hides GPUs from its own process; the caller's next experiment may want them."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    llem.run(out=tmp_path / "set", launcher="inline", **short)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    llem.run(out=tmp_path / "unset", launcher="inline", **short)
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_without_a_folder_the_result_goes_where_the_user_keeps_results(isolated_llem, short, monkeypatch) -> None:
    """A new folder for each call, also for two within a second."""
    isolated_llem.config.write_text(f"results_dir: {isolated_llem.folder / 'kept'}\n")
    for _ in range(2):
        llem.run(launcher="inline", **{**short, "window_s": 0.1})
    folders = sorted((isolated_llem.folder / "kept").iterdir())

    assert len(folders) == 2
    assert all(folder.name.startswith("llem-2") for folder in folders)
    assert [len(Store.open(folder).experiment_ids()) for folder in folders] == [1, 1]


@pytest.mark.parametrize("launcher", ["nowhere", "proces"])
def test_an_unknown_launcher_is_refused_before_anything_is_written(tmp_path: Path, short, launcher: str) -> None:
    """Its name is checked like every other plugin's."""
    with pytest.raises(llem.LlemError, match=f"unknown launcher '{launcher}'"):
        llem.run(out=tmp_path / "out", launcher=launcher, **short)

    assert not (tmp_path / "out").exists()


def test_modules_of_the_current_folder_do_not_reach_the_worker(tmp_path: Path, short, monkeypatch) -> None:
    """A user's own `hashlib.py` beside the study does not take the place of the real one."""
    (tmp_path / "hashlib.py").write_text("raise SystemExit('the wrong hashlib')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])

    assert llem.run(out=tmp_path / "out", **short).outcome == "done"


def test_plugins_are_told_of_the_study_from_the_parent(tmp_path: Path, short, monkeypatch, capsys) -> None:
    """Observers hear of each step in order; one that raises is named, and the run goes on."""
    from llem.plugins import hookimpl
    from llem.plugins.claims import Plugin
    from llem.plugins.registry import Registry, discover

    heard: list[tuple] = []

    class Watcher:
        @hookimpl
        def llem_study_started(self, study, store):
            heard.append(("study started", study["name"], store))

        @hookimpl
        def llem_experiment_started(self, experiment):
            heard.append(("experiment started", experiment["id"]))

        @hookimpl
        def llem_experiment_finished(self, experiment, result):
            heard.append(("experiment finished", experiment["id"], result["outcome"], result["valid"]))

        @hookimpl
        def llem_study_finished(self, study):
            heard.append(("study finished", study["name"]))

    class Broken:
        @hookimpl
        def llem_experiment_started(self):
            raise OSError("no network")

        @hookimpl
        def llem_environment(self):
            raise OSError("no network either")

    found = discover()
    for name, plugin in (("watcher", Watcher()), ("broken", Broken())):
        found.add(Plugin(name, name, name, "1"), plugin)
    made = Registry(found)
    monkeypatch.setattr("llem.api.measuring.registry", lambda: made)
    monkeypatch.setattr("llem.launchers.inline.registry", lambda: made)
    result = llem.run(out=tmp_path / "out", launcher="inline", **short)

    assert heard == [
        ("study started", "llem", str(tmp_path / "out")),
        ("experiment started", result.id),
        ("experiment finished", result.id, "done", True),
        ("study finished", "llem"),
    ]
    assert "warning: llem_experiment_started: broken (broken): OSError: no network\n" in capsys.readouterr().err
    told = [f.message for f in result.findings if f.code == "plugin_observer_failed"]
    assert told == ["llem_environment of broken: OSError: no network either"]


def test_results_of_no_folder_are_an_error(tmp_path: Path) -> None:
    """A folder that is no store says so."""
    with pytest.raises(llem.StoreError) as caught:
        llem.load_results(tmp_path)

    assert caught.value.code == "store_missing"


def test_what_the_worker_said_is_kept(tmp_path: Path, lab) -> None:
    """Order, events and log stay beside the results; what the engine printed is in the log, not among the events."""
    events: list[Event] = []
    llem.run(out=tmp_path / "out", on_event=events.append, **lab)
    folder = tmp_path / "out" / "workers" / "0"
    kept = [attrs.evolve(event, worker=0) for event in stored_events(folder / "events.jsonl")]

    told = [event for event in events if not isinstance(event, (StudyEvent, Power))]
    assert told == kept
    assert [event.at for event in told] == [event.at for event in kept]
    assert "an engine prints as it pleases" in (folder / "log.txt").read_text()
    assert [index for _, index in json.loads((folder / "order.json").read_text())["turns"]] == [0]
