"""Files as people have them, measured through the command line: every form under every kind of load that fits it."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from llem.store.store import Store

pytestmark = [pytest.mark.process, pytest.mark.timeout(400)]  # an engine may take a minute to start

LOADS: dict[str, dict[str, Any]] = {
    "offline": {"kind": "offline", "batch_size": 3},
    "closed": {"kind": "closed", "concurrency": 2},
    "open": {"kind": "open", "request_rate": 40},
    "replay": {"kind": "replay"},
}
#: File to settings of the workload; with a trace a replay goes too.
WORKLOADS: dict[str, dict[str, Any]] = {
    "sharegpt.json": {"kind": "file", "output_tokens": "file"},
    "batch.jsonl": {"kind": "file", "output_tokens": "file"},
    "table.csv": {"kind": "file", "output_tokens": "file", "order": "shuffled"},
    "mooncake.jsonl": {"kind": "trace"},
    "burstgpt.csv": {"kind": "trace", "skip_empty": True},
    "azure.csv": {"kind": "trace"},
}
CASES = [(name, load) for name in WORKLOADS for load in LOADS if load != "replay" or WORKLOADS[name]["kind"] == "trace"]


def measured(run_llem, shapes, name: str, load: str, backend: str = "echo", code: int = 0, **more: Any):
    """Run once; the store and the rows of requests, or what the command said where it was to end otherwise."""
    Path(name).write_text(shapes[name]())
    settings = {
        "workload": {**WORKLOADS.get(name, {"kind": "file"}), "path": name, **more},
        "load": LOADS[load],
        "device": "cpu",
        "dtype": "float32",
        "window_s": 0.3,
        "warmup": {"batches": 1, "seconds": 0},
        "baseline": {"seconds": 0},
        **({"echo": {"token_seconds": 0.001}} if backend == "echo" else {}),
    }
    flags = [word for key, value in settings.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    done = run_llem("run", "-b", backend, "--preset", "quick", "-o", "out", *flags)
    assert done.exit_code == code, done
    if code:
        return done.stderr
    store = Store.open("out")
    [experiment_id] = store.experiment_ids()
    [table] = Path("out").rglob("trial-0.requests.csv.gz")
    with gzip.open(table, "rt", newline="") as file:
        return store.engines(experiment_id)[0], list(csv.DictReader(file))


@pytest.mark.parametrize(("name", "load"), CASES, ids=[f"{name}-{load}" for name, load in CASES])
def test_each_file_under_each_load(run_llem, shapes, name: str, load: str) -> None:
    """Requests have the lengths of the file's rows."""
    engine, rows = measured(run_llem, shapes, name, load)
    told = engine["workload"]

    assert told["file"] == name
    assert rows
    assert all(int(row["input_tokens"]) > 0 for row in rows)
    if name == "mooncake.jsonl":
        whole = [json.loads(line) for line in shapes[name]().splitlines()]
        wanted = {(row["input_length"], row["output_length"]) for row in whole}
        done = [row for row in rows if row["finish_reason"] == "length"]
        assert {(int(row["input_tokens"]), int(row["output_tokens"])) for row in done} <= wanted


def test_what_no_engine_here_can_template_is_refused_by_row(run_llem, shapes) -> None:
    """A `shape:` model has no chat template; the message names the first row, and nothing is measured."""
    told = measured(run_llem, shapes, "messages.jsonl", "offline", code=2)
    assert "messages.jsonl:1: `shape:` models have no chat template" in told


@pytest.mark.backends("pytorch")
def test_a_model_measures_the_prompts_that_fit(run_llem, shapes) -> None:
    """With a real engine: a row beyond its positions is refused by name, or left out and counted."""
    shapes = {**shapes, "long.jsonl": lambda: "\n".join(json.dumps({"prompt": "a" * n}) for n in (8, 9000, 12))}
    told = measured(run_llem, shapes, "long.jsonl", "offline", "pytorch", code=2, output_tokens=3)
    assert "long.jsonl:2: 9000 tokens of the prompt and 3 to generate are more than" in told
    engine, rows = measured(run_llem, shapes, "long.jsonl", "offline", "pytorch", output_tokens=3, too_long="skip")
    assert {row["input_tokens"] for row in rows} == {"8", "12"}
    assert engine["workload"]["too_long"] == 1
    assert [one["code"] for one in engine["findings"] if one["code"] == "prompts_skipped"]


@pytest.mark.backends("pytorch")
def test_a_model_measures_conversations(run_llem, shapes) -> None:
    """ShareGPT's first turns, with the lengths of their answers."""
    engine, rows = measured(run_llem, shapes, "sharegpt.json", "offline", "pytorch")
    assert engine["workload"]["rows"] == "a conversation"
    assert rows
