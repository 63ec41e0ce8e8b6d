"""Settings for whole runs that take a second, and a plugin with backends that fail and meters of known truth."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from llem.plugins.registry import registry

LAB = Path(__file__).parent / "lab"

#: What makes a run short: windows of 0.2 s of batches of 8 ms, and nothing around them.
SHORT: dict[str, Any] = {
    "preset": "quick",
    "device": "cpu",
    "window_s": 0.2,
    "warmup": {"seconds": 0.0},
    "baseline": {"seconds": 0.0},
    "workload": {"output_tokens": 8, "input_tokens": 8},
}
SHORT_ECHO: dict[str, Any] = {**SHORT, "backend": "echo", "echo": {"token_seconds": 0.001}}


@pytest.fixture
def short() -> dict[str, Any]:
    """Keyword arguments of `llem.run` for a run with echo of a second."""
    return dict(SHORT_ECHO)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Install the distribution llem-lab for this process and its children; keyword arguments for a run with it."""
    info = tmp_path / "lab-site" / "llem_lab-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: llem-lab\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[llem]\nlab = llem_lab_hooks\n")
    path = [str(info.parent), str(LAB), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
    for entry in path[:2]:
        monkeypatch.syspath_prepend(entry)
    registry.cache_clear()
    yield {**SHORT, "backend": "lab"}
    registry.cache_clear()
