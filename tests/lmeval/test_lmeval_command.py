"""Quality by the command line: a study on the PyTorch backend, as a user writes it."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.process,
    pytest.mark.timeout(400),
]  # lm-eval and torch take seconds to import, in each process

STUDY: dict[str, Any] = {
    "base": {
        "backend": "pytorch",
        "device": "cpu",
        "dtype": "float32",
        "preset": "quick",
        "window_s": 0.2,
        "trials": 1,
        "warmup": {"batches": 1, "seconds": 0},
        "baseline": {"seconds": 0.2, "discard_seconds": 0},
        "workload": {"input_tokens": 8, "output_tokens": 4},
    },
    "axes": {"load.batch_size": [1, 2]},
}


@pytest.fixture
def llem(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`llem("plan", "study.yaml", code=2)`: the ended process, which must have ended with this code."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("LLEM_")}
    environ |= {"LLEM_CONFIG": str(tmp_path / "config.yaml"), "HF_HUB_OFFLINE": "1", "COLUMNS": "160"}
    (tmp_path / "config.yaml").write_text("")

    def run(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "llem", *words]
        done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
        return done

    return run


def _study(tmp_path: Path, model: str, quality: dict[str, Any]) -> None:
    base = {**STUDY["base"], "model": model, "quality": {"evaluator": "lmeval", **quality}}
    (tmp_path / "study.yaml").write_text(json.dumps({**STUDY, "base": base}))


def test_a_study_has_quality_beside_energy(llem, tasks, models, tmp_path):
    """Both experiments share the engine: it is scored once, and its scores and items are with both."""
    wanted = {"tasks": ["toy_choice", "toy_answer"], "include_path": [tasks], "limit": 6}
    _study(tmp_path, models["bos"], wanted)

    llem("run", "study.yaml", "-o", "out", "--quiet")

    results = json.loads(llem("show", "out", "--json").stdout)
    assert len(results) == 2
    first, second = ([one["metrics"][f"quality.{task}"] for task in wanted["tasks"]] for one in results)
    assert first == second
    assert first[0]["n"] == 6
    assert "quality.toy_choice.acc_norm" in results[0]["metrics"]
    folder = tmp_path / "out" / "experiments" / results[0]["id"]
    stored = [json.loads(path.read_text()) for path in folder.glob("quality-*.json")]
    assert {one["task"] for one in stored} == set(wanted["tasks"])
    assert all(one["about"]["lm_eval"].startswith("0.4.") for one in stored)
    for path in folder.glob("quality-*.items.jsonl.gz"):
        rows = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
        assert {len(row["id"]) for row in rows} <= {16, 18}
        assert any(row["response"] for row in rows)


def test_a_misspelt_task_ends_the_plan(llem, tasks, models, tmp_path):
    """With the path to the value and the nearest name, before anything runs."""
    _study(tmp_path, models["bos"], {"tasks": ["arc_eazy"]})

    told = llem("plan", "study.yaml", code=2)

    said = " ".join(told.stderr.split())
    assert "quality.tasks[0]: no task, group or tag 'arc_eazy' [2 points] (did you mean arc_easy?)" in said
    assert "Traceback" not in told.stderr
