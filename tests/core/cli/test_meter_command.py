"""`llem meter`: whole runs of commands on a meter whose energy is known."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from llem.cli import cli
from llem.metrics.verify import verify
from llem.store.store import Store

pytestmark = pytest.mark.process

WATTS = 40.0
QUICK = ["--meters", "steady", "--baseline", "0", "--set", "device=cpu"]
SLEEP = [sys.executable, "-c", "import time; time.sleep(0.3)"]

#: A client of a server: it tells of two requests as `vllm bench serve --save-detailed` does, after some idle time.
CLIENT = """
import json, sys, time
time.sleep(0.3)
start = time.perf_counter()
time.sleep(0.4)
later = float(sys.argv[2]) if len(sys.argv) > 2 else 0.0
requests = {
    "start_times": [start + later, start + 0.1 + later], "ttfts": [0.1, 0.1], "itls": [[0.1, 0.1], [0.05]],
    "input_lens": [5, 7], "output_lens": [3, 2], "errors": ["", ""], "duration": 0.3, "model_id": "some/model",
    "request_throughput": 6.6, "output_throughput": 16.6, "mean_ttft_ms": 100.0, "p99_ttft_ms": 100.0,
}
open(sys.argv[1], "w").write(json.dumps(requests))
time.sleep(0.2)
"""


@pytest.fixture
def meter(lab, tmp_path: Path) -> Callable[..., Result]:
    """Call `llem meter … -o out`, quickly."""

    def _meter(*arguments: str, out: str = "out") -> Result:
        return CliRunner().invoke(cli, ["meter", *QUICK, "-o", str(tmp_path / out), *arguments])

    return _meter


def only(folder: Path) -> Any:
    store = Store.open(folder)
    [name] = store.result_ids()
    return store.read_result(name)


def test_energy_of_a_command_is_that_of_its_run(meter, tmp_path):
    """The window holds the whole run, and its energy is the meter's power times its length."""
    done = meter("--", *SLEEP)
    result = only(tmp_path / "out")
    energy, duration = (result.metrics[name] for name in ("energy_j", "duration_s"))

    assert done.exit_code == 0, done.output
    assert duration.value > 0.3
    assert energy.low <= WATTS * duration.value <= energy.high
    assert energy.scope == "node"
    assert result.weights == "unknown"
    assert result.outcome == "done"
    assert verify(Store.open(tmp_path / "out")) == []


def test_what_needs_tokens_is_absent_with_a_reason(meter, tmp_path):
    """Without a file of requests nothing is known of tokens, and nothing is 0."""
    meter("--", *SLEEP)
    metrics = only(tmp_path / "out").metrics

    known = {name for name, one in metrics.items() if one.value is not None}
    assert known == {"energy_j", "power_w", "duration_s"}
    assert {metrics[name].reason for name in ("energy_per_output_token_j", "ttft_s", "mfu", "requests_per_s")} == {
        "no_request_file"
    }
    assert metrics["energy_net_j"].reason == "no_baseline"


def test_tokens_of_a_request_file_give_energy_per_token(meter, tmp_path):
    """The window is that of the requests, and every token in it counts."""
    file = tmp_path / "requests.json"
    done = meter("--requests", str(file), "--", sys.executable, "-c", CLIENT, str(file))
    result = only(tmp_path / "out")
    metrics = result.metrics

    assert done.exit_code == 0, done.output
    assert metrics["duration_s"].value == pytest.approx(0.3, abs=1e-6)
    per_token = metrics["energy_per_output_token_j"]
    assert per_token.low <= WATTS * 0.3 / 5 <= per_token.high
    assert metrics["energy_per_request_j"].value == pytest.approx(per_token.value * 5 / 2)
    assert metrics["energy_per_token_j"].value == pytest.approx(per_token.value * 5 / 17)
    assert metrics["ttft_s"].value == pytest.approx(0.1, abs=1e-6)
    assert metrics["request_rate"].reason == "not_told"
    [told] = [one for one in result.findings if one.code == "requests_told"]
    assert told.evidence["window"] == "requests"
    [run] = result.effective["runs"]
    assert {"name": "mean_ttft_ms", "value": 100.0, "unit": "ms"} in run["stated"]
    assert result.effective["model"] == "some/model"
    assert "vLLM bench itself states" in done.output
    assert verify(Store.open(tmp_path / "out")) == []


