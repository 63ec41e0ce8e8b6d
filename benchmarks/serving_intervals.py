"""How often an interval covers a percentile that is known exactly, and how often a steady queue is called saturated.

Poisson arrivals, exponential times of service, one server, first come first served: the time in the system is then
exponential with the rate
(service rate - arrival rate), so each percentile is known. Prints what the documentation of serving metrics quotes.

    python benchmarks/serving_intervals.py [--studies 200]
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np

from llem.metrics.checks.serving import serving_checks
from llem.metrics.latency import BLOCKS
from llem.metrics.percentiles import PERCENTILES, family
from llem.store.models import RequestRow

SERVICE_S, WINDOW_S, BEFORE_S = 0.01, 20.0, 30.0
QUANTILES = (0.5, 0.9, 0.99)


def queue(share: float, seconds: float, noise: random.Random) -> Iterator[tuple[float, float]]:
    """Arrival and end of each request, seconds from the window's beginning."""
    at, free = -BEFORE_S, -BEFORE_S
    while True:
        at += noise.expovariate(share / SERVICE_S)
        if at >= seconds:
            return
        free = max(at, free) + noise.expovariate(1 / SERVICE_S)
        yield at, free


def window(share: float, noise: random.Random) -> np.ndarray:
    return np.array([end - at for at, end in queue(share, WINDOW_S, noise) if 0 <= end < WINDOW_S])


def coverage(
    share: float, windows: int, studies: int, split: Callable[[np.ndarray], list], serving: bool
) -> list[float]:
    noise, hits = random.Random(7), dict.fromkeys(QUANTILES, 0)
    for _ in range(studies):
        blocks = [split(window(share, noise)) for _ in range(windows)]
        found = family(blocks, "", partial="", quantiles=QUANTILES, serving=serving)
        for q in QUANTILES:
            truth = -math.log(1 - q) * SERVICE_S / (1 - share)
            one = found[q]
            hits[q] += one.low <= truth <= one.high
    return [hits[q] / studies for q in QUANTILES]


def saturated(share: float, windows: int, studies: int) -> float:
    """Share of studies that the finding is told in, windows of 60 s."""
    from llem.metrics.flow import flow_of

    noise, told = random.Random(3), 0
    facts = SimpleNamespace(kind="open", failed=0, unfinished=0, completed=10**6, lag_p99_s=None)
    absent = SimpleNamespace(value=None)
    setup, metrics = SimpleNamespace(config={}), {"ttft_p50_s": absent, "slo_attainment": absent}
    for _ in range(studies):
        trials, flows = [], []
        for index in range(windows):
            trial = SimpleNamespace(t0_ns=0, t1_ns=60 * 10**9, serving=facts, index=index)
            spans = ((round(a * 1e9), round(b * 1e9)) for a, b in queue(share, 60.0, noise))
            rows = [RequestRow(i, 0, 1, 1, a, b, (b,), a) for i, (a, b) in enumerate(spans) if b >= 0]
            trials.append(trial)
            flows.append(flow_of(trial, rows))
        told += any(found.code == "over_saturated" for found in serving_checks(setup, trials, flows, metrics))
    return told / studies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=200)
    studies = parser.parse_args().studies
    print(f"coverage of nominal 95 %, {studies} studies each: p50, p90, p99 (percentiles of llem: {PERCENTILES})")
    ways = (
        ("single requests", lambda values: np.array_split(values, len(values)), False),
        ("runs of requests", lambda values: np.array_split(values, BLOCKS), False),
        ("as llem does", lambda values: np.array_split(values, BLOCKS), True),
    )
    for share in (0.5, 0.75, 0.9):
        for windows in (1, 5):
            for name, split, serving in ways:
                print(f"{share:.0%} {windows} x {name}: {coverage(share, windows, studies, split, serving)}")
    print("over_saturated told")
    for share in (0.5, 0.75, 0.9, 1.1, 1.3):
        print(f"{share:.0%}: {[saturated(share, windows, max(studies // 4, 10)) for windows in (1, 5)]}")


if __name__ == "__main__":
    main()
