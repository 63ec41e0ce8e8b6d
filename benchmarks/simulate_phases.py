"""How often the intervals of phases hold the truth: simulated trials of known energies, by design and number of trials.

    python benchmarks/simulate_phases.py [--experiments 2000] [--out FILE.json]

Energies of a round follow the model of the regression, with joules that an 8B model takes on an H200 (batch 16, 512
prompt tokens, 64 output tokens). Each window is off by a normal error of its own, each trial by one that its windows
share, and each engine process by one that its trials share. Reported is the share of experiments whose 95 % interval
holds the true value, and the mean half-width as a share of it. Of one process the interval covers that process, so the
true value is the process's own. The metrics are llem's own, over trials as a store has them.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llem.meters.base import EnergyReading
from llem.metrics.catalogue import METRICS
from llem.metrics.designs import ALL, DESIGNS, WHOLE, Pass, work_of
from llem.metrics.metric import Measured
from llem.metrics.setup import setup_of
from llem.store.models import Part, RequestRow, Trial

#: Joules of a batch, a prompt token, a decoded token, and a token of context of a decoded token.
TRUTH = (2.0, 0.02, 0.25, 2e-5)
BATCHES, SIZE, INPUTS, OUTPUTS = 3, 16, 512, 64
#: Relative standard deviations: of a window, of a trial, of a process.
WINDOW, TRIAL, PROCESS = 0.004, 0.003, 0.003
ROWS = [RequestRow(n, n // SIZE, INPUTS, OUTPUTS, 0, 1) for n in range(BATCHES * SIZE)]
SHOWN: Mapping[str, tuple[str, ...]] = {
    "differential": ("prefill_energy_per_token_j", "decode_energy_per_token_j", "phase_closure"),
    "regression": (
        "prefill_energy_per_token_j", "decode_energy_per_token_j", "phase_closure", "fit_prompt_token_j",
        "fit_decoded_token_j",
    ),
}  # fmt: skip


def joules(one: Pass) -> float:
    """The true energy of all batches in a pass."""
    return sum(each * count for each, count in zip(TRUTH, work_of(ROWS, one), strict=True))


def true_values() -> dict[str, float]:
    """What each metric should be."""
    batches, prompts, decoded, contexts = work_of(ROWS, ALL)
    prefill = TRUTH[0] * batches + TRUTH[1] * prompts
    return {
        "prefill_energy_per_token_j": prefill / prompts,
        "decode_energy_per_token_j": (TRUTH[2] * decoded + TRUTH[3] * contexts) / decoded,
        "phase_closure": 1.0,
        "fit_prompt_token_j": TRUTH[1],
        "fit_decoded_token_j": TRUTH[2],
    }


def reading(energy_j: float) -> tuple[EnergyReading, ...]:
    return (EnergyReading("nvml", "gpu:0", "gpu", "measured", "simulated", energy_j),)


def trial(rng: random.Random, design: str, index: int, process: int, of_process: float) -> Trial:
    """One trial, its windows of a second each."""
    common = of_process * (1 + rng.gauss(0, TRIAL))
    windows = {WHOLE: (ALL,), **DESIGNS[design]}
    energies = {
        name: sum(map(joules, passes)) * common * (1 + rng.gauss(0, WINDOW)) for name, passes in windows.items()
    }
    parts = tuple(
        Part(name, 1, 0, 10**9, BATCHES, len(ROWS), len(ROWS) * INPUTS, 0, (), reading(energy))
        for name, energy in energies.items()
        if name != WHOLE
    )
    work: dict[str, Any] = {"input_tokens": len(ROWS) * INPUTS, "output_tokens": len(ROWS) * OUTPUTS}
    return Trial(
        "simulated", index, process, "2026-12-01T00:00:00Z", 0, 10**9, BATCHES, len(ROWS), **work,
        expected_output_tokens=work["output_tokens"], batch_s=(), first_index=0, energies=reading(energies[WHOLE]),
        peak_memory_bytes=None, memory_covers="nothing", memory_reason="not_supported", output_digest="", health={},
        parts=parts,
    )  # fmt: skip


def simulate(rng: random.Random, design: str, trials: int, processes: int, experiments: int) -> list[dict[str, Any]]:
    """Coverage and mean relative half-width of each metric."""
    config = {"phases": design, "load": {"kind": "offline"}, "trials": trials, "processes": processes}
    setup = setup_of({"config": config, "model": {"weights": "random"}}, [])
    truth, held, widths = true_values(), dict.fromkeys(SHOWN[design], 0), {name: [] for name in SHOWN[design]}
    for _ in range(experiments):
        of_process = [1 + rng.gauss(0, PROCESS) for _ in range(processes)]
        made = [trial(rng, design, i, i % processes, of_process[i % processes]) for i in range(trials)]
        measured = Measured(setup, made, (), lambda _: ROWS)
        for name in SHOWN[design]:
            found = METRICS[name].of(measured)
            own = of_process[0] if processes == 1 and name != "phase_closure" else 1.0
            held[name] += found.low <= truth[name] * own <= found.high
            widths[name].append((found.high - found.low) / 2 / truth[name])
    return [
        {"design": design, "trials": trials, "processes": processes, "metric": name,
         "coverage": held[name] / experiments, "half_width": statistics.fmean(widths[name])}
        for name in SHOWN[design]
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=2000)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rng, rows = random.Random(17), []
    for design in SHOWN:
        for trials, processes in ((3, 1), (5, 1), (10, 5)):
            rows += simulate(rng, design, trials, processes, args.experiments)
    for row in rows:
        told = f"{row['design']:>12} {row['trials']:>2} trials, {row['processes']} processes  {row['metric']:<27}"
        print(told, f"{row['coverage']:.1%}  ± {row['half_width']:.2%}")
    if args.out is not None:
        args.out.write_text(json.dumps({"experiments": args.experiments, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
