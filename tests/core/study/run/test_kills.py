"""SIGKILL and SIGSTOP at random moments, to the worker, the command and both; see `benchmarks/kills.py`."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

COUNTED = ("doubled", "changed", "false_done", "unlike", "unfinished", "left_over", "untold", "leases")
SCRIPT = Path(__file__).parents[4] / "benchmarks" / "kills.py"


@pytest.fixture
def kills():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("llem_kills", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_kill_costs_one_trial_at_most(kills) -> None:
    """None is lost that was stored, none measured twice, no failure told as done, and the study goes on to its end.

    `llem verify` finds nothing in what the kill leaves, every pause is told, and no lease stays.
    """
    table = kills.table(6, seed=1)

    assert set(table) == {f"{who}{how}" for who in ("worker", "parent", "both") for how in ("", " paused")}
    assert sum(row["killed"] for row in table.values()) >= 3
    for row in table.values():
        assert row["most_lost"] <= 1
        assert [row[name] for name in COUNTED] == [0] * len(COUNTED)
