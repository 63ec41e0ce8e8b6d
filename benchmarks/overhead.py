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

The report of a batch size is written after every pair from the second on, so that an end by force costs the pair that
is under way and no more. `--deadline 570` ends by itself, so many seconds after the start at the latest: no pair is
begun that would not be done by then, going by the longest so far. Without NVML (on a CPU) there is no energy, and the
ratios of it are null.

    python benchmarks/overhead.py OUT_DIR --batch 32 [128 …] [--backend vllm] [--trials 8] [--deadline 570]
        [--set KEY=VALUE]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pynvml
from loops import INPUT, ByHand, TransformersByHand, VllmByHand

from llem.api import prepare
from llem.config.layers import Layer
from llem.config.load import parse_assignment
from llem.meters.trace import TraceRow, series
from llem.metrics.statistics import mean, paired_ratio
from llem.plugins.registry import registry
from llem.protocol.events import Calibrated, Event, Phase, TrialEnded
from llem.store.models import Trial
from llem.store.store import Store


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
    """Runs a hand-written window after every even trial and before every odd one.

    Args:
        make: the loop by hand, once the engine is loaded.
        done: called after each pair, with all windows of the loop so far.
    """

    def __init__(self, make: Callable[[], ByHand], done: Callable[[list[dict[str, float]]], None]) -> None:
        self.make, self.done, self.hand, self.windows, self.batches = make, done, None, [], 1

    def __call__(self, event: Event) -> None:
        if isinstance(event, Calibrated):
            self.batches = event.batches
        before = isinstance(event, Phase) and event.phase == "trial" and event.trial % 2 == 1
        after = isinstance(event, TrialEnded) and event.trial % 2 == 0
        if before or after:
            self.hand = self.hand or self.make()
            self.windows.append(self.hand.window(self.batches))
            print("by hand", self.windows[-1], flush=True)
        if isinstance(event, TrialEnded):
            print("llem   ", event, flush=True)
            self.done(self.windows)


class Clock:
    """Seconds since the start, and the longest pair so far: whether another would be done before the deadline."""

    def __init__(self, deadline_s: float) -> None:
        self.start, self.deadline_s = time.monotonic(), deadline_s
        self.since, self.longest = self.start, 0.0

    def begin(self) -> None:
        """A pair begins now."""
        self.since = time.monotonic()

    def pair(self) -> None:
        """A pair is done, and the next one begins."""
        self.longest = max(self.longest, time.monotonic() - self.since)
        self.begin()

    @property
    def spent(self) -> bool:
        return time.monotonic() + self.longest > self.start + self.deadline_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--batch", type=int, nargs="+", required=True)
    parser.add_argument("--backend", choices=("pytorch", "vllm"), default="pytorch")
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--deadline", type=float, default=math.inf, metavar="SECONDS", help="end by then, from now")
    parser.add_argument("--model", default="shape:llama-3.1-8b")
    parser.add_argument("--output", type=int, default=128, help="output tokens per request")
    parser.add_argument("--cache", help="pytorch: cache_implementation of both, e.g. static: decoding in CUDA graphs")
    parser.add_argument("--set", dest="assignments", action="append", default=[])
    args = parser.parse_args()
    clock = Clock(args.deadline)
    with contextlib.suppress(pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded):
        pynvml.nvmlInit()
    with SharedEngine(args.backend) as shared:
        for batch in args.batch:
            if clock.spent:
                print(f"no time left for batches of {batch}")
                continue
            measure(args, batch, shared, clock)


