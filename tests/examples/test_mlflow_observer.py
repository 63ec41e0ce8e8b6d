"""A result becomes a run in a real store of MLflow."""

from __future__ import annotations

import pytest

import llem

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own


def _client(uri):
    tracking = pytest.importorskip("mlflow.tracking", reason="mlflow-skinny is not installed", exc_type=ImportError)
    return tracking.MlflowClient(tracking_uri=uri)


@pytest.mark.process
def test_a_result_becomes_a_run(example, measured, isolated_llem, monkeypatch):
    """With numbers whose names say what they are of, settings, and what was found; a second one replaces the first."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (isolated_llem.folder / "mlruns").as_uri()
    client = _client(uri)
    isolated_llem.config.write_text(f"observers: {{mlflow: {{tracking_uri: '{uri}', experiment: mine}}}}\n")
    example("mlflow_observer")
    result = measured()
    group = client.get_experiment_by_name("mine")
    [run] = client.search_runs([group.experiment_id])

    speed = result.metrics["output_tokens_per_s"].value
    assert run.data.metrics["fake/output_tokens_per_s"] == speed
    assert run.data.params["backend"] == "echo"
    assert run.data.params["workload.output_tokens"] == "8"
    assert run.data.tags["llem.id"] == result.id
    assert run.data.tags["llem.valid"] == str(result.valid).lower()
    assert "fake_backend" in run.data.tags["llem.findings"]
    assert "ttft_s=not_requested" in run.data.tags["llem.not_measured"]
    assert not any("ttft" in name for name in run.data.metrics)
    assert run.info.status == "FINISHED"

    from llem_mlflow.runs import load_options, log_result

    log_result(load_options(), result.id, "out")
    assert len(client.search_runs([group.experiment_id])) == 1


def test_without_an_address_nothing_happens(example, isolated_llem, monkeypatch):
    """Installing it changes nothing, and a wrong setting is told when a study begins."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    example("mlflow_observer")
    from llem_mlflow import hooks

    hooks.llem_study_started()
    hooks.llem_experiment_finished({"id": "x"}, "nowhere")
    isolated_llem.config.write_text("observers: {mlflow: {traking_uri: x}}\n")
    with pytest.raises(llem.ConfigError, match="tracking_uri"):
        hooks.llem_study_started()
