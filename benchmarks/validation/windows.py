"""Short windows against a 60 s window of the same steady load, on a real GPU.

One process computes a bf16 matrix product without pause. llem's own sampling process reads the GPU throughout. A thread
reads the bare energy counter at the edges of windows whose beginnings are drawn at random within the 60 s, as a
measurement without ticks would. Truth for a window is the mean power of the 60 s times its length; the sensor's
calibration is common to both and not at stake here.

    python -m benchmarks.validation.windows OUT_DIR [--seconds 60] [--warm 30] [--seed 1]
    python -m benchmarks.validation.windows OUT_DIR --again [--trace windows-trace.csv.gz]

Writes windows.csv (one row per window) and windows.json (the summary), and prints the summary. `--again` needs no GPU:
it computes both anew from the trace, and from the windows and bare reads of windows.csv.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import math
import random
import statistics
import threading
import time
from pathlib import Path

from llem.devices.nvml import Nvml
from llem.meters.base import Domain
from llem.meters.sampler import Sampler
from llem.meters.trace import TraceRow, series
from llem.meters.tracker import EDGE_TICKS, THIN
from llem.meters.window import energy_readings
from llem.store.tables import read_trace, trace_bytes

S = 1_000_000_000
#: (nominal length in s, windows). Lengths vary by 10 %, so that they are no whole number of the counter's periods.
KINDS = ((0.6, 40), (2.0, 40), (5.0, 40), (10.0, 20))


def load(stop: threading.Event, size: int = 8192) -> None:
    """Matrix products without pause until told to stop; never more than 16 queued."""
    import torch

    a = torch.randn(size, size, device="cuda", dtype=torch.bfloat16)
    b = torch.randn(size, size, device="cuda", dtype=torch.bfloat16)
    while not stop.is_set():
        for _ in range(16):
            torch.matmul(a, b)
        torch.cuda.synchronize()


def plan(seconds: float, seed: int, scale: float = 1.0) -> list[tuple[float, float, float]]:
    """Windows as (nominal length, begin, end) in seconds after the reference's beginning; `scale`: of their lengths."""
    rng = random.Random(seed)
    windows = []
    for nominal, count in KINDS:
        for _ in range(count):
            length = nominal * scale * rng.uniform(0.9, 1.1)
            begin = rng.uniform(0.0, seconds - length)
            windows.append((nominal, begin, begin + length))
    return windows


def read_edges(handle: object, start_ns: int, edges: list[float]) -> dict[float, tuple[int, float]]:
    """At each edge: the time, and the bare counter in joules."""
    import pynvml

    found = {}
    for edge in sorted(edges):
        time.sleep(max(start_ns / 1e9 + edge - time.monotonic(), 0))
        now = time.monotonic_ns()
        found[edge] = (now, pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000)
    return found


def thinned(rows: list[TraceRow], t0_ns: int, t1_ns: int) -> list[TraceRow]:
    """The trace as a trial would have it: every tick near the edges, every tenth within."""
    kept, inner = [], 0
    for row in rows:
        if row.reading == "counter_j" and t0_ns + EDGE_TICKS * S // 10 < row.t_ns < t1_ns:
            inner += 1
            if inner % THIN:
                continue
        kept.append(row)
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--warm", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--trace", default="windows-trace.csv.gz")
    args = parser.parse_args()
    if args.again:
        again(args.out, args.out / args.trace)
        return
    args.out.mkdir(parents=True, exist_ok=True)
    measure(args)


def again(out: Path, trace: Path) -> None:
    """Compute windows.csv and windows.json anew from a trace and from the windows that windows.csv lists."""
    rows = list(read_trace(trace))
    summary = json.loads((out / "windows.json").read_text())
    with (out / "windows.csv").open(newline="") as file:
        listed = list(csv.DictReader(file))
    [name] = {row.domain for row in rows if row.reading == "counter_j"}
    domain = Domain(name, "gpu", "measured", "NVML total energy counter", period_s=0.1, sensor_relative=0.05)
    start = summary["reference_begin_ns"]
    windows = []
    for row in listed:
        a = start + round(float(row["begin_s"]) * S)
        windows.append((float(row["nominal_s"]), a, a + round(float(row["length_s"]) * S), float(row["bare_j"])))
    reference = (start, start + round(summary["reference_s"] * S))
    report(out, summary["gpu"], windows, rows, [("nvml", domain)], reference)


