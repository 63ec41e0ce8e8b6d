"""Ctrl-C on a real `llem run`: the first ends after the trial, the second at once, and nothing runs on."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import llem
from llem.metrics.verify import verify
from llem.store.store import Store

pytestmark = pytest.mark.process


@pytest.fixture
def start(tmp_path: Path, lab) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start `llem run` with a backend and a meter that are plugins, into the folder `out`."""
    started: list[subprocess.Popen[str]] = []

    def _start(*arguments: str, window_s: float) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "llem", "run", "-b", "lab", "-o", str(tmp_path / "out"), "--preset=quick"]
        settings = ["device=cpu", "meters=[steady]", "warmup.seconds=0", "baseline.seconds=0", "trials=500"]
        settings += ["workload.input_tokens=8", "workload.output_tokens=8", f"window_s={window_s}"]
        command += [f"--set={setting}" for setting in settings]
        started.append(
            subprocess.Popen(
                [*command, *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=tmp_path,
                start_new_session=True,  # as a shell does: a process group of its own
            )
        )
        return started[-1]

    yield _start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_for_event(out: Path, kind: str, **fields: object) -> None:
    """Until the worker has told of this."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        path = out / "workers" / "0" / "events.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        events = [json.loads(line) for line in lines if line.endswith("}")]
        if any(event["event"] == kind and fields.items() <= event.items() for event in events):
            return
        time.sleep(0.02)
    raise AssertionError(f"no {kind} in time")


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The command, its worker, the worker's guard and the process that reads the meters."""
    parent = psutil.Process(process.pid)
    found = [parent, *parent.children(recursive=True)]
    assert len(found) == 4
    return found


def resumes(err: str, out: Path) -> bool:
    """Whether the last line is a command that goes on in this folder, with the settings that were given."""
    words = shlex.split(err.splitlines()[-1])
    return (
        words[:4] == ["llem", "run", "-b", "lab"]
        and words[-3:] == ["-o", str(out), "--resume"]
        and ("--set=meters=[steady]" in words)
    )


def assert_gone(processes: list[psutil.Process]) -> None:
    """None of them runs any more."""
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert [one for one in alive if one.is_running() and one.status() != psutil.STATUS_ZOMBIE] == []


@pytest.mark.parametrize(
    ("number", "again"), [(signal.SIGINT, "press Ctrl-C"), (signal.SIGTERM, "send SIGTERM")], ids=["SIGINT", "SIGTERM"]
)
def test_the_first_interrupt_ends_after_the_trial(start, tmp_path: Path, number: signal.Signals, again: str) -> None:
    """The trial that runs is finished and kept, the outcome is `interrupted`, the exit code 130."""
    process = start(window_s=0.3)
    wait_for_event(tmp_path / "out", "trial", trial=0)
    running = family(process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    store = Store.open(tmp_path / "out")
    [result] = llem.load_results(tmp_path / "out").values()

    assert (process.returncode, out) == (130, "")
    assert (
        f"stopping when this trial ends, a serving load and all else within seconds; {again} again to stop at once"
        in err
    )
    assert err.splitlines()[-4:-1] == [
        f"what was measured is in {tmp_path / 'out'}",
        "error: interrupted",
        "go on with:",
    ]
    assert resumes(err, tmp_path / "out")
    assert "Traceback" not in err
    assert_gone(running)
    assert (result.outcome, result.error) == ("interrupted", "stopped by the user")
    assert 1 <= result.trials < 500
    assert len({trial.batches for trial in store.trials(result.id)}) == 1  # the last is no shorter than the others
    assert result.metrics["energy_j"].value is not None
    assert [outcome["outcome"] for outcome in store.outcomes(result.id)] == ["interrupted"]
    assert verify(store) == []


def test_a_study_that_runs_is_no_interrupted_one(start, run_llem, tmp_path: Path) -> None:
    """Who looks at it meanwhile is told, and takes nothing from it."""
    process = start(window_s=0.3)
    wait_for_event(tmp_path / "out", "trial", trial=0)
    meanwhile = run_llem("show", tmp_path / "out")
    again = run_llem("show", tmp_path / "out", "--json")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    afterwards = run_llem("show", tmp_path / "out")

    note = "note: `llem run` works in this folder; an experiment shown as `interrupted` may still be running"
    assert meanwhile.stdout.splitlines()[-1] == note
    assert json.loads(again.stdout)["outcome"] == "interrupted"
    assert process.returncode == 130
    assert "note: `llem run`" not in afterwards.stdout


def test_the_second_interrupt_ends_at_once(start, tmp_path: Path) -> None:
    """A trial of many minutes is not waited for; what is left of the worker is killed, and the outcome recorded."""
    process = start(window_s=900.0)
    wait_for_event(tmp_path / "out", "phase", phase="trial")
    running = family(process)
    process.send_signal(signal.SIGINT)
    line = ""
    while "stopping" not in line:
        line = process.stderr.readline()
    assert all(one.is_running() for one in running)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    [result] = llem.load_results(tmp_path / "out").values()

    assert (process.returncode, out) == (130, "")
    assert "error: interrupted" in err.splitlines()
    assert resumes(err, tmp_path / "out")
    assert "Traceback" not in err
    assert_gone(running)
    assert (result.outcome, result.error, result.trials) == ("interrupted", "killed by the user", 0)
    assert verify(Store.open(tmp_path / "out")) == []


def test_a_worker_that_is_killed_ends_the_command_with_1(start, tmp_path: Path) -> None:
    """By the system's out-of-memory killer, say: one message that names the log, and the meters' reader is gone too."""
    process = start(window_s=0.3)
    wait_for_event(tmp_path / "out", "trial", trial=0)
    running = family(process)
    running[1].kill()
    _, err = process.communicate(timeout=60)
    [result] = llem.load_results(tmp_path / "out").values()

    assert process.returncode == 1
    assert "error: the worker ended with status -9 and no outcome" in err.splitlines()
    log = tmp_path / "out" / "workers" / "0" / "log.txt"
    why = "this is how the system ends a process when memory runs out"
    assert f"  see {log}; {why}" in err.splitlines()
    assert resumes(err, tmp_path / "out")
    assert_gone(running)
    assert result.outcome == "crash"
    assert result.trials >= 1
    assert result.metrics["energy_j"].value is not None
    assert verify(Store.open(tmp_path / "out")) == []


@pytest.mark.parametrize("victims", [(0,), (1,), (0, 1)], ids=["command", "worker", "both"])
def test_nothing_outlives_what_is_killed(start, tmp_path: Path, victims: tuple[int, ...]) -> None:
    """Without a chance to say anything: the worker, its guard and the meters' reader go, also in a trial of minutes."""
    process = start(window_s=900.0)
    wait_for_event(tmp_path / "out", "phase", phase="trial")
    running = family(process)
    for victim in victims:
        running[victim].kill()
    process.communicate(timeout=60)

    assert_gone(running)


def test_an_interrupt_within_an_evaluation_keeps_what_is_scored(start, tmp_path: Path) -> None:
    """Trials and the first task stay, the exit code is 130; going on repeats neither, and ends with 0."""
    section = "{evaluator: spelling, tasks: [colour, fruit], force: true, item_s: 0.3}"
    settings = [f"--set=quality={section}", "--set=trials=2"]
    process = start(*settings, window_s=0.3)
    wait_for_event(tmp_path / "out", "phase", task="fruit")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    [before] = llem.load_results(tmp_path / "out").values()
    again = start(*settings, "--resume", window_s=0.3)
    again.communicate(timeout=60)
    [after] = llem.load_results(tmp_path / "out").values()

    assert process.returncode == 130
    assert "error: interrupted" in err.splitlines()
    assert resumes(err, tmp_path / "out")
    assert (before.outcome, before.trials, before.metrics["quality.colour"].value) == ("done", 2, 0.5)
    assert before.metrics["quality.fruit"].reason == "not_evaluated"
    assert again.returncode == 0
    assert (after.outcome, after.trials, after.metrics["quality.fruit"].value) == ("done", 2, 0.75)
    lines = (tmp_path / "out" / "workers" / "1" / "events.jsonl").read_text().splitlines()
    assert {event.get("task") for event in map(json.loads, lines) if event["event"] == "phase"} == {None, "fruit"}
    assert not any(json.loads(line)["event"] == "trial" for line in lines)
    assert verify(Store.open(tmp_path / "out")) == []


def test_a_task_that_cannot_be_evaluated_ends_the_command_with_1(start, tmp_path: Path) -> None:
    """The trials are valid; the scores that were asked for are not there."""
    section = "{evaluator: spelling, tasks: [colour, fruit], force: true, fail_in: colour}"
    process = start(f"--set=quality={section}", "--set=trials=2", window_s=0.3)
    out, err = process.communicate(timeout=60)
    [result] = llem.load_results(tmp_path / "out").values()

    assert process.returncode == 1
    assert (
        "warning: the evaluation of quality failed: colour: RuntimeError: device lost, in the plugin llem-lab 1.2"
        in err.splitlines()
    )
    assert (
        "the evaluation of quality failed: colour: RuntimeError: device lost, in the plugin llem-lab 1.2"
        in " ".join(out.split())
    )
    assert (result.outcome, result.valid, result.metrics["quality.fruit"].value) == ("done", True, 0.75)
