"""Experiments that share an engine: loaded once, turn by turn, and none of them costs the others their trials."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

import llem
from llem.metrics.verify import verify
from llem.protocol.events import Event, Phase, Warned
from llem.protocol.study_events import ResultComputed
from llem.store.store import Store

pytestmark = pytest.mark.process

Run = Callable[..., "Ran"]


class Ran:
    """A study that was run: results by batch size, events, and the store."""

    def __init__(self, out: Path, results: Mapping[str, Any], events: list[Event]) -> None:
        self.store, self.events = Store.open(out), events
        self.results = {result.config["load"]["batch_size"]: result for result in results.values()}

    @property
    def outcomes(self) -> dict[int, str]:
        """Outcome by batch size."""
        return {size: result.outcome for size, result in sorted(self.results.items())}

    @property
    def trials(self) -> dict[int, int]:
        """Trials by batch size."""
        return {size: result.trials for size, result in sorted(self.results.items())}

    @property
    def phases(self) -> list[str]:
        """Phases of the workers, in order, with the size of the batch that they are about."""
        sizes = {result.id: size for size, result in self.results.items()}
        told = [event for event in self.events if isinstance(event, Phase)]
        return [f"{event.phase} {sizes[event.id]}" if event.id else event.phase for event in told]


@pytest.fixture
def run(tmp_path: Path, lab) -> Run:
    """Run a study of batch sizes on the plugin's backend; `lab` are its settings."""

    def _run(sizes: list[int], settings: Mapping[str, Any] | None = None, launcher: str = "process", **parts) -> Ran:
        base = {**lab, "window_s": 0.1, **parts.pop("base", {}), "lab": settings or {}}
        study = {"base": base, "axes": {"load.batch_size": sizes}, "trials": 2, **parts}
        events: list[Event] = []
        results = llem.run_study(study, tmp_path / "out", launcher=launcher, on_event=events.append)
        return Ran(tmp_path / "out", results, events)

    return _run


def test_an_engine_is_loaded_once_and_blocks_are_taken_in_turn(run) -> None:
    """Each experiment is warmed up before its first trial; what the engine is, is stored with each of them."""
    ran = run([1, 2], order={"kind": "reverse"})
    engines = [ran.store.engines(result.id)[0] for result in ran.results.values()]

    assert ran.phases == [
        "load", "warm-up 1", "trial 1", "warm-up 2", "trial 2", "trial 2", "trial 1",
    ]  # fmt: skip
    assert ran.outcomes == {1: "done", 2: "done"}
    assert [(one["worker"], one["process"], one["experiments"]) for one in engines] == [(0, 0, 2)] * 2
    assert verify(ran.store) == []


def test_a_shared_engine_is_told_whose_turn_it_is(run, lab, monkeypatch) -> None:
    """Before each turn of another experiment, and after that one unmeasured batch settles the engine again."""
    import llem_lab

    seen: list[Any] = []
    generate = llem_lab.LabEngine.generate
    monkeypatch.setattr(
        llem_lab.LabEngine, "turn_to", lambda self, experiment: seen.append(f"turn {experiment.load.batch_size}")
    )

    def watched(self, requests, sampling, **more):
        seen.append(len(requests))
        return generate(self, requests, sampling, **more)

    monkeypatch.setattr(llem_lab.LabEngine, "generate", watched)
    ran = run([1, 2], launcher="inline", order={"kind": "reverse"})
    batches = {size: ran.store.trials(result.id)[0].batches for size, result in ran.results.items()}

    assert [one for one in seen if isinstance(one, str)] == ["turn 1", "turn 2", "turn 1"]
    last = seen.index("turn 1", 1)
    assert len(seen[last + 1 :]) == 1 + batches[1]  # one to settle, and the window
    assert seen[1 : 1 + 1 + batches[1]] == [1] * (1 + batches[1])  # the warm-up, and the window


def test_one_idle_baseline_serves_all_experiments_of_an_engine(run) -> None:
    """The same reading is stored with each."""
    base = {"meters": ["steady"], "baseline": {"seconds": 0.5, "discard_seconds": 0.0}}
    ran = run([1, 2], base=base)
    first, second = (ran.store.baselines(result.id) for result in ran.results.values())

    assert [one.phase for one in first] == ["before", "after"]
    assert first == second
    assert ran.phases.count("baseline before") == ran.phases.count("baseline after") == 1
    assert all(result.metrics["energy_net_j"].value is not None for result in ran.results.values())
    assert verify(ran.store) == []


def test_one_that_runs_out_of_memory_leaves_the_engine_to_the_others(run) -> None:
    """It is recorded, not tried again, and the same engine goes on."""
    ran = run([1, 8, 2], {"limit": 4, "error": "oom"})

    assert ran.outcomes == {1: "done", 2: "done", 8: "oom"}
    assert ran.trials == {1: 2, 2: 2, 8: 0}
    assert ran.phases.count("load") == 1