def test_a_window_meter_measures_the_whole_run(lab, tmp_path):
    """A meter that cannot be read in between leaves the window as long as the command's run."""
    file, out = tmp_path / "requests.json", tmp_path / "out"
    quick = ["--meters", "watch", "--baseline", "0", "--set", "device=cpu", "-o", str(out), "--requests", str(file)]
    CliRunner().invoke(cli, ["meter", *quick, "--", sys.executable, "-c", CLIENT, str(file)])
    result = only(out)

    assert result.metrics["duration_s"].value > 0.9
    [told] = [one for one in result.findings if one.code == "requests_told"]
    assert told.evidence["window"] == "run"
    [beyond] = [one for one in result.findings if one.code == "window_beyond_requests"]
    assert beyond.evidence["requests_s"] == pytest.approx(0.3, abs=1e-6)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "cannot be read"),
        ("{", "neither JSON nor JSON lines"),
        ('{"request_throughput": 1.0}', "--save-detailed"),
        ('{"something": 1}', "no known format"),
        ('{"request_throughput": 1, "start_times": [1], "itls": 3}', "damaged"),
    ],
)
def test_a_file_without_requests_leaves_the_energy(meter, tmp_path, content, why):
    """The energy stands, with a finding that says what is wrong with the file."""
    file = tmp_path / "requests.json"
    program = "import sys\nif len(sys.argv) > 2: open(sys.argv[1], 'w').write(sys.argv[2])"
    words = [str(file)] if content is None else [str(file), content]
    meter("--requests", str(file), "--", sys.executable, "-c", program, *words)
    result = only(tmp_path / "out")

    assert result.metrics["energy_j"].value > 0
    assert result.metrics["energy_per_output_token_j"].reason == "no_request_file"
    [found] = [one for one in result.findings if one.code == "request_file_unread"]
    assert why in found.message


def test_a_file_of_an_earlier_run_is_refused(meter, tmp_path):
    """Requests that were there before the command say nothing of it."""
    file = tmp_path / "requests.json"
    file.write_text("{}")
    os.utime(file, (time.time() - 60, time.time() - 60))
    meter("--requests", str(file), "--", *SLEEP)

    assert any("older" in one.message for one in only(tmp_path / "out").findings)


def test_requests_outside_the_run_are_not_counted(meter, tmp_path):
    """Times of another clock, or of another run, lie outside and are told."""
    file = tmp_path / "requests.json"
    meter("--requests", str(file), "--", sys.executable, "-c", CLIENT, str(file), "1000")
    result = only(tmp_path / "out")

    assert result.metrics["energy_per_output_token_j"].reason == "no_request_file"
    [found] = [one for one in result.findings if one.code == "requests_outside"]
    assert found.evidence == {"outside": 2, "requests": 2, "trials": [0]}


@pytest.mark.parametrize(
    ("document", "tool"),
    [
        ({name: [] for name in ("start_times", "ttfts", "itls", "input_lens", "output_lens", "errors")}, "vLLM bench"),
        ({"benchmarks": []}, "GuideLLM"),
    ],
    ids=["vllm", "guidellm"],
)
def test_a_file_of_no_request_is_no_valid_result(meter, tmp_path, document, tool):
    """The command ran and its file is whole, but it did nothing."""
    file = tmp_path / "requests.json"
    text = json.dumps({"request_throughput": 0.0, **document})
    program = "import sys; open(sys.argv[1], 'w').write(sys.argv[2])"
    meter("--requests", str(file), "--", sys.executable, "-c", program, str(file), text)
    result = only(tmp_path / "out")
    [found] = [one for one in result.findings if one.code == "no_work"]

    assert not result.valid
    assert f"of {tool}" in found.message
    assert "tells of no request" in found.message


def test_requests_that_took_no_time_are_no_valid_result(meter, tmp_path):
    """All failed as they were sent: their window is a moment, and nothing is divided by it."""
    file = tmp_path / "requests.json"
    program = (
        "import json, sys, time\n"
        "time.sleep(0.2)\n"
        "names = ('ttfts', 'itls', 'input_lens', 'output_lens', 'errors')\n"
        "told = {name: [one] for name, one in zip(names, (0.0, [], 5, 0, 'refused'))}\n"
        "told |= {'start_times': [time.perf_counter()], 'request_throughput': 0.0}\n"
        "open(sys.argv[1], 'w').write(json.dumps(told))\n"
    )
    done = meter("--requests", str(file), "--", sys.executable, "-c", program, str(file))
    result = only(tmp_path / "out")

    assert done.exit_code == 1
    assert not result.valid
    assert result.metrics["energy_per_output_token_j"].value is None
    assert result.metrics["output_tokens_per_s"].value is None


