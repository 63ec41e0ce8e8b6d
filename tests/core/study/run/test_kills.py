"""Kills, pauses and commands that meet in one folder, at random moments; see `benchmarks/kills.py`."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

pytestmark = [pytest.mark.process, pytest.mark.timeout(400)]

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


def test_nothing_is_lost_doubled_or_untold(kills) -> None:
    """The study goes on to its end, `llem verify` finds nothing before or after, and no process or lease is left."""
    table = kills.table(len(KINDS), 1, {name: kills.LOCAL[name] for name in KINDS})
    assert sum(row["hit"] for row in table.values()) >= 3
    assert {name: [row[count] for count in kills.COUNTED] for name, row in table.items()} == {
        name: [0] * len(kills.COUNTED) for name in KINDS
    }
