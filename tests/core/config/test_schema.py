"""The schema and the reference say what the loader does."""

from __future__ import annotations

import json
from typing import Any

import attrs
import jsonschema
import pytest

from llem.config.fields import at_least, option
from llem.config.load import Layer, resolve, to_document
from llem.config.models import Experiment, Sampling
from llem.config.schema import json_schema, reference_table
from llem.config.user import UserConfig
from llem.errors import LlemError


@pytest.fixture(scope="module")
def schema(registry) -> dict[str, Any]:
    """The schema of the fake registry."""
    return json_schema(registry)


def test_it_is_a_schema(schema):
    """It is valid under its own dialect, and made of JSON values."""
    jsonschema.Draft202012Validator.check_schema(schema)

    assert json.loads(json.dumps(schema, allow_nan=False)) == schema


GOOD: list[dict[str, Any]] = [
    {},
    {"backend": "echo"},
    {"backend": "echo", "echo": {"delay_s": 1, "bits": 4, "extra": {"a": [1]}}},
    {"backend": "fast", "fast": {"cuda_graphs": [1, 2]}},
    {"workload": {"input_tokens": 3}},
    {"workload": {"kind": "synthetic", "input_tokens": {"kind": "uniform", "low": 1, "high": 2}}},
    {"workload": {"kind": "file", "path": "x"}},
    {"gpus": 2},
    {"gpus": [0, "GPU-1"], "meters": ["codecarbon"], "codecarbon": {"country": "SE"}},
    {"preset": "quick", "sampling": {"top_p": 0.5}},
    {"load": {"batch_size": 4}},
    {"load": {"kind": "closed"}},
    {"load": {"kind": "open", "request_rate": 4, "burstiness": 0.5}},
    {"slo": {"preset": "mlperf-deepseek-r1-interactive"}, "load": {"kind": "closed"}},
    {"slo": None},
]
BAD: list[dict[str, Any]] = [
    {"modle": "x"},
    {"backend": "vlm"},
    {"backend": "echo", "fast": {}},
    {"backend": "echo", "echo": {"dealy_s": 1}},
    {"backend": "echo", "echo": {"delay_s": -1}},
    {"backend": "echo", "echo": {"share": 1.5}},
    {"backend": "echo", "echo": {"bits": 5}},
    {"meters": ["nvlm"]},
    {"meters": ["nvml"], "codecarbon": {}},
    {"codecarbon": {}},
    {"workload": {"kind": "file"}},
    {"workload": {"path": "x"}},
    {"workload": {"input_tokens": "3"}},
    {"workload": {"input_tokens": {"low": 1, "high": 2}}},
    {"load": {"batch_size": 0}},
    {"load": {"concurrency": 4}},
    {"window_s": 1e99},
    {"load": {"kind": "closed", "batch_size": 4}},
    {"load": {"kind": "opne", "request_rate": 4}},
    {"slo": {"ttft": 1}},
    {"trust_remote_code": "false"},
    {"trials": 2.9},
    {"sampling": {"top_p": 2}},
    {"gpus": 0},
    {"options": {}},
]


@pytest.mark.parametrize("document", GOOD, ids=json.dumps)
def test_what_loads_validates(schema, registry, document):
    """Documents that load are valid."""
    resolve([Layer("p", {"backend": "echo", **document})], registry)
    jsonschema.validate(document, schema, cls=jsonschema.Draft202012Validator)


@pytest.mark.parametrize("document", BAD, ids=json.dumps)
def test_what_does_not_load_does_not_validate(schema, registry, document):
    """Documents that do not load are invalid."""
    with pytest.raises(LlemError):
        resolve([Layer("p", {"backend": "echo", **document})], registry)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema, cls=jsonschema.Draft202012Validator)


def test_a_resolved_document_validates(schema, registry):
    """What is written out in full is valid."""
    resolved = resolve([Layer("p", {"backend": "echo", "meters": ["codecarbon"]})], registry)

    jsonschema.validate(to_document(resolved.experiment), schema, cls=jsonschema.Draft202012Validator)


def test_settings_carry_help_unit_default_and_bounds(schema):
    """An editor sees what a setting means, its unit, its default and its limits."""
    assert schema["properties"]["window_s"] == {
        "type": "number",
        "minimum": 0.1,
        "maximum": 86_400,
        "description": "Least length of a measured window. Unit: s.",
        "default": 10.0,
    }
    assert schema["properties"]["echo"]["properties"]["share"]["anyOf"] == [
        {"type": "number", "minimum": 0, "maximum": 1},
        {"type": "null"},
    ]
    assert schema["properties"]["backend"]["enum"] == ["echo", "fast"]
    assert schema["properties"]["load"]["default"] == {"kind": "offline", "batch_size": 1}


def test_unusable_config_classes_are_left_out_and_reported(careless):
    """A broken plugin costs its own section, and the schema and the caller are told."""
    told: list[str] = []
    schema = json_schema(careless, told.append)

    assert "careless" not in schema["properties"]
    assert "echo" in schema["properties"]
    assert len(told) == 5  # careless, plain, nokind, nothing, unlike
    assert all(message in schema["$comment"] for message in told)


@attrs.frozen(kw_only=True)
class Documented:
    size: int | None = option(None, help="A size | of things.", unit="B", validator=[at_least(1)])
    name: str = option(help="Its name.")
    sampling: Sampling = option(factory=Sampling, help="Nested.")


def test_reference_table_lists_everything():
    """Each setting has its row, nested ones under their path, with bounds, unit and default."""
    lines = reference_table(Documented).splitlines()

    assert lines[:5] == [
        "| field | type | default | unit | meaning |",
        "|---|---|---|---|---|",
        "| `size` | integer or null, at least 1 | `null` | B | A size \\| of things. |",
        "| `name` | text | required |  | Its name. |",
        "| `sampling.temperature` | number, at least 0 | `0.0` |  | 0 is greedy: the most likely token. |",
    ]
    assert len(lines) == 4 + len(attrs.fields(Sampling))


def test_reference_table_lists_every_kind_of_a_section():
    """The settings of each kind have their rows, which say to which kind they belong."""
    table = reference_table(Experiment)

    assert "| `load.concurrency` | integer, at least 1 | `1` |  | With kind 'closed': Number of clients" in table
    assert "| `load.batch_size` | integer, at least 1 | `1` |  | With kind 'offline': Requests per batch. |" in table
    assert "`load.kind`" not in table
    assert "| `slo.ttft_s` |" in table


@pytest.mark.parametrize("cls", [Experiment, UserConfig])
def test_reference_of_the_real_models(cls):
    """Every row of the real models has a type and a meaning, and five cells."""
    for line in reference_table(cls).splitlines()[2:]:
        cells = [cell.strip() for cell in line.replace("\\|", "/").strip("|").split("|")]
        assert len(cells) == 5
        assert cells[1]
        assert cells[4]