def test_a_command_that_was_stopped_is_no_valid_result(meter, tmp_path):
    """SIGSTOP for a second: its energy holds a time in which it did nothing. The exit code is still the command's."""
    program = (
        "import os, subprocess, sys, time\n"
        "one = f'sleep 1.2; kill -CONT {os.getpid()}'\n"
        "subprocess.Popen(['sh', '-c', one])\n"
        "os.kill(os.getpid(), 19)\n"
        "sys.exit(3)\n"
    )
    done = meter("--", sys.executable, "-c", program)
    result = only(tmp_path / "out")
    [found] = [one for one in result.findings if one.code == "paused"]

    assert done.exit_code == 3
    assert not result.valid
    assert 1.0 < found.evidence["paused_s"] < result.metrics["duration_s"].value
    assert "a signal stopped the command for at least" in found.message


def test_a_command_that_was_not_stopped_has_no_pause(meter, tmp_path):
    """Nor one that gets SIGCONT without having been stopped."""
    meter("--", sys.executable, "-c", "import os, time; os.kill(os.getpid(), 18); time.sleep(0.6)")
    result = only(tmp_path / "out")

    assert "paused" not in {one.code for one in result.findings}
    assert result.valid


def test_a_command_that_fails_is_stored_and_passed_on(meter, tmp_path):
    """llem ends with the command's code; the result is invalid, and no further run is made."""
    done = meter("--trials", "3", "--", sys.executable, "-c", "import sys; sys.exit(7)")
    result = only(tmp_path / "out")

    assert done.exit_code == 7
    assert (result.outcome, result.trials, result.valid) == ("invalid", 1, False)
    assert "command_failed" in {one.code for one in result.findings}
    assert result.metrics["energy_j"].value > 0


def test_a_signal_is_told_as_a_shell_does(meter):
    """128 and the number of the signal."""
    done = meter("--", sys.executable, "-c", "import os; os.kill(os.getpid(), 9)")

    assert done.exit_code == 128 + signal.SIGKILL
    assert "by SIGKILL" in done.output


def test_runs_of_one_command_add_up_in_a_store(meter, tmp_path):
    """The same command again is further trials; another one is another experiment, beside it."""
    meter("--name", "a", "--trials", "2", "--", *SLEEP)
    meter("--name", "a", "--", *SLEEP)
    meter("--name", "b", "--", *SLEEP, "again")
    store = Store.open(tmp_path / "out")
    trials = sorted(result.trials for name in store.result_ids() if (result := store.read_result(name)))
    shown = CliRunner().invoke(cli, ["show", str(tmp_path / "out")])

    assert trials == [1, 3]
    assert store.study()["axes"] == ["load.name"]
    assert len(store.study()["experiments"]) == 2
    assert verify(store) == []
    assert shown.exit_code == 0, shown.output
    assert [line for line in shown.output.splitlines() if " a " in line]


@pytest.mark.parametrize("view", ["compare", "export", "recommend", "verify"])
def test_views_read_what_was_metered(meter, tmp_path, view):
    """Every command that reads a store reads this one."""
    for name in ("a", "b"):
        file = tmp_path / f"{name}.json"
        program = [sys.executable, "-c", CLIENT, str(file)]
        meter("--name", name, "--trials", "2", "--requests", str(file), "--", *program)
    out = str(tmp_path / "out")
    names = Store.open(out).result_ids()
    more = {"compare": names, "export": ["-o", str(tmp_path / "r.csv")]}.get(view, [])
    done = CliRunner().invoke(cli, [view, out, *more])

    assert done.exit_code == 0, done.output


def test_a_table_of_commands_has_their_energy(meter, tmp_path):
    """Without a request file, it is the figure that is wanted; what needs tokens has no column."""
    for name in ("a", "b"):
        meter("--name", name, "--", sys.executable, "-c", "import time; time.sleep(0.3)")
    done = CliRunner().invoke(cli, ["show", str(tmp_path / "out")])
    heading = done.output.split("───")[0]

    assert "J (" in heading
    assert "window duration" in heading
    assert "token" not in heading
    page = str(tmp_path / "page.html")
    assert CliRunner().invoke(cli, ["report", str(tmp_path / "out"), "-o", page]).exit_code == 0
    text = Path(page).read_text(encoding="utf-8")
    assert "The energy is that of the command" in text
    assert not any(told in text for told in ("of the architecture", "lead-out of the same work", "model loaded"))


