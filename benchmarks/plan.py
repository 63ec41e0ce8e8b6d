"""How long studies of 2,000 and of 100,000 points take to plan, and how much memory. Prints JSON.

    python benchmarks/plan.py [BACKEND] [REPEATS]

The points are as uneven as those of a real study: some are excluded, some invalid, some the same as others. The ratio
to reading as many configurations, strictly typed, each by itself and nothing else, shows what planning adds or saves.
Of 100,000 points, the most that a study may have, each is an experiment; `llem plan` of them runs once as text and once
as JSON, and its processor time and peak memory are told.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from llem.config.layers import Layer
from llem.config.load import resolve
from llem.config.study.file import read_study
from llem.plugins.registry import registry
from llem.study.plan.expand import expand
from llem.study.plan.study import Study

STUDY = """
name: two-thousand
base:
  model: shape:llama-3.1-8b
  backend: {backend}
  workload: {{kind: synthetic, input_tokens: 128, output_tokens: 128}}
axes:
  load.batch_size: {{linear: [1, 125, 125]}}
  dtype: [bfloat16, float16]
  sampling.temperature: [0, 1.0]
  window_s: [10, 0, 20, 10]
exclude:
  - {{load.batch_size: [1, 2], dtype: float16}}
trials: 5
"""

LARGEST = """
name: hundred-thousand
base: {{backend: {backend}}}
axes:
  workload.seed: {{linear: [0, 999, 1000]}}
  workload.input_tokens: {{linear: [1, 100, 100]}}
"""
#: Runs a command, and prints the processor time that it used, and its peak memory.
USED = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
"""


def seconds(call: Callable[[], object], repeats: int) -> list[float]:
    """Wall time of each call, after one that is not counted."""
    times = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return times[1:]


def main(backend: str, repeats: int) -> None:
    """Time the plan, the command, and the reading of as many configurations."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "study.yaml"
        path.write_text(STUDY.format(backend=backend))
        plan = _plan(path)
        layers = [*plan.file.base, Layer("point", dict(plan.experiments[0].point.settings))]

        def read() -> None:
            for _ in range(plan.declared):
                resolve(layers, registry())

        command = [sys.executable, "-m", "llem", "plan", str(path)]
        times = {
            "plan": seconds(lambda: _plan(path), repeats),
            "command": seconds(lambda: subprocess.run(command, stdout=subprocess.DEVNULL, check=True), repeats),
            "reading": seconds(read, repeats),
        }
        path.write_text(LARGEST.format(backend=backend))
        largest = {"text": used(command), "json": used([*command, "--json"])}
    report = {
        "backend": backend,
        "declared": plan.declared,
        "to_run": len(plan.experiments),
        "excluded": len(plan.excluded),
        "invalid": len(plan.invalid),
        "merged": len(plan.merged),
        "min_s": {name: round(min(values), 3) for name, values in times.items()},
        "median_s": {name: round(statistics.median(values), 3) for name, values in times.items()},
        "plan_over_reading": round(min(times["plan"]) / min(times["reading"]), 2),
        "of_100000": largest,
    }
    print(json.dumps(report, indent=2))


def used(command: list[str]) -> dict[str, float]:
    """Processor time and peak memory of a command."""
    told = subprocess.run([sys.executable, "-c", USED, *command], capture_output=True, text=True, check=True).stdout
    processor_s, peak_mib = map(float, told.split())
    return {"processor_s": round(processor_s, 1), "peak_mib": round(peak_mib)}


def _plan(path: Path) -> Study:
    return expand(read_study(path), registry())


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "echo", int(sys.argv[2]) if len(sys.argv) > 2 else 5)
