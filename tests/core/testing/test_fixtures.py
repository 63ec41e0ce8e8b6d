"""The pytest plugin's fixtures: isolation, and a command in this process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llem.testing import fixtures
from llem.testing.fixtures import Isolated, Outcome

isolated_llem = fixtures.isolated_llem
run_llem = fixtures.run_llem


def test_isolated_folders(isolated_llem: Isolated, tmp_path: Path) -> None:
    """Home, settings and working folder lie under the test's own folder, and colours are off."""
    assert Path.home().is_relative_to(tmp_path)
    assert Path.cwd() == isolated_llem.folder
    assert os.environ["LLEM_CONFIG"] == str(isolated_llem.config)
    assert "NO_COLOR" in os.environ
    assert not isolated_llem.results.exists()


@pytest.fixture
def user_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that the user has set."""
    monkeypatch.setenv("LLEM_ANYTHING", "set by the user")


@pytest.mark.usefixtures("user_setting", "isolated_llem")
def test_users_variables_do_not_reach_the_test() -> None:
    """Variables of llem that the user set are gone."""
    assert "LLEM_ANYTHING" not in os.environ


def test_run_llem_captures_output(run_llem: Callable[..., Outcome]) -> None:
    """A command's output and exit code are returned, the two streams apart."""
    version = run_llem("--version")
    assert (version.exit_code, version.stderr) == (0, "")
    assert version.stdout.startswith("llem")
    wrong = run_llem("no-such-command")
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert "no-such-command" in wrong.stderr


@pytest.mark.process
def test_plugin_imports_light() -> None:
    """Loading the plugin, which every pytest run does, imports nothing of llem but the package itself."""
    code = "import sys; import llem.testing.fixtures; print(*sorted(m for m in sys.modules if m.startswith('llem')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["llem", "llem.testing", "llem.testing.fixtures"]
