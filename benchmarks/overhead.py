"""`llem.run` against the same loop written by hand, interleaved trial by trial in one process on a real GPU.

Both run the same engine with batches of the same lengths. Trials of `llem.run` (launcher inline) take turns with
windows of the hand-written loop, which runs with llem's monitor off and reads the bare energy counter once before and
once after. One batch of the same work runs right before each of its windows, as in llem's: the counter lags by up to
0.1 s, and after a pause would count idle power into the window. The order within a pair alternates. Reported are the
ratios llem / by hand, as paired log-ratio t-intervals:

    throughput   what llem's wrapping costs in speed
    energy       per output token, what the monitor costs in energy
    energy_bare  the same, llem's windows read as the hand's are: the counter's last value before each edge. Where the
                 counter's steps (0.1 s) are coarse against the window, both sides then have the same rounding

A host that drifts within a run (see figures/) calls for many short pairs rather than few long ones:
`--trials 30 --set window_s=2.5`. vLLM is steady enough for the opposite, windows of 15 s or more, which leave the bare
counter's steps below 0.5 %. Several batch sizes share one loaded engine.

    python benchmarks/overhead.py OUT_DIR --batch 32 [128 …] [--backend vllm] [--trials 8] [--set KEY=VALUE]
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pynvml

import llem
from llem.config.load import parse_assignment
from llem.meters.trace import TraceRow, series
from llem.plugins.registry import registry
from llem.results.models import Trial
from llem.results.statistics import mean, paired_ratio
from llem.results.store import Store

INPUT = 128


class ByHand:
    """The loop a user would write: build the batch, generate, take the tokens to the host.

    It uses the engine that llem has loaded (same weights, same compiled graphs) and nothing else of llem.
    """

    def __init__(self, batch: int, output: int) -> None:
        self.batch, self.output, self.rng = batch, output, random.Random(2)
        self.handle = pynvml.nvmlDeviceGetHandleByIndex(0)

    def one(self, ids: list[list[int]]) -> int:
        """Generate for one batch; the number of tokens that came."""
        raise NotImplementedError

    @property
    def vocabulary(self) -> int:
        raise NotImplementedError

    def prompts(self) -> list[list[int]]:
        return [[self.rng.randrange(3, self.vocabulary) for _ in range(INPUT)] for _ in range(self.batch)]

    def window(self, batches: int) -> dict[str, float]:
        """`batches` batches; prompts are drawn before, as llem draws them before its window."""
        lead_in, *work = [self.prompts() for _ in range(batches + 1)]
        self.one(lead_in)
        joules = pynvml.nvmlDeviceGetTotalEnergyConsumption(self.handle) / 1000
        start = time.perf_counter()
        tokens = sum(self.one(ids) for ids in work)
        seconds = time.perf_counter() - start
        joules = pynvml.nvmlDeviceGetTotalEnergyConsumption(self.handle) / 1000 - joules
        return {"tokens_per_s": tokens / seconds, "joules_per_token": joules / tokens, "seconds": seconds}


class TransformersByHand(ByHand):
    """`model.generate` on one tensor."""

    def __init__(self, engine: Any, batch: int, output: int, cache: str | None) -> None:
        super().__init__(batch, output)
        self.model = engine.model
        self.extra = {} if cache is None else {"cache_implementation": cache}

    @property
    def vocabulary(self) -> int:
        return int(self.model.config.vocab_size)

    def one(self, ids: list[list[int]]) -> int:
        import torch

        with torch.inference_mode():
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


class VllmByHand(ByHand):
    """`LLM.generate` on token ids, without text."""

    def __init__(self, engine: Any, batch: int, output: int) -> None:
        from vllm import SamplingParams

        super().__init__(batch, output)
        self.llm = engine.llm
        self.params = SamplingParams(temperature=0, max_tokens=output, ignore_eos=True, detokenize=False)

    @property
    def vocabulary(self) -> int:
        return int(self.llm.llm_engine.vllm_config.model_config.get_vocab_size())

    def one(self, ids: list[list[int]]) -> int:
        outputs = self.llm.generate([{"prompt_token_ids": row} for row in ids], self.params, use_tqdm=False)
        return sum(len(output.outputs[0].token_ids) for output in outputs)


class SharedEngine:
    """Loads what the first experiment asks for, and gives the same engine to those after it."""

    def __init__(self, backend: str) -> None:
        self.kind = registry().load("backend", backend)
        self.engine: Any = None
        self._load = self.kind.load
        self._close: Any = None

    def __enter__(self) -> SharedEngine:
        def load(backend: Any, *arguments: Any) -> Any:
            if self.engine is None:
                self.engine = self._load(backend, *arguments)
                self._close, self.engine.close = self.engine.close, lambda: None
            return self.engine

        self.kind.load = load
        return self

    def __exit__(self, *_: object) -> None:
        self.kind.load = self._load
        if self._close is not None:
            self._close()


class Interleaver:
    """Runs a hand-written window after every even trial and before every odd one."""

    def __init__(self, make: Any) -> None:
        self.make, self.hand, self.windows, self.batches = make, None, [], 1

    def __call__(self, event: Any) -> None:
        kind = event["event"]
        if kind == "calibrated":
            self.batches = event["batches"]
        odd = event.get("trial", 0) % 2 == 1
        before = kind == "phase" and event["phase"] == "trial" and odd
        after = kind == "trial" and not odd
        if before or after:
            self.hand = self.hand or self.make()
            self.windows.append(self.hand.window(self.batches))
            print("by hand", self.windows[-1], flush=True)
        if kind == "trial":
            print("llem   ", event, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--batch", type=int, nargs="+", required=True)
    parser.add_argument("--backend", choices=("pytorch", "vllm"), default="pytorch")
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--model", default="shape:llama-3.1-8b")
    parser.add_argument("--output", type=int, default=128, help="output tokens per request")
    parser.add_argument("--cache", help="pytorch: cache_implementation of both, e.g. static: decoding in CUDA graphs")
    parser.add_argument("--set", dest="assignments", action="append", default=[])
    args = parser.parse_args()
    pynvml.nvmlInit()
    with SharedEngine(args.backend) as shared:
        for batch in args.batch:
            measure(args, batch, shared)


def measure(args: argparse.Namespace, batch: int, shared: SharedEngine) -> None:
    def by_hand() -> ByHand:
        if args.backend == "vllm":
            return VllmByHand(shared.engine, batch, args.output)
        return TransformersByHand(shared.engine, batch, args.output, args.cache)

    turns = Interleaver(by_hand)
    name = f"{args.backend}-batch-{batch}" + (f"-{args.cache}" if args.cache else "")
    settings = dict(parse_assignment(text) for text in args.assignments)
    if args.cache is not None:
        settings["pytorch.cache_implementation"] = args.cache
    result = llem.run(
        model=args.model,
        backend=args.backend,
        workload={"kind": "synthetic", "input_tokens": INPUT, "output_tokens": args.output},
        load={"batch_size": batch},
        preset="standard",
        trials=args.trials,
        max_trials=args.trials,
        out=args.out / name,
        launcher="inline",
        on_event=turns,
        **settings,
    )
    report(args, batch, result, turns.windows, args.out / name, name)


def bare_joules(rows: Sequence[TraceRow], trial: Trial) -> float:
    """Joules between a trial's edges by the counter's last values before them, as two bare reads would have given.

    Steps that the thinned reads did not see are put where the counter's period puts them.
    """
    energy = trial.energies[0]
    steps = series(rows, energy.meter, energy.domain, "counter_j")
    times, values = [step.t_ns for step in steps], [step.value for step in steps]
    period_ns = energy.period_s * 1e9

    def last_value(t_ns: int) -> float:
        after = next(time for time in times if time > t_ns)
        return float(np.interp(after - math.ceil((after - t_ns) / period_ns) * period_ns, times, values))

    return last_value(trial.t1_ns) - last_value(trial.t0_ns)


def report(
    args: argparse.Namespace, batch: int, result: Any, windows: list[dict[str, float]], folder: Path, name: str
) -> None:
    trials = Store.open(folder).trials(result.id)
    speed = [trial.output_tokens / trial.duration_s for trial in trials]
    energy = [trial.energies[0].energy_j / trial.output_tokens for trial in trials]
    hand_speed = [window["tokens_per_s"] for window in windows]
    hand_energy = [window["joules_per_token"] for window in windows]
    store = Store.open(folder)
    bare = [bare_joules(store.trace(result.id, trial.index), trial) / trial.output_tokens for trial in trials]
    summary = {
        "backend": args.backend,
        "batch": batch,
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
        "energy_bare_ratio": attrs.asdict(paired_ratio(hand_energy, bare)),
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
