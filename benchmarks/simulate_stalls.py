"""How often the rule for stalls alarms on engines that do not stall, and how often it finds one that does.

    python benchmarks/simulate_stalls.py [--studies 300] [-o FILE]

A simulated engine decodes one token of each request per step, and gives every new prompt a step of its own, which all
others wait for. Steps scatter by 5 %, prompts by 10 %, and one step of a thousand takes up to ten times as long. A
study has 5 trials (or 1) with windows of 5 s. A stall stops the engine in the middle of one window.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

import attrs

from llem.metrics.checks.stalls import stalls
from llem.metrics.metric import Measured
from llem.metrics.setup import Setup
from llem.store.models import RequestRow, ServingFacts, Trial

S = 1_000_000_000
WINDOW_S, LEAD_S = 5.0, 2.0
#: When the window begins on the monotonic clock.
T0_NS = 1000 * S


@attrs.frozen
class Load:
    """Clients of a closed load, or arrivals per second; tokens of prompts and answers, with the sigma of a lognormal;
    seconds of a step, and of 1,000 tokens of a prompt."""

    clients: int = 0
    rate: float = 0.0
    inputs: int = 512
    outputs: int = 128
    sigma: float = 0.0
    step_s: float = 0.01
    prefill_s: float = 0.04


LOADS = {
    "1 client": Load(1),
    "1 client, long prompts": Load(1, inputs=8000, prefill_s=0.1),
    "1 client, long prompts, long answers": Load(1, inputs=8000, outputs=2000, prefill_s=0.1),
    "1 client, lengths of sigma 1": Load(1, inputs=2000, sigma=1.0, prefill_s=0.1),
    "8 clients, lengths of sigma 1": Load(8, inputs=2000, sigma=1.0, prefill_s=0.1),
    "32 clients": Load(32),
    "32 clients, long answers": Load(32, inputs=4000, outputs=2000, prefill_s=0.1),
    "2 arrivals/s": Load(rate=2.0),
    "0.2 arrivals/s, lengths of sigma 1": Load(rate=0.2, inputs=2000, sigma=1.0, prefill_s=0.1),
    "10 arrivals/s, lengths of sigma 1": Load(rate=10.0, inputs=1000, outputs=64, sigma=1.0, prefill_s=0.05),
}


def _length(random_: random.Random, mean: int, sigma: float) -> int:
    if not sigma:
        return mean
    return max(1, min(round(random_.lognormvariate(0, sigma) * mean / 1.65), 16 * mean))


def _window(load: Load, random_: random.Random, stall_s: float) -> list[RequestRow]:
    """Rows of the requests that touch the window from 0 to WINDOW_S."""
    end = WINDOW_S
    now = -LEAD_S - (load.outputs * load.step_s * 2 if load.clients else 0) * random_.random()
    stalled = not stall_s
    waiting: list[dict[str, Any]] = []
    active: list[dict[str, Any]] = []
    done: list[dict[str, Any]] = []

    def ask(at: float) -> dict[str, Any]:
        inputs, outputs = _length(random_, load.inputs, load.sigma), _length(random_, load.outputs, load.sigma)
        return {"start": at, "inputs": inputs, "left": outputs, "times": []}

    waiting += [ask(now) for _ in range(load.clients)]
    arrival = now + random_.expovariate(load.rate) if load.rate else float("inf")
    while now < end + 2:
        while arrival <= now:
            waiting.append(ask(arrival))
            arrival += random_.expovariate(load.rate)
        if not waiting and not active:
            now = arrival
            continue
        if not stalled and now > WINDOW_S / 2:
            now, stalled = now + stall_s, True
        served = active
        pause = load.step_s * random_.gauss(1, 0.05)
        if waiting:
            one = waiting.pop(0)
            active.append(one)
            served, pause = [one], pause + load.prefill_s * one["inputs"] / 1000 * random_.lognormvariate(0, 0.1)
        if random_.random() < 0.001:
            pause += load.step_s * random_.uniform(1, 10)
        now += pause
        for one in served:
            one["times"].append(now + random_.uniform(0, 0.0003))
            one["left"] -= 1
        for one in [one for one in served if not one["left"]]:
            active.remove(one)
            done.append(one)
            if load.clients:
                waiting.append(ask(now + 0.0005))
    rows = []
    for number, one in enumerate([*done, *active, *waiting]):
        times = tuple(T0_NS + round(at * S) for at in one["times"])
        over = times[-1] if times and not one["left"] else T0_NS + round((end + 2) * S)
        reason = "length" if not one["left"] else "unfinished"
        if one["start"] < end and over >= T0_NS:
            start = T0_NS + round(one["start"] * S)
            row = RequestRow(number, 0, one["inputs"], len(times), start, over, times, finish_reason=reason)
            rows.append(row)
    return rows


def _trial(index: int, rows: list[RequestRow]) -> Trial:
    facts = ServingFacts("closed", 1, None, 0, 0, 0, 0, 0, None, None, None, 0.0, 0.0, 0.0, 0, 0)
    return Trial(
        experiment_id="sim", index=index, process=0, started_at="", t0_ns=T0_NS, t1_ns=T0_NS + round(WINDOW_S * S),
        batches=0, requests=0, input_tokens=0, output_tokens=1, expected_output_tokens=1, batch_s=(),
        first_index=0, energies=(), peak_memory_bytes=None, memory_covers="", memory_reason=None,
        output_digest="", health={}, serving=facts, planned_s=WINDOW_S,
    )  # fmt: skip


def study(load: Load, seed: int, trials: int, stall_s: float = 0.0) -> bool:
    """Whether a study of so many trials is said to have stalled; a stall is in the first."""
    random_ = random.Random(seed)
    rows = [_window(load, random_, stall_s if index == 0 else 0.0) for index in range(trials)]
    setup = Setup({"load": {"kind": "closed"}}, "cpu", None, None, None, {})
    measured = Measured(setup, [_trial(i, there) for i, there in enumerate(rows)], (), lambda index: rows[index])
    return any(True for _ in stalls(measured))


def main() -> None:
    """Print one line per load, and write the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--studies", type=int, default=300)
    parser.add_argument("-o", "--out", type=Path)
    asked = parser.parse_args()
    figures = []
    for name, load in LOADS.items():
        line: dict[str, Any] = {"load": name, "studies": asked.studies}
        for trials in (1, 5):
            line[f"false_alarms_{trials}"] = sum(study(load, seed, trials) for seed in range(asked.studies))
        for stall_s in (0.5, 1.0, 3.0):
            few = max(asked.studies // 5, 1)
            line[f"found_{stall_s:g}_s"] = sum(study(load, seed, 5, stall_s) for seed in range(few)) / few
        figures.append(line)
        print(json.dumps(line), flush=True)
    if asked.out:
        asked.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
