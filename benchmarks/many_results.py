"""How long 10,000 stored results take to summarise, and how much memory. Prints JSON.

    python benchmarks/many_results.py [COUNT] [REPEATS]

One short experiment on the echo backend is the template; a store of COUNT copies is written through the store's own
functions, each copy with an id, a point and figures of its own, and with GPU energies, so that it is as long
as a real one.
Every read runs in a process of its own, which reports its peak resident memory.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import attrs

import llem
from llem.store.models import DomainMetrics, EnergyReading, ErrorBudget, Quantity, Result, Trial
from llem.store.store import Store

SHORT = {
    "preset": "quick", "device": "cpu", "window_s": 0.2, "warmup": {"seconds": 0}, "baseline": {"seconds": 0},
    "echo": {"token_seconds": 0.001}, "workload": {"input_tokens": 8, "output_tokens": 8},
}  # fmt: skip
READS = {
    "start": "import llem.api",
    "show": "from llem.cli import cli; cli(['show', FOLDER], standalone_mode=False)",
    "frame": "import llem; assert llem.load_results(FOLDER).frame().height == COUNT",
    "columns": "import llem; assert len(llem.load_results(FOLDER).columns()['id']) == COUNT",
    "pareto": "import llem; llem.load_results(FOLDER).pareto('energy_per_output_token_j', 'output_tokens_per_s')",
    "recommend": "import llem; assert llem.load_results(FOLDER).recommend(slo='output_tokens_per_s>0.001').choice",
    "values": "import llem; assert sum(r.valid for r in llem.load_results(FOLDER).values()) == COUNT",
}
PEAK = (
    "\nimport resource, sys; used = resource.getrusage(resource.RUSAGE_SELF)"
    "\nprint(used.ru_maxrss, used.ru_utime + used.ru_stime, file=sys.stderr)"
)


def main(count: int, repeats: int) -> None:
    """Write the store, then time each read."""
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder) / "config.yaml"
        own.touch()
        os.environ["LLEM_CONFIG"] = str(own)
        llem.run(backend="echo", out=f"{folder}/template", **SHORT)
        begin = time.perf_counter()
        size = _write(Store.open(f"{folder}/template"), Path(folder) / "many", count)
        report: dict[str, Any] = {"results": count, "bytes_per_result": size}
        report["write_s"] = round(time.perf_counter() - begin, 1)
        for name, program in READS.items():
            report[name] = _measured(f"FOLDER, COUNT = {folder + '/many'!r}, {count}\n{program}{PEAK}", repeats)
    print(json.dumps(report, indent=2))


def _measured(program: str, repeats: int) -> dict[str, float]:
    times, processor, peaks = [], [], []
    for _ in range(repeats):
        begin = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        times.append(time.perf_counter() - begin)
        peak, used = done.stderr.split()[-2:]
        peaks.append(int(peak) / 1024)
        processor.append(float(used))
    return {
        "min_s": round(min(times), 2),
        "median_s": round(statistics.median(times), 2),
        "min_processor_s": round(min(processor), 2),  # the rest of the wall time was another's
        "peak_mib": round(max(peaks)),
    }


def _write(template: Store, folder: Path, count: int) -> int:
    """A store of `count` experiments over four axes; bytes of one result.json."""
    [name] = template.experiment_ids()
    result = template.read_result(name)
    assert result is not None
    document = template.read_experiment(name)
    document = {**document, "config": {**document["config"], "backend": "pytorch"}}  # echo is a fake and never ranked
    result = attrs.evolve(result, config=document["config"])
    [engine], [trial] = template.engines(name), template.trials(name)
    axes = {
        "load.batch_size": [1, 2, 4, 8, 16, 32, 64, 128, 256, 512],
        "dtype": ["float32", "float16", "bfloat16", "auto"],
        "sampling.temperature": [0, 0.5, 0.7, 1.0, 1.5],
    }
    axes["window_s"] = [float(n) for n in range(1, 2 + count // 200)]
    draw = random.Random(0)
    grid = itertools.islice(itertools.product(*axes.values()), count)
    points = {f"{n:016x}": dict(zip(axes, values, strict=True)) for n, values in enumerate(grid)}
    study = {
        **template.study(),
        "axes": list(axes),
        "experiments": list(points),
        "points": {one: {"number": number, "values": values} for number, (one, values) in enumerate(points.items())},
    }
    store = Store.create(folder, study)
    for one, values in points.items():
        store.write_experiment(one, {**document, "id": one})
        store.write_engine(one, engine)
        for index in range(3):
            store.write_trial(_measured_trial(attrs.evolve(trial, index=index), one, values, draw), (), ())
        store.write_result(_varied(result, one, values, draw))
    return (store.folder(one) / "result.json").stat().st_size


def _joules(values: dict[str, Any]) -> float:
    """Energy per output token of a point."""
    return 10 * (1 + values["sampling.temperature"] / 10) / values["load.batch_size"] ** 0.7


def _measured_trial(trial: Trial, name: str, values: dict[str, Any], draw: random.Random) -> Trial:
    """The template's trial with the energy of a point, and noise of 1 %."""
    joules = _joules(values) * trial.output_tokens * draw.gauss(1, 0.01)
    gpu = "gpu:GPU-00000000-0000-0000-0000-000000000000"
    reading = EnergyReading("nvml", gpu, "gpu", "measured", "NVML total energy counter", joules)
    return attrs.evolve(trial, experiment_id=name, energies=(reading,))


def _varied(result: Result, name: str, values: dict[str, Any], draw: random.Random) -> Result:
    """The template with figures that depend on the point, and noise of 1 %."""
    joules = _joules(values)

    def quantity(value: float, unit: str) -> Quantity:
        value *= draw.gauss(1, 0.01)
        interval = {"low": value * 0.99, "high": value * 1.01, "confidence": 0.95, "n": 5, "processes": 1}
        basis = {"scope": "gpu", "kind": "measured"} if unit == "J" else {}
        return Quantity(value, unit, **interval, covers="within one process", method="student_t", **basis)

    energies = {metric: quantity(joules, "J") for metric in result.metrics if "energy" in metric}
    speeds = {metric: quantity(100 / joules, "token/s") for metric in result.metrics if metric.endswith("_per_s")}
    joule = quantity(joules, "J")
    domain = DomainMetrics(
        "nvml", "gpu:GPU-00000000-0000-0000-0000-000000000000", "gpu", "measured", "NVML total energy counter",
        joule, joule, quantity(300, "W"), quantity(70, "W"), ErrorBudget(0.1, 0.1, 0.1, 0.1), quantity(1, ""),
    )  # fmt: skip
    return attrs.evolve(result, id=name, metrics={**result.metrics, **energies, **speeds}, domains=(domain, domain))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000, int(sys.argv[2]) if len(sys.argv) > 2 else 3)
