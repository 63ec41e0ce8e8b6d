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
    """Every mode of a group under every load is as its table says. None ends `llem run`, `show` or `verify` as a bug
    (70), and what was stored is read again as it was: see `harness.run`.
    """
    group = GROUPS[name]
    cases = [(mode, load) for mode in group for load in group[mode].loads]
    again = harness.judged(group, cases, tmp_path / "first", 1)
    if again:
        again = harness.judged(group, list(again), tmp_path / "second", 2)
    told = [f"{mode}/{load} ({group[mode].does}): {'; '.join(faults)}" for (mode, load), faults in again.items()]
    assert not told, "\n".join(told)


@pytest.mark.parametrize("code", [70, -11, 1])
def test_a_command_that_ends_as_a_bug_is_noticed(code, tmp_path, monkeypatch):
    """Whichever of the three; an exit of 1 is fine of `run` alone, where experiments fail."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "study.json").write_text("{}")
    ended = harness.subprocess.CompletedProcess([], code, "", "Traceback")
    monkeypatch.setattr(harness.subprocess, "run", lambda *_, **__: ended)
    with pytest.raises(AssertionError, match=f"`llem show` of .* ended with {code}: Traceback"):
        harness.readable(tmp_path / "out", {}, whole=True)


def test_there_are_modes_enough():
    """Each has its own name."""
    assert len(modes.MODES) == sum(map(len, GROUPS.values())) >= 60
