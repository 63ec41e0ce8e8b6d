"""A data set of Hugging Face: its card types each column and says what it is, and its lines hold no other."""

from __future__ import annotations

import json
import re

import pytest
import yaml

import llem
from llem.analysis.collection import Results
from llem.metrics.catalogue import METRICS
from llem.reports.dataset import dataset_files, public
from llem.store.files import write_json
from llem.store.store import Store

KINDS = {"string": str, "bool": bool, "int64": int, "float64": (int, float)}


def _made(store):
    host = {"cpu": "a CPU", "threads": 2, "memory_bytes": 1e9}
    write_json(store.path / "environments" / "e.json", {"schema_version": 4, "host": host})
    return Results.open(store)


def _head(card):
    """As Hugging Face finds it: between the first two lines of dashes."""
    found = re.match(r"---\n(.*?)\n---\n", card, re.S)
    assert found is not None
    return yaml.safe_load(found[1]), card[found.end() :]


def _tables(files):
    return {
        name.removeprefix("data/").removesuffix(".jsonl"): [json.loads(line) for line in text.splitlines()]
        for name, text in files.items()
        if name != "README.md"
    }


def _holds(value, feature):
    if value is None:
        return True
    if "list" in feature:
        return isinstance(value, list) and all(isinstance(one, KINDS[feature["list"]]) for one in value)
    kind = KINDS[feature["dtype"]]
    return isinstance(value, kind) and (feature["dtype"] == "bool" or not isinstance(value, bool))


def test_every_column_is_typed_and_holds_what_it_says(h200):
    """In all three configurations, in the order of the lines."""
    files, notes = dataset_files(Results.open(Store.open(h200 / "store")))
    head, _ = _head(files["README.md"])
    tables = _tables(files)

    assert [one["config_name"] for one in head["configs"]] == ["results", "metrics", "experiments"]
    assert {one["data_files"] for one in head["configs"]} == set(files) - {"README.md"}
    for info in head["dataset_info"]:
        for row in tables[info["config_name"]]:
            assert list(row) == [one["name"] for one in info["features"]]
            assert [one for one in info["features"] if not _holds(row[one["name"]], one)] == []
    assert (len(tables["results"]), len(tables["experiments"])) == (5, 5)
    assert notes == ("the card names no licence: add `license:` to the head of README.md before you publish it",)


def test_numbers_keep_what_they_are_of(h200):
    """In the long table, interval, kind, scope, validity, and why one is missing."""
    results = Results.open(Store.open(h200 / "store"))
    rows = {(row["id"], row["metric"]): row for row in _tables(dataset_files(results)[0])["metrics"]}
    row = rows["c1f347c7cd48b957", "energy_per_output_token_j"]
    stored = results["c1f347c7cd48b957"].metrics["energy_per_output_token_j"]

    assert (row["value"], row["low"], row["high"], row["unit"]) == (stored.value, stored.low, stored.high, "J")
    assert (row["scope"], row["kind"], row["covers"]) == ("gpu", "measured", "within one process")
    assert (row["n"], row["processes"], row["valid"]) == (3, 1, True)
    missing = rows["c1f347c7cd48b957", "decode_energy_j"]
    assert (missing["value"], missing["reason"], missing["n"]) == (None, "phases_side_by_side", None)


def test_the_card_documents_columns_codes_and_method(h200):
    """Each metric with its unit and its meaning from the catalogue; each code that a row has."""
    results = Results.open(Store.open(h200 / "store"))
    files, _ = dataset_files(results)
    _, text = _head(files["README.md"])
    codes = {one.code for result in results.values() for one in result.findings}

    assert "| `energy_per_output_token_j` | J | lower | energy per output token. The window's energy divided by" in text
    assert "| `vllm.max_num_seqs` |  |  | axis of the study |" in text
    assert all(f"| `{code}` |" in text for code in codes)
    assert "Meters: nvml: NVML total energy counter (gpu, measured)" in text
    assert "Machines: NVIDIA H200, Intel(R) Xeon(R) Processor, driver 580.159.04, vllm 0.25.1" in text
    assert "Valid: 5; publishable: 0." in text
    assert "```bibtex" in text


def test_fakes_are_labelled(grid_store):
    """At the top of the card, and to whoever writes it."""
    store = grid_store({"dtype": ["a"]}, lambda _: {"energy": 1.0, "config": {"backend": "echo"}})
    files, notes = dataset_files(_made(store))

    assert "**1 of 1 rows are of `echo`, a fake" in files["README.md"]
    assert "1 of 1 results are of echo, a fake" in notes[1]


def test_names_of_others_are_text_in_the_card(grid_store):
    """No markup of Markdown, no HTML, no further line of the head."""
    hostile = "x\n---\nlicense: mine\n# [link](http://a) <script>alert(1)</script> `code` | *b*"
    store = grid_store({hostile: [1]}, lambda _: 1.0)
    store.write_study({**store.study(), "name": hostile})
    head, text = _head(dataset_files(_made(store))[0]["README.md"])

    assert head["pretty_name"] == " ".join(hostile.split())
    assert "license" not in head
    assert hostile in [one["name"] for one in head["dataset_info"][0]["features"]]
    assert "<script" not in text
    assert "](http" not in text.replace("`", "")
    assert "\nlicense" not in text


def test_no_result_is_no_data_set(grid_store, tmp_path):
    """An error, and no folder."""
    store = grid_store({"dtype": ["a"]}, lambda _: None)
    with pytest.raises(llem.StoreError, match="no experiment has a result"):
        llem.export(store.path, tmp_path / "hf", "hf")

    assert not (tmp_path / "hf").exists()


def test_addresses_and_paths_of_this_machine_are_not_published():
    """Of a path the last part stays, for it may say which data it was."""
    asked = {"base_url": "http://me:pw@host", "path": "/srv/me/trace.csv", "extra": {"adapters": ["~/a/lora", "b"]}}

    assert public(asked) == {"path": "trace.csv", "extra": {"adapters": ["lora", "b"]}}


def test_no_table_has_a_path_of_this_machine(grid_store):
    """Neither as a setting nor as the value of an axis."""
    path = "/srv/me/models/mine"
    store = grid_store({"model": [path]}, lambda _: {"energy": 1.0, "config": {"model": path}})
    files, _ = dataset_files(_made(store))

    assert [text for text in files.values() if "/srv/me" in text] == []
    assert _tables(files)["results"][0]["model"] == "mine"


def test_hugging_face_reads_it(h200, tmp_path, monkeypatch):
    """All three configurations, with the types of the card, offline."""
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    llem.export(h200 / "store", tmp_path / "hf", "hf")
    found = {
        name: datasets.load_dataset(str(tmp_path / "hf"), name, split="train", cache_dir=str(tmp_path / "cache"))
        for name in ("results", "metrics", "experiments")
    }

    counts = {"results": 5, "metrics": 5 * len(METRICS), "experiments": 5}
    assert {name: one.num_rows for name, one in found.items()} == counts
    assert found["results"].features["energy_per_output_token_j"].dtype == "float64"
    assert found["results"][0]["findings"][0]
