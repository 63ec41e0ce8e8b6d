"""A server with a wire of its own, for tests of client processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llem.backends.wire import WireReference

LINES = Path(__file__).parent / "lines"


@pytest.fixture
def line_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., WireReference]]:
    """`line_server(silence_s=…, …)`: how to speak to a server that answers lines; other arguments are settings."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(LINES), os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, str(LINES / "line_wire.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        port = int(server.stdout.readline())

        def reference(
            silence_s: float = 60.0, deadline_s: float = 600.0, processes: int | None = None, **more: Any
        ) -> WireReference:
            return WireReference("line_wire:LineWire", {"port": port, **more}, silence_s, deadline_s, processes)

        yield reference
        server.stdin.close()
        server.wait(timeout=10)
