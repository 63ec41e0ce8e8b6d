"""Kills, pauses and commands that meet in one folder, at random moments; see `benchmarks/kills.py`."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

KINDS = ("kill worker", "kill command", "kill both", "term command", "pause both", "two resume at once")


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_lost_doubled_or_untold(benchmark_script: Callable[[str], ModuleType], kind: str) -> None:
    """The study goes on to its end, `llem verify` finds nothing before or after, and no process or lease is left."""
    kills = benchmark_script("kills")
    row = kills.hit(KINDS.index(kind), kind, kills.LOCAL[kind])
    assert row["hit"] == 1, "nothing was done to a study that ran"
    assert {name: row[name] for name in kills.COUNTED} == dict.fromkeys(kills.COUNTED, 0)
