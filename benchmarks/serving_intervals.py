"""How often an interval covers a percentile that is known exactly, and how often a steady queue is called saturated.

Poisson arrivals, exponential times of service, one server, first come first served: the time in the system is then
exponential with the rate
(service rate - arrival rate), so each percentile is known. Prints what the documentation of serving metrics quotes.

    python benchmarks/serving_intervals.py [--studies 2000] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from llem.metrics.checks.serving import serving_checks
from llem.metrics.percentiles import PERCENTILES, RUNS, family
from llem.store.models import RequestRow

SERVICE_S, WINDOW_S, BEFORE_S = 0.01, 20.0, 30.0


def queue(share: float, seconds: float, noise: random.Random) -> Iterator[tuple[float, float]]:
    """Arrival and end of each request, seconds from the window's beginning."""
    at, free = -BEFORE_S, -BEFORE_S
    while True:
        at += noise.expovariate(share / SERVICE_S)
        if at >= seconds:
            return
        free = max(at, free) + noise.expovariate(1 / SERVICE_S)
        yield at, free


def window(share: float, noise: np.random.RandomState) -> np.ndarray:
    """Times in the system of the requests that end within a window; the queue of `queue`, by cumulative sums."""
    count = int((WINDOW_S + BEFORE_S) / SERVICE_S * share * 1.2) + 100
    arrival = np.cumsum(noise.exponential(SERVICE_S / share, count)) - BEFORE_S
    service = noise.exponential(SERVICE_S, count)
    work = np.cumsum(service)
    end = work + np.maximum.accumulate(arrival - (work - service))
    return (end - arrival)[(end >= 0) & (end < WINDOW_S)]


def independent(windows: Sequence[np.ndarray], q: float) -> tuple[float, float]:
    """What an interval would be if requests were independent: by ranks, from the binomial distribution."""
    ordered = np.sort(np.concatenate(windows))
    half = 1.96 * math.sqrt(len(ordered) * q * (1 - q))
    low, high = (min(max(round(len(ordered) * q + side * half), 1), len(ordered)) - 1 for side in (-1, 1))
    return ordered[low], ordered[high]


def coverage(share: float, windows: int, studies: int) -> dict[str, dict[str, float]]:
    """How often the truth is within; the median width over the value besides, for the rule of llem."""
    noise = np.random.RandomState(7)
    names = [f"p{round(q * 100)}" for q in PERCENTILES]
    hits = {way: dict.fromkeys(names, 0) for way in ("independent", "llem")}
    widths: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(studies):
        drawn = [window(share, noise) for _ in range(windows)]
        found = family([np.array_split(one, RUNS) for one in drawn], "", partial="", serving=True)
        for q, name in zip(PERCENTILES, names, strict=True):
            truth, one = -math.log(1 - q) * SERVICE_S / (1 - share), found[q]
            low, high = independent(drawn, q)
            hits["independent"][name] += low <= truth <= high
            hits["llem"][name] += one.low <= truth <= one.high
            widths[name].append((one.high - one.low) / one.value)
    shares = {way: {name: hit / studies for name, hit in each.items()} for way, each in hits.items()}
    return {**shares, "width": {name: float(np.median(each)) for name, each in widths.items()}}


def saturated(share: float, windows: int, studies: int) -> float:
    """Share of studies that the finding is told in, windows of 60 s."""
    from llem.metrics.flow import flow_of

    noise, told = random.Random(3), 0
    facts = SimpleNamespace(
        kind="open", failed=0, unfinished=0, completed=10**6, request_rate=None, lead_s=None, client=None
    )
    absent = SimpleNamespace(value=None)
    setup, metrics = SimpleNamespace(config={}, searches=()), {"ttft_p50_s": absent, "slo_attainment": absent}
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
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    print(f"coverage of nominal 95 %, {asked.studies} studies each")
    found = []
    for share in (0.5, 0.75, 0.9):
        for windows in (1, 2, 3, 5):
            one = coverage(share, windows, asked.studies)
            found.append({"share": share, "windows": windows, "studies": asked.studies, "nominal": 0.95, **one})
            for way, each in one.items():
                told = "  ".join(f"{name} {value:.1%}" for name, value in each.items())
                print(f"{share:.0%} {windows} windows, {way}: {told}", flush=True)
    if asked.json is not None:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")
    print("over_saturated told")
    for share in (0.5, 0.75, 0.9, 1.1, 1.3):
        print(f"{share:.0%}: {[saturated(share, windows, max(asked.studies // 40, 10)) for windows in (1, 5)]}")


if __name__ == "__main__":
    main()
