"""Servers whose answers are changed at random: every study ends well, and no result states what is wrong.

`benchmarks/fuzz_answers.py` changes thousands of them.
"""

from __future__ import annotations

import gzip
import importlib
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
#: Of a server's numbers of generated tokens, which cannot be.
ABSURD = [10**30, -(10**30), 2**63, -1, True, 4.0, 4.5, 1e300, "4", [4], {"a": 4}]


@pytest.fixture
def fuzz(monkeypatch: pytest.MonkeyPatch, isolated_llem: Any) -> ModuleType:
    """The benchmark, with colours as on a terminal: click takes commands out of a text without them."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.delenv("NO_COLOR")
    return importlib.import_module("fuzz_answers")


@pytest.fixture
def ports(fuzz: ModuleType, tmp_path: Path) -> Iterator[Any]:
    """Of the server."""
    with fuzz.served(tmp_path) as found:
        yield found


def test_changed_answers_end_well(fuzz: ModuleType, ports: Any, tmp_path: Path) -> None:
    """One of each kind of change, together in a study, which finishes the sound server's."""
    drawn = [fuzz.case_of(16, number) for number in range(200)]
    first = {case.kind: case for case in reversed(drawn) if case.load["kind"] == "offline" or case.kind == "metrics"}
    done = fuzz.ended(list(first.values()), ports, tmp_path / "study")
    assert set(first) == set(fuzz.odd_answers.KINDS)
    assert done.bugs == {}
    assert done.ends["sound"] == "valid"
    assert not (tmp_path / "redirected").exists()


CLOSED, OFFLINE = {"kind": "closed", "concurrency": 2}, {"kind": "offline", "batch_size": 2}


def test_an_answer_of_10_to_the_30_tokens_ends_nothing(fuzz: ModuleType, ports: Any, tmp_path: Path) -> None:
    """Line F7 of the audit: no number, and the study, `show`, `verify`, `export`, `report` and `--resume` go on.

    One server claims it from the first request on, the others within the window of a closed load and of a batch.
    """
    claim, spot = fuzz.odd_answers.claim_of, fuzz.odd_answers.Spot
    cases = [
        claim(10**30, spot("answer", 0, 1), CLOSED, {}),
        claim(10**30, spot("answer", 4, 4), CLOSED, {}),
        claim(10**30, spot("answer", 4, 1), OFFLINE, {}),
    ]
    done = fuzz.ended(cases, ports, tmp_path / "study")
    assert done.bugs == {}
    assert [done.ends[fuzz.name_of(case)] for case in cases] == ["failed", "told", "failed"]
    assert done.ends["sound"] == "valid"
    found = fuzz.results(tmp_path / "study" / "out")[fuzz.name_of(cases[1])]
    assert "requests_failed" in {one["code"] for one in found.result["findings"]}
    assert {row.output_tokens for row in found.rows if row.finish_reason == "length"} <= {fuzz.TOKENS}

    words = ["run", str(tmp_path / "study" / "study.yaml"), "-o", str(tmp_path / "study" / "out")]
    ran = fuzz.command([*words, "--launcher", "inline", "--resume", "-q"], 90)
    assert fuzz.faults(ran, (0, 1)) == []
    assert fuzz.faults(fuzz.command(["verify", str(tmp_path / "study" / "out")]), (0,)) == []


def test_what_a_server_claims_is_never_a_valid_number(fuzz: ModuleType, ports: Any, tmp_path: Path) -> None:
    """Of generated tokens: what cannot be, and what others were brought than were asked for."""
    claim, spot = fuzz.odd_answers.claim_of, fuzz.odd_answers.Spot("answer", 0, 1)
    cases = [claim(value, spot, OFFLINE, {"token_times": True}) for value in ABSURD]
    done = fuzz.ended(cases, ports, tmp_path / "study", reading=fuzz.READING[:2])
    assert done.bugs == {}
    assert {done.ends[fuzz.name_of(case)] for case in cases} <= {"failed", "told"}
    assert done.ends["sound"] == "valid"


def test_the_fuzzer_finds_what_must_not_be(fuzz: ModuleType, tmp_path: Path) -> None:
    """Each kind of fault, and none where all is well."""
    fine = fuzz.Ran(0, "fine", "", 0.1)
    assert fuzz.faults(fine, (0,)) == []
    assert len(fuzz.faults(fuzz.Ran(70, "", "Traceback: x", 0.1), (0, 1))) == 2
    for said in ("a\x9bb", "\x1b]0;x\x07", "\u202e", fuzz.KEY, json.dumps(fuzz.KEY), "x" * 300_000):
        assert len(fuzz.faults(fuzz.Ran(0, "", said, 0.1), (0,))) == 1

    assert fuzz.leaks(tmp_path) == []
    (tmp_path / "rows.csv.gz").write_bytes(gzip.compress(f"1,{fuzz.KEY}".encode()))
    (tmp_path / "result.json").write_bytes(b"\x1b" + bytes(6_000_000))
    assert len(fuzz.leaks(tmp_path)) == 3

    result = {"outcome": "done", "valid": True, "error": None, "findings": [], "metrics": {"a_share": {"value": 0.5}}}
    row = SimpleNamespace(output_tokens=fuzz.TOKENS, finish_reason="length", engine_metrics=None)
    assert fuzz.wrong(fuzz.Found(result, [row]), "sound") == []
    assert fuzz.wrong(None, "1-1") == ["has no result"]
    for changes in (
        {"metrics": {"a_share": {"value": 1.5}}},
        {"metrics": {"x": {"value": 1e30}}},
        {"metrics": {"x": {"value": -1}}},
        {"outcome": "failed", "error": "TypeError: x"},
        {"outcome": "failed", "error": None},
        {"valid": False, "findings": ["a KeyError"]},
    ):
        assert len(fuzz.wrong(fuzz.Found({**result, **changes}, [row]), "1-1")) == 1
    row.output_tokens, row.engine_metrics = 10**30, {"prompt_tokens": 2e9}
    assert len(fuzz.wrong(fuzz.Found(result, [row]), "1-1")) == 2


def test_a_mutation_is_the_same_each_time(fuzz: ModuleType) -> None:
    """By its number and the seed: as it is drawn, by its name, and as it is answered."""
    odd = fuzz.odd_answers
    cases = [odd.case_of(3, number) for number in range(60)]
    assert cases == [odd.named(odd.name_of(case)) for case in cases]
    assert {case.kind for case in cases} == set(odd.KINDS)
    body = {"stream": True, "prompt": [1, 2], "max_tokens": 4}
    asked = [(case, case.spot.page, body, case.spot.spare + case.spot.every, fuzz.KEY, 1) for case in cases]
    assert [odd.answer(*one) for one in asked] == [odd.answer(*one) for one in asked]  # gzip has no time in it
    changed = sum(odd.answer(*one) != odd.answer(None, *one[1:]) for one in asked)
    assert changed > 50


def test_redirects_that_lead_elsewhere_are_noticed(fuzz: ModuleType, ports: Any, tmp_path: Path) -> None:
    """What follows one, with its key: the log has it."""
    request = urllib.request.Request(f"http://127.0.0.1:{ports.elsewhere}/", headers={"authorization": fuzz.KEY})
    with urllib.request.urlopen(request, timeout=10):
        assert fuzz.KEY in (tmp_path / "redirected").read_text()
