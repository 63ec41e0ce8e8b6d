"""How often the rules for stalls alarm on engines that do not stall, and how often they find one that does.

    python benchmarks/simulate_stalls.py [--studies 300] [--found 60] [--loads tuned|fresh] [--seed N] [--processes N]
        [-o FILE]

A simulated engine decodes one token of each request per step. A new prompt has a step of its own, which all others
wait for, or is worked on in chunks beside them. Steps scatter by 5 %, prompts by 10 %, and one step of a thousand takes
up to ten times as long. A study has 1, 2 or 5 windows. A stall stops the engine at a random time of the first window,
or of each. The rules' constants were chosen with the loads `tuned` in sight; the loads `fresh` were written down after.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import attrs

from llem.metrics.checks.stalls import stalls
from llem.metrics.metric import Measured
from llem.metrics.setup import Setup
from llem.store.models import RequestRow, ServingFacts, Trial

S = 1_000_000_000
LEAD_S, AFTER_S = 2.0, 2.0
#: When the first window begins on the monotonic clock, and the time from one to the next.
T0_NS, APART_NS = 1000 * S, 100 * S


@attrs.frozen
class Load:
    """What comes, and how the engine works on it.

    Attributes:
        clients: of a closed load.
        rate: arrivals per second of an open load.
        burst: seconds in which arrivals come, and of the whole cycle; None for all the time.
        inputs, outputs: tokens of prompts and answers.
        sigma: of their lognormal lengths.
        rare: tokens of one further prompt at a random time of the window; 0 for none.
        cached: share of the prompts that take a twentieth of the time.
        step_s: seconds of a step.
        prefill_s: seconds of 1,000 tokens of a prompt.
        chunk: tokens of prompts that one step works on beside the answers; 0 for a step of its own for each prompt.
        slots: requests that the engine works on at a time; 0 for all.
        piece: tokens of an answer that are sent together; 0 for whole answers.
    """

    clients: int = 0
    rate: float = 0.0
    burst: tuple[float, float] | None = None
    inputs: int = 512
    outputs: int = 128
    sigma: float = 0.0
    rare: int = 0
    cached: float = 0.0
    step_s: float = 0.01
    prefill_s: float = 0.04
    chunk: int = 0
    slots: int = 0
    piece: int = 1
    window_s: float = 5.0


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
    "1 client, prompts of 30,000": Load(1, inputs=30_000, outputs=64, prefill_s=0.06, window_s=8),
    "3 clients, prompts of 12,000": Load(3, inputs=12_000, outputs=400, prefill_s=0.08, window_s=8),
    "4 clients, 60 ms a step": Load(4, inputs=200, outputs=40, step_s=0.06, prefill_s=0.4, window_s=10),
    "16 clients, prompts of 1,500": Load(16, inputs=1500, outputs=64, step_s=0.011, prefill_s=0.06, window_s=8),
    "64 clients, chunks": Load(64, inputs=300, outputs=200, sigma=0.7, step_s=0.02, prefill_s=0.03, chunk=2048),
    "8 clients, chunks, a prompt of 60,000 per window": Load(8, rare=60_000, prefill_s=0.05, chunk=2048, window_s=8),
    "8 clients, chunks, a prompt of 6,000 per window": Load(
        8, outputs=1000, rare=6_000, prefill_s=0.12, chunk=2048, window_s=8
    ),
    "8 clients, a prompt of 30,000 per window": Load(8, rare=30_000, prefill_s=0.05, window_s=8),
    "24 clients, four of five prompts cached": Load(24, inputs=6000, outputs=150, cached=0.8, prefill_s=0.08),
    "40 clients, 8 at a time": Load(40, inputs=800, outputs=100, sigma=0.5, slots=8),
    "6 clients, whole answers": Load(6, inputs=800, outputs=100, sigma=0.5, piece=0, window_s=8),
    "6 clients, pieces of 40 tokens": Load(6, inputs=800, outputs=200, piece=40, window_s=8),
    "12 arrivals/s in 1 s of 4": Load(rate=12.0, burst=(1.0, 4.0), outputs=80, window_s=8),
    "0.7 arrivals/s in 5 s of 12, long answers": Load(
        rate=0.7, burst=(5.0, 12.0), inputs=3000, outputs=500, sigma=0.8, step_s=0.015, prefill_s=0.1, window_s=10
    ),
    "5 arrivals/s, lengths of sigma 1.5": Load(rate=5.0, inputs=1500, outputs=100, sigma=1.5, prefill_s=0.06),
}  # fmt: skip
FRESH = {
    "1 client, prompts of 15,000, answers of 300": Load(1, inputs=15_000, outputs=300, prefill_s=0.07, window_s=8),
    "2 clients, prompts of 20,000, answers of 800": Load(2, inputs=20_000, outputs=800, prefill_s=0.07, window_s=8),
    "2 clients, 100 ms a step": Load(2, inputs=100, outputs=60, step_s=0.1, prefill_s=0.8, window_s=10),
    "4 clients, a prompt of 10,000 per window": Load(4, outputs=500, rare=10_000, prefill_s=0.09, window_s=8),
    "12 clients, prompts of 2,500": Load(12, inputs=2500, outputs=120, step_s=0.02, prefill_s=0.03, window_s=6),
    "48 clients, lengths of sigma 1, chunks": Load(
        48, inputs=600, outputs=150, sigma=1.0, step_s=0.025, prefill_s=0.04, chunk=1024
    ),
    "10 clients, chunks, a prompt of 40,000 per window": Load(
        10, outputs=300, rare=40_000, prefill_s=0.06, chunk=4096, window_s=8
    ),
    "20 clients, half of the prompts cached": Load(20, inputs=3000, outputs=250, cached=0.5, prefill_s=0.06),
    "30 clients, 12 at a time": Load(30, inputs=500, outputs=150, sigma=0.4, slots=12, window_s=6),
    "5 clients, whole answers": Load(5, inputs=1200, outputs=180, sigma=0.8, piece=0, window_s=8),
    "20 arrivals/s in 0.5 s of 3": Load(rate=20.0, burst=(0.5, 3.0), outputs=60, inputs=400, window_s=8),
    "1 arrival/s, lengths of sigma 1.2, long answers": Load(
        rate=1.0, inputs=2500, outputs=400, sigma=1.2, step_s=0.015, prefill_s=0.07, window_s=8
    ),
}
KINDS = {"tuned": LOADS, "fresh": FRESH}


@attrs.define
class Asked:
    """One request: when it was sent, its prompt, tokens of its prompt and of its answer to go, when tokens were made.

    Attributes:
        share: of the usual time that its prompt takes.
    """

    start: float
    inputs: int
    left: int
    share: float
    to_read: int
    times: list[float] = attrs.field(factory=list)


class Engine:
    """What comes and what is done, in seconds from the begin of the window."""

    def __init__(self, load: Load, random_: random.Random, stall_s: float) -> None:
        self.load, self.random = load, random_
        back = load.outputs * load.step_s * 2 * random_.random() if load.clients else 0.0
        self.now = -LEAD_S - back
        self.stall_s, self.stall_at = stall_s, random_.uniform(0, load.window_s - stall_s)
        self.waiting: list[Asked] = []
        self.reading: list[Asked] = []
        self.active: list[Asked] = []
        self.done: list[Asked] = []
        self.rare_at = random_.uniform(0, load.window_s) if load.rare else float("inf")
        self.phase = random_.uniform(0, load.burst[1]) if load.burst else 0.0
        self.arrival = self.next_arrival(self.now)
        self.waiting += [self.ask(self.now) for _ in range(load.clients)]

    def length(self, mean: int) -> int:
        if not self.load.sigma:
            return mean
        return max(1, min(round(self.random.lognormvariate(0, self.load.sigma) * mean / 1.65), 16 * mean))

    def ask(self, at: float) -> Asked:
        inputs = self.length(self.load.inputs)
        share = 0.05 if self.random.random() < self.load.cached else 1.0
        return Asked(at, inputs, self.length(self.load.outputs), share, inputs)

    def next_arrival(self, at: float) -> float:
        if not self.load.rate:
            return float("inf")
        at += self.random.expovariate(self.load.rate)
        while self.load.burst and (at + self.phase) % self.load.burst[1] > self.load.burst[0]:
            at += self.random.expovariate(self.load.rate)
        return at

    def arrive(self) -> None:
        while self.arrival <= self.now:
            self.waiting.append(self.ask(self.arrival))
            self.arrival = self.next_arrival(self.arrival)
        if self.rare_at <= self.now:
            self.waiting.append(Asked(self.rare_at, self.load.rare, 1, 1.0, self.load.rare))
            self.rare_at = float("inf")
        room = self.load.slots - len(self.active) - len(self.reading) if self.load.slots else len(self.waiting)
        ready, self.waiting = self.waiting[: max(room, 0)], self.waiting[max(room, 0) :]
        self.reading += ready

    def run(self) -> None:
        until = self.load.window_s + AFTER_S
        while self.now < until:
            self.arrive()
            if not self.reading and not self.active:
                self.now = min(self.arrival, self.rare_at, until)
                continue
            if self.stall_s and self.now > self.stall_at:
                self.now, self.stall_s = self.now + self.stall_s, 0.0
            self.step()

    def step(self) -> None:
        served, read, pause = list(self.active), 0.0, self.load.step_s * self.random.gauss(1, 0.05)
        if self.reading and not self.load.chunk:
            served, read = [one := self.reading.pop(0)], one.inputs * one.share
            self.active.append(one)
        room = self.load.chunk
        while self.reading and room > 0:
            part = min(room, self.reading[0].to_read)
            room, read = room - part, read + part * self.reading[0].share
            self.reading[0].to_read -= part
            if not self.reading[0].to_read:
                self.active.append(self.reading[0])
                served.append(self.reading.pop(0))
        if read:
            pause += self.load.prefill_s * read / 1000 * self.random.lognormvariate(0, 0.1)
        if self.random.random() < 0.001:
            pause += self.load.step_s * self.random.uniform(1, 10)
        self.now += pause
        self.give(served)

    def give(self, served: list[Asked]) -> None:
        for one in served:
            one.times.append(self.now + self.random.uniform(0, 0.0003))
            one.left -= 1
        for one in [one for one in served if not one.left]:
            self.active.remove(one)
            self.done.append(one)
            if self.load.clients and one.inputs != self.load.rare:
                self.waiting.append(self.ask(self.now + 0.0005))

    def rows(self, t0: int) -> list[RequestRow]:
        """Requests that touch the window."""
        rows, until = [], t0 + round((self.load.window_s + AFTER_S) * S)
        for number, one in enumerate([*self.done, *self.active, *self.reading, *self.waiting]):
            made = [t0 + round(at * S) for at in one.times]
            piece = self.load.piece or len(made) + (1 if one.left else 0)
            sent = [made[min(i + piece, len(made)) - 1] for i in range(0, len(made), piece or 1)]
            if one.left and len(made) % max(piece, 1):  # what is not sent yet has not come
                sent = sent[:-1]
            tokens = [min(piece, len(made) - i) for i in range(0, len(made), piece or 1)][: len(sent)]
            over = made[-1] if made and not one.left else until
            start, reason = t0 + round(one.start * S), "unfinished" if one.left else "length"
            if one.start < self.load.window_s and over >= t0:
                row = RequestRow(
                    number, 0, one.inputs, sum(tokens), start, over, tuple(sent), chunk_tokens=tuple(tokens),
                    finish_reason=reason,
                )  # fmt: skip
                rows.append(row)
        return rows


def _trial(index: int, load: Load) -> Trial:
    facts = ServingFacts("closed", 1, None, 0, 0, 0, 0, 0, None, None, None, 0.0, 0.0, 0.0, 0, 0)
    t0 = T0_NS + index * APART_NS
    return Trial(
        experiment_id="sim", index=index, process=0, started_at="2026-01-01",
        t0_ns=t0, t1_ns=t0 + round(load.window_s * S),
        batches=0, requests=0, input_tokens=0, output_tokens=1, expected_output_tokens=1, batch_s=(),
        first_index=0, energies=(), peak_memory_bytes=None, memory_covers="", memory_reason=None,
        output_digest="", health={}, serving=facts, planned_s=load.window_s,
    )  # fmt: skip


def study(load: Load, seed: int, trials: int, stall_s: float = 0.0, every: bool = False) -> list[str]:
    """The finding of the first window alone, of the first two, and so on, or "none"; a stall is in the first window, or
    in each."""
    random_, rows = random.Random(seed), []
    for index in range(trials):
        engine = Engine(load, random_, stall_s if every or index == 0 else 0.0)
        engine.run()
        rows.append(engine.rows(T0_NS + index * APART_NS))
    setup = Setup({"load": {"kind": "closed"}}, "cpu", None, None, None, {})
    codes = []
    for count in range(1, trials + 1):
        made = [_trial(index, load) for index in range(count)]
        found = list(stalls(Measured(setup, made, (), lambda index: rows[index])))
        codes.append(found[0].code if found else "none")
    return codes


#: Seconds of a stall, and whether it is in each window; and the numbers of windows that are told of.
STALLS, WINDOWS = ((0.5, False), (2.0, False), (1.0, True), (2.0, True)), (1, 2, 5)


def figures(named: tuple[str, Load], studies: int, found: int, seed: int) -> dict[str, Any]:
    """One line of the file: findings by code of studies without a stall, and with one."""
    name, load = named
    line: dict[str, Any] = {"load": name, "studies": studies, "studies_with_a_stall": found, "seed": seed}
    for stall_s, every in ((0.0, False), *STALLS):
        number = found if stall_s else studies
        codes = [study(load, seed + n, max(WINDOWS), stall_s, every) for n in range(number)]
        for windows in WINDOWS:
            told = Counter(each[windows - 1] for each in codes if each[windows - 1] != "none")
            what = (
                f"{stall_s:g} s in {'each' if every else 'one'} of {windows}" if stall_s else f"no stall in {windows}"
            )
            line[what] = dict(told)
    return line


def main() -> None:
    """Print one line per load, and write the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--studies", type=int, default=300)
    parser.add_argument("--found", type=int, default=60, help="studies for each kind of stall")
    parser.add_argument("--loads", choices=KINDS, default="tuned")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("-o", "--out", type=Path)
    asked = parser.parse_args()
    one = partial(figures, studies=asked.studies, found=asked.found, seed=asked.seed)
    lines = []
    with ProcessPoolExecutor(asked.processes) as pool:
        for line in pool.map(one, KINDS[asked.loads].items()):
            lines.append(line)
            print(json.dumps(line), flush=True)
    if asked.out:
        asked.out.write_text(json.dumps(lines, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
