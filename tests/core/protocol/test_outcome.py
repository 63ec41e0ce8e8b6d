"""How an experiment that does not end well is recorded, and what of it stays."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest

import llem
from llem.metrics.verify import verify
from llem.protocol.events import Event, Phase, TrialEnded
from llem.protocol.order import failure
from llem.protocol.study_events import WorkerLaunched
from llem.store.store import Store

pytestmark = pytest.mark.process

CASES = {
    # error: outcome, message, hint, code
    "memory": ("oom", "MemoryError", "use a smaller batch or model", "oom"),
    "oom": ("oom", "the batch does not fit into memory", "use a smaller batch", "oom"),
    "runtime": ("crash", "RuntimeError: device lost, in the plugin llem-lab 1.2", "see the worker's log", "crash"),
}


def failing(lab: dict, where: str, error: str, **more) -> dict:
    """Settings of a run that fails."""
    return {**lab, "lab": {"fail_in": where, "error": error, **more}}


def children() -> list[str]:
    """Command lines of processes that this one started and that still run."""
    found = psutil.Process().children(recursive=True)
    return [" ".join(child.cmdline()) for child in found if child.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("where", ["load", "generate"])
@pytest.mark.parametrize("error", CASES)
def test_an_engines_error_becomes_a_recorded_outcome(tmp_path: Path, lab, where: str, error: str) -> None:
    """Message, hint and code reach the caller; outcome and error are in the store, which verifies."""
    outcome, message, hint, code = CASES[error]
    with pytest.raises(llem.ExperimentFailed) as caught:
        llem.run(out=tmp_path / "out", launcher="inline", **failing(lab, where, error))

    assert (caught.value.message, caught.value.hint, caught.value.code) == (message, hint, code)
    [result] = llem.load_results(tmp_path / "out").values()
    assert (result.outcome, result.error, result.trials, result.valid) == (outcome, message, 0, False)
    assert result.metrics["output_tokens_per_s"].reason == "no_trials"
    assert verify(Store.open(tmp_path / "out")) == []


@pytest.mark.parametrize(("where", "times"), [("load", 0), ("generate", 1)])
def test_an_engine_that_was_loaded_is_closed(tmp_path: Path, lab, where: str, times: int) -> None:
    """Once, whatever happened; one that never came to be is not."""
    with pytest.raises(llem.ExperimentFailed):
        llem.run(out=tmp_path / "out", launcher="inline", **failing(lab, where, "runtime"))

    import llem_lab

    assert llem_lab.LabEngine.closed == times


@pytest.fixture(autouse=True)
def _count_anew(lab) -> None:
    import llem_lab

    llem_lab.LabEngine.closed = 0


def test_a_worker_that_dies_in_a_trial_keeps_the_trials_before(tmp_path: Path, lab) -> None:
    """Killed in the middle of a batch: crash, the trials before it stay, the result is written, nothing runs on."""
    # a trial is some 130 batches of 8 ms with its leads, and fewer on a slow host
    settings = failing(lab, "generate", "kill", after=170)
    settings.update(meters=["steady"], trials=50, max_trials=50, window_s=0.1)
    events: list[Event] = []
    with pytest.raises(llem.ExperimentFailed) as caught:
        llem.run(out=tmp_path / "out", on_event=events.append, **settings)
    store = Store.open(tmp_path / "out")
    [result] = llem.load_results(tmp_path / "out").values()

    assert caught.value.message == "the worker ended with status -9 and no outcome"
    hint = caught.value.hint.splitlines()
    assert hint[0] == "its log ends:"
    assert hint[-2].strip() == "an engine prints as it pleases"
    log = tmp_path / "out" / "workers" / "0" / "log.txt"
    assert hint[-1].strip() == f"see {log}; this is how the system ends a process when memory runs out"
    assert store.outcomes(result.id)[0]["log_tail"][-1] == "an engine prints as it pleases"
    assert result.outcome == "crash"
    assert result.error == caught.value.message
    measured = [event.trial for event in events if isinstance(event, TrialEnded)]
    assert [trial.index for trial in store.trials(result.id)] == measured != []
    assert result.trials == len(measured)
    assert result.metrics["energy_j"].value is not None
    assert verify(store) == []
    assert children() == []


def test_an_engine_that_exits_is_a_crash(tmp_path: Path, lab) -> None:
    """A library that calls `exit` ends no worker, and is named."""
    with pytest.raises(llem.ExperimentFailed) as caught:
        llem.run(out=tmp_path / "out", **failing(lab, "load", "exit"))

    assert caught.value.message.startswith("SystemExit: 7, in the plugin llem-lab ")


def test_the_traceback_of_an_engines_error_is_in_the_log(tmp_path: Path, lab) -> None:
    """The caller sees one line, the log has the rest."""
    with pytest.raises(llem.ExperimentFailed):
        llem.run(out=tmp_path / "out", **failing(lab, "generate", "runtime"))
    log = (tmp_path / "out" / "workers" / "0" / "log.txt").read_text()

    assert "Traceback" in log
    assert "RuntimeError: device lost" in log


def test_a_failure_ends_the_run_before_the_next_engine_process(tmp_path: Path, lab) -> None:
    """What failed once is not loaded again."""
    events: list[Event] = []
    settings = {**failing(lab, "load", "oom"), "processes": 3, "trials": 3, "max_trials": 3}
    with pytest.raises(llem.ExperimentFailed):
        llem.run(out=tmp_path / "out", launcher="inline", on_event=events.append, **settings)

    assert [event.process for event in events if isinstance(event, WorkerLaunched)] == [0]


def test_meters_are_opened_before_the_engine(tmp_path: Path, lab, monkeypatch) -> None:
    """A meter that went away after the checks costs no load: the machine's state, recorded, nothing loaded."""
    monkeypatch.setattr("llem.study.run.preflight.try_meter", lambda *_: None)
    events: list[Event] = []
    with pytest.raises(llem.MachineError, match="no power meter answers"):
        llem.run(out=tmp_path / "out", launcher="inline", on_event=events.append, **{**lab, "meters": ["absent"]})
    [result] = llem.load_results(tmp_path / "out").values()

    assert (result.outcome, result.error) == ("invalid", "no power meter answers on the serial line")
    assert [event.phase for event in events if isinstance(event, Phase)] == []
    assert sys.modules["llem_lab"].LabEngine.closed == 0


def test_what_is_stored_of_an_error_has_no_secret_and_an_end(capfd):
    """A plugin's message may quote an address with a password, and be as long as a file."""
    told = failure(RuntimeError("401 for https://me:s3cr3t@host/x?api_key=s3cr3t " + "x" * 100_000))

    assert told.message.startswith("RuntimeError: 401 for https://***@host/x?api_key=*** xxx")
    assert len(told.message) <= 10_000
