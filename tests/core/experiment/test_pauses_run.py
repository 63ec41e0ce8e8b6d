"""Whole runs whose processes are stopped by a signal within a window, and go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from llem.metrics.verify import verify
from llem.store.store import Store

pytestmark = pytest.mark.process

#: Loads by how they are asked for; the window is long enough for stops of 0.3 s, one each 0.8 s, to meet it.
LOADS = {"offline": ["--batch-size=2"], "closed": ["--concurrency=2"], "open": ["--rate=40"]}
SETTINGS = (
    "device=cpu", "window_s=1.5", "warmup.seconds=0.2", "baseline.seconds=0", "trials=1",
    "workload.input_tokens=8", "workload.output_tokens=8",
)  # fmt: skip


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a command of llem with this configuration, into the folder `out`."""
    started: list[subprocess.Popen[str]] = []

    def _start(*arguments: str) -> subprocess.Popen[str]:
        settings = ["--preset=quick", *(f"--set={setting}" for setting in SETTINGS)]
        command = [sys.executable, "-m", "llem", *arguments[:1], "-o", str(tmp_path / "out"), *settings]
        made = subprocess.Popen(
            [*command, *arguments[1:]],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            start_new_session=True,
        )
        started.append(made)
        return made

    yield _start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGCONT)
            process.terminate()
        process.communicate()


def wait_for(phase: str, out: Path) -> int:
    """Until the first such phase has begun; the worker's process id."""
    until = time.monotonic() + 180
    while time.monotonic() < until:
        path = out / "workers" / "0" / "events.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        events = [json.loads(line) for line in lines if line.endswith("}")]
        if any(event["event"] == "phase" and event["phase"] == phase for event in events):
            return int(next(event["pid"] for event in events if event["event"] == "started"))
        time.sleep(0.02)
    raise AssertionError(f"no {phase} in time")


def disturb(process: subprocess.Popen[str], stop: Callable[[int], None], out: Path) -> None:
    """Stop and continue, again and again, until the run has ended."""
    while process.poll() is None:
        time.sleep(0.5)
        if (out / "experiments").is_dir() and any((out / "experiments").glob("*/trial-0.json")):
            break
        try:
            stop(signal.SIGSTOP)
            time.sleep(0.3)
            stop(signal.SIGCONT)
        except ProcessLookupError:
            break