def test_an_engine_that_is_of_no_use_after_it_ran_out_of_memory_is_loaded_anew(run) -> None:
    """The next failure is not held against the experiment that met it."""
    ran = run([8, 1, 2], {"limit": 4, "error": "oom", "poisoned": True}, order={"kind": "reverse"})

    assert ran.outcomes == {1: "done", 2: "done", 8: "oom"}
    assert ran.phases.count("load") == 2
    assert ran.phases.count("warm-up 8") == 1
    assert sorted(path.name for path in (ran.store.path / "workers").iterdir()) == ["0", "1"]


@pytest.mark.parametrize("error", ["runtime", "kill", "exit"])
def test_a_crash_costs_the_engine_and_not_the_others(run, error: str) -> None:
    """What was measured before stays; the rest is measured with a new engine, whose number is the next one."""
    ran = run([1, 8, 2], {"limit": 4, "error": error}, order={"kind": "reverse"})
    processes = {size: [t.process for t in ran.store.trials(result.id)] for size, result in ran.results.items()}

    assert ran.outcomes == {1: "done", 2: "done", 8: "crash"}
    assert ran.trials == {1: 2, 2: 2, 8: 0}
    assert (processes[1], processes[2]) == ([0, 1], [1, 1])
    assert verify(ran.store) == []


def test_the_logs_end_is_stored_with_a_worker_that_died(run) -> None:
    """Where there is no word of its own."""
    ran = run([8], {"limit": 4, "error": "kill"})
    [outcome] = ran.store.outcomes(ran.results[8].id)

    assert outcome["error"] == "the worker ended with status -9 and no outcome"
    assert outcome["log_tail"] == ["an engine prints as it pleases"]


def test_an_experiment_that_failed_is_left_out_of_further_engine_processes(run) -> None:
    """And has one result."""
    ran = run([1, 8], {"limit": 4, "error": "oom"}, base={"processes": 2})
    told = [event.id for event in ran.events if isinstance(event, ResultComputed)]

    assert ran.outcomes == {1: "done", 8: "oom"}
    assert ran.phases.count("warm-up 8") == 1
    assert ran.phases.count("warm-up 1") == 2
    assert len(told) == len(set(told)) == 2


def test_an_engine_that_does_not_load_fails_all_of_its_experiments(run) -> None:
    """Once: it is not tried for each."""
    ran = run([1, 2, 4], {"fail_in": "load", "error": "oom"})

    assert ran.outcomes == {1: "oom", 2: "oom", 4: "oom"}
    assert ran.phases == ["load"]


def test_a_silent_worker_is_ended(run) -> None:
    """By the limit beyond twice the time that its phase should take; power readings do not count as life."""
    base = {"meters": ["steady"]}
    ran = run([1, 8, 2], {"limit": 4, "error": "hang"}, base=base, limits={"silence_s": 5.0})

    assert ran.outcomes == {1: "done", 2: "done", 8: "timeout"}
    assert "told nothing for more than 5 s" in ran.results[8].error


def test_a_worker_that_runs_for_too_long_is_ended(run) -> None:
    """The experiment that it is at is the one that took too long; what is left goes to others."""
    ran = run([8], {"limit": 4, "error": "hang"}, limits={"timeout_s": 3.0})

    assert ran.outcomes == {8: "timeout"}
    assert ran.results[8].error == "the worker ran for more than 3 s (`limits.timeout_s`)"


def test_trials_go_on_for_those_alone_whose_interval_is_wide(run, monkeypatch) -> None:
    """The others are done with the least number."""
    sizes = {1: 0.0, 2: 1000.0}
    wanted = importlib.import_module("llem.experiment.worker").is_wanted  # by its name the function comes first

    def judged(experiment, trials, index):
        return wanted(attrs.evolve(experiment, target_half_width=sizes[experiment.load.batch_size]), trials, index)

    monkeypatch.setattr("llem.experiment.worker.is_wanted", judged)
    monkeypatch.setattr("llem.study.plan.planner.is_wanted", judged)
    ran = run([1, 2], launcher="inline", base={"max_trials": 4})

    assert ran.trials == {1: 4, 2: 2}
    assert ran.outcomes == {1: "done", 2: "done"}


def test_ten_failures_in_a_row_with_one_cause_stop_the_study(tmp_path: Path, lab) -> None:
    """What had begun is recorded, the rest has not begun, and the error names the cause."""
    axes = {"lab.token_seconds": [0.001 + n / 1e6 for n in range(5)]}
    study = {"base": {**lab, "lab": {"fail_in": "load"}}, "axes": axes, "limits": {"failures_in_a_row": 3}}
    with pytest.raises(llem.ExperimentFailed) as caught:
        llem.run_study(study, tmp_path / "out", launcher="inline")

    assert caught.value.code == "failures_in_a_row"
    assert caught.value.message == (
        "the study was stopped after 3 failures in a row with one cause: "
        "RuntimeError: device lost, in the plugin llem-lab 1.2"
    )
    assert [result.outcome for result in llem.load_results(tmp_path / "out").values()] == ["crash"] * 3


