"""The text of a running study is what Prometheus' own parser takes."""

from __future__ import annotations

import pytest

from llem.analysis.overview import Overview
from llem.store.models import Quantity


def _families(text):
    parser = pytest.importorskip(
        "prometheus_client.parser", reason="prometheus-client is not installed", exc_type=ImportError
    )
    return {one.name: one for one in parser.text_string_to_metric_families(text)}


@pytest.mark.process
def test_a_run_writes_how_far_it_is(example, measured, isolated_llem):
    """At the end the study runs no longer, and each experiment has its numbers with their labels."""
    isolated_llem.config.write_text("observers: {prometheus: {path: llem.prom}}\n")
    example("prometheus_observer")
    result = measured()
    found = _families((isolated_llem.folder / "llem.prom").read_text(encoding="utf-8"))

    assert [one.value for one in found["llem_study_running"].samples] == [0.0]
    assert [one.value for one in found["llem_study_experiments"].samples] == [1.0]
    [ended] = found["llem_study_experiments_ended"].samples
    assert (ended.value, ended.labels["outcome"], ended.labels["valid"]) == (1.0, "done", str(result.valid).lower())
    speeds = {one.labels["bound"]: one for one in found["llem_output_tokens_per_second"].samples}
    assert speeds["value"].value == result.metrics["output_tokens_per_s"].value
    assert (speeds["value"].labels["fake"], speeds["value"].labels["id"]) == ("true", result.id)
    assert "llem_ttft_p99_seconds" not in found, "what was not measured has no sample"


def _row(**fields):
    energy = Quantity(0.5, "J", 0.4, 0.6, 0.95, 5, 1, "within one process", "student_t", scope="gpu", kind="measured")
    facts = {"id": "a", "outcome": "done", "error": None, "trials": 5, "valid": True, "publishable": True}
    rest = {"codes": (), "errors": (), "metrics": {"energy_per_output_token_j": energy}, "backend": "vllm"}
    return Overview(**{**facts, **rest, "model": "m", "dtype": None, "load": {}, "curve": "", **fields})


def test_names_of_others_are_labels_and_nothing_else(example):
    """Quotes, backslashes and ends of lines of a name do not begin another label or line."""
    example("prometheus_observer")
    from llem_prometheus.text import text_of

    hostile = 'a"} 1\nllem_study_running{study="\\x'
    text = text_of({"name": hostile, "experiments": ["a", "b"]}, [_row(model=hostile)], True, 12.5)
    found = _families(text)

    assert [one.value for one in found["llem_study_running"].samples] == [1.0]
    assert found["llem_study_updated_timestamp_seconds"].samples[0].value == 12.5
    energies = found["llem_energy_per_output_token_joules"].samples
    assert {one.labels["bound"]: one.value for one in energies} == {"value": 0.5, "low": 0.4, "high": 0.6}
    assert {(one.labels["model"], one.labels["scope"], one.labels["kind"]) for one in energies} == {
        (hostile, "gpu", "measured")
    }


def test_without_a_path_nothing_is_written(example, isolated_llem):
    """Installing it changes nothing."""
    example("prometheus_observer")
    from llem_prometheus import hooks

    hooks.llem_study_started({"name": "x", "experiments": []}, "nowhere")
    assert list(isolated_llem.folder.iterdir()) == []
