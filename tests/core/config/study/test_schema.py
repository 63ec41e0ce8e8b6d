"""JSON Schema of a study: what the loader takes validates, and what it refuses does not."""

from __future__ import annotations

from typing import Any

import pytest

from llem.config.study.axes import declared_points
from llem.config.study.file import parse_study
from llem.config.study.schema import study_schema
from llem.errors import ConfigError

jsonschema = pytest.importorskip("jsonschema")

GOOD: list[dict[str, Any]] = [
    {"name": "s"},
    {"base": {"backend": "echo", "fast": {"torch_compile": True}, "echo": {"bits": 4}}, "trials": 3},
    {
        "includes": [],
        "axes": {"load.batch_size": [1, 2], "dtype": ["float16"]},
        "order": {"kind": "sequential", "seed": 3},
    },
    {"axes": {"a": {"linear": [0, 1.5, 4]}, "b": {"log": [1, 8, 4]}, "c": {"powers_of_two": [1, 8]}}},
    {"axes": {"backend": {"echo": {"echo.bits": [4, 8], "load.kind": {"open": None}}, "fast": {}}}},
    {"zip": {"a": [1], "b": {"powers_of_two": [2, 2]}}},
    {"zip": [{"a": [1]}, {"b": [2]}], "experiments": [{"load": {"batch_size": 3}}], "exclude": [{"a": 1}]},
]
GOOD += [
    {"axes": {"a": [1, 2]}, "reference": {"a": 1}},
    {"axes": {"a": [1, 2]}, "reference": {"a": 1, "processes": 5}},
    {"axes": {"a": [1, 2]}, "reference": None},
]
BAD: list[dict[str, Any]] = [
    {"reference": "first"},
    {"reference": {}},
    {"reference": {"a": 1, "processes": 2}},
    {"reference": {"a": 1, "processes": "x"}},
    {"name": "s", "axs": {}},
    {"name": 3},
    {"base": 3},
    {"includes": 3},
    {"axes": []},
    {"axes": {"a": 3}},
    {"axes": {"a": []}},
    {"axes": {"a": {}}},
    {"axes": {"a": {"linear": [1, 2]}}},
    {"axes": {"a": {"x": [1]}}},
    {"zip": {"a": {"x": None}}},
    {"experiments": {}},
    {"exclude": [{}]},
    {"order": {"kind": "random"}},
    {"order": {"sed": 3}},
]


@pytest.fixture(scope="module")
def validator(registry) -> Any:
    """Of the schema with the plugins made up here."""
    schema = study_schema(registry)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("document", GOOD)
def test_what_loads_validates(validator, document: dict) -> None:
    """Every form that a part of a study may have."""
    assert declared_points(parse_study(document))
    assert list(validator.iter_errors(document)) == []


@pytest.mark.parametrize("document", BAD)
def test_what_does_not_load_does_not_validate(validator, document: dict) -> None:
    """An editor marks it."""
    with pytest.raises(ConfigError):
        declared_points(parse_study(document))
    assert list(validator.iter_errors(document)) != []


def test_a_wrong_setting_in_the_base_does_not_validate(validator) -> None:
    """Settings of the base are those of an experiment."""
    assert list(validator.iter_errors({"base": {"load": {"batch_size": "x"}}})) != []
