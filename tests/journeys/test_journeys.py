"""Every workload with every arrival on every backend that needs no GPU: from a study's file to its tables.

The journeys know the command line, its JSON and the folder of results as `docs` describes them, and nothing else.
"""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import math
import socket
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.process, pytest.mark.timeout(400)]  # an engine may take a minute to start

#: Settings of each workload, and the tokens in and out that its requests may have.
WORKLOADS: dict[str, tuple[dict[str, Any], set[tuple[int, int]]]] = {
    "synthetic": ({"kind": "synthetic", "input_tokens": 8, "output_tokens": 4}, {(8, 4)}),
    "prompts": ({"kind": "prompts", "input_tokens": 16, "output_tokens": 4, "order": "shuffled"}, {(16, 4)}),
    "text": ({"kind": "file", "path": "lines.txt", "output_tokens": 4}, {(9, 4), (20, 4)}),
    "jsonl": ({"kind": "file", "path": "lines.jsonl", "field": "said", "output_tokens": 3}, {(9, 3), (20, 3)}),
    "trace": ({"kind": "trace", "path": "trace.csv"}, {(8, 4), (12, 3), (5, 6), (9, 2)}),
}
ARRIVALS: dict[str, dict[str, Any]] = {
    "offline": {"kind": "offline", "batch_size": 2},
    "closed": {"kind": "closed", "concurrency": 2},
    "open": {"kind": "open", "request_rate": 40},
    "capacity": {"kind": "open", "capacity_share": 0.5, "probe_concurrency": 4, "probe_seconds": 0.2},
    "replay": {"kind": "replay"},
}
BACKENDS: dict[str, dict[str, Any]] = {
    "echo": {"echo": {"token_seconds": 0.003}},
    "pytorch": {},
    "openai": {"dtype": "auto"},  # and a server, see `server`
    "vllm": {"vllm": {"enforce_eager": True}, "window_s": 0.4},  # beside other work 0.2 s may pass without a token
}
#: vLLM needs versions of its own, so its environment is not that of the others: there it is journeyed with alone.
HERE = ["vllm"] if find_spec("vllm") else ["echo", "pytorch", "openai"]
STREAMING = ("echo", "openai", "vllm")
BASE = {
    "model": "shape:tiny",
    "device": "cpu",
    "dtype": "float32",
    "preset": "quick",
    "window_s": 0.2,
    "trials": 2,
    "warmup": {"batches": 1, "seconds": 0},
    "baseline": {"seconds": 0.2, "discard_seconds": 0},
}


def refusal(backend: str, arrival: str, workload: str) -> str | None:
    """Why llem refuses a combination, in its own words; None where it measures it."""
    if arrival != "offline" and backend not in STREAMING:
        return f"the {backend} backend does not stream"
    if arrival == "replay" and workload != "trace":
        return f"requests of the workload '{WORKLOADS[workload][0]['kind']}' have no arrival times"
    return None


COMBINATIONS = list(itertools.product(HERE, ARRIVALS, WORKLOADS))
REFUSED = [one for one in COMBINATIONS if refusal(*one) is not None]
#: A study each, with one engine: all that is measured of a backend, in batches or served.
JOURNEYS: dict[tuple[str, str], list[tuple[str, str]]] = {}
for _backend, _arrival, _workload in (one for one in COMBINATIONS if one not in REFUSED):
    _kind = "offline" if _arrival == "offline" else "serving"
    JOURNEYS.setdefault((_backend, _kind), []).append((_arrival, _workload))


@pytest.mark.parametrize(("backend", "kind"), JOURNEYS)
def test_journey(llem: Callable[..., Any], folder: Path, backend: str, kind: str) -> None:
    """Measured, shown, verified and exported alike; going on finds nothing to do, or the one trial that is gone."""
    file, out = write_study(folder, backend, JOURNEYS[backend, kind]), folder / "out"
    llem("plan", file)
    llem("run", file, "-o", out)
    results = json.loads(llem("show", out, "--json").stdout)
    assert len(results) == len(JOURNEYS[backend, kind])
    for result in results:
        check_metrics(result)
        check_requests(result, out)
    table = llem("show", out).stdout
    assert all(result["id"][:8] in table for result in results)
    assert "identical" in llem("verify", out).stdout
    check_exports(llem, out, results)

    before = written(out)
    again = json.loads(llem("run", file, "-o", out, "--resume", "--json").stdout)
    assert sorted(again, key=by_id) == sorted(results, key=by_id)
    assert written(out) == before
    if kind == "offline":
        lost = min(out.glob("experiments/*/trial-1.json"))
        lost.unlink()
        llem("run", file, "-o", out, "--resume")
        assert {path for path, at in written(out).items() if trial(path) and before[path] != at} == {lost}
        assert "identical" in llem("verify", out).stdout