def test_the_command_tells_why_it_stopped(run_llem, isolated_llem, lab) -> None:
    """The table comes all the same, and the exit code is 1."""
    (isolated_llem.folder / "study.yaml").write_text(
        "base: {backend: lab, device: cpu, preset: quick, lab: {fail_in: load}}\n"
        "axes: {lab.token_seconds: [0.001, 0.002, 0.003]}\nlimits: {failures_in_a_row: 2}\n"
    )
    done = run_llem("run", "study.yaml", "-o", "out", "-q")

    assert done.exit_code == 1
    assert "error: the study was stopped after 2 failures in a row with one cause" in done.stderr
    [told] = [line for line in done.stdout.splitlines() if "RuntimeError" in line]
    assert len(re.findall(r"\b[0-9a-f]{8}\b", told)) == 2


def test_a_gap_is_waited_for_between_trials(run) -> None:
    """Before each but an engine's first."""
    ran = run([1, 2], order={"kind": "reverse", "gap_s": 0.3})
    times = [event.phase for event in ran.events if isinstance(event, Phase)]
    pauses = [event for event in ran.events if isinstance(event, Phase) and event.phase == "pause"]

    assert times.count("pause") == 3
    assert [pause.seconds for pause in pauses] == [0.3] * 3


def test_waiting_for_a_temperature_needs_one(run) -> None:
    """On the CPU none can be read: that is told before anything is written or loaded."""
    with pytest.raises(llem.MachineError, match="gap_until_c"):
        run([1], order={"gap_until_c": 1.0})


def test_an_order_names_all_its_experiments_and_turns(run) -> None:
    """As a launcher or a person reads it."""
    ran = run([1, 2])
    order = json.loads((ran.store.path / "workers" / "0" / "order.json").read_text())

    assert set(order["experiments"]) == {result.id for result in ran.results.values()}
    assert len(order["turns"]) == 4


IDLE = {"meters": ["watch"], "baseline": {"seconds": 1.0, "discard_seconds": 0.0}}


def net_and_findings(ran: Ran) -> set[tuple[str, bool, str | None, str]]:
    """Of each experiment: outcome, validity, why there is no energy net of idle, and what is told of idle."""
    told = {
        size: [one for one in result.findings if one.code == "baseline_failed"] for size, result in ran.results.items()
    }
    return {
        (result.outcome, result.valid, result.metrics["energy_net_j"].reason, *[one.message for one in told[size]])
        for size, result in ran.results.items()
    }


def test_a_last_baseline_that_fails_is_told_with_all_that_it_was_for(run, monkeypatch) -> None:
    """Trials and gross energy stand; energy net of idle is None, and the result is not for publication."""
    import llem_lab

    begun: list[int] = []
    works = llem_lab.WatchMeter.begin

    def begin(self) -> None:
        begun.append(1)
        if len(begun) == 1 + 2 * 2 + 1:  # idle, two trials of two experiments, idle
            raise RuntimeError("the sensor is gone")
        works(self)

    monkeypatch.setattr(llem_lab.WatchMeter, "begin", begin)
    ran = run([1, 2], launcher="inline", base=IDLE)

    message = "the idle baseline after the trials failed: RuntimeError: the sensor is gone"
    assert net_and_findings(ran) == {("done", True, "baseline_failed", message)}
    assert all(result.metrics["energy_j"].value for result in ran.results.values())
    assert not any(result.publishable for result in ran.results.values())
    assert [event.message for event in ran.events if isinstance(event, Warned)] == [message]
    assert verify(ran.store) == []


def test_a_worker_that_dies_in_its_last_baseline_is_told_of(run, monkeypatch) -> None:
    """What it measured is done, and does not count as whole."""
    from llem.study.run.stopping import Watchdog
    from llem.study.run.supervisor import KILLED

    hear = Watchdog.__call__

    def killing(self, event) -> None:
        hear(self, event)
        if isinstance(event, Phase) and event.phase == "baseline after":
            self._kill()

    monkeypatch.setattr(Watchdog, "__call__", killing)
    ran = run([1, 2], base=IDLE)

    message = f"the idle baseline after the trials failed: the worker ended with status -9{KILLED}"
    assert net_and_findings(ran) == {("done", True, "baseline_failed", message)}
    assert ran.trials == {1: 2, 2: 2}
    assert verify(ran.store) == []


def test_a_wish_to_stop_in_the_last_baseline_is_no_failure_of_it(run, monkeypatch) -> None:
    """All is measured, and what was not measured of idle was not wanted."""
    from llem.experiment.session import EngineProcess

    phase = EngineProcess.phase

    def stopping(self, name, *args, **more) -> None:
        phase(self, name, *args, **more)
        if name == "baseline after":
            self.stop.set()

    monkeypatch.setattr(EngineProcess, "phase", stopping)
    ran = run([1, 2], launcher="inline", base=IDLE)

    assert net_and_findings(ran) == {("done", True, None)}
