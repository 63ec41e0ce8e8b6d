"""A study with a reference, from its file to what is shown of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

import llem
from llem.errors import ConfigError
from llem.store.store import Store

pytestmark = pytest.mark.process


@pytest.fixture
def study(short) -> dict[str, Any]:
    """Two experiments on an engine each, of which one is measured three times."""
    return {
        "base": {**short, "window_s": 0.1},
        "axes": {"sampling.temperature": [0.5, 1.0], "dtype": ["float16"]},
        "reference": {"sampling.temperature": 1.0},
    }


def test_the_reference_is_measured_before_between_and_after(study, tmp_path, run_llem) -> None:
    """By time; its interval is over processes. Resuming keeps it, and refuses another one."""
    results = llem.run_study(study, tmp_path / "out", launcher="inline")
    store = Store.open(tmp_path / "out")
    reference = store.study()["reference"]
    [other] = set(results) - {reference}
    times = {name: sorted(trial.t0_ns for trial in store.trials(name)) for name in results}
    speed = results[reference].metrics["output_tokens_per_s"]

    assert (len(times[reference]), len(times[other])) == (3, 1)
    assert times[reference][0] < times[other][0] < times[reference][2]
    assert results[reference].config["processes"] == 3
    assert (speed.n, speed.processes, speed.covers) == (3, 3, "over processes")
    runs = results.reference()
    assert runs is not None
    assert (runs.id, runs.metric, len(runs.means)) == (reference, "output_tokens_per_s", 3)
    shown = run_llem("show", store.path).stdout
    assert f"reference {reference[:8]}: 3 processes, sd between processes " in shown
    assert "over 3 processes" in shown

    again = llem.run_study(study, tmp_path / "out", launcher="inline", resume=True)
    assert Store.open(tmp_path / "out").study()["reference"] == reference
    assert {name: result.trials for name, result in again.items()} == {reference: 3, other: 1}
    with pytest.raises(ConfigError) as caught:
        llem.run_study({**study, "reference": None}, tmp_path / "out", launcher="inline", resume=True)
    told = [str(problem) for problem in caught.value.problems]
    assert f"reference: is null, and was {json.dumps(reference)}" in told
    assert any(one.startswith("processes: is 1, and was 3") for one in told)
