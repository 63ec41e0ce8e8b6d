"""Pool the ratios of several runs of an overhead benchmark: fixed effect, weights 1 / variance, on logarithms.

Each run's variance comes from its own pairs, so runs on different hosts may have different ones. Cochran's Q tells
whether the runs agree with one common ratio. A run counts with the pairs that it has, be they cut short by a deadline.

    python benchmarks/pool.py figures/h200-2026-11/overhead-batch-32-static-*.json
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

from scipy import stats


def pooled(runs: list[dict[str, float]]) -> dict[str, float]:
    """One ratio with its 95 % interval from ratios with theirs; `freedom` adds up the runs' own (n - 1)."""
    freedoms = [int(run["n"]) - 1 for run in runs]
    logs = [math.log(run["value"]) for run in runs]
    errors = [
        math.log(run["high"] / run["low"]) / 2 / stats.t.ppf(0.975, freedom)
        for run, freedom in zip(runs, freedoms, strict=True)
    ]
    weights = [error**-2 for error in errors]
    centre = sum(w * x for w, x in zip(weights, logs, strict=True)) / sum(weights)
    half = stats.t.ppf(0.975, sum(freedoms)) / math.sqrt(sum(weights))
    q = sum(w * (x - centre) ** 2 for w, x in zip(weights, logs, strict=True))
    return {
        "value": math.exp(centre),
        "low": math.exp(centre - half),
        "high": math.exp(centre + half),
        "pairs": sum(int(run["n"]) for run in runs),
        "heterogeneity_p": float(stats.chi2.sf(q, len(runs) - 1)) if len(runs) > 1 else 1.0,
    }


def main() -> None:
    runs = [json.loads(Path(name).read_text(encoding="utf-8")) for name in sys.argv[1:]]
    for name in ("throughput_ratio", "energy_ratio"):
        known = [run[name] for run in runs if run[name] is not None]  # no energy where nothing counts it
        print(name, json.dumps(pooled(known) if known else None))


if __name__ == "__main__":
    main()
