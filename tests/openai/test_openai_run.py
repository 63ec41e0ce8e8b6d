"""Whole measurements, from a configuration to a result."""

from __future__ import annotations

import json

import pytest

SHORT = {
    "model": "shape:tiny",
    "backend": "openai",
    "dtype": "auto",
    "device": "cpu",
    "preset": "quick",
    "window_s": 0.5,
    "warmup.seconds": 0,
    "baseline.seconds": 0,
    "workload.input_tokens": 6,
    "workload.output_tokens": 5,
}


def settings(**more):
    """Arguments of `llem run`."""
    found = {**SHORT, **more}
    return [word for name, value in found.items() for word in ("--set", f"{name}={json.dumps(value)}")]


def measured(run_llem, isolated_llem, **more):
    """The result as `llem run` prints it."""
    done = run_llem("run", *settings(**more), "--launcher", "process", "-o", isolated_llem.results, "--json")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.process
@pytest.mark.parametrize(
    "load",
    [
        {"kind": "offline", "batch_size": 3},
        {"kind": "closed", "concurrency": 4},
        {"kind": "open", "request_rate": 40.0},
    ],
    ids=lambda load: load["kind"],
)
def test_a_started_server_is_measured(run_llem, isolated_llem, start_command, load):
    """Each kind of load: the counts are the server's and agree with what was asked for."""
    url, words = start_command
    more = {f"load.{name}": value for name, value in load.items()}
    result = measured(
        run_llem, isolated_llem, **more, **{"openai.base_url": url, "openai.command": [*words, "--delay", "0.002"]}
    )
    assert result["outcome"] == "done"
    assert result["metrics"]["output_tokens_per_s"]["value"] > 0
    assert result["effective"]["token_counts"] == "continuous_usage"
    assert "token_count_mismatch" not in {one["code"] for one in result["findings"]}


@pytest.mark.process
def test_the_greatest_rate_of_a_server_is_looked_for(run_llem, isolated_llem, start_command):
    """The highest rate that may be tried keeps a generous SLO: the trial has it."""
    url, words = start_command
    load = {"kind": "open", "request_rate": "max", "search": {"min_rate": 20, "max_rate": 40, "window_s": 0.5}}
    more = {"openai.base_url": url, "openai.command": [*words, "--delay", "0.002"], "slo": {"ttft_s": 20}}
    result = measured(run_llem, isolated_llem, load=load, **more)
    assert result["outcome"] == "done"
    assert result["metrics"]["request_rate"]["value"] == 40
    assert result["metrics"]["max_request_rate"]["reason"] == "boundary_above"


@pytest.mark.process
def test_a_server_that_stops_early_is_found_out(run_llem, isolated_llem, running):
    """It takes ignore_eos and does not honour it: the result is not valid."""
    server = running("--eos", "3", "--know-eos")
    done = run_llem("run", *settings(**{"openai.base_url": server.url}), "-o", isolated_llem.results, "--json")
    result = json.loads(done.stdout)
    assert "token_count_mismatch" in {one["code"] for one in result["findings"]}
    assert result["valid"] is False


def test_another_machine_is_refused(run_llem, isolated_llem):
    """Before anything is written: its energy cannot be measured."""
    done = run_llem("run", *settings(**{"openai.base_url": "http://192.0.2.7:8000/v1"}), "-o", isolated_llem.results)
    assert done.exit_code == 2
    assert "openai.base_url" in done.stderr
    assert "another machine" in done.stderr


@pytest.mark.process
def test_the_address_is_enough(run_llem, isolated_llem, running):
    """The model, its weights and the load are the server's; a second run meets none of its prompts in the cache."""
    server = running("--models", "a-model", "--delay", "0.002")
    short = [
        "--output-tokens",
        "8",
        "--set",
        "window_s=1",
        "--set",
        "warmup.seconds=0",
        "--set",
        "baseline.seconds=0",
        "--preset",
        "quick",
    ]
    done = run_llem("run", server.url.removesuffix("/v1"), *short, "-o", isolated_llem.results, "--json")
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["config"]["model"], result["weights"]) == ("served:a-model", "unknown")
    assert (result["config"]["dtype"], result["config"]["load"]["kind"]) == ("auto", "closed")
    assert result["sources"]["model"] == "found by backend openai"
    assert result["effective"]["salt"]


@pytest.mark.process
def test_text_is_served_without_a_tokenizer(run_llem, isolated_llem, running):
    """The built-in prompts go out as they are, and the server counts their tokens."""
    server = running("--delay", "0.002")
    more = {"model": "served:tiny", "workload": {"kind": "prompts", "output_tokens": 5}, "openai.base_url": server.url}
    given = {name: value for name, value in {**SHORT, **more}.items() if not name.startswith("workload.")}
    words = [word for name, value in given.items() for word in ("--set", f"{name}={json.dumps(value)}")]
    done = run_llem("run", *words, "--concurrency", "2", "-o", isolated_llem.results, "--json")
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["metrics"]["total_tokens_per_s"]["value"] > 0
    assert isinstance(server.last()["body"]["prompt"], str)
    assert result["effective"]["prompt"] == "text"
    assert "prompt_as_text" in [one["code"] for one in result["findings"]]
