"""The leaderboard: what a row is of, and ranks that are intervals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llem.analysis.collection import Results
from llem.errors import StoreError
from llem.reports.leaderboard import leaderboard_text
from llem.store.store import Store

SCHEMA = Path(__file__).parents[3] / "docs" / "reference" / "leaderboard.schema.json"
GPU = {"scope": "gpu", "kind": "measured"}
MODEL = {"scope": "cpu+dram", "kind": "modelled"}
ENERGY, SPEED = "energy_per_output_token_j", "output_tokens_per_s"


def _board(results):
    jsonschema = pytest.importorskip("jsonschema")
    text, notes = leaderboard_text(results)
    document = json.loads(text)
    jsonschema.validate(document, json.loads(SCHEMA.read_text(encoding="utf-8")))
    return document, notes


def _ranks(document, metric):
    """By the value of the one axis."""
    return {
        next(iter(row["axes"].values())): tuple(row["metrics"][metric]["rank"].values())
        for row in document["rows"]
        if row["metrics"].get(metric, {}).get("rank")
    }


def test_a_real_study_is_as_its_schema_says(h200):
    """All five results, with the interval and the basis of each energy, in the study's order."""
    store = Store.open(h200 / "store")
    document, notes = _board(Results.open(store))
    row = document["rows"][0]

    assert notes == ()
    assert [one["id"] for one in document["rows"]] == list(Results.open(store))
    assert row["metrics"][ENERGY]["basis"] == GPU
    assert row["metrics"][ENERGY]["low"] < row["metrics"][ENERGY]["value"] < row["metrics"][ENERGY]["high"]
    assert (row["weights"], row["valid"], row["publishable"]) == ("random", True, False)
    assert set(row["findings"]) <= set(document["findings"])
    ranks = [one["metrics"][ENERGY]["rank"] for one in document["rows"]]
    assert all(1 <= one["best"] <= one["worst"] <= one["of"] == 5 for one in ranks)
    assert any(one["best"] < one["worst"] for one in ranks), "three trials of one process separate not all of them"


def test_ties_share_ranks_and_what_is_apart_does_not(grid_store):
    """Of 1.00, 1.01 and 2.00 J with intervals of 2 %, nobody knows which of two is first."""
    joules = {1: 1.00, 2: 1.01, 3: 2.0}
    store = grid_store({"load.batch_size": [1, 2, 3]}, lambda point: joules[point["load.batch_size"]], 0.02)
    document, _ = _board(Results.open(store))

    assert _ranks(document, ENERGY) == {1: (1, 2, 3), 2: (1, 2, 3), 3: (3, 3, 3)}
    assert _ranks(document, SPEED) == {1: (1, 3, 3), 2: (1, 3, 3), 3: (1, 3, 3)}


def test_measured_and_modelled_are_ranked_apart(grid_store):
    """However little the formula says."""

    def given(point):
        batch = point["load.batch_size"]
        return {"energy": 1.0 / batch, "basis": MODEL if batch > 2 else GPU}

    document, _ = _board(Results.open(grid_store({"load.batch_size": [1, 2, 3]}, given)))
    metric = next(one for one in document["metrics"] if one["name"] == ENERGY)

    assert sorted(metric["bases"], key=str) == sorted([GPU, MODEL], key=str)
    assert _ranks(document, ENERGY) == {1: (2, 2, 2), 2: (1, 1, 2), 3: (1, 1, 1)}


def test_fakes_are_left_out_and_what_is_not_valid_has_no_rank(grid_store):
    """The figures of the latter stay, and so does why one is missing."""

    def given(point):
        batch = point["load.batch_size"]
        config = {"backend": "echo" if batch == 3 else "pytorch"}
        return {"energy": None if batch == 1 else 0.5, "valid": batch != 2, "config": config}

    document, notes = _board(Results.open(grid_store({"load.batch_size": [1, 2, 3]}, given)))
    by_batch = {row["axes"]["load.batch_size"]: row for row in document["rows"]}

    assert notes == ("results of echo, a fake, are left out: 1",)
    assert set(by_batch) == {1, 2}
    assert by_batch[1]["metrics"][ENERGY] == {"value": None, "reason": "no_meter"}
    assert by_batch[2]["valid"] is False
    assert (by_batch[2]["metrics"][ENERGY]["value"], by_batch[2]["metrics"][ENERGY]["rank"]) == (0.5, None)
    assert document["reasons"]["no_meter"] == "No meter covers this quantity on this machine."


def test_a_folder_of_this_machine_is_its_name(grid_store):
    """As a model, in the configuration in words, and as the value of an axis."""
    path = "/srv/me/models/mine"
    store = grid_store({"model": [path]}, lambda _: {"energy": 1.0, "config": {"model": path}})
    [row] = _board(Results.open(store))[0]["rows"]

    assert (row["model"], row["axes"], row["configuration"]) == ("mine", {"model": "mine"}, "pytorch · mine · batch ?")


def test_only_fakes_are_no_leaderboard(run_llem, grid_store):
    """An error, with what to do."""
    store = grid_store({"dtype": ["a"]}, lambda _: {"energy": 1.0, "config": {"backend": "echo"}})
    with pytest.raises(StoreError, match="all results are of echo"):
        leaderboard_text(Results.open(store))
    done = run_llem("export", store.path, "--format", "leaderboard")
    assert (done.exit_code, done.stdout) == (2, "")


def test_text_of_others_ends_no_script(run_llem, grid_store):
    """So that the document can stand in a page; read as JSON it is what it was."""
    hostile = "</script><img src=x onerror=alert(1)>&\u2028"
    store = grid_store({"dtype": [hostile]}, lambda _: {"energy": 1.0, "config": {"model": hostile}})
    text = run_llem("export", store.path, "--format", "leaderboard").stdout
    [row] = json.loads(text)["rows"]

    assert not set("<>&\u2028") & set(text)
    assert row["model"] == row["axes"]["dtype"] == hostile