def measure(args: argparse.Namespace) -> None:
    """Measure on this machine's first GPU."""
    import pynvml

    nvml = Nvml.open()
    gpu = nvml.gpus()[0]
    handle = pynvml.nvmlDeviceGetHandleByUUID(gpu.uuid)
    meter = {"name": "nvml", "target": "llem.meters.nvml:NvmlMeter", "config": None, "options": None}
    sampler = Sampler([meter], [gpu.uuid])
    stop = threading.Event()
    worker = threading.Thread(target=load, args=(stop,))
    windows = plan(args.seconds, args.seed)
    try:
        worker.start()
        time.sleep(args.warm)
        sampler.begin()
        time.sleep(1.0)
        start_ns = time.monotonic_ns()
        edges = [edge for _, begin, end in windows for edge in (begin, end)]
        bare = read_edges(handle, start_ns, [*edges, 0.0, args.seconds])
        time.sleep(1.0)
        rows, errors = sampler.end()
    finally:
        stop.set()
        worker.join()
        sampler.close()
        nvml.close()
    if errors:
        raise SystemExit(f"the meter failed: {errors}")
    spans = [(nominal, *bare[begin], *bare[end]) for nominal, begin, end in windows]
    (args.out / "windows-trace.csv.gz").write_bytes(trace_bytes(rows))
    read = [(nominal, a, b, bare_b - bare_a) for nominal, a, bare_a, b, bare_b in spans]
    report(args.out, gpu.name, read, rows, sampler.domains, (bare[0.0][0], bare[args.seconds][0]))


def report(out, gpu_name, windows, rows, domains, reference) -> None:  # type: ignore[no-untyped-def]
    """Windows as (nominal length, begin and end in ns, joules of the bare counter); `reference` begin and end in ns."""
    t0, t1 = reference
    [whole] = energy_readings(rows, domains, t0, t1)
    truth_w = whole.energy_j / ((t1 - t0) / 1e9)
    table = []
    for nominal, a, b, bare_j in windows:
        [every] = energy_readings(rows, domains, a, b)
        [found] = energy_readings(thinned(rows, a, b), domains, a, b)
        truth = truth_w * (b - a) / 1e9
        table.append(
            {
                "nominal_s": nominal,
                "begin_s": (a - t0) / 1e9,
                "length_s": (b - a) / 1e9,
                "truth_j": truth,
                "llem_j": found.energy_j,
                "error": found.energy_j / truth - 1,
                "every_tick_error": every.energy_j / truth - 1,
                "bound": found.budget.bound_j / truth,
                "tick": found.budget.tick_j / truth,
                "repeat": found.budget.repeat_j / truth,
                "covered": abs(found.energy_j - truth) <= found.budget.bound_j,
                "bare_j": bare_j,
                "bare_error": bare_j / truth - 1,
                "bare_covered": abs(bare_j - truth) <= found.budget.bound_j,
                "integrated_j": found.cross_energy_j,
                "counter_over_integrated": found.energy_j / found.cross_energy_j,
            }
        )
    with (out / "windows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    ticks = series(rows, "nvml", domains[0][1].name, "counter_j")
    spans = [(row.t_ns - row.t_from_ns) / 1e6 for row in ticks]
    gaps = [(b.t_ns - a.t_ns) / 1e6 for a, b in itertools.pairwise(ticks)]
    summary = {
        "gpu": gpu_name,
        "reference_begin_ns": t0,
        "reference_s": (t1 - t0) / 1e9,
        "reference_w": truth_w,
        "reference_counter_over_integrated": whole.energy_j / whole.cross_energy_j,
        "ticks": len(ticks),
        "tick_interval_ms": {"median": statistics.median(gaps), "min": min(gaps), "max": max(gaps)},
        "tick_known_to_ms": {"median": statistics.median(spans), "max": max(spans)},
        "windows": [summarise(nominal, [row for row in table if row["nominal_s"] == nominal]) for nominal, _ in KINDS],
    }
    (out / "windows.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(json.dumps(summary, indent=2))


def summarise(nominal: float, rows: list[dict[str, float]]) -> dict[str, float]:
    errors = [abs(row["error"]) for row in rows]
    bare = [abs(row["bare_error"]) for row in rows]
    ratios = [row["counter_over_integrated"] for row in rows]
    return {
        "nominal_s": nominal,
        "n": len(rows),
        "error_max": max(errors),
        "error_mean": statistics.mean(errors),
        "every_tick_error_max": max(abs(row["every_tick_error"]) for row in rows),
        "error_p95": sorted(errors)[math.ceil(0.95 * len(errors)) - 1],
        "bound_median": statistics.median(row["bound"] for row in rows),
        "covered": sum(row["covered"] for row in rows) / len(rows),
        "bare_error_max": max(bare),
        "bare_error_mean": statistics.mean(bare),
        "bare_covered": sum(row["bare_covered"] for row in rows) / len(rows),
        "counter_over_integrated": {"min": min(ratios), "mean": statistics.mean(ratios), "max": max(ratios)},
    }


if __name__ == "__main__":
    main()
