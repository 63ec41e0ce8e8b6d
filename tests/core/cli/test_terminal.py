"""Output where characters are missing: in another encoding, or with nowhere to go."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from llem import load_results
from llem.cli.terminal import fit_output

pytestmark = pytest.mark.process

QUICK = ("run", "-b", "echo", "--preset", "quick", "--set", "window_s=0.1")
AT_ONCE = ("--set", "warmup.seconds=0", "--set", "baseline.seconds=0")


def llem(*arguments, **environment):
    """`llem` as a process of its own with these environment variables."""
    return subprocess.run(
        [sys.executable, "-m", "llem", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", b"1.5 +- 0.1 \\xe4"),
        ("latin-1", b"1.5 \xb1 0.1 \xe4"),
        ("utf-8", "1.5 ± 0.1 ä".encode()),
    ],
)
def test_what_an_encoding_lacks_is_written_in_ascii(encoding, shown, monkeypatch):
    """Signs of figures become ASCII where they must, and other characters their escapes; nothing else changes."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))

    fit_output()
    print("1.5 ± 0.1 ä", end="", flush=True)

    assert raw.getvalue() == shown


def test_an_experiment_ends_well_where_output_is_ascii(tmp_path):
    """A measurement is not lost for a character that the terminal cannot show."""
    done = llem(*QUICK, *AT_ONCE, "-o", str(tmp_path / "out"), PYTHONIOENCODING="ascii", PYTHONUTF8="0", LC_ALL="C")

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"echo | shape:tiny | bfloat16 | batch 1\n")


def test_closed_standard_output_is_no_bug():
    """A command whose standard output was closed before it began ends as it would otherwise."""
    done = subprocess.run(
        ["sh", "-c", '"$0" -m llem plugins >&-', sys.executable], capture_output=True, timeout=60, check=False
    )

    assert (done.returncode, done.stderr) == (0, b"")


STUDY = """
name: pipe
base: {backend: echo, device: cpu, preset: quick, window_s: 0.1, warmup: {seconds: 0}, baseline: {seconds: 0}}
axes: {load.batch_size: [1, 2]}
trials: 3
"""


def measured(out):
    """Trials that are stored."""
    return len(list(out.glob("experiments/*/trial-*.json")))


@pytest.mark.parametrize(("lost", "code"), [("stderr", 0), ("both", 141)])
def test_a_study_goes_on_when_its_reader_goes_away(lost, code, tmp_path):
    """To its end; 141 says that its table could not be shown, and progress alone is not missed."""
    (tmp_path / "study.yaml").write_text(STUDY)
    out, table = tmp_path / "out", tmp_path / "table"
    with table.open("wb") as shown:
        process = subprocess.Popen(
            [sys.executable, "-m", "llem", "run", str(tmp_path / "study.yaml"), "-o", str(out)],
            stdout=shown if lost == "stderr" else subprocess.PIPE,
            stderr=subprocess.PIPE if lost == "stderr" else subprocess.STDOUT,
        )
        pipe = process.stderr if lost == "stderr" else process.stdout
        assert pipe.readline() == b"pipe: 2 experiments\n"
        pipe.close()
        assert process.wait(timeout=100) == code

    assert measured(out) == 6
    assert (b"done" in table.read_bytes()) == (lost == "stderr")
    assert [result.outcome for result in load_results(out).values()] == ["done"] * 2


def test_an_interrupt_that_ends_the_reader_too_ends_after_the_trial(tmp_path):
    """As with `llem run … 2>&1 | tee log`, where Ctrl-C is for both: the trial in hand is stored, no process left."""
    slow = STUDY.replace("0.1", "3.0, echo: {token_seconds: 0.001}")  # few requests to make before a window
    (tmp_path / "study.yaml").write_text(slow.replace("trials: 3", "trials: 50"))
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "llem", "run", str(tmp_path / "study.yaml"), "-o", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    while b"trial 0" not in process.stdout.readline():
        pass
    events = out / "workers" / "0" / "events.jsonl"
    while '"phase": "trial"' not in events.read_text().splitlines()[-1]:
        time.sleep(0.02)
    time.sleep(0.5)  # well into its window
    children = psutil.Process(process.pid).children(recursive=True)
    process.stdout.close()
    before = measured(out)
    process.send_signal(signal.SIGINT)

    assert process.wait(timeout=100) == 141
    assert measured(out) == before + 1
    assert {result.error for result in load_results(out).values()} == {"stopped by the user"}
    assert psutil.wait_procs(children, timeout=10)[1] == []


def test_a_mistake_keeps_its_code_when_nobody_reads_of_it(tmp_path):
    """There is nothing else left to tell it with."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "llem", "show", str(tmp_path)], stderr=closed, timeout=60, check=False
        )

    assert done.returncode == 2


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_disk_that_is_full_of_progress_ends_no_study(tmp_path):
    """Where the log goes, and not the results."""
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "llem", *QUICK, *AT_ONCE, "-o", str(tmp_path / "out")]
        done = subprocess.run(command, stderr=full, stdout=subprocess.PIPE, timeout=100, check=False)

    assert done.returncode == 0
    assert done.stdout.startswith(b"echo")
