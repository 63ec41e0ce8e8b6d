"""Odd servers under each load: no false number that counts as valid, and no load that hangs.

Each group of `modes.py` is one test: its experiments run through `llem run`, several commands side by side, for they
wait most of the time. What is wrong then runs once more, alone: a machine that was busy is no fault of llem.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]


def beside(name: str) -> ModuleType:
    """A module of this folder."""
    spec = importlib.util.spec_from_file_location(f"odd_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[f"odd_{name}"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


harness, modes = beside("harness"), beside("modes")

#: The largest first: tests run side by side, and are to end at about one time.
NAMES = ("CHUNKS", "STREAM", "FAULTS", "USAGE", "PAGES", "STATUS", "CASES")
GROUPS = {name.lower(): getattr(modes, name) for name in NAMES}


@pytest.mark.parametrize("name", GROUPS)
def test_odd_servers(name, tmp_path):
    """Every mode of a group under every load is as its table says."""
    group = GROUPS[name]
    cases = [(mode, load) for mode in group for load in group[mode].loads]
    again = harness.judged(group, cases, tmp_path / "first", 1)
    if again:
        again = harness.judged(group, list(again), tmp_path / "second", 2)
    told = [f"{mode}/{load} ({group[mode].does}): {'; '.join(faults)}" for (mode, load), faults in again.items()]
    assert not told, "\n".join(told)


def test_there_are_modes_enough():
    """Each has its own name."""
    assert len(modes.MODES) == sum(map(len, GROUPS.values())) >= 60
