"""The sweep of `sweep.py` through llem and through optimum-benchmark: same model, same points, same calls. Prints JSON.

    python benchmarks/peer_sweep.py PEER_PYTHON [REPEATS] [WINDOW_S]

PEER_PYTHON is the interpreter of an environment of its own that holds optimum-benchmark. Version 0.6.0 imports names
that transformers 5 no longer has, and the newest datasets does not go with transformers 4:

    python -m venv peer
    peer/bin/pip install torch==2.13.0      (the CPU build)
    peer/bin/pip install optimum-benchmark==0.6.0 "transformers<5" "datasets<5"

Runs go in pairs, llem and then the peer: llem takes three windows a point, in each of which it finishes whole batches;
the peer is given as many iterations of that point as llem's three windows had batches, after the same two full warm-up
calls (it adds one of 2 tokens), through its Python API, one `Benchmark.launch` a point in one command, which writes
each report. Three ways of the peer:

* `process`: its default launcher, a new process that loads the model for each point, and nothing but latency, as its
  defaults have it;
* `process, memory`: with `memory` on, as in the examples of its documentation, and as llem records peak memory always;
* `inline, memory`: all in the command's own process, "only recommended for debugging purposes" in the peer's words.

Energy is off on both sides. All are started as commands, so that imports and loading count, and both sides get one
folder with shape `tiny` and seeded random weights; the network is not used. `measured_s` is the time within windows or
tracked calls: what is left of the wall time is what a sweep costs beside its measurement. Both compute with one thread:
the peer's process launcher polls its child without a pause, and on two cores the second thread would wait for that one.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import attrs
from sweep import BATCH, LENGTHS, STUDY, TRIALS, seconds

from llem.store.store import Store

VARIANTS = {"process": ("process", False), "process, memory": ("process", True), "inline, memory": ("inline", True)}

MODEL = """
import sys
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from llem.models.resolve import resolve_model

torch.manual_seed(0)
config = AutoConfig.for_model(**resolve_model("shape:tiny").config)
AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(sys.argv[1])
"""

PEER = """
import json
import sys

from optimum_benchmark import Benchmark, BenchmarkConfig, InferenceConfig, InlineConfig, ProcessConfig, PyTorchConfig

if __name__ == "__main__":
    model, out, launcher, memory, batch, points = json.loads(sys.argv[1])
    for inputs, outputs, calls in points:
        config = BenchmarkConfig(
            name="sweep",
            launcher={"process": ProcessConfig, "inline": InlineConfig}[launcher](),
            backend=PyTorchConfig(model=model, task="text-generation", library="transformers", model_type="llama",
                                  device="cpu", torch_dtype="float32"),
            scenario=InferenceConfig(
                iterations=calls, duration=0, warmup_runs=1, latency=True, memory=memory, energy=False,
                input_shapes={"batch_size": batch, "sequence_length": inputs},
                generate_kwargs={"max_new_tokens": outputs, "min_new_tokens": outputs},
            ),
        )
        Benchmark.launch(config).save_json(f"{out}/{inputs}-{outputs}.json")
"""

VERSIONS = """
import importlib.metadata as packages, json, sys
print(json.dumps({name: packages.version(name) for name in sys.argv[1:]}))
"""

Work = dict[tuple[int, int], tuple[int, float]]
"""Of each point (input and output tokens): measured calls, and the seconds that they took."""


def llem_work(out: Path) -> Work:
    """What llem's windows held."""
    store, found = Store.open(out), {}
    for name in store.experiment_ids():
        workload, trials = store.read_experiment(name)["config"]["workload"], store.trials(name)
        done = (sum(trial.batches for trial in trials), sum(trial.duration_s for trial in trials))
        found[workload["input_tokens"], workload["output_tokens"]] = done
    return found


def peer_work(out: Path) -> Work:
    """What the peer's reports say that its tracked calls were."""
    found = {}
    for inputs, outputs in LENGTHS:
        latency = json.loads((out / f"{inputs}-{outputs}.json").read_text())["generate"]["latency"]
        found[inputs, outputs] = (latency["count"], latency["total"])
    return found


def speeds(works: list[Work]) -> dict[str, float]:
    """Output tokens per second of whole calls, prefill included: of each point the median over the turns."""
    middle: dict[str, float] = {}
    for inputs, outputs in LENGTHS:
        rates = [BATCH * outputs * work[inputs, outputs][0] / work[inputs, outputs][1] for work in works]
        middle[f"{inputs}-{outputs}"] = round(statistics.median(rates))
    return middle


