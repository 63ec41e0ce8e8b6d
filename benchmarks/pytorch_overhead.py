"""`llem.run` against the same loop written by hand, interleaved trial by trial in one process on a real GPU.

Both run the same architecture with the same batches of the same lengths. Trials of `llem.run` (launcher inline) take
turns with windows of the hand-written loop, which runs with llem's monitor off and reads the bare energy counter once
before and once after. One batch of the same work runs right before each of its windows, as in llem's: the counter lags
by up to 0.1 s, and after a pause would count idle power into the window. The order within a pair alternates. Reported
are the ratios llem / by hand, as paired log-ratio t-intervals:

    throughput   what llem's wrapping costs in speed
    energy       per output token, what the monitor costs in energy

A host that drifts within a run (see figures/) calls for many short pairs rather than few long ones:
`--trials 30 --set window_s=2.5`.

    python benchmarks/pytorch_overhead.py OUT_DIR --batch 32 [--trials 8] [--cache static] [--set KEY=VALUE]
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

import attrs
import pynvml
import torch

import llem
from llem.config.load import parse_assignment
from llem.results.statistics import mean, paired_ratio
from llem.results.store import Store
from llem_pytorch.backend import PyTorchBackend

INPUT = 128


class ByHand:
    """The loop a user would write: build the batch, generate, take the tokens to the host.

    It uses the model object that llem has loaded (same weights, same compiled graphs) and nothing else of llem.
    """

    def __init__(self, batch: int, output: int, cache: str | None) -> None:
        self.model: Any = None
        self.batch, self.output, self.rng = batch, output, random.Random(2)
        self.extra = {} if cache is None else {"cache_implementation": cache}
        self.handle = pynvml.nvmlDeviceGetHandleByIndex(0)

    def adopt(self, engine: Any) -> None:
        """Take the loaded model out of llem's engine."""
        self.model = next(value for value in vars(engine).values() if isinstance(value, torch.nn.Module))

    def prompts(self) -> list[list[int]]:
        vocabulary = self.model.config.vocab_size
        return [[self.rng.randrange(3, vocabulary) for _ in range(INPUT)] for _ in range(self.batch)]

    @torch.inference_mode()
    def one(self, ids: list[list[int]]) -> int:
        tensor = torch.tensor(ids, device="cuda")
        out = self.model.generate(
            tensor,
            attention_mask=torch.ones_like(tensor),
            max_new_tokens=self.output,
            min_new_tokens=self.output,
            do_sample=False,
            pad_token_id=0,
            **self.extra,
        )
        return sum(len(row) for row in out[:, INPUT:].tolist())

    def window(self, batches: int) -> dict[str, float]:
        """`batches` batches; prompts are drawn before, as llem draws them before its window."""
        lead_in, *work = [self.prompts() for _ in range(batches + 1)]
        self.one(lead_in)
        torch.cuda.synchronize()
        joules = pynvml.nvmlDeviceGetTotalEnergyConsumption(self.handle) / 1000
        start = time.perf_counter()
        tokens = sum(self.one(ids) for ids in work)
        torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        joules = pynvml.nvmlDeviceGetTotalEnergyConsumption(self.handle) / 1000 - joules
        return {"tokens_per_s": tokens / seconds, "joules_per_token": joules / tokens, "seconds": seconds}


class Interleaver:
    """Runs a hand-written window after every even trial and before every odd one."""

    def __init__(self, hand: ByHand) -> None:
        self.hand, self.windows, self.batches = hand, [], 1

    def __call__(self, event: Any) -> None:
        kind = event["event"]
        if kind == "calibrated":
            self.batches = event["batches"]
        odd = event.get("trial", 0) % 2 == 1
        before = kind == "phase" and event["phase"] == "trial" and odd
        after = kind == "trial" and not odd
        if before or after:
            self.windows.append(self.hand.window(self.batches))
            print("by hand", self.windows[-1], flush=True)
        if kind == "trial":
            print("llem   ", event, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--model", default="shape:llama-3.1-8b")
    parser.add_argument("--output", type=int, default=128, help="output tokens per request")
    parser.add_argument("--cache", help="cache_implementation of both, e.g. static: decoding in CUDA graphs")
    parser.add_argument("--set", dest="assignments", action="append", default=[])
    args = parser.parse_args()
    pynvml.nvmlInit()
    hand = ByHand(args.batch, args.output, args.cache)
    load = PyTorchBackend.load

    def load_and_share(self: PyTorchBackend, *arguments: Any) -> Any:
        engine = load(self, *arguments)
        hand.adopt(engine)
        return engine

    PyTorchBackend.load = load_and_share
    turns = Interleaver(hand)
    name = f"batch-{args.batch}" + (f"-{args.cache}" if args.cache else "")
    folder = args.out / name
    settings = dict(parse_assignment(text) for text in args.assignments)
    if args.cache is not None:
        settings["pytorch.cache_implementation"] = args.cache
    result = llem.run(
        model=args.model,
        backend="pytorch",
        workload={"kind": "synthetic", "input_tokens": INPUT, "output_tokens": args.output},
        load={"batch_size": args.batch},
        preset="standard",
        trials=args.trials,
        max_trials=args.trials,
        out=folder,
        launcher="inline",
        on_event=turns,
        **settings,
    )
    report(args, result, turns.windows, folder, name)


def report(args: argparse.Namespace, result: Any, windows: list[dict[str, float]], folder: Path, name: str) -> None:
    trials = Store.open(folder).trials(result.id)
    speed = [trial.output_tokens / trial.duration_s for trial in trials]
    energy = [trial.energies[0].energy_j / trial.output_tokens for trial in trials]
    hand_speed = [window["tokens_per_s"] for window in windows]
    hand_energy = [window["joules_per_token"] for window in windows]
    summary = {
        "batch": args.batch,
        "cache": args.cache,
        "input_tokens": INPUT,
        "output_tokens": args.output,
        "device": result.effective.get("device"),
        "trials": len(trials),
        "window_s": mean([trial.duration_s for trial in trials]),
        "llem_tokens_per_s": mean(speed),
        "hand_tokens_per_s": mean(hand_speed),
        "throughput_ratio": attrs.asdict(paired_ratio(hand_speed, speed)),
        "llem_joules_per_token": mean(energy),
        "hand_joules_per_token": mean(hand_energy),
        "energy_ratio": attrs.asdict(paired_ratio(hand_energy, energy)),
        "counter_over_integrated": [t.energies[0].energy_j / t.energies[0].cross_energy_j for t in trials],
        "utilisation_percent": [next(iter(t.health.values())).get("utilisation_percent") for t in trials],
        "budget_share": [t.energies[0].budget.bound_j / t.energies[0].energy_j for t in trials],
        "findings": [f"{found.code}: {found.message}" for found in result.findings],
        "hand_windows": windows,
    }
    (args.out / f"overhead-{name}.json").write_text(json.dumps(summary, indent=2) + "\n")
    brief = {key: value for key, value in summary.items() if key != "hand_windows"}
    print(json.dumps(brief, indent=1))


if __name__ == "__main__":
    main()
