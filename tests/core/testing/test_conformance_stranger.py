"""The suites as a plugin's author runs them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

SUITE = """
import pytest
from llem.builtin import llem_backends
from llem.config.models import Experiment
from llem.testing.conformance import BackendConformance, LikelihoodConformance, StreamConformance


class TestMine(BackendConformance, LikelihoodConformance, StreamConformance):
    hooks = "llem.builtin"

    def reference(self):
        [found] = [one for one in llem_backends() if one.name == "echo"]
        return found

    @pytest.fixture(scope="class")
    @classmethod
    def experiment(cls, options):
        return Experiment(model="shape:tiny", backend="echo", dtype="float32", device="cpu", options=options)
"""


def test_a_plugins_own_run_has_no_warnings(tmp_path: Path) -> None:
    """Not of what is llem's: an author who makes warnings errors can use the suites all the same."""
    (tmp_path / "test_mine.py").write_text(SUITE)
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "test_mine.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout
    assert "warning" not in done.stdout.splitlines()[-1]