@pytest.mark.parametrize(("backend", "arrival", "workload"), REFUSED)
def test_what_is_refused(llem: Callable[..., Any], folder: Path, backend: str, arrival: str, workload: str) -> None:
    """The user's mistake: told with its place, its cause and what to do, before anything is written."""
    file = write_study(folder, backend, [(arrival, workload)])
    told = llem("run", file, "-o", folder / "out", code=2).stderr
    assert f"kind: is '{ARRIVALS[arrival]['kind']}'" in told
    assert str(refusal(backend, arrival, workload)) in told
    assert "(use {kind: " in told
    assert not (folder / "out").exists()


def write_study(folder: Path, backend: str, pairs: Sequence[tuple[str, str]]) -> Path:
    """A study of these arrivals and workloads: an axis of either, and what is not wanted of their product left out."""
    if backend != "echo" and find_spec(f"llem_{backend}") is None:
        pytest.skip(f"llem-{backend} is not installed")
    arrivals, workloads = (list(dict.fromkeys(names)) for names in zip(*pairs, strict=True))

    def point(arrival: str, workload: str) -> dict[str, Any]:
        return {"load": ARRIVALS[arrival], "workload": WORKLOADS[workload][0]}

    study = {
        "base": {**BASE, "backend": backend, **BACKENDS[backend], **(server() if backend == "openai" else {})},
        "axes": {
            "load": [ARRIVALS[arrival] for arrival in arrivals],
            "workload": [WORKLOADS[workload][0] for workload in workloads],
        },
        "exclude": [point(*one) for one in itertools.product(arrivals, workloads) if one not in pairs],
    }
    path = folder / "study.yaml"
    path.write_text(json.dumps(study))  # JSON is YAML
    return path


def server() -> dict[str, Any]:
    """Settings that have a stand-in for an OpenAI-compatible server started, on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    endpoint = Path(__file__).parents[1] / "openai" / "endpoint.py"
    command = [sys.executable, str(endpoint), "--port", str(port), "--delay", "0.003"]
    return {"openai": {"base_url": f"http://127.0.0.1:{port}/v1", "command": command}}


def by_id(result: dict[str, Any]) -> str:
    return str(result["id"])


def trial(path: Path) -> bool:
    return path.match("trial-*.json")


def written(out: Path) -> dict[Path, int]:
    """When each file of the experiments, and of the processes that measured them, was written."""
    files = (path for part in ("experiments", "workers") for path in (out / part).rglob("*") if path.is_file())
    return {path: path.stat().st_mtime_ns for path in files}


def check_metrics(result: dict[str, Any]) -> None:
    """A valid result: each metric is a number or says why not, and what was not measured is no number."""
    metrics, about = result["metrics"], (result["config"]["load"], result["config"]["workload"])
    assert (result["outcome"], result["error"], result["valid"], result["trials"]) == ("done", None, True, 2), about
    for name, found in metrics.items():
        assert found["reason"] if found["value"] is None else math.isfinite(found["value"]), (about, name, found)
    for name in ("output_tokens_per_s", "requests_per_s", "duration_s"):
        assert metrics[name]["value"] > 0, (about, name)
    assert (metrics["ttft_p50_s"]["value"] is None) == (about[0]["kind"] == "offline"), about
    energy = metrics["energy_j"]
    if result["domains"]:
        assert energy["value"] > 0, about
        assert energy["kind"] in ("measured", "modelled"), about
    else:
        assert (energy["value"], energy["reason"]) == (None, "no_meter"), about


def check_requests(result: dict[str, Any], out: Path) -> None:
    """Every request of every trial had the tokens that its workload says."""
    stated = result["config"]["workload"]
    [expected] = [lengths for given, lengths in WORKLOADS.values() if given.items() <= stated.items()]
    for index in range(result["trials"]):
        with gzip.open(out / "experiments" / result["id"] / f"trial-{index}.requests.csv.gz", "rt") as file:
            counted = {(int(row["input_tokens"]), int(row["output_tokens"])) for row in csv.DictReader(file)}
        assert counted, stated
        assert counted <= expected, stated


def check_exports(llem: Callable[..., Any], out: Path, results: Sequence[dict[str, Any]]) -> None:
    """Both tables have a row for each result, with its figures."""
    expected = {result["id"]: result["metrics"]["output_tokens_per_s"]["value"] for result in results}
    rows: dict[str, list[dict[str, Any]]] = {
        "csv": list(csv.DictReader(llem("export", out, "--format", "csv").stdout.splitlines())),
        "jsonl": [json.loads(line) for line in llem("export", out, "--format", "jsonl").stdout.splitlines()],
    }
    for kind, found in rows.items():
        assert len(found) == len(results), kind
        assert {row["id"]: float(row["output_tokens_per_s"]) for row in found} == expected, kind
