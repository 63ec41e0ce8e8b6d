"""Kills, pauses and commands that meet in one folder, at random moments; see `benchmarks/kills.py`."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

SCRIPT = Path(__file__).parents[4] / "benchmarks" / "kills.py"
KINDS = ("kill worker", "kill command", "kill both", "term command", "pause both", "two resume at once")


@pytest.fixture
def kills(monkeypatch: pytest.MonkeyPatch):
    """The script as a module."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    spec = importlib.util.spec_from_file_location("llem_kills", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_lost_doubled_or_untold(kills, kind: str) -> None:
    """The study goes on to its end, `llem verify` finds nothing before or after, and no process or lease is left."""
    row = kills.table(1, KINDS.index(kind), {kind: kills.LOCAL[kind]})[kind]
    assert row["rounds"] == 1
    assert {name: row[name] for name in kills.COUNTED} == dict.fromkeys(kills.COUNTED, 0)
