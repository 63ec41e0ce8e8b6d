"""Measure the structure of llem-core: its size, and what one study of two points runs through.

    python benchmarks/structure.py [--functions]

Prints JSON. `walk` is of one study of two points with the fake backend and the launcher `inline`:

    modules       modules of the core of which a function ran
    calls         ordered pairs of different modules of which one called the other
    transitions   ordered pairs of different modules that ran one after the other

Code that runs at import, with what it calls, and methods that attrs writes, do not count. `--functions` adds every
function that ran, in the order in which it first ran.
"""

from __future__ import annotations

import inspect
import json
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import llem

SOURCE = Path(llem.__file__).parent
STUDY = {
    "base": {
        "backend": "echo",
        "preset": "quick",
        "window_s": 0.2,
        "warmup": {"batches": 1, "seconds": 0},
        "baseline": {"seconds": 0},
        "workload": {"kind": "synthetic", "input_tokens": 8, "output_tokens": 4},
    },
    "axes": {"load.batch_size": [1, 2]},
}


class Walk:
    """A profiler that notes which modules of the core run, and which comes after which."""

    def __init__(self) -> None:
        self.modules: set[str] = set()
        self.calls: set[tuple[str, str]] = set()
        self.transitions: set[tuple[str, str]] = set()
        self.functions: dict[str, None] = {}
        self._last: dict[int, str] = {}
        self._imports: dict[int, int] = {}

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """Take a call; as `sys.setprofile` wants it."""
        thread = threading.get_ident()
        if frame.f_code.co_name == "<module>":
            self._imports[thread] = self._imports.get(thread, 0) + {"call": 1, "return": -1}.get(event, 0)
        name = _core_module(frame)
        if event != "call" or name is None or self._imports.get(thread):
            return
        self.modules.add(name)
        self.functions.setdefault(f"{name}:{frame.f_code.co_qualname}")
        back = frame.f_back
        while back is not None and _core_module(back) is None:
            back = back.f_back
        caller = None if back is None else _core_module(back)
        if caller is not None and caller != name:
            self.calls.add((caller, name))
        if self._last.get(thread, name) != name:
            self.transitions.add((self._last[thread], name))
        self._last[thread] = name


def _core_module(frame: FrameType) -> str | None:
    """The module of the core that a frame runs a function of."""
    name = str(frame.f_globals.get("__name__", ""))
    code = frame.f_code
    function = code.co_flags & inspect.CO_OPTIMIZED  # else the body of a module or a class, which runs at import
    return name if function and name.startswith("llem.") and not code.co_filename.startswith("<") else None


def walk_study() -> Walk:
    """What one study of two points runs through, from reading it to its results."""
    walk = Walk()
    with tempfile.TemporaryDirectory() as folder:
        threading.setprofile(walk)
        sys.setprofile(walk)
        try:
            llem.run_study(STUDY, Path(folder) / "out", launcher="inline")
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]
    return walk


def main() -> None:
    """Print the figures."""
    lines = sorted(path.read_text(encoding="utf-8").count("\n") for path in SOURCE.rglob("*.py"))
    walk = walk_study()
    figures: dict[str, Any] = {
        "modules": len(lines),
        "empty_inits": sum(count <= 3 for count in lines),
        "lines": sum(lines),
        "median_lines": lines[len(lines) // 2],
        "walk": {
            "modules": len(walk.modules),
            "calls": len(walk.calls),
            "transitions": len(walk.transitions),
        },
    }
    if "--functions" in sys.argv:
        figures["functions"] = list(walk.functions)
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
