"""A study that asks for the greatest rate under its SLO, on the command line, with an engine whose capacity is known.

The echo answers four requests at a time and waits 20 ms before each of five tokens: it cannot end more than 40 requests
per second. Arrivals are all but regular, so that below that rate nobody waits, and above it the queue only grows.
"""

from __future__ import annotations

import json

import pytest

from llem.store.store import Store

pytestmark = [pytest.mark.process, pytest.mark.paced]

STUDY = """
model: shape:tiny
backend: echo
device: cpu
preset: quick
window_s: 0.6
trials: 2
echo: {token_seconds: 0.02, slots: 4}
workload: {kind: synthetic, input_tokens: 8, output_tokens: 5}
warmup: {batches: 1, seconds: 0.2}
baseline: {seconds: 0}
"""
CAPACITY = 40.0
SEARCH = "load: {kind: open, request_rate: max, burstiness: 1000, search: {min_rate: 20, window_s: 2, %s}}\n"
SLO = "slo: {ttft_s: 0.15, attainment: 0.95}\n"


@pytest.fixture
def study(isolated_llem):
    """Writes `study.yaml` with this load, and gives its name."""

    def _study(load: str, slo: str = SLO) -> str:
        (isolated_llem.folder / "study.yaml").write_text(STUDY + load + slo)
        return "study.yaml"

    return _study


def searched(store: Store) -> list[dict | None]:
    """What each engine process of the one experiment stores of a search."""
    [name] = store.experiment_ids()
    return [engine.get("rate_search") for engine in store.engines(name)]


def test_the_greatest_rate_is_found_and_measured_at(run_llem, study) -> None:
    """Within the tolerance of what the engine bears; later trials, in another process, have the same rate."""
    file = study(SEARCH % "tolerance: 0.1")
    run_llem("run", file, "-o", "out")
    store = Store.open("out")
    [name] = store.experiment_ids()
    [found] = searched(store)
    metric = json.loads(run_llem("show", "out", "--json").stdout)["metrics"]["max_request_rate"]
    rates = {one["rate"] for one in found["windows"]}

    # its sleeps take a little longer than asked for, the more the busier the machine
    assert 0.75 * CAPACITY <= found["rate"] <= CAPACITY * 1.1
    assert {20.0, found["rate"]} <= rates
    assert min(rate for rate in rates if rate > found["rate"]) <= found["rate"] * 1.1
    assert metric["value"] == found["rate"]
    assert metric["low"] <= found["rate"] < metric["high"]
    assert [trial.serving.request_rate for trial in store.trials(name)] == [found["rate"]] * 2
    assert "greatest rate under the SLO" in run_llem("show", "out").stdout
    assert "rate search" in run_llem("show", "out", "--time").stdout
    assert "identical" in run_llem("verify", "out").stdout

    run_llem("run", file, "-o", "out", "--resume", "--set", "trials=3")
    assert searched(store)[1:] == [None]
    assert [trial.serving.request_rate for trial in store.trials(name)] == [found["rate"]] * 3
    assert "rate search" not in (store.path / "workers" / "1" / "events.jsonl").read_text()


def test_an_slo_that_no_rate_keeps_ends_the_experiment(run_llem, study) -> None:
    """No trial at an arbitrary rate: the message says which latency is too long, and what was measured is stored."""
    done = run_llem("run", study(SEARCH % "tolerance: 1", "slo: {ttft_s: 0.001}\n"), "-o", "out")
    store = Store.open("out")
    [name] = store.experiment_ids()
    [found] = searched(store)

    assert "the SLO is broken at the lowest rate, 20 requests/s" in done.stderr
    assert "ttft within 0.001 s" in done.stderr
    assert store.trials(name) == ()
    assert (found["rate"], len(found["windows"])) == (None, 1)
    assert "identical" in run_llem("verify", "out").stdout


def test_a_boundary_above_the_highest_rate_is_told(run_llem, study) -> None:
    """The trials have the highest rate; the greatest one is not known, and says why."""
    run_llem("run", study(SEARCH % "max_rate: 25"), "-o", "out")
    result = json.loads(run_llem("show", "out", "--json").stdout)

    assert result["metrics"]["request_rate"]["value"] == 25.0
    assert (result["metrics"]["max_request_rate"]["value"], result["metrics"]["max_request_rate"]["reason"]) == (
        None,
        "boundary_above",
    )
    assert "boundary_above" in {one["code"] for one in result["findings"]}


def test_without_an_slo_there_is_nothing_to_keep(run_llem, study) -> None:
    """Refused in the plan, with what to write."""
    done = run_llem("plan", study(SEARCH % "tolerance: 1", ""))

    assert "load.request_rate: is the greatest rate at which an SLO is kept, and no `slo` says which" in done.stderr
    assert "add `slo`" in done.stderr
