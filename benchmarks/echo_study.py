"""A study of 3,000 points on the echo backend: to its half, killed, and resumed to the end. Prints JSON.

    python benchmarks/echo_study.py [POINTS] [WINDOW_MS]

The points share one engine, so that what is timed beside the windows is what each point costs: its settings checked,
its documents and its trial written, its result computed. The same windows slept through by a bare loop are subtracted.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from llem.store.store import Store

STUDY = """
name: echoes
base:
  backend: echo
  device: cpu
  preset: quick
  warmup: {{seconds: 0, batches: 1}}
  baseline: {{seconds: 0}}
  workload: {{input_tokens: 4, output_tokens: 4}}
  window_s: {window}
  echo: {{token_seconds: 0.001}}
axes:
  load.batch_size: {{linear: [1, {sizes}, {sizes}]}}
  sampling.seed: [0, 1, 2, 3, 4]
  sampling.temperature: [0, 1]
"""


def command(folder: Path) -> list[str]:
    """`llem run --resume` on the study."""
    run = [sys.executable, "-m", "llem", "run", str(folder / "study.yaml"), "-o", str(folder / "out")]
    return [*run, "--resume", "-q", "--json"]


def main(points: int, window_s: float) -> None:
    """Plan, run to the half, kill, resume, resume again."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "study.yaml").write_text(STUDY.format(window=window_s, sizes=points // 10))
        begin = time.monotonic()
        plan = [sys.executable, "-m", "llem", "plan", str(folder / "study.yaml"), "--json"]
        planned = json.loads(subprocess.run(plan, check=True, capture_output=True).stdout)
        plan_s = time.monotonic() - begin
        count = len(planned["experiments"])
        first_s = _killed_at(folder, count // 2)
        kept = _trials(folder)
        begin = time.monotonic()
        with (folder / "result.json").open("wb") as printed:
            subprocess.run(command(folder), check=True, stdout=printed)
        resumed_s = time.monotonic() - begin
        begin = time.monotonic()
        subprocess.run(command(folder), check=True, stdout=subprocess.DEVNULL)
        nothing_s = time.monotonic() - begin
        outcomes = [result["outcome"] for result in json.loads((folder / "result.json").read_text())]
        workers = len(list((folder / "out" / "workers").iterdir()))
        report = {
            "points": count,
            "window_s": window_s,
            "plan_s": round(plan_s, 2),
            "first_half_s": round(first_s, 1),
            "stored_at_the_kill": kept,
            "resumed_s": round(resumed_s, 1),
            "resumed_with_nothing_missing_s": round(nothing_s, 1),
            "beside_the_windows_ms_a_point": round(1000 * ((first_s + resumed_s) / count - window_s), 1),
            "trials_stored": _trials(folder),
            "done": outcomes.count("done"),
            "workers": workers,
            "most_memory_mb": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024),
        }
    print(json.dumps(report, indent=2))


def _killed_at(folder: Path, trials: int) -> float:
    """Run until so many trials are stored, and kill the command; the time that took."""
    begin = time.monotonic()
    process = subprocess.Popen(command(folder), stdout=subprocess.DEVNULL, start_new_session=True)
    while _trials(folder) < trials and process.poll() is None:
        time.sleep(0.5)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return time.monotonic() - begin


def _trials(folder: Path) -> int:
    out = folder / "out"
    if not (out / "study.json").exists():
        return 0
    return sum(1 for _ in Store.open(out).path.glob("experiments/*/trial-0.json"))


if __name__ == "__main__":
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else 3000,
        (float(sys.argv[2]) if len(sys.argv) > 2 else 100.0) / 1000,
    )
