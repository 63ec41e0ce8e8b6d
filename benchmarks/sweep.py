"""A sweep of 8 workloads on one tiny engine: through llem, and by one plain script with the same windows. Prints JSON.

    python benchmarks/sweep.py [REPEATS] [WINDOW_S]

The plain script loads the model once, warms up each workload with two batches and times as many batches as llem's
windows had, as somebody would write it by hand; it reads no meter, checks nothing and prints one line a window. Both
are started as commands, so that imports and loading count. They run in turn, so that what else the computer does falls
on both alike, and compute with one thread: on few cores the threads of both would wait for whatever else runs there.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from llem.store.store import Store

LENGTHS = [(inputs, outputs) for inputs in (16, 32) for outputs in (8, 16, 24, 32)]
BATCH, TRIALS = 4, 3

STUDY = """
name: sweep
base:
  model: {model}
  backend: pytorch
  device: cpu
  dtype: float32
  preset: quick
  window_s: {window}
  warmup: {{batches: 2, seconds: 0}}
  baseline: {{seconds: 0}}
  load: {{batch_size: {batch}}}
zip:
  workload.input_tokens: {inputs}
  workload.output_tokens: {outputs}
trials: {trials}
"""

PLAIN = """
import json, sys, time
import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig
from llem.models.resolve import resolve_model

batch, trials, lengths = json.loads(sys.argv[1])
torch.manual_seed(0)
config = AutoConfig.for_model(**resolve_model("shape:tiny").config)
model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()

def run(inputs, outputs):
    ids = torch.randint(3, config.vocab_size, (batch, inputs))
    wanted = GenerationConfig(max_new_tokens=outputs, min_new_tokens=outputs, do_sample=False, pad_token_id=0)
    with torch.inference_mode():
        out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=wanted)
    return out[:, inputs:].tolist()

for inputs, outputs, batches in lengths:
    for _ in range(2):
        run(inputs, outputs)
    for _ in range(trials):
        begin, tokens = time.monotonic(), 0
        for _ in range(batches):
            tokens += sum(map(len, run(inputs, outputs)))
        print(inputs, outputs, tokens / (time.monotonic() - begin))
"""


def seconds(command: list[str], folder: Path) -> float:
    """Wall time of one command run in `folder`, with one thread and compiled modules kept, as on a computer of a user.

    Raises CalledProcessError when it fails.
    """
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    begin = time.perf_counter()
    subprocess.run(
        command, check=True, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    return time.perf_counter() - begin


def measured(out: Path) -> list[tuple[int, int, int]]:
    """Input tokens, output tokens and batches of a window, for each workload."""
    store, found = Store.open(out), []
    for name in store.experiment_ids():
        workload = store.read_experiment(name)["config"]["workload"]
        found.append((workload["input_tokens"], workload["output_tokens"], store.trials(name)[0].batches))
    return found


def main(repeats: int, window_s: float) -> None:
    """Time both, in turn."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inputs, outputs = ([pair[at] for pair in LENGTHS] for at in (0, 1))
        text = STUDY.format(
            model="shape:tiny", window=window_s, batch=BATCH, inputs=inputs, outputs=outputs, trials=TRIALS
        )
        (folder / "study.yaml").write_text(text)
        (folder / "plain.py").write_text(PLAIN)
        times: dict[str, list[float]] = {"llem": [], "plain": []}
        for number in range(repeats):
            out = folder / str(number)
            times["llem"].append(
                seconds([sys.executable, "-m", "llem", "run", "study.yaml", "-o", str(out), "-q"], folder)
            )
            plain = json.dumps([BATCH, TRIALS, measured(out)])
            times["plain"].append(seconds([sys.executable, "plain.py", plain], folder))
        workers = len(list((folder / "0" / "workers").iterdir()))
    middle = {kind: statistics.median(values) for kind, values in times.items()}
    report = {
        "workloads": len(LENGTHS),
        "trials": TRIALS,
        "window_s": window_s,
        "repeats": repeats,
        "engines_loaded": workers,
        "median_s": {kind: round(value, 2) for kind, value in middle.items()},
        "all_s": {kind: [round(value, 2) for value in values] for kind, values in times.items()},
        "ratio_of_medians": round(middle["llem"] / middle["plain"], 3),
        "ratio_of_minima": round(min(times["llem"]) / min(times["plain"]), 3),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3, float(sys.argv[2]) if len(sys.argv) > 2 else 1.0)
