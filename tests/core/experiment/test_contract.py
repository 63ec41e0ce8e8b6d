"""What a stranger's backend does wrong is told as the study runs: the rule, what was got, and what is right."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import llem
from llem.errors import LlemError
from llem.plugins.registry import registry

LAB = Path(__file__).parents[1] / "lab"
OPEN = {"kind": "closed", "concurrency": 2}
QUICK = {
    "preset": "quick",
    "trials": 1,
    "window_s": 0.1,
    "warmup": {"batches": 1, "seconds": 0.0},
    "baseline": {"seconds": 0},
    "workload": {"kind": "synthetic", "input_tokens": 4, "output_tokens": 16},
    "device": "cpu",
    "meters": [],
    "launcher": "inline",
}

Run = Callable[..., "llem.Result"]


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolated_llem) -> Iterator[Run]:
    """Install the distribution llem-stranger, and run its backend with a fault and settings."""
    info = tmp_path / "site" / "llem_stranger-0.3.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: llem-stranger\nVersion: 0.3\n")
    (info / "entry_points.txt").write_text("[llem]\nstranger = llem_stranger_hooks\n")
    path = [str(info.parent), str(LAB), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    for entry in path[:2]:
        monkeypatch.syspath_prepend(entry)
    registry.cache_clear()

    def run(fault: str = "none", **settings: Any) -> Any:
        options = {"token_seconds": 0.0002, "fault": fault, **settings.pop("options", {})}
        made = {**QUICK, "backend": "stranger", "stranger": options, **settings}
        with suppress(LlemError):  # the result is stored all the same
            llem.run(out=tmp_path / "out", **made)
        [found] = llem.load_results(tmp_path / "out").values()
        return found

    yield run
    registry.cache_clear()


def codes(result: Any) -> set[str]:
    return {found.code for found in result.findings}


ORDER = "completions stand in the order of the requests, one for each: got"
TIMED = {"token_times": True}
BATCHES = {"load": {"kind": "offline", "batch_size": 3}}
BROKEN: list[tuple[str, dict[str, Any], str]] = [
    ("order", BATCHES, f"{ORDER} request 2 at place 0, expected request 0"),
    ("one less", BATCHES, f"{ORDER} 2 completions, expected 3"),
    ("tensors", {}, "token ids are Python integers of the vocabulary: got tensor("),
    ("padding", {}, "token ids are Python integers of the vocabulary: got -1 (int) for request 0"),
    ("unasked times", {}, "token times come only when they are asked for: got times of request 0, expected None"),
    ("wall clock", TIMED, "times are time.monotonic_ns() at which tokens came, within the call: got request 0"),
    ("seconds", TIMED, "times are integers of nanoseconds: got"),
    ("backwards", TIMED, "times do not go backwards: got times of request 0 that do"),
    ("too few times", TIMED, "each token has a time: got 15 for request 0, expected 16"),
    (
        "interpolated",
        TIMED,
        "times are read from the clock as tokens come, and not computed: got 16 times of request 0",
    ),
    ("no memory", {}, "peak memory is a number of bytes above 0, or None: got 0, expected an int above 0, or None"),
    ("no reason", {}, "peak memory that is not known has a reason: got 'I forgot'"),
    ("not JSON", {}, "effective_config gives JSON values: no tuples, no keys but text, no NaN: got 'devices': (0, 1)"),
    ("wall clock", {"load": OPEN}, "times are time.monotonic_ns() at which tokens came, within the call: got request"),
    ("more ids", {"load": OPEN}, "a chunk has as many ids as tokens, or none at all: got 2 ids in a chunk of 1"),
]


@pytest.mark.parametrize(("fault", "settings", "told"), BROKEN, ids=[f"{one}-{len(two)}" for one, two, _ in BROKEN])
def test_a_broken_rule_ends_the_experiment(stranger: Run, fault: str, settings: dict[str, Any], told: str) -> None:
    """It is invalid, has no figure, and names the backend, the rule, what was got and expected, and the page."""
    found = stranger(fault, **settings)

    assert (found.outcome, found.valid) == ("invalid", False)
    assert f"the stranger backend breaks a rule of backends: {told}" in found.error
    assert found.error.endswith("; see docs/howto/write-a-backend.md")
    assert found.metrics["output_tokens_per_s"].value is None


@pytest.mark.parametrize("settings", [{}, TIMED, BATCHES, {"load": OPEN}], ids=["batch", "times", "batches", "stream"])
def test_a_backend_that_keeps_the_rules_is_measured(stranger: Run, settings: dict[str, Any]) -> None:
    """The same backend without a fault."""
    found = stranger(**settings)

    assert (found.outcome, found.error) == ("done", None)
    assert not codes(found) & {"setting_overruled", "work_left"}
    assert found.metrics["output_tokens_per_s"].value > 0


def test_settings_that_the_engine_overrules_are_told(stranger: Run) -> None:
    """By what it says itself: an option, the dtype, the temperature; the result stands and is not publishable."""
    found = stranger(
        "overruled", dtype="float16", sampling={"temperature": 0.7}, options={"beams": 4, "token_seconds": 0.0002}
    )

    told = [one for one in found.findings if one.code == "setting_overruled"]
    assert found.outcome == "done"
    assert {one.evidence["parameter"]: (one.evidence["asked"], one.evidence["effective"]) for one in told} == {
        "stranger.beams": (4, 1),
        "dtype": ("float16", "float32"),
        "sampling.temperature": (0.7, 0.0),
    }
    assert {one.severity for one in told} == {"warning"}
    assert "dtype: asked for 'float16', and the engine says that it runs with 'float32'" in [
        one.message for one in told
    ]


def test_work_that_goes_on_after_generate_is_told(stranger: Run) -> None:
    """A thread that computes on after the batch has returned."""
    found = stranger("work left")

    [told] = [one for one in found.findings if one.code == "work_left"]
    assert told.evidence["cores"] >= 0.5
    assert told.severity == "warning"


def test_the_core_asks_whether_it_runs_where_it_was_placed(stranger: Run) -> None:
    """`device: auto` became the CPU: the backend's own check is asked again, and `load` never begins."""
    found = stranger("cpu", device="auto")

    assert found.outcome == "invalid"
    assert "backend stranger cannot run this on cpu" in found.error
    assert "stranger runs on GPUs only" in found.error


@pytest.mark.process
def test_the_command_line_tells_a_broken_rule_in_one_message(stranger: Run, tmp_path: Path) -> None:
    """With the exit code of an experiment that failed, and no traceback."""
    settings = {"device": "cpu", "baseline.seconds": "0", "warmup.seconds": "0", "window_s": "0.1", "trials": "1"}
    command = [sys.executable, "-m", "llem", "run", "-b", "stranger", "--preset", "quick", "-o", "cli"]
    for name, value in {**settings, "stranger.fault": "one less"}.items():
        command += ["--set", f"{name}={value}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 1, done.stderr
    assert "the stranger backend breaks a rule of backends: completions stand in the order" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
