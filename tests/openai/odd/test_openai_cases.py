"""Cases whose right values a server's own clock tells, or that take more than one run."""

from __future__ import annotations

import importlib.util
import json
import statistics
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]


def beside(name: str) -> ModuleType:
    """A module of this folder."""
    spec = importlib.util.spec_from_file_location(f"cases_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[f"cases_{name}"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


harness, modes = beside("harness"), beside("modes")
CLOSED = harness.LOADS["closed"]


def one(folder, options, settings, times=1):
    """A server with these options and `times` runs of one experiment against it; what became of each, and its log."""
    group = {"mode": modes.Mode("", options, modes.MEASURED, settings)}
    with harness.serving(folder, group) as ports:
        runs = []
        for number in range(times):
            [point] = harness.points([("mode", "closed")], group, ports, 1)
            [found] = harness.run(folder / str(number), [point]).values()
            runs.append(found)
        return runs, harness.asked("/log", ports[""])["log"]


def codes(ran):
    """Of findings."""
    return {found["code"] for found in ran.result["findings"]}


def test_a_warm_cache_does_not_halve_the_time_to_the_first_token_unseen(tmp_path):
    """The same command twice: TTFT is that of a prompt that was not there before, or a finding says why not."""
    workload = {"kind": "synthetic", "input_tokens": 64, "output_tokens": 4}
    runs, _ = one(tmp_path, {"ttft": 0.4, "itl": 0.01, "cache": True}, {"workload": workload}, times=2)
    for ran in runs:
        assert ran.outcome == "done", ran.error
        right = abs(ran.result["metrics"]["ttft_p50_s"]["value"] - 0.4) < 0.05
        assert right or codes(ran) & {"cache_warm", "prompts_repeat"}


def test_four_prompts_that_repeat_are_told(tmp_path):
    """A file of four prompts: from the second round on, the server has them."""
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"{word} " * 16}) + "\n" for word in ("ab", "cd", "ef", "gh")))
    workload = {"kind": "file", "path": str(prompts), "output_tokens": 4}
    settings = {"workload": workload, "openai.prompt": "text"}
    [ran], _ = one(tmp_path, {"ttft": 0.2, "itl": 0.01, "cache": True}, settings)
    assert ran.outcome == "done", ran.error
    assert codes(ran) & {"cache_warm", "prompts_repeat"}


@pytest.mark.parametrize("backend", ["echo", pytest.param("pytorch", marks=pytest.mark.backends("pytorch")), "openai"])
@pytest.mark.parametrize("kind", ["prompts", "file"])
def test_prompts_of_text_are_measured(tmp_path, backend, kind):
    """The built-in ones, and those of a file, on backends that take ids and on one that takes text.

    Two of the built-in ones are longer than the context of the model's shape.
    """
    workload = {"kind": kind, "output_tokens": 4, "too_long": "skip"}
    if kind == "file":
        workload["path"] = str(tmp_path / "prompts.jsonl")
        Path(workload["path"]).write_text('{"prompt": "What is it?"}\n{"prompt": "And why?"}\n')
    if backend == "openai":
        [ran], _ = one(tmp_path, {"ttft": 0.05, "itl": 0.01}, {"workload": workload, "openai.prompt": "text"})
    else:
        settings = {"backend": backend, "dtype": "float32", "load": {"kind": "offline", "batch_size": 2}}
        base = {name: value for name, value in harness.BASE.items() if name != "openai"}
        [ran] = harness.run(tmp_path / "0", [{"workload": workload}], {**base, **settings}).values()
    assert ran.outcome == "done", ran.error
    assert harness.sound(ran), ran.result["findings"]
    assert ran.tokens == {4}


def test_attainment_beyond_the_capacity_is_that_of_all_arrivals(tmp_path):
    """At 1.3 times what the server bears, the share of requests within a limit is what the server's own log tells.

    A request that the engine keeps waiting has missed its limit, whether or not it is answered at last.
    """
    limit_s = 0.4
    options = {"slots": 2, "ttft": 0.1, "itl": 0.02}  # 0.2 s of a slot each: ten requests a second
    load = {"kind": "open", "request_rate": 13}
    settings = {"load": load, "slo": {"ttft_s": limit_s, "attainment": 0.9}, "window_s": 4.0, "openai.timeout_s": 60.0}
    [ran], log = one(tmp_path, options, {**settings, "openai.deadline_s": 60.0})
    assert ran.outcome == "done", ran.error
    [rows], [(t0, t1)] = ran.rows, ran.spans
    first = {entry["began_ns"]: entry["first_ns"] for entry in log}
    decided, good = 0, 0
    for row in rows:
        # when the server had it, and when it wrote its first token; one that was let go of is not in the log
        began = min(first, key=lambda at: abs(at - row.start_ns))
        served = first[began] if abs(began - row.start_ns) < 20e6 else None
        late = served is None or served > row.scheduled_ns + limit_s * 1e9
        at = row.scheduled_ns + limit_s * 1e9 if late else row.end_ns
        if t0 <= at < t1:
            decided, good = decided + 1, good + (not late)
    found = ran.result["metrics"]["slo_attainment"]["value"]
    assert decided > 20
    assert found == pytest.approx(good / decided, abs=0.06)
    assert codes(ran) & {"over_saturated", "not_stationary", "slo_missed"}


def test_times_are_those_of_the_servers_log(tmp_path):
    """Each request's own times, by the clock that both share: sent before it was there, tokens after they were made."""
    [ran], log = one(tmp_path, {"jitter": [0.05, 0.15]}, {"load": {"kind": "closed", "concurrency": 4}})
    assert ran.outcome == "done", ran.error
    [rows] = ran.rows
    began = sorted(entry["began_ns"] for entry in log)
    by_began = {entry["began_ns"]: entry for entry in log}
    sends, firsts, lasts = [], [], []
    for row in rows:
        if row.finish_reason != "length":
            continue
        entry = by_began[min((at for at in began if at >= row.start_ns), key=lambda at: at - row.start_ns)]
        sends.append((entry["began_ns"] - row.start_ns) / 1e9)
        firsts.append((row.token_times_ns[0] - entry["first_ns"]) / 1e9)
        lasts.append((row.token_times_ns[-1] - entry["last_ns"]) / 1e9)
    assert len(rows) >= 4
    for lags in (sends, firsts, lasts):
        assert -0.02 < statistics.median(lags) < 0.02, lags
