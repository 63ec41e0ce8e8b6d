"""The pytest plugin of `llem-core[testing]`: fixtures only, none of them automatic.

Loaded at the start of every pytest run in an environment that has llem, so it imports nothing of llem by itself.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

__all__ = ["Isolated", "Outcome", "isolated_llem", "run_llem"]

HOMES = {
    "HOME": "home",
    "USERPROFILE": "home",
    "XDG_CONFIG_HOME": "home/.config",
    "XDG_CACHE_HOME": "home/.cache",
    "XDG_DATA_HOME": "home/.local/share",
    "XDG_STATE_HOME": "home/.local/state",
}


@dataclass(frozen=True)
class Isolated:
    """Where an isolated test runs: its working folder, a folder for results, and its user configuration file."""

    folder: Path
    results: Path
    config: Path


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    exit_code: int
    stdout: str
    stderr: str


@pytest.fixture
def isolated_llem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Isolated:
    """Nothing of the user's reaches the test, and nothing of the test's the user: folders, settings, colours."""
    for name in [name for name in os.environ if name.startswith("LLEM_")]:
        monkeypatch.delenv(name)
    for name, folder in HOMES.items():
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        monkeypatch.setenv(name, str(tmp_path / folder))
    places = Isolated(tmp_path / "work", tmp_path / "work" / "results", tmp_path / "config.yaml")
    places.folder.mkdir()
    places.config.write_text("")
    monkeypatch.setenv("LLEM_CONFIG", str(places.config))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(places.folder)
    return places


@pytest.fixture
def run_llem(isolated_llem: Isolated) -> Callable[..., Outcome]:
    """`run_llem("plugins", "--json")` runs the command in this process and returns its exit code and output."""

    def run(*args: str | Path) -> Outcome:
        from llem.cli import cli

        out, err = io.StringIO(), io.StringIO()
        code: object = 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                cli.main([str(arg) for arg in args], prog_name="llem")
            except SystemExit as end:
                code = end.code
        return Outcome(code if isinstance(code, int) else int(code is not None), out.getvalue(), err.getvalue())

    return run
