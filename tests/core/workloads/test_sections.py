"""Workload sections as a user writes them, through the strict converter."""

from __future__ import annotations

from typing import Any

import pytest

from llem.backends.echo import EchoOptions
from llem.config.converter import structure, unstructure
from llem.errors import ConfigError
from llem.workloads.base import Lognormal, Uniform
from llem.workloads.files import BuiltinOptions, FileOptions
from llem.workloads.synthetic import SyntheticOptions

LOGNORMAL = {"kind": "lognormal", "mean": 200, "sigma": 0.5, "max": 900}


@pytest.mark.parametrize(
    ("raw", "section"),
    [
        ({}, SyntheticOptions()),
        (
            {
                "kind": "synthetic",
                "input_tokens": {"kind": "uniform", "low": 3, "high": 9},
                "output_tokens": LOGNORMAL,
                "seed": 7,
            },
            SyntheticOptions(
                input_tokens=Uniform(low=3, high=9), output_tokens=Lognormal(mean=200.0, sigma=0.5, max=900), seed=7
            ),
        ),
        ({"kind": "file", "path": "p.jsonl", "field": "q"}, FileOptions(path="p.jsonl", field="q")),
        (
            {"path": "p.txt", "input_tokens": 9, "order": "shuffled"},
            FileOptions(path="p.txt", input_tokens=9, order="shuffled"),
        ),
        ({"kind": "prompts", "chat": True}, BuiltinOptions(chat=True)),
        ({"token_seconds": 1}, EchoOptions(token_seconds=1.0)),
    ],
)
def test_written_sections(raw: dict[str, Any], section: Any) -> None:
    """What is written becomes the section, and comes back out as JSON values that mean the same."""
    assert structure(type(section), raw) == section
    assert structure(type(section), unstructure(section)) == section


@pytest.mark.parametrize(
    ("cls", "raw", "path"),
    [
        (SyntheticOptions, {"input_tokens": 0}, "input_tokens"),
        (SyntheticOptions, {"input_tokens": True}, "input_tokens"),
        (SyntheticOptions, {"input_tokens": {"kind": "normal"}}, "input_tokens.kind"),
        (SyntheticOptions, {"output_tokens": {"kind": "uniform", "low": 9, "high": 3}}, "output_tokens.high"),
        (SyntheticOptions, {"output_tokens": {**LOGNORMAL, "median": 3}}, "output_tokens.median"),
        (FileOptions, {}, "path"),
        (FileOptions, {"path": "p.txt", "order": "random"}, "order"),
        (BuiltinOptions, {"path": "p.txt"}, "path"),
        (BuiltinOptions, {"chat": True, "input_tokens": 4}, "input_tokens"),
    ],
)
def test_faults_name_the_path(cls: type, raw: dict[str, Any], path: str) -> None:
    """Each fault is reported at the value that is wrong, within its section."""
    with pytest.raises(ConfigError) as caught:
        structure(cls, raw, "workload")
    assert [problem.path for problem in caught.value.problems] == [f"workload.{path}"]
