"""Real distributions, as small as they get, put on the path of a child process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Install = Callable[..., None]
Llem = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def install(tmp_path: Path) -> Install:
    """Install a plugin distribution: metadata, an entry point, and a `hooks` module with the given source."""

    def _install(name: str, hooks: str, *, entry: str | None = None, version: str = "1.2") -> None:
        module = name.replace("-", "_")
        site = tmp_path / "site"
        info = site / f"{module}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[llem]\n{entry or name} = {module}_hooks\n")
        (site / f"{module}_hooks.py").write_text(hooks)

    return _install


@pytest.fixture
def llem(tmp_path: Path) -> Llem:
    """Run `llem` in a child process that sees the installed distributions."""

    def _llem(*arguments: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join(filter(None, [str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")]))
        return subprocess.run(
            [sys.executable, "-m", "llem", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path, "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return _llem
