"""A result becomes an offline run of Weights & Biases, and no process of it is left for the next window."""

from __future__ import annotations

import json
import struct

import psutil
import pytest

pytestmark = pytest.mark.filterwarnings("ignore")  # W&B's own


#: Of W&B's file, a log as LevelDB's: its head, its blocks, and the head of a record, with checksum, length and type.
HEAD, BLOCK, RECORD = 7, 32768, struct.Struct("<IHB")
WHOLE, LAST = 1, 4


def _parts(content):
    """The records of a log; one that runs over several blocks is put together."""
    at, found = HEAD, b""
    while at + RECORD.size <= len(content):
        left = BLOCK - at % BLOCK
        if left < RECORD.size:
            at += left
            continue
        _, length, kind = RECORD.unpack_from(content, at)
        found += content[at + RECORD.size : at + RECORD.size + length]
        at += RECORD.size + length
        if kind in (WHOLE, LAST):
            yield found
            found = b""


def _records(path):
    """Summary and configuration of a run that W&B wrote."""
    from wandb.proto import wandb_internal_pb2

    summary, config = {}, {}
    for data in _parts(path.read_bytes()):
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
