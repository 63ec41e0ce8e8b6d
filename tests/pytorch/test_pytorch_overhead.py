"""The benchmark of llem's own cost, on a CPU: its reports survive a deadline, and are pooled."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from llem.protocol.events import Calibrated, Phase, TrialEnded

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
QUICK = ("--model", "shape:tiny", "--output", "4", "--set", "window_s=0.1", "--set", "warmup.seconds=0")


def script(name, *arguments):
    """Run a benchmark; its output."""
    command = [sys.executable, str(BENCHMARKS / name), *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=200).stdout


@pytest.fixture
def interleaver(monkeypatch):
    """The class that puts the loop by hand between trials."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.delitem(sys.modules, "overhead", raising=False)
    import overhead

    return overhead.Interleaver


@pytest.mark.process
def test_a_report_and_its_pool(tmp_path):
    """Each batch size has a report of its pairs, without energy where nothing counts it; they can be pooled."""
    script("overhead.py", tmp_path, "--batch", 1, 2, "--trials", 2, *QUICK, "--set", "baseline.seconds=0")
    paths = [tmp_path / f"overhead-pytorch-batch-{batch}.json" for batch in (1, 2)]
    for path in paths:
        report = json.loads(path.read_text())
        assert report["trials"] == report["throughput_ratio"]["n"] == len(report["hand_windows"]) == 2
        assert report["energy_ratio"] is None
        assert any(found.startswith("short_window") for found in report["findings"])
    throughput, energy = script("pool.py", *paths).splitlines()
    assert json.loads(throughput.removeprefix("throughput_ratio"))["pairs"] == 4
    assert energy == "energy_ratio null"


@pytest.mark.process
def test_a_deadline_ends_the_pairs(tmp_path):
    """No pair begins that would not be done in time, no batch size either, and the end is a good one."""
    told = script("overhead.py", tmp_path, "--batch", 1, 2, "--trials", 50, "--deadline", 0.1, *QUICK)
    assert "no time left for another pair: 1 of 50" in told
    assert "no time left for batches of 2" in told
    assert not list(tmp_path.glob("*.json"))


def test_each_pair_is_told(interleaver):
    """After every trial there are as many windows by hand, before it for odd ones and after it for even ones."""
    order, pairs = [], []

    class Hand:
        def window(self, batches):
            order.append(f"hand {batches}")
            return {}

    turns = interleaver(Hand, lambda windows: pairs.append(len(windows)))
    turns(Calibrated(id="a", trial_s=1.0, settle_s=0.0, after_s=0.0, batches=3))
    for trial in range(3):
        turns(Phase(phase="trial", id="a", trial=trial))
        order.append("llem")
        turns(TrialEnded(id="a", trial=trial, t0_ns=0, t1_ns=1, duration_s=1e-9, output_tokens_per_s=1.0))
    assert order == ["llem", "hand 3", "hand 3", "llem", "llem", "hand 3"]
    assert pairs == [1, 2, 3]
