"""A result becomes an offline run of Weights & Biases, and no process of it is left for the next window."""

from __future__ import annotations

import json

import psutil
import pytest

pytestmark = pytest.mark.filterwarnings("ignore")  # W&B's own


def _records(path):
    """Summary and configuration of a run that W&B wrote, read by its own reader."""
    datastore = pytest.importorskip("wandb.sdk.internal.datastore", exc_type=ImportError)
    from wandb.proto import wandb_internal_pb2

    store, summary, config = datastore.DataStore(), {}, {}
    store.open_for_scan(str(path))
    while (data := store.scan_data()) is not None:
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        for one in record.summary.update:
            summary["/".join(one.nested_key) or one.key] = json.loads(one.value_json)
        for one in record.run.config.update:
            config[one.key] = json.loads(one.value_json)
    return summary, config


@pytest.mark.process
def test_a_result_becomes_a_run(example, measured, isolated_llem):
    """With numbers whose names say what they are of, the settings, and what was found."""
    pytest.importorskip("wandb", reason="wandb is not installed", exc_type=ImportError)
    isolated_llem.config.write_text("observers: {wandb: {project: deployment, dir: runs}}\n")
    (isolated_llem.folder / "runs").mkdir()
    example("wandb_observer")
    result = measured()
    [file] = isolated_llem.folder.glob("runs/wandb/offline-run-*/*.wandb")
    summary, config = _records(file)

    assert summary["fake/output_tokens_per_s"] == result.metrics["output_tokens_per_s"].value
    assert config["backend"] == "echo"
    assert config["llem"]["id"] == result.id
    assert config["llem"]["not_measured"]["ttft_s"] == "not_requested"
    assert "fake_backend" in config["llem"]["findings"]
    left = [one.name() for one in psutil.Process().children(recursive=True) if "wandb" in one.name()]
    assert left == []


def test_without_a_project_nothing_happens(example, isolated_llem):
    """Installing it changes nothing."""
    example("wandb_observer")
    from llem_wandb import hooks

    hooks.llem_study_started()
    hooks.llem_experiment_finished({"id": "x"}, "nowhere")
    assert list(isolated_llem.folder.iterdir()) == []
