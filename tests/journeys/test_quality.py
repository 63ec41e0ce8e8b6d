"""Quality beside energy by the command line: a study is planned, run, shown, verified, exported, and goes on.

What the evaluators are worth is tested with them; here each is one that a user has installed.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.process, pytest.mark.timeout(400)]  # an engine may take a minute to start

BACKEND = "vllm" if find_spec("vllm") else "pytorch"
BASE: dict[str, Any] = {
    "model": "shape:tiny",
    "backend": BACKEND,
    "device": "cpu",
    "dtype": "float32",
    "preset": "quick",
    "window_s": 0.2,
    "trials": 2,
    "warmup": {"batches": 1, "seconds": 0},
    "baseline": {"seconds": 0.2, "discard_seconds": 0},
    "workload": {"input_tokens": 8, "output_tokens": 4},
    **({"vllm": {"enforce_eager": True}} if BACKEND == "vllm" else {}),
}
TASK = """
task: parity
dataset_path: json
dataset_kwargs: {data_files: {test: FILE}}
test_split: test
output_type: multiple_choice
doc_to_text: "Is {{number}} even?"
doc_to_choice: [" yes", " no"]
doc_to_target: "{{odd}}"
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""


def perplexity(folder: Path) -> dict[str, Any]:
    """Two texts; the second is for going on."""
    (folder / "one.txt").write_text("The library opens at nine.\n\nIt closes at five.\n" * 4)
    (folder / "two.txt").write_text("Nobody reads after midnight.\n" * 8)
    return {"evaluator": "perplexity", "tasks": ["one.txt", "two.txt"]}


def lmeval(folder: Path) -> dict[str, Any]:
    """A task of the user's own, and the same under another name."""
    rows = [{"number": number, "odd": number % 2} for number in range(12)]
    (folder / "parity.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (folder / "tasks").mkdir()
    for name in ("parity", "again"):
        task = TASK.replace("FILE", str(folder / "parity.jsonl")).replace("task: parity", f"task: {name}")
        (folder / "tasks" / f"{name}.yaml").write_text(task)
    return {"evaluator": "lmeval", "include_path": ["tasks"], "tasks": ["parity", "again"]}


@pytest.mark.parametrize(("evaluator", "needs"), [(perplexity, "llem"), (lmeval, "llem_lmeval")])
def test_journey(llem: Callable[..., Any], folder: Path, evaluator: Callable[[Path], Any], needs: str) -> None:
    """Each engine is evaluated once; a task that is added is evaluated alone; random weights are refused, or told."""
    if find_spec(needs) is None:
        pytest.skip(f"{needs} is not installed")
    section = evaluator(folder)
    first, second = section["tasks"]
    file, out = folder / "study.yaml", folder / "out"

    def write(tasks: list[str], **more: Any) -> None:
        quality = {**section, "tasks": tasks, **more}
        study = {"base": {**BASE, "quality": quality}, "axes": {"load.batch_size": [1, 2]}}
        file.write_text(json.dumps(study))  # JSON is YAML

    write([first])
    assert "quality.force" in llem("run", file, "-o", out, code=2).stderr
    assert not out.exists()
    write([first], force=True)
    plan = llem("plan", file).stdout
    assert f"quality by {section['evaluator']}: {first}; once for each engine, after its last trial" in plan
    told = llem("run", file, "-o", out).stderr
    assert told.count(f"quality {first}") == 2  # its beginning and its end
    write([first, second], force=True)
    before = documents(out)
    llem("run", file, "-o", out, "--resume")

    results = json.loads(llem("show", out, "--json").stdout)
    names = [f"quality.{task}" for task in (first, second)]
    for result in results:
        assert (result["outcome"], result["valid"], result["trials"]) == ("done", True, 2)
        assert all(result["metrics"][name]["value"] is not None for name in names), result["metrics"]
        assert "quality_random_weights" in {found["code"] for found in result["findings"]}
    assert len({json.dumps([result["metrics"][name] for name in names]) for result in results}) == 1
    assert before.items() <= documents(out).items()
    assert phases(out, 0) == [first]
    assert phases(out, 1) == [second]
    assert "identical" in llem("verify", out).stdout
    assert " quality " in llem("show", out, "--time").stdout
    rows = list(csv.DictReader(llem("export", out, "--format", "csv").stdout.splitlines()))
    assert len(rows) == 2
    assert all(float(row[names[0]]) == results[0]["metrics"][names[0]]["value"] for row in rows)


def documents(out: Path) -> dict[Path, int]:
    """When each trial and each score was written."""
    files = [*out.glob("experiments/*/trial-*"), *out.glob("experiments/*/quality-*")]
    return {path: path.stat().st_mtime_ns for path in files}


def phases(out: Path, worker: int) -> list[str]:
    """Tasks that a worker evaluated, in order; none of its trials was measured between."""
    lines = (out / "workers" / str(worker) / "events.jsonl").read_text().splitlines()
    tasks = [event["task"] for event in map(json.loads, lines) if event.get("phase") == "quality"]
    return list(dict.fromkeys(tasks))