def findings(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By their codes."""
    return {one["code"]: one for one in result["findings"]}


def told(process: subprocess.Popen[str], out: Path) -> dict[str, Any]:
    """The result that a run ends with."""
    out_text, err = process.communicate(timeout=180)
    assert process.returncode in (0, 1), err
    found: dict[str, Any] = json.loads(out_text)
    return found


@pytest.mark.parametrize("load", LOADS)
def test_a_worker_that_was_stopped_has_measured_nothing(start, tmp_path: Path, load: str) -> None:
    """SIGSTOP and SIGCONT: the result is not valid, and says for how long the worker stood still."""
    process = start("run", "-b", "echo", "--set=echo.token_seconds=0.005", "--json", *LOADS[load])
    worker = wait_for("trial", tmp_path / "out")
    disturb(process, lambda number: os.kill(worker, number), tmp_path / "out")
    result = told(process, tmp_path / "out")

    assert not result["valid"]
    assert not result["publishable"]
    assert findings(result)["paused"]["severity"] == "error"
    assert findings(result)["paused"]["evidence"]["paused_s"] > 0.2
    reasons = findings(result)["paused"]["evidence"]["reasons"]
    assert reasons[0] == "stopped by a signal"
    # also before the window, while its requests were under way
    assert set(reasons[1:]) <= {"what sends the requests frozen: nothing of it ran"}
    assert "stalled" not in findings(result)


@pytest.mark.parametrize("load", LOADS)
def test_the_same_run_without_a_stop_is_valid(start, tmp_path: Path, load: str) -> None:
    """None of the findings of this kind, and the pulse stands with the trial, with what it cost."""
    process = start("run", "-b", "echo", "--set=echo.token_seconds=0.005", "--json", *LOADS[load])
    result = told(process, tmp_path / "out")
    [trial] = Store.open(tmp_path / "out").trials(result["id"])

    assert not {"paused", "stalled", "clock_step", "no_work"} & findings(result).keys()
    assert result["valid"]
    assert trial.beats is not None
    assert trial.beats.suspended_s == pytest.approx(0.0, abs=0.001)
    assert trial.beats.clock_step_s == pytest.approx(0.0, abs=0.001)
    assert 0 < trial.beats.own_s < 0.05 * trial.duration_s
    assert trial.planned_s == pytest.approx(1.5, rel=0.5)


def test_a_stop_in_the_warm_up_shortens_no_window(start, tmp_path: Path) -> None:
    """The batch over which the worker stood still tells nothing of how many fill a window, and others are timed."""
    settings = ("--set=echo.token_seconds=0.05", "--set=warmup.batches=1", "--set=warmup.seconds=0")
    process = start("run", "-b", "echo", *settings, "--json", *LOADS["offline"])
    worker = wait_for("warm-up", tmp_path / "out")
    time.sleep(0.15)
    os.kill(worker, signal.SIGSTOP)
    time.sleep(2.0)
    os.kill(worker, signal.SIGCONT)
    result = told(process, tmp_path / "out")
    [trial] = Store.open(tmp_path / "out").trials(result["id"])

    assert trial.batches >= 3  # of 0.4 s each; by the batch that was stopped it were one
    assert trial.duration_s >= 1.4
    assert trial.planned_s == pytest.approx(1.5, rel=0.3)
    assert not {"paused", "stalled", "window_off_plan"} & findings(result).keys()
    assert result["valid"]


def test_a_stop_in_the_capacity_probe_lowers_no_rate(start, tmp_path: Path) -> None:
    """The probe is made again: else the load would be a share of what the engine does while nobody asks it."""
    load = "--set=load={kind: open, capacity_share: 0.5, probe_concurrency: 2, probe_seconds: 1.5}"
    process = start("run", "-b", "echo", "--set=echo.token_seconds=0.01", load, "--json")
    worker = wait_for("capacity probe", tmp_path / "out")
    time.sleep(1.2)  # its clients have started
    os.kill(worker, signal.SIGSTOP)
    time.sleep(3.0)
    os.kill(worker, signal.SIGCONT)
    result = told(process, tmp_path / "out")
    [engine] = Store.open(tmp_path / "out").engines(result["id"])

    assert engine["probe"]["seconds"] < 2.0
    assert 15 < engine["probe"]["requests_per_s"] < 26  # 2 clients, 0.08 s a request; of 4.5 s it were 8


def test_stops_throughout_the_warm_up_are_told(start, tmp_path: Path) -> None:
    """Each batch was paused, also those that were to make up for it: the plan is not to be believed."""
    settings = ("--set=echo.token_seconds=0.05", "--set=warmup.batches=1", "--set=warmup.seconds=0")
    process = start("run", "-b", "echo", *settings, "--json", *LOADS["offline"])
    worker = wait_for("warm-up", tmp_path / "out")
    events = tmp_path / "out" / "workers" / "0" / "events.jsonl"
    while process.poll() is None and '"calibrated"' not in events.read_text():
        os.kill(worker, signal.SIGSTOP)
        time.sleep(0.25)
        os.kill(worker, signal.SIGCONT)
        time.sleep(0.06)
    result = told(process, tmp_path / "out")

    assert "stood still in every batch of the warm-up" in findings(result)["window_off_plan"]["message"]
    assert not result["publishable"]


def test_a_group_that_was_stopped_is_told_too(start, tmp_path: Path, lab) -> None:
    """The worker, its guard and the process that reads the meters: the reader has missed the same time."""
    process = start("run", "-b", "lab", "--set=meters=[steady]", "--json", *LOADS["offline"])
    worker = wait_for("trial", tmp_path / "out")
    disturb(process, lambda number: os.killpg(worker, number), tmp_path / "out")
    result = told(process, tmp_path / "out")
    [trial] = Store.open(tmp_path / "out").trials(result["id"])

    assert not result["valid"]
    assert "paused" in findings(result)
    assert trial.beats is not None
    assert len(trial.beats.meter_gaps) >= 1
    assert verify(Store.open(tmp_path / "out")) == []


def test_a_reader_that_was_stopped_is_no_pause_of_the_worker(start, tmp_path: Path, lab) -> None:
    """The work went on; that no meter was read for so long is a warning."""
    process = start("run", "-b", "lab", "--set=meters=[steady]", "--set=window_s=3", "--json", *LOADS["offline"])
    worker = wait_for("trial", tmp_path / "out")
    [reader] = [one for one in psutil.Process(worker).children() if "llem.meters.sampler" in one.cmdline()]
    time.sleep(1.2)
    reader.suspend()
    time.sleep(0.9)
    reader.resume()
    result = told(process, tmp_path / "out")

    assert "paused" not in findings(result)
    assert "stood still" in findings(result)["sample_gap"]["message"]


def test_a_parent_that_was_stopped_changes_nothing(start, tmp_path: Path) -> None:
    """The worker is a process of its own, in a session of its own."""
    process = start("run", "-b", "echo", "--set=echo.token_seconds=0.005", "--json", *LOADS["closed"])
    wait_for("trial", tmp_path / "out")
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(2.5)
    os.kill(process.pid, signal.SIGCONT)
    result = told(process, tmp_path / "out")

    assert not {"paused", "stalled", "window_off_plan"} & findings(result).keys()
    assert result["valid"]
