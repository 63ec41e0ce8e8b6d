"""How near the search for the greatest rate under an SLO comes to the true one, and how often its interval holds it.

Poisson arrivals, exponential times of service, several servers, first come first served: the share of requests that
wait longer than a limit is Erlang's C formula times an exponential, so the rate at which a given share keeps the limit
is known. The search and all that it makes of a window are llem's own; the queue alone is simulated, each window from an
empty one. Prints what docs/explanation/serving-metrics.md quotes.

    python benchmarks/simulate_max_rate.py [--studies 200]
"""

from __future__ import annotations

import argparse
import heapq
import math
import random

import numpy as np
from scipy.optimize import brentq

from llem.config.arrival import RateSearch
from llem.config.slo import Slo
from llem.experiment.serving.search import SETTLE_SHARE, SETTLE_TIMES, next_rate, rate_window
from llem.metrics.boundary import RateWindow, boundary, boundary_interval
from llem.store.models import RequestRow

SERVERS, SERVICE_S, LIMIT_S = 16, 0.4, 0.2


def late_share(rate: float) -> float:
    """Share of requests that wait longer than the limit, in a steady state (Erlang C)."""
    load = rate * SERVICE_S
    if load >= SERVERS:
        return 1.0
    terms = [load**k / math.factorial(k) for k in range(SERVERS)]
    full = load**SERVERS / math.factorial(SERVERS) * SERVERS / (SERVERS - load)
    return full / (sum(terms) + full) * math.exp(-(SERVERS / SERVICE_S - rate) * LIMIT_S)


def window(rate: float, search: RateSearch, slo: Slo, noise: random.Random) -> RateWindow:
    """One window of the search at a simulated queue."""
    lead_s = max(SETTLE_TIMES * SERVICE_S, SETTLE_SHARE * search.window_s)
    free, at, rows = [0.0] * SERVERS, 0.0, []
    while (at := at + noise.expovariate(rate)) < lead_s + search.window_s:
        first = max(at, free[0])
        end = first + noise.expovariate(1 / SERVICE_S)
        heapq.heapreplace(free, end)
        times = (round(first * 1e9), round(end * 1e9))
        sent = round(at * 1e9)
        rows.append(RequestRow(len(rows), 0, 8, 2, sent, times[1], times, sent))
    t0, t1 = round(lead_s * 1e9), round((lead_s + search.window_s) * 1e9)
    there = [row for row in rows if row.end_ns >= t0]
    return rate_window(there, t0, t1, rate=rate, seed=0, slo=slo, usual_s=SERVICE_S)


def studies(count: int, share: float, window_s: float) -> str:
    """A row of the table."""
    search, slo = RateSearch(min_rate=2, window_s=window_s), Slo(ttft_s=LIMIT_S, attainment=share)
    noise = random.Random(1)
    truth = brentq(lambda rate: 1 - late_share(rate) - share, 0.1, SERVERS / SERVICE_S - 1e-6)
    held, off, width, number = 0, [], [], []
    for _ in range(count):
        windows: list[RateWindow] = []
        while (rate := next_rate(windows, share, search)) is not None:
            windows.append(window(rate, search, slo, noise))
        found = boundary(windows, share)
        if not found.is_closed:
            continue
        low, high = boundary_interval(windows, share)
        held += low <= truth <= high
        off.append(found.kept / truth - 1)
        width.append((high - low) / truth)
        number.append(len(windows))
    told = f"{np.median(off):+.1%} | {np.quantile(off, 0.05):+.1%} to {np.quantile(off, 0.95):+.1%}"
    return (
        f"| {share:.0%} | {window_s:g} s | {truth:.1f} | {told} | {held / len(off):.0%} | {np.median(width):.0%} | "
        f"{np.mean(number):.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=200)
    asked = parser.parse_args()
    print("| asked | window | true rate | found, median | 90 % of them | in the interval | width | windows |")
    for share in (0.9, 0.99):
        for window_s in (10.0, 30.0, 120.0):
            print(studies(asked.studies, share, window_s), flush=True)


if __name__ == "__main__":
    main()
