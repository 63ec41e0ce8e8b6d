"""A store that an older llem wrote opens, verifies and goes on. `schema2/` holds two, written by llem at schema 2."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner

import llem
from llem.cli.verify import verify as verify_command
from llem.metrics.catalogue import METRICS
from llem.metrics.result import recompute
from llem.metrics.verify import verify
from llem.store.files import DIGEST, write_json
from llem.store.store import Store

WRITTEN = Path(__file__).parent / "schema2"
#: The study that `schema2/serving.tgz` holds, in today's words.
SERVING = {
    "name": "serving",
    "base": {
        "backend": "echo", "device": "cpu", "echo": {"token_seconds": 0.002}, "preset": "quick", "window_s": 1,
        "trials": 2, "warmup": {"batches": 1, "seconds": 0}, "baseline": {"seconds": 0},
        "workload": {"kind": "synthetic", "input_tokens": 8, "output_tokens": 8},
        "slo": {"ttft_s": 0.5, "tpot_s": 0.0001, "attainment": 0.9},
    },
    "axes": {"load": [{"kind": "open", "request_rate": 10}, {"kind": "closed", "concurrency": 2, "ramp_s": 0}]},
}  # fmt: skip


@pytest.fixture
def unpacked(tmp_path: Path):
    """`unpacked(name)`: the folder of a store of schema 2."""

    def unpack(name: str) -> Path:
        with tarfile.open(WRITTEN / f"{name}.tgz") as archive:
            archive.extractall(tmp_path, filter="data")
        return tmp_path / name

    return unpack


@pytest.mark.parametrize("name", ["offline", "serving"])
def test_an_old_store_verifies(unpacked, name):
    """Every derived number is the same when it is computed again, and no file was written."""
    folder = unpacked(name)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    assert verify(Store.open(folder)) == []
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_verifying_an_old_store_says_what_is_not_compared(unpacked):
    """Identical is what was compared, which is less than for a store of the present version."""
    folder = unpacked("offline")
    count = sum(path.name.startswith(("result", "trial-", "baseline-")) for path in folder.glob("experiments/*/*.json"))
    done = CliRunner().invoke(verify_command, [str(folder)])

    assert done.exit_code == 0
    assert f"{count} documents were written by an older llem (schema version 2)" in done.output
    assert done.output.rstrip().endswith("recomputed, identical in what is compared")


def test_an_old_result_lacks_only_what_came_later(unpacked):
    """A metric of a later version is missing from a result of schema 2; one that its version had must be there.

    What an older version computed is not read as a Result: the trials give it by the present rules.
    """
    store = Store.open(unpacked("offline"))
    name = store.experiment_ids()[0]
    path = store.folder(name) / "result.json"
    document = json.loads(path.read_text())
    assert document["schema_version"] == 2
    assert METRICS.keys() - document["metrics"].keys() <= {n for n, metric in METRICS.items() if metric.since > 2}
    assert store.read_result(name) is None
    del document["metrics"]["duration_s"], document[DIGEST]
    write_json(path, document, replace=True)

    assert [difference.path for difference in verify(store)] == ["metrics.duration_s"]


def test_an_old_store_is_read_in_todays_words(unpacked):
    """Engine processes, settings, axes, sources and findings have the names of the present version."""
    store = Store.open(unpacked("offline"))
    for name in store.experiment_ids():
        assert {trial.process for trial in store.trials(name)} == {0, 1}
        assert [engine["process"] for engine in store.engines(name)] == [0, 1]
        document = store.read_experiment(name)
        assert document["config"]["processes"] == 2
        assert document["sources"]["processes"].startswith("file ")
    serving = Store.open(unpacked("serving"))
    [missed] = [
        found
        for name in serving.experiment_ids()
        for found in recompute(serving, name).findings
        if found.code == "slo_missed" and found.evidence["attainment"] < 0.5
    ][:1]
    assert missed.evidence["target"] == 0.9


@pytest.mark.process
def test_an_old_store_is_gone_on_with(unpacked):
    """What is missing is measured, what is there stays byte for byte, and all of it verifies."""
    folder = unpacked("serving")
    lost = min(folder.glob("experiments/*/trial-1.json"))
    lost.unlink()
    kept = {path: path.read_bytes() for path in folder.glob("experiments/*/trial-*.json")}

    results = llem.run_study(SERVING, folder, resume=True)

    assert {result.outcome for result in results.values()} == {"done"}
    assert all(path.read_bytes() == content for path, content in kept.items())
    assert json.loads(lost.read_text())["schema_version"] == 6
    assert verify(Store.open(folder)) == []
