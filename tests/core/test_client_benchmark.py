"""What `benchmarks/client.py` rests on: the log of true times, and how a tool's requests are held against it."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
import time
import urllib.request
from http.client import HTTPConnection
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MS = 1_000_000


@pytest.fixture
def benchmark_module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a module of the benchmark by its name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


@pytest.fixture
def truth(benchmark_module: Any) -> ModuleType:
    """Of the log, and of errors."""
    found: ModuleType = benchmark_module("client_truth")
    return found


def asked(truth: ModuleType, received_ms: int, tokens: int = 11, wanted: int = 11) -> Any:
    """A request with TTFT 100 ms and ITL 20 ms."""
    first = received_ms + 100
    last = first + 20 * (tokens - 1)
    return truth.Asked(received_ms * MS, first * MS, last * MS, wanted, tokens, 0, 0)


def seen(truth: ModuleType, start_ms: int, late_ms: int = 0, more_ms: int = 0) -> Any:
    """The same, sent at a time, the first token read late, and the last one later still."""
    first = start_ms + 100 + late_ms
    return truth.Seen(start_ms * MS, first * MS, (first + 200 + more_ms) * MS, 11)


def test_errors_are_what_was_read_late(truth: ModuleType) -> None:
    log = [asked(truth, 1000 + 50 * number) for number in range(20)]
    pairs = truth.matched([seen(truth, 1000 + 50 * number, late_ms=3, more_ms=1) for number in range(20)], log)
    found = truth.errors(truth.own(pairs), truth.truth(pairs))
    assert found["ttft_mean_ms"] == pytest.approx(3)
    assert found["itl_mean_percent"] == pytest.approx(0.5)
    assert found["e2el_p99_ms"] == pytest.approx(4)
    assert truth.single(pairs)["first_read_late_max_ms"] == pytest.approx(3)


def test_requests_before_the_first_and_broken_ones_are_not_taken(truth: ModuleType) -> None:
    """A warm-up comes before what a tool tells; an answer that the client left is no truth of a whole one."""
    warm, left, wanted = asked(truth, 0), asked(truth, 1000, tokens=4), asked(truth, 1000)
    ((_, row),) = truth.matched([seen(truth, 1000)], [warm, left, wanted])
    assert row is wanted


def test_a_request_without_a_row_is_not_matched(truth: ModuleType) -> None:
    assert len(truth.matched([seen(truth, 1000), seen(truth, 5000)], [asked(truth, 1000)])) == 1


def test_percentiles_are_interpolated(truth: ModuleType) -> None:
    assert truth.percentile([4.0, 1.0, 2.0, 3.0], 0.5) == 2.5
    assert truth.percentile([7.0], 0.99) == 7.0


def test_costs_of_events_and_requests_are_told_apart(benchmark_module: Any) -> None:
    """20 µs an event and 500 µs a request; a run that had no time left says nothing about either."""
    table = benchmark_module("client_table")

    def run(events: int, requests: int, seconds: float) -> dict[str, Any]:
        cpu_s = 20e-6 * events + 500e-6 * requests
        return {"tool": "a", "during": {"cpu_s": cpu_s, "seconds": seconds, "events": events, "requests": requests}}

    full = {"tool": "a", "during": {"cpu_s": 9.9, "seconds": 10.0, "events": 900_000, "requests": 3000}}
    found = table.costs([run(100_000, 390, 10), run(20_000, 1250, 10), full])["a"]
    assert found["us_per_event"] == pytest.approx(20)
    assert found["us_per_request"] == pytest.approx(500)
    assert found["runs"] == 2
    assert table.costs([run(100_000, 390, 10)]) == {}


REPORT = {
    "machine": {"cpu": "a processor", "cores": 2, "python": "3.11", "date": "2026-11-30"},
    "true": {"ttft_s": 0.1, "itl_s": 0.02}, "versions": {"llem": "1", "bare protocol": "Python 3.11"}, "commit": "abc",
    "loads": [{"name": "closed-4", "kind": "closed", "size": 4, "input_tokens": 8, "output_tokens": 16}],
    "runs": [
        {"tool": "llem", "load": "closed-4", "error": {"ttft_mean_ms": 0.5, "itl_mean_percent": 0.01}, "requests": 40,
         "lost": 1, "cpu_s": 2.0, "wall_s": 9.0, "during": {"us_per_event": 15.0}, "unmatched": 0,
         "findings": ["client_lag"], "others_cpu_share": 0.5, "server": {"was_late": True, "late_p99_ms": 3.0}},
        {"tool": "other", "load": "closed-4", "failed": "ended with 1"},
    ],
    "costs": {}, "left_out": ["--aiperf is not given: left out"],
}  # fmt: skip


def test_a_table_says_what_speaks_against_a_run(benchmark_module: Any) -> None:
    text = benchmark_module("client_table").tables(REPORT)
    assert (
        "| llem (server late by 3.0 ms, others used 0.50 cores, `client_lag`) | +0.50 ms | – | – | +0.010 % |" in text
    )
    assert "| other | failed: ended with 1 |" in text
    assert "--aiperf is not given" in text


def test_the_tables_replace_those_of_the_page(benchmark_module: Any) -> None:
    table = benchmark_module("client_table")
    page = f"Before.\n{table.BEGIN}\nold\n{table.END}\nAfter.\n"
    once = table.page(page, REPORT)
    assert "old" not in once
    assert once.startswith("Before.")
    assert once.endswith("After.\n")
    assert table.page(once, REPORT) == once
    with pytest.raises(ValueError, match="has no"):
        table.page("no marks", REPORT)


def test_the_page_has_a_place_for_the_tables(benchmark_module: Any) -> None:
    text = (BENCHMARKS.parent / "docs" / "explanation" / "client.md").read_text()
    assert "4 closed streams" in benchmark_module("client_table").page(text, REPORT)


def test_without_a_compiler_the_benchmark_says_so(
    truth: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(truth.NoTruth, match="no C compiler"):
        truth.build(tmp_path)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server, compiled once."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler is here")
    path = tmp_path_factory.mktemp("server") / "true_server"
    command = ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(path), str(BENCHMARKS / "true_server.c")]
    subprocess.run(command, check=True)
    return path


def stream(url: str, path: str, body: dict[str, Any]) -> list[Any]:
    """The events of an answer, the last one "[DONE]"."""
    request = urllib.request.Request(f"{url}{path}", json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        lines = [line[6:].strip() for line in answer if line.startswith(b"data: ")]
    return [line.decode() if line == b"[DONE]" else json.loads(line) for line in lines]


@pytest.mark.process
def test_the_server_streams_and_logs(truth: ModuleType, program: Path, tmp_path: Path) -> None:
    usage = {"include_usage": True}
    with truth.served(program, tmp_path, 0.05, 0.01, None) as server:
        chat = {
            "messages": [{"role": "user", "content": "four"}],
            "stream": True,
            "max_tokens": 3,
            "stream_options": usage,
        }
        events = stream(server.url, "/v1/chat/completions", chat)
        more = {"include_usage": True, "continuous_usage_stats": True}
        text = {"prompt": [5, 6], "stream": True, "max_completion_tokens": 2, "stream_options": more}
        plain = stream(server.url, "/v1/completions", text)
        left = HTTPConnection(server.url[7:], timeout=20)
        left.request("POST", "/v1/completions", json.dumps({"prompt": "a", "stream": True, "max_tokens": 10_000}))
        left.getresponse().read(10)
        left.close()
        time.sleep(0.2)
    assert [one["choices"][0]["delta"].get("content") for one in events[:-2]] == ["", " w", " w", " w"]
    assert events[-2]["usage"] == {"prompt_tokens": 4, "completion_tokens": 3, "total_tokens": 7}
    assert events[-1] == "[DONE]"
    assert [one["usage"]["completion_tokens"] for one in plain[:-1]] == [1, 2, 2]
    first, second, third = server.log
    assert (first.tokens, second.tokens) == (3, 2)
    assert first.ttft_s >= 0.05
    assert first.last - first.received >= 70 * MS
    assert not third.whole


@pytest.mark.process
@pytest.mark.parametrize("kind", ["closed", "open"])
def test_the_bare_client_sees_what_the_log_has(truth: ModuleType, program: Path, tmp_path: Path, kind: str) -> None:
    load = {"kind": kind, "size": 20, "requests": 40, "input_tokens": 4, "output_tokens": 5, "ramp_s": 0.1}
    out = tmp_path / "bare.json"
    with truth.served(program, tmp_path, 0.05, 0.01, None) as server:
        command = [sys.executable, str(BENCHMARKS / "client_bare.py"), server.url, json.dumps(load), str(out)]
        subprocess.run(command, check=True, timeout=60)
    rows = json.loads(out.read_text())
    assert len(rows) == len(server.log) == 40
    assert {row[-1] for row in rows} == {5}
    pairs = truth.matched([truth.Seen(sent, first, last, tokens) for _, sent, first, last, tokens in rows], server.log)
    assert len(pairs) == 40
    assert all(one.start <= row.received for one, row in pairs)
    assert min(one.first - row.first for one, row in pairs) >= 0
