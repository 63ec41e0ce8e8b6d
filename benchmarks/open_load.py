"""Open loads with long answers: whether a short window shows the long run. A simulation, and a real run of it.

Poisson arrivals; a request takes the time to its first token and then one time per token, whatever else is in flight;
lengths are lognormal (sigma 1). The mean and the p99 of a long run are known. Each window is as the load generator
takes it: a lead by its own rule, the window, and the latencies of the requests that ended within it, by llem's metrics.

    python benchmarks/open_load.py [--windows 400] [--json FILE]
    python benchmarks/open_load.py --real [--json FILE]      # through `llem run`, against a server with chosen times
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from llem.experiment.serving.pacing import CHANCE, EXTENDED, LATELY
from llem.experiment.serving.player import SAMPLE
from llem.experiment.serving.stationary import RequestTimes
from llem.experiment.trial import LEAD_S
from llem.metrics.flow import flow_within
from llem.metrics.requests import request_latencies
from llem.store.models import RequestRow
from llem.store.store import Store

TTFT_S, TOKEN_S, SIGMA, LONGEST = 0.1, 0.02, 1.0, 4096
S = 1e9
ODD_SERVER = Path(__file__).parents[1] / "tests" / "openai" / "odd" / "server.py"

#: Seconds from the load's start to its window: from the load, what is known of its requests, and when they arrive and
#: end.
Rule = Callable[["Load", RequestTimes, np.ndarray, np.ndarray], float]


class Load:
    """Arrivals per second, and the mean length before it is rounded and cut."""

    def __init__(self, rate: float, mean_tokens: float) -> None:
        self.rate, self.mean_tokens = rate, mean_tokens

    def lengths(self, rng: np.random.Generator, count: int) -> np.ndarray:
        drawn = rng.lognormal(math.log(self.mean_tokens) - SIGMA**2 / 2, SIGMA, count)
        return np.clip(np.rint(drawn), 1, LONGEST).astype(int)

    def times(self, lengths: np.ndarray) -> np.ndarray:
        return TTFT_S + TOKEN_S * (lengths - 1)

    def known(self, rng: np.random.Generator) -> RequestTimes:
        """What the load generator knows after a warm-up: the lengths of requests to come among it."""
        lengths = self.lengths(rng, SAMPLE)
        return RequestTimes(TTFT_S, TOKEN_S, tuple(lengths), float(np.median(self.times(lengths))))


def one_median(load: Load, known: RequestTimes, at: np.ndarray, ends: np.ndarray) -> float:
    """The former rule: a median request, until as many have begun as are in flight at that time by Little's law."""
    lead = max(LEAD_S, known.usual_s)
    begun = np.sort(at + TTFT_S)
    return max(lead, float(begun[max(1, round(load.rate * known.usual_s)) - 1]))


def by_the_tail(load: Load, known: RequestTimes, at: np.ndarray, ends: np.ndarray) -> float:
    """The rule of `PaceOpen.settle`: the lead of the lengths, and in flight what Little's law says."""
    lead = max(LEAD_S, known.lead_s)
    expected = load.rate * known.mean_s
    for waited in np.arange(lead, EXTENDED * lead, 0.02):
        begin = LATELY * waited
        lately = np.maximum(np.minimum(ends, waited) - np.maximum(at, begin), 0).sum() / (waited - begin)
        if lately >= expected - CHANCE * math.sqrt(expected):
            return float(waited)
    return EXTENDED * lead


RULES: dict[str, Rule] = {
    "no lead": lambda load, known, at, ends: LEAD_S,
    "one median": one_median,
    "by the tail": by_the_tail,
}


def window(load: Load, rule: Rule, window_s: float, rng: np.random.Generator) -> tuple[np.ndarray, float, float]:
    """Times of the requests that ended within one window; in flight at its start over Little's; seconds of the lead."""
    known = load.known(rng)
    seconds = EXTENDED * max(LEAD_S, known.lead_s) + window_s
    count = int(load.rate * seconds * 1.5 + 50)
    at = np.cumsum(rng.exponential(1 / load.rate, count))
    lengths = load.lengths(rng, count)
    ends = at + load.times(lengths)
    lead = rule(load, known, at, ends)
    t0, t1 = round(lead * S), round((lead + window_s) * S)
    rows = [
        RequestRow(
            i, 0, 1, int(n), round(a * S), round(e * S), (round((a + TTFT_S) * S), round(e * S)), round(a * S),
            chunk_tokens=(1, int(n) - 1), finish_reason="length",
        )
        for i, (a, n, e) in enumerate(zip(at, lengths, ends, strict=True))
        if a * S < t1 and e * S >= t0
    ]  # fmt: skip
    flow = flow_within(rows, t0, t1)
    in_flight = float(((at <= lead) & (ends > lead)).sum())
    return request_latencies(flow)["e2el_s"], in_flight, lead


