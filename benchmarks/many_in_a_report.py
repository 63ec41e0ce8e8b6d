"""How long the report of 1,000 stored experiments takes to write, and how much memory. Prints JSON.

    python benchmarks/many_in_a_report.py [COUNT] [REPEATS]

The store is that of `many_results.py`, and each of its trials has a power trace besides: a window of 60 s between leads
of 2 s with a reading every 0.1 s, and a counter whose every tenth tick was looked for within the window. Each report is
written by a process of its own, which reports its peak resident memory.
"""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
from pathlib import Path

import attrs
import many_results

import llem
from llem.meters.trace import TraceRow
from llem.store.models import Trial
from llem.store.store import Store

GPU = "gpu:GPU-00000000-0000-0000-0000-000000000000"
WINDOW_S, LEAD_S, PERIOD_S = 60.0, 2.0, 0.1
WRITES = {
    "start": "import llem.api",
    "head": "import llem; from llem.reports.page.document import report_of; report_of(llem.load_results(FOLDER))",
    "report": "from llem.cli import cli; cli(['report', FOLDER, '-o', FOLDER + '.html'], standalone_mode=False)",
}


def main(count: int, repeats: int) -> None:
    """Write the store, then time the report."""
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder) / "config.yaml"
        own.touch()
        os.environ["LLEM_CONFIG"] = str(own)
        write_store(Path(folder), count)
        report: dict[str, object] = {"experiments": count}
        for name, program in WRITES.items():
            report[name] = many_results._measured(
                f"FOLDER = {folder + '/many'!r}\n{program}{many_results.PEAK}", repeats
            )
        report["bytes"] = Path(folder, "many.html").stat().st_size
    print(json.dumps(report, indent=2))


def write_store(folder: Path, count: int) -> None:
    """`folder / "many"`, with traces."""
    llem.run(backend="echo", out=folder / "template", **many_results.SHORT)
    many_results._write(Store.open(folder / "template"), folder / "many", count)
    store = Store.open(folder / "many")
    for name in store.experiment_ids():
        for trial in store.trials(name):
            (store.folder(name) / f"trial-{trial.index}.json").unlink()
            longer = attrs.evolve(trial, t1_ns=trial.t0_ns + round(WINDOW_S * 1e9))
            store.write_trial(longer, _trace(longer), ())


def _trace(trial: Trial) -> list[TraceRow]:
    rows, joules = [], 0.0
    for number in range(round((WINDOW_S + 2 * LEAD_S) / PERIOD_S)):
        at = trial.t0_ns + round((number * PERIOD_S - LEAD_S) * 1e9)
        watts = 300 + 40 * math.sin(number / 7)
        joules += watts * PERIOD_S
        rows.append(TraceRow("nvml", GPU, "power_w", at - 1_000_000, at, watts))
        if number % 10 == 0 or number * PERIOD_S < LEAD_S + 0.5:
            rows.append(TraceRow("nvml", GPU, "counter_j", at - 1_000_000, at, joules))
    return rows


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000, int(sys.argv[2]) if len(sys.argv) > 2 else 3)