def measure(args: argparse.Namespace, batch: int, shared: SharedEngine, clock: Clock) -> None:
    name = f"{args.backend}-batch-{batch}" + (f"-{args.cache}" if args.cache else "")
    folder, stop = args.out / name, threading.Event()

    def by_hand() -> ByHand:
        if args.backend == "vllm":
            return VllmByHand(shared.engine, batch, args.output)
        return TransformersByHand(shared.engine, batch, args.output, args.cache)

    def paired(windows: list[dict[str, float]]) -> None:
        clock.pair()
        report(args, batch, windows, Store.open(folder), name)
        if clock.spent and len(windows) < args.trials:
            print(f"no time left for another pair: {len(windows)} of {args.trials} are done", flush=True)
            stop.set()

    turns = Interleaver(by_hand, paired)

    def seen(event: Event) -> None:
        if isinstance(event, Calibrated):
            clock.begin()
        turns(event)

    settings = dict(parse_assignment(text) for text in args.assignments)
    if args.cache is not None:
        settings["pytorch.cache_implementation"] = args.cache
    settings |= {
        "model": args.model,
        "backend": args.backend,
        "workload": {"kind": "synthetic", "input_tokens": INPUT, "output_tokens": args.output},
        "load": {"batch_size": batch},
        "preset": "standard",
        "trials": args.trials,
        "max_trials": args.trials,
    }
    ran = prepare(None, [Layer("overhead", settings)], folder, launcher="inline").run(seen, stop)
    if not stop.is_set():
        ran.only()  # raises what ended it
    print(report(args, batch, turns.windows, Store.open(folder), name) or "one pair alone gives no interval: no report")


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
    args: argparse.Namespace, batch: int, windows: list[dict[str, float]], store: Store, name: str
) -> str | None:
    """Write what the pairs so far tell, and give it as text without the single windows; None before the second."""
    [identity] = store.experiment_ids()
    trials = store.trials(identity)[: len(windows)]
    if len(trials) < 2:
        return None
    result = store.read_result(identity)
    speed = [trial.output_tokens / trial.duration_s for trial in trials]
    hand_speed = [window["tokens_per_s"] for window in windows]
    summary = {
        "backend": args.backend,
        "batch": batch,
        "cache": args.cache,
        "input_tokens": INPUT,
        "output_tokens": args.output,
        "device": store.engines(identity)[0]["device"],
        "trials": len(trials),
        "window_s": mean([trial.duration_s for trial in trials]),
        "llem_tokens_per_s": mean(speed),
        "hand_tokens_per_s": mean(hand_speed),
        "throughput_ratio": attrs.asdict(paired_ratio(hand_speed, speed)),
        **energy_summary(trials, windows, store, identity),
        "utilisation_percent": [next(iter(t.health.values()), {}).get("utilisation_percent") for t in trials],
        "findings": None if result is None else [f"{found.code}: {found.message}" for found in result.findings],
        "hand_windows": windows,
    }
    path = args.out / f"overhead-{name}.json"
    fresh = path.with_suffix(".tmp")
    fresh.write_text(json.dumps(summary, indent=2) + "\n")
    os.replace(fresh, path)  # an end by force leaves the report before this one
    return json.dumps({key: value for key, value in summary.items() if key != "hand_windows"}, indent=1)


def energy_summary(
    trials: Sequence[Trial], windows: list[dict[str, float]], store: Store, identity: str
) -> dict[str, Any]:
    """Energies per token and their ratios; the ratios are None where nothing counts energy."""
    if not all(trial.energies for trial in trials) or "joules_per_token" not in windows[0]:
        return {"energy_ratio": None, "energy_bare_ratio": None}
    energy = [trial.energies[0].energy_j / trial.output_tokens for trial in trials]
    hand = [window["joules_per_token"] for window in windows]
    bare = [bare_joules(store.trace(identity, trial.index), trial) / trial.output_tokens for trial in trials]
    return {
        "llem_joules_per_token": mean(energy),
        "hand_joules_per_token": mean(hand),
        "energy_ratio": attrs.asdict(paired_ratio(hand, energy)),
        "energy_bare_ratio": attrs.asdict(paired_ratio(hand, bare)),
        "counter_over_integrated": [t.energies[0].energy_j / t.energies[0].cross_energy_j for t in trials],
        "budget_share": [t.energies[0].budget.bound_j / t.energies[0].energy_j for t in trials],
    }


if __name__ == "__main__":
    main()