def truth(load: Load) -> tuple[float, float]:
    """Mean and p99 of a long run."""
    times = load.times(load.lengths(np.random.default_rng(0), 2_000_000))
    return float(times.mean()), float(np.quantile(times, 0.99))


def simulate(load: Load, rule: str, times: float, windows: int, seed: int) -> dict[str, Any]:
    """Many windows of so many mean times, against the long run."""
    mean, p99 = truth(load)
    rng = np.random.default_rng([seed, round(load.rate * 100)])
    found = [window(load, RULES[rule], times * mean, rng) for _ in range(windows)]
    means = np.array([one.mean() for one, _, _ in found if len(one)])
    pooled = np.concatenate([one for one, _, _ in found])
    return {
        "rule": rule,
        "rate": load.rate,
        "mean_tokens": load.mean_tokens,
        "windows": windows,
        "window_over_mean": times,
        "truth_mean_s": mean,
        "truth_p99_s": p99,
        "mean_bias": float(pooled.mean() / mean - 1),
        "p99_bias": float(np.quantile(pooled, 0.99) / p99 - 1),
        "window_mean_sd": float(means.std() / mean),
        "in_flight_over_little": float(np.mean([one for _, one, _ in found]) / (load.rate * mean)),
        "lead_over_mean": float(np.mean([one for _, _, one in found]) / mean),
    }


def real(rate: float, mean_tokens: float, window_s: float, trials: int) -> dict[str, Any]:
    """The same through `llem run`, against a server with these times, which logs the true ones."""
    workload = {
        "kind": "synthetic", "input_tokens": 16,
        "output_tokens": {"kind": "lognormal", "mean": mean_tokens, "sigma": SIGMA, "max": LONGEST},
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as kept:
        folder = Path(kept)
        (folder / "modes.json").write_text(json.dumps({"plain": {"ttft": TTFT_S, "itl": TOKEN_S}}))
        command = [sys.executable, str(ODD_SERVER), str(folder / "modes.json")]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
            try:
                assert server.stdout is not None
                port = json.loads(server.stdout.readline())[""]
                asked: dict[str, Any] = {
                    "model": "shape:tiny", "openai.base_url": f"http://127.0.0.1:{port}/plain/open/v1", "dtype": "auto",
                    "device": "cpu", "preset": "quick",
                    "workload": workload, "load": {"kind": "open", "request_rate": rate}, "window_s": window_s,
                    "trials": trials, "meters": [], "baseline.seconds": 0,
                }  # fmt: skip
                words = [word for name, value in asked.items() for word in ("--set", f"{name}={json.dumps(value)}")]
                done = subprocess.run(
                    [sys.executable, "-m", "llem", "run", "-b", "openai", *words, "-o", str(folder / "out"), "--json"],
                    capture_output=True, check=False,
                )  # fmt: skip
                result = json.loads(done.stdout)
                store = Store.open(folder / "out")
                served = [one.serving for name in store.experiment_ids() for one in store.trials(name)]
            finally:
                server.kill()
    load = Load(rate, mean_tokens)
    mean, p99 = truth(load)
    metrics = {name: result["metrics"][name] for name in ("e2el_s", "e2el_p99_s", "ttft_p50_s", "tpot_p50_s")}
    return {
        "rate": rate,
        "mean_tokens": mean_tokens,
        "window_s": window_s,
        "trials": trials,
        "truth_mean_s": mean,
        "truth_p99_s": p99,
        **{name: [one["value"], one["low"], one["high"]] for name, one in metrics.items()},
        "in_flight_over_little": [one.in_flight_start / (rate * mean) for one in served if one is not None],
        "findings": sorted({one["code"] for one in result["findings"]}),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rules", nargs="+", default=list(RULES), choices=list(RULES))
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    table: list[dict[str, Any]] = []
    if asked.real:
        table.append(real(8.7, 128, 9.3, asked.trials))
        print(json.dumps(table[0], indent=1))
    else:
        print("rule | rate | mean tokens | bias of the mean | of the p99 | in flight over Little | lead over mean E2EL")
        for rate, tokens in ((8.7, 128), (2.0, 512), (40.0, 128)):
            for rule in asked.rules:
                one = simulate(Load(rate, tokens), rule, 3.5, asked.windows, asked.seed)
                table.append(one)
                biases = f"{one['mean_bias']:+.1%} | {one['p99_bias']:+.1%} | {one['in_flight_over_little']:.2f}"
                print(f"{rule} | {rate:g} | {tokens} | {biases} | {one['lead_over_mean']:.1f}", flush=True)
    if asked.json is not None:
        asked.json.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
