"""Study files with mistakes that nobody would think of: one message each, whatever they hold."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
#: Planned here; `benchmarks/fuzz_studies.py` plans thousands.
MUTATIONS = range(150)


@pytest.fixture
def fuzz(monkeypatch: pytest.MonkeyPatch, isolated_llem: Any) -> ModuleType:
    """The benchmark, with colours as on a terminal: click takes commands out of a text without them."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.delenv("NO_COLOR")
    return importlib.import_module("fuzz_studies")


@pytest.mark.timeout(180)
def test_mutated_studies_end_with_a_message(fuzz: ModuleType, isolated_llem: Any) -> None:
    """No bug, no traceback, no command to a terminal, and none that keeps us waiting; some are still valid."""
    studies = fuzz.seeds()
    ended = {number: fuzz.plan(fuzz.mutated(number, 16, studies), isolated_llem.folder) for number in MUTATIONS}

    assert {number: found for number, one in ended.items() if (found := fuzz.faults(one))} == {}
    assert {one.code for one in ended.values()} >= {0, 2}


def test_the_fuzzer_finds_what_must_not_be(fuzz: ModuleType) -> None:
    """Each kind of fault, and none where all is well."""
    fine = fuzz.Planned(2, "", "error: x", 0.1)
    assert fuzz.faults(fine) == []
    assert fuzz.faults(fuzz.Planned(70, "", "Traceback", 0.1)) == ["exit 70", "traceback"]
    assert fuzz.faults(fuzz.Planned(0, "a\x9bb", "", 0.1)) == ["command '\\x9b'"]
    assert fuzz.faults(fuzz.Planned(2, "", " ", 0.1)) == ["no message"]


def test_a_mutation_is_the_same_each_time(fuzz: ModuleType) -> None:
    """By its number and the seed."""
    studies = fuzz.seeds()

    assert fuzz.mutated(7, 1, studies) == fuzz.mutated(7, 1, studies)
    assert len({fuzz.mutated(number, 1, studies) for number in range(20)}) > 15


#: Studies that once ended as a bug, blamed a plugin, or let a command out; and what is told.
FOUND = {
    "a date": (b"trials: !!timestamp x", "study.yaml:1:9: could not determine a constructor"),
    "a key of a wrong type": (
        b"{backend: openai, openai: {api_key_env: [1]}}",
        "openai.api_key_env: must be text or null, got a list",
    ),
    "half of a character": (b'{"name": "\\ud800", "axes": {}}', "study.yaml:1:10: half of a character"),
    "a number without end": (b"{backend: echo, window_s: 1e999}", "study.yaml:1:27: 1e999 is beyond any number"),
    "4,300 digits": (b"{backend: echo, trials: " + b"9" * 4300 + b"}", "(4300 characters) is no whole number of 64"),
    "a key with a command": (b'{backend: echo, "\\e[2J": 1}', "\\u001b[2J: unknown field"),
    "a deep list": (b"axes: " + b"[" * 5000, "nested too deeply"),
}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param(*found, id=name, marks=[pytest.mark.backends("openai")] if b"openai" in found[0] else [])
        for name, found in FOUND.items()
    ],
)
def test_what_was_found_stays_mended(fuzz: ModuleType, isolated_llem: Any, text: bytes, told: str) -> None:
    """Exit 2, and the message says what is wrong and where."""
    planned = fuzz.plan(text, isolated_llem.folder)

    assert planned.code == 2, planned.err
    assert fuzz.faults(planned) == []
    assert told in planned.err


def test_names_with_commands_stay_json(fuzz: ModuleType, isolated_llem: Any) -> None:
    """What is printed as JSON is the same value; no command is in its text."""
    name = "a\x1b[2J\x9b31m\u202e\x7f"
    study = {"name": name, "base": {"backend": "echo"}, "axes": {"model": ["shape:tiny", name]}}
    planned = fuzz.plan(json.dumps(study).encode(), isolated_llem.folder, "--json")

    assert fuzz.faults(planned) == []
    assert json.loads(planned.out)["name"] == name
