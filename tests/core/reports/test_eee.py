"""Records of Every Eval Ever: by its own schema, with everything that a number needs to be read right."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path

import pytest

import llem
from llem.analysis.collection import Results
from llem.errors import StoreError
from llem.evaluators.base import Score
from llem.evaluators.items import Item
from llem.reports.eee import eee_files
from llem.store.files import write_json
from llem.store.store import Store

SCHEMA = Path(__file__).parents[2] / "data" / "every_eval_ever" / "eval.schema.json"


def _valid(record):
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(record, json.loads(SCHEMA.read_text(encoding="utf-8")))
    return record


def _records(results, **settings):
    files, notes = eee_files(results, now=12.5, **settings)
    return {path: _valid(json.loads(text)) for path, text in files.items()}, notes


@pytest.fixture
def real(h200):
    """A real study of vLLM on a GPU."""
    return Results.open(Store.open(h200 / "store"))


def _made(store):
    write_json(store.path / "environments" / "e.json", {"schema_version": 4, "host": _HOST, "llem": "0.1.0"})
    return Results.open(store)


_HOST = {"cpu": "a CPU", "threads": 2, "memory_bytes": 1e9}


def test_a_real_study_is_valid_by_the_schema(real):
    """A record for each result, in a folder of the model, with a name that is a UUID of version 4."""
    records, notes = _records(real, organisation="Acme")

    assert (len(records), notes) == (5, ())
    for path, record in records.items():
        match = re.fullmatch(r"data/llem/llem/shape-qwen2\.5-0\.5b/([0-9a-f-]{36})\.json", path)
        assert match is not None
        assert uuid.UUID(match[1]).version == 4
        assert record["source_metadata"]["source_organization_name"] == "Acme"
        assert record["model_info"]["inference_engine"] == {"name": "vllm", "version": "0.25.1"}
        assert record["model_info"]["additional_details"]["weights"] == "random"
    assert len({record["evaluation_id"] for record in records.values()}) == 5


def test_an_energy_has_its_unit_interval_scope_and_kind(real):
    """As in the result."""
    [record] = [one for path, one in _records(real)[0].items() if "c1f347c7" in one["evaluation_id"]]
    [energy] = [
        one for one in record["evaluation_results"] if one["metric_config"]["metric_id"].endswith("output_token_j")
    ]
    stored = real["c1f347c7cd48b957"].metrics["energy_per_output_token_j"]

    assert energy["metric_config"]["metric_unit"] == "J"
    assert energy["metric_config"]["lower_is_better"] is True
    assert energy["score_details"]["score"] == stored.value
    assert energy["score_details"]["uncertainty"] == {
        "confidence_interval": {
            "lower": stored.low,
            "upper": stored.high,
            "confidence_level": 0.95,
            "method": "student_t, within one process",
        },
        "num_samples": 3,
    }
    details = energy["score_details"]["details"]
    assert (details["scope"], details["kind"], details["rests_on"]) == ("gpu", "measured", "n = 3, one process")


def test_what_has_no_score_is_named_beside_the_scores(real):
    """Why metrics are missing, those that are neither better nor worse, what was found."""
    record = next(iter(_records(real)[0].values()))
    told = record["source_metadata"]["additional_details"]
    scored = {one["evaluation_result_id"].partition("/")[2] for one in record["evaluation_results"]}

    assert json.loads(told["not_measured"])["decode_energy_j"] == "phases_side_by_side"
    assert "energy_j" in json.loads(told["neither_better_nor_worse"])
    assert not scored & {"energy_j", "duration_s", "decode_energy_j"}
    assert {one["code"] for one in json.loads(told["findings"])} >= {"short_window", "not_publishable_preset"}
    assert (told["valid"], told["publishable"]) == ("true", "false")


def test_the_same_results_have_the_same_records(real):
    """But for the time at which they were made."""
    first, second = eee_files(real, now=1.0)[0], eee_files(real, now=2.0)[0]

    assert first.keys() == second.keys()
    for path, text in first.items():
        before, after = json.loads(text), json.loads(second[path])
        assert (before.pop("retrieved_timestamp"), after.pop("retrieved_timestamp")) == ("1.000", "2.000")
        assert before == after


def test_fakes_and_what_is_not_valid_have_no_record(grid_store):
    """Their number is told; where nothing is left it is an error."""

    def given(point):
        batch = point["load.batch_size"]
        return {"energy": 1.0, "valid": batch != 2, "config": {"backend": "echo" if batch == 3 else "pytorch"}}

    records, notes = _records(_made(grid_store({"load.batch_size": [1, 2, 3]}, given)))
    assert len(records) == 1
    assert notes == (
        "results without a record, because they are of echo, a fake, whose figures mean nothing: 1",
        "results without a record, because they are not valid: 1",
    )


def test_nothing_to_publish_is_an_error(grid_store, tmp_path):
    """And no folder is made."""
    store = grid_store({"load.batch_size": [1]}, lambda _: {"energy": 1.0, "config": {"backend": "echo"}})
    with pytest.raises(StoreError, match="1 are of echo") as caught:
        llem.export(store.path, tmp_path / "eee", "eee")

    assert caught.value.code == "nothing_to_compare"
    assert not (tmp_path / "eee").exists()


def test_scores_of_evaluators_are_of_their_tasks(quality_store):
    """With which way is better, a range that holds them, and the evaluator's terms."""
    items = tuple(Item(f"i{n}", float(n < 3)) for n in range(4))
    accuracy = Score("spelling", "acc", 0.75, 0.2, 4, True, items)
    loss = Score("spelling", "loss", -2.5, 0.1, 4, False)
    store = quality_store({"dtype": ["float16"]}, lambda _: (accuracy, loss))
    results = _made(store)
    from llem.metrics.result import recompute

    [identity] = store.result_ids()
    results = Results(store, [identity], {identity: recompute(store, identity)})
    results._held = {identity: _as_valid(results._held[identity])}
    [record] = _records(results)[0].values()
    found = {one["evaluation_result_id"].partition("/")[2]: one for one in record["evaluation_results"]}

    first, second = found["quality.spelling"], found["quality.spelling.loss"]
    assert first["metric_config"]["metric_id"] == "accuracy"
    assert (first["metric_config"]["min_score"], first["metric_config"]["max_score"]) == (0.0, 1.0)
    assert first["source_data"]["dataset_name"] == "spelling"
    assert first["source_data"]["additional_details"]["evaluator"] == "spelling"
    assert second["metric_config"]["metric_id"] == "llem.loss"
    assert second["metric_config"]["lower_is_better"] is True
    assert (second["metric_config"]["min_score"], second["score_details"]["score"]) == ("-Infinity", -2.5)
    assert second["evaluation_name"] == "llem.spelling"


def _as_valid(result):
    import attrs

    return attrs.evolve(result, valid=True, environment="")


@pytest.mark.parametrize(
    ("model", "folder", "name"),
    [
        ("meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B"),
        ("/srv/me/secret/model", "local/model", "model"),
        ("./model", "local/model", "model"),
        ("../../x", "local/x", "x"),
        ("..", "local/unknown", "unknown"),
        ("a/data", "a/data-", "a/data"),
        ("a b/c:d", "local/c-d", "c-d"),
    ],
)
def test_a_model_is_a_path_that_leads_nowhere_else(grid_store, model, folder, name):
    """Of a folder of this machine its name alone."""
    store = grid_store({"dtype": ["a"]}, lambda _: {"energy": 1.0, "config": {"model": model}})
    [(path, record)] = _records(_made(store))[0].items()

    assert path.startswith(f"data/llem/{folder}/")
    assert record["model_info"]["id"] == folder
    assert record["model_info"]["name"] == name
    assert "/srv/me" not in json.dumps(record)