@attrs.define
class Runs:
    """What one side of the pairs did, a run each."""

    times: list[float] = attrs.field(factory=list)
    works: list[Work] = attrs.field(factory=list)
    loads: list[float] = attrs.field(factory=list)

    @property
    def measured(self) -> list[float]:
        """Seconds within windows or tracked calls."""
        return [sum(spent for _, spent in work.values()) for work in self.works]

    @property
    def outside(self) -> list[float]:
        """Seconds beside them."""
        return [whole - inner for whole, inner in zip(self.times, self.measured, strict=True)]

    def told(self) -> dict[str, Any]:
        """For the report."""
        return {
            "median_s": round(statistics.median(self.times), 2),
            "all_s": [round(value, 2) for value in self.times],
            "measured_s": [round(value, 2) for value in self.measured],
            "measured_calls": [sum(calls for calls, _ in work.values()) for work in self.works],
            "outside_s": [round(value, 2) for value in self.outside],
            "output_tokens_per_s": speeds(self.works),
            "load_average_before": [round(value, 2) for value in self.loads],
        }


def ratios(peer: Runs, llem: Runs) -> dict[str, float]:
    """How many times longer the peer took."""
    pairs = [slow / fast for slow, fast in zip(peer.times, llem.times, strict=True)]
    outside = statistics.median(peer.outside) / statistics.median(llem.outside)
    return {
        "of_medians": round(statistics.median(peer.times) / statistics.median(llem.times), 2),
        "of_minima": round(min(peer.times) / min(llem.times), 2),
        "least_of_pairs": round(min(pairs), 2),
        "outside_measured": round(outside, 2),
        "outside_measured_of_minima": round(min(peer.outside) / min(llem.outside), 2),
    }


def versions(python: str, *names: str) -> dict[str, str]:
    """Of packages in one environment."""
    told = subprocess.run([python, "-c", VERSIONS, *names], check=True, capture_output=True, text=True)
    return dict(json.loads(told.stdout))


def main(python: str, repeats: int, window_s: float) -> None:
    """Time all pairs, in turn."""
    pairs = {kind: (Runs(), Runs()) for kind in VARIANTS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "model"
        subprocess.run([sys.executable, "-c", MODEL, str(model)], check=True, stderr=subprocess.DEVNULL)
        inputs, outputs = ([pair[at] for pair in LENGTHS] for at in (0, 1))
        text = STUDY.format(model=model, window=window_s, batch=BATCH, inputs=inputs, outputs=outputs, trials=TRIALS)
        (folder / "study.yaml").write_text(text)
        (folder / "peer.py").write_text(PEER)
        for turn in range(repeats):
            for kind, (llem, peer) in pairs.items():
                out = folder / f"{kind}-{turn}"
                (out / "peer").mkdir(parents=True)
                llem.loads.append(os.getloadavg()[0])
                command = [sys.executable, "-m", "llem", "run", "study.yaml", "-o", str(out / "llem"), "-q"]
                command += ["--set", "meters=[]"]
                llem.times.append(seconds(command, folder))
                llem.works.append(llem_work(out / "llem"))
                points = [(*pair, llem.works[-1][pair][0]) for pair in LENGTHS]
                given = json.dumps([str(model), str(out / "peer"), *VARIANTS[kind], BATCH, points])
                peer.loads.append(os.getloadavg()[0])
                peer.times.append(seconds([python, "peer.py", given], folder))
                peer.works.append(peer_work(out / "peer"))
                print(f"{kind}: {llem.times[-1]:.1f} s, {peer.times[-1]:.1f} s", file=sys.stderr, flush=True)
    report = {
        "workloads": len(LENGTHS),
        "trials": TRIALS,
        "window_s": window_s,
        "repeats": repeats,
        "cores": os.cpu_count(),
        "versions": {
            "llem": versions(sys.executable, "torch", "transformers"),
            "peer": versions(python, "optimum-benchmark", "torch", "transformers", "datasets"),
        },
        "peer_over_llem": {kind: ratios(peer, llem) for kind, (llem, peer) in pairs.items()},
        "pairs": {kind: {"llem": llem.told(), "peer": peer.told()} for kind, (llem, peer) in pairs.items()},
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main(
        sys.argv[1],
        int(sys.argv[2]) if len(sys.argv) > 2 else 3,
        float(sys.argv[3]) if len(sys.argv) > 3 else 0.5,
    )