def test_a_store_of_something_else_is_refused(meter, tmp_path, lab):
    """Commands are added to commands alone."""
    settings = ["trials=1", "device=cpu", "window_s=0.1", "warmup.seconds=0", "baseline.seconds=0"]
    flags = [f"--set={one}" for one in settings]
    CliRunner().invoke(cli, ["run", "-b", "echo", "--launcher", "inline", "-o", str(tmp_path / "out"), *flags])
    done = meter("--", *SLEEP)

    assert done.exit_code == 2
    assert "not of commands" in done.output


def test_secrets_are_stored_nowhere(meter, tmp_path):
    """The command gets its key; no file of the store holds it."""
    program = "import sys; sys.exit(0 if 'hun' 'ter2' in sys.argv and 'KEY=hun' 'ter3' in sys.argv else 1)"
    done = meter("--", sys.executable, "-c", program, "--api-key", "hunter2", "KEY=hunter3")
    texts = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()]

    assert done.exit_code == 0, done.output
    assert not any(b"hunter2" in text or b"hunter3" in text for text in texts)
    assert "hunter2" not in done.output
    command = only(tmp_path / "out").effective["command"]
    assert command[-3:] == ["--api-key", "***", "KEY=***"]


def test_a_command_that_is_not_there_is_the_users_mistake(meter, tmp_path):
    """Nothing is measured, and no folder is left."""
    done = meter("--", "no-such-program")

    assert done.exit_code == 2
    assert "'no-such-program' is not found" in done.output
    assert not (tmp_path / "out").exists()


def test_without_a_meter_llem_says_what_to_do(lab, tmp_path, monkeypatch):
    """Exit code 3 before the command runs, and no folder."""
    monkeypatch.setattr("llem.meters.rapl.POWERCAP", tmp_path / "none")
    program = ["--", sys.executable, "-c", f"open({str(tmp_path / 'ran')!r}, 'w')"]
    done = CliRunner().invoke(cli, ["meter", "--set", "device=cpu", "-o", str(tmp_path / "out"), *program])

    assert done.exit_code == 3
    assert "llem doctor" in done.output
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "setting", ["dtype=float16", "window_s=3", "warmup.seconds=1", "sampling.temperature=1", "load.kind=offline"]
)
def test_settings_without_effect_are_refused(meter, setting):
    """A command follows none of them."""
    done = meter("--set", setting, "--", *SLEEP)

    assert done.exit_code == 2
    assert re.split("[.=]", setting)[0] in done.output


# what the terminal sees


@pytest.fixture
def start(lab, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a real `llem meter`."""
    started: list[subprocess.Popen[str]] = []

    def _start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "llem", "meter", *QUICK, "-o", str(tmp_path / "out"), *arguments]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen(command, text=True, cwd=tmp_path, start_new_session=True, **pipes))
        return started[-1]

    yield _start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_the_command_keeps_its_input_and_its_output(start):
    """Standard output is the command's alone."""
    process = start("--", sys.executable, "-c", "print('got', input())")
    out, err = process.communicate("a line\n", timeout=60)

    assert out == "got a line\n"
    assert "window energy" in err


def test_json_is_alone_on_standard_output(start):
    """What the command prints goes to standard error then."""
    process = start("--json", "--", sys.executable, "-c", "print('hello')")
    out, err = process.communicate(timeout=60)

    assert json.loads(out)["config"]["backend"] == "command"
    assert "hello" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_reaches_the_command_and_what_was_measured_is_stored(start, tmp_path, number):
    """The command ends in its own way; the result is there, as interrupted."""
    program = (
        "import pathlib, time\n"
        "try:\n"
        "    pathlib.Path('began').touch(); time.sleep(600)\n"
        "except KeyboardInterrupt:\n"
        "    pathlib.Path('interrupted').touch()\n"
    )
    process = start("--trials", "2", "--", sys.executable, "-c", program)
    until = time.monotonic() + 60
    while not (tmp_path / "began").exists() and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(number)
    process.communicate(timeout=60)
    result = only(tmp_path / "out")

    assert process.returncode == 130
    assert (tmp_path / "interrupted").exists()
    assert (result.outcome, result.trials, result.valid) == ("interrupted", 1, False)
    assert "command_interrupted" in {one.code for one in result.findings}
    assert result.metrics["energy_j"].value > 0
