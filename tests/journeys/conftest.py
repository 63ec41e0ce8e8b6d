"""The command `llem` as a user has it: a process of its own, in a folder with the files that the workloads name."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

#: What a process of its own must not take from whoever runs the tests.
ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith("LLEM_")}
FILES = {
    "config.yaml": "",
    "lines.txt": "Say hello\nSay goodbye, and why\n",
    "lines.jsonl": '{"id": 1, "said": "Say hello"}\n{"id": 2, "said": "Say goodbye, and why"}\n',
    "trace.csv": "timestamp_s,input_tokens,output_tokens\n0,8,4\n0.02,12,3\n0.05,5,6\n0.06,9,2\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where commands run: every file that a workload of the journeys names is there."""
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    return tmp_path


@pytest.fixture
def llem(folder: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`llem("show", "out", code=0)`: the ended process, which must have ended with this code."""
    own = {
        "LLEM_CONFIG": str(folder / "config.yaml"),
        "HF_HUB_OFFLINE": "1",  # no test may reach the network
        "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB; vLLM's CPU build would take half of the memory
        "COLUMNS": "120",
    }

    def run(*words: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "llem", *map(str, words)]
        done = subprocess.run(command, cwd=folder, env={**ENVIRON, **own}, capture_output=True, text=True, check=False)
        assert done.returncode == code, f"llem {' '.join(command[3:])}\n{done.stdout}\n{done.stderr}"
        return done

    return run
