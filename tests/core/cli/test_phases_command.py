"""Prefill and decode apart, from a study's file through every view of its results."""

from __future__ import annotations

import csv
import json

import pytest

STUDY = """
name: phases
base:
  backend: echo
  device: cpu
  preset: quick
  trials: 2
  max_trials: 2
  window_s: 0.4
  warmup: {seconds: 0}
  baseline: {seconds: 0}
  workload: {input_tokens: 8, output_tokens: 8}
  echo: {token_seconds: 0.004}
  meters: [steady]
  phases: differential
axes:
  load.batch_size: [1, 2]
"""
NAMES = ("prefill_energy_j", "decode_energy_j", "prefill_energy_per_token_j", "decode_energy_per_token_j")


@pytest.mark.process
def test_every_view_has_the_phases(lab, run_llem, isolated_llem):
    """Planned, measured, shown, compared, exported, reported and verified; phases add up to the energy of a request.

    Of echo's batch of 8 tokens the first step is the prefill: an eighth of its energy, whatever its size is.
    """
    (isolated_llem.folder / "study.yaml").write_text(STUDY)
    plan = run_llem("plan", "study.yaml")
    assert plan.exit_code == 0, plan.stderr

    done = run_llem("run", "study.yaml", "-o", "out", "--json")
    assert done.exit_code == 0, done.stderr
    results = json.loads(done.stdout)
    for metrics in (one["metrics"] for one in results):
        prefill, decode = (metrics[name]["value"] for name in NAMES[:2])
        assert prefill + decode == pytest.approx(metrics["energy_per_request_j"]["value"])
        assert prefill / (prefill + decode) == pytest.approx(1 / 8, abs=0.05)
        assert metrics["phase_closure"]["value"] == pytest.approx(1, abs=0.3)
        assert {metrics[name]["kind"] for name in NAMES} == {"measured"}
        assert metrics["decode_mbu"] == {**metrics["decode_mbu"], "value": None, "reason": "architecture_unknown"}

    first, second = (one["id"] for one in results)
    table = run_llem("show", "out").stdout  # whose headings are broken into lines
    assert "prefill" in table
    assert "decode" in table
    alone = run_llem("show", "out", first).stdout
    for label in ("energy of prefill, per request", "energy of decode, per decoded token", "closure of the phases"):
        assert label in alone
    assert "window" in run_llem("show", "out", "--time").stdout
    compared = run_llem("compare", "out", first, second, "--metric", "prefill_energy_per_token_j")
    assert compared.exit_code == 0, compared.stderr
    assert "energy of prefill, per prompt token" in compared.stdout
    assert run_llem("export", "out", "-o", "out.csv").exit_code == 0
    rows = list(csv.DictReader((isolated_llem.folder / "out.csv").read_text().splitlines()))
    exported = {row["id"]: float(row["prefill_energy_j"]) for row in rows}
    assert exported == {one["id"]: one["metrics"]["prefill_energy_j"]["value"] for one in results}
    assert run_llem("report", "out", "-o", "out.html").exit_code == 0
    assert "prefill_energy_per_token_j" in (isolated_llem.folder / "out.html").read_text()
    verified = run_llem("verify", "out")
    assert verified.exit_code == 0, verified.stdout
    again = run_llem("run", "study.yaml", "-o", "out", "--resume")
    assert again.exit_code == 0, again.stderr


def test_a_serving_load_is_refused(run_llem):
    """With what to do, before anything is written."""
    done = run_llem(
        "run", "-b", "echo", "--set=device=cpu", "--set=phases=differential", "--set=load={kind: closed}", "-o", "out"
    )
    assert done.exit_code == 2
    assert "phases: is for offline loads" in done.stderr
