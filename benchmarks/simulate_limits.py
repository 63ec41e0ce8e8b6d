"""Whether the probability that a limit on a score is kept is right, by bins of what is claimed.

A study compares a configuration with the reference on items that are right or wrong. Between 2 and 8 % of the items are
discordant. The true change is normal around the bound, with a standard deviation that a case names: where changes are
small beside what the items can show, a claim that assumes nothing about them says too much. With a deviation of 0 every
configuration breaks the limit by next to nothing, and every claim of 95 % is false: there may be 5 % of them. A score
by itself is uniform within 0.15 of its bound. Prints, by case, the claimed and the true share in each fifth of the
claims, how many claims are of 95 % and more, and how many of these are right.

    python benchmarks/simulate_limits.py [--runs 2000] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from llem.analysis.binary import score_interval
from llem.analysis.decision import Estimated
from llem.analysis.kept import drawn
from llem.analysis.limits import keeps, parse_quality
from llem.evaluators.base import Item
from llem.evaluators.items import score_of
from llem.metrics.quality import score_quantity

COUNTS = (100, 400, 1319)  # 1,319 are those of GSM8K
SPREADS = (0.0, 0.005, 0.015, 0.05)
DRAWS = 4000


def change(rng: np.random.Generator, n: int, spread: float) -> tuple[bool, Estimated, float]:
    """Whether a true change keeps -1 %, and what the items show of it."""
    discordant = rng.uniform(0.02, 0.08)
    true = float(np.clip(rng.normal(-0.01 - 1e-9, spread), -discordant, discordant))
    lost = (discordant - true) / 2
    down, up, _ = (int(count) for count in rng.multinomial(n, [lost, discordant - lost, 1 - discordant]))
    return true >= -0.01, Estimated((up - down) / n, *score_interval(down, up, n)), -1.0


def value(rng: np.random.Generator, n: int, _: float) -> tuple[bool, Estimated, float]:
    """Whether a true score keeps 75 %, and what the items show of it."""
    true = rng.uniform(0.6, 0.9)
    right = rng.random(n) < true
    found = score_quantity(score_of("task", "acc", [Item(str(item), float(one)) for item, one in enumerate(right)]))
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    return true >= 0.75, Estimated(found.value, found.low, found.high), 0.0


def case(kind: str, n: int, spread: float, runs: int) -> dict[str, Any]:
    rng = np.random.default_rng([n, round(spread * 1e4)])
    [limit] = parse_quality("task>=-0.01" if kind == "change" else "task>=75%")
    claims, truths = np.zeros(runs), np.zeros(runs, dtype=bool)
    for run in range(runs):
        truths[run], found, least = (change if kind == "change" else value)(rng, n, spread)
        claims[run] = keeps(limit, drawn(found, least, 1.0, DRAWS, (run, n))).mean()
    fifths = np.minimum((claims * 5).astype(int), 4)
    bins = [
        {"claimed": float(claims[here].mean()), "true": float(truths[here].mean()), "studies": int(here.sum())}
        for here in (fifths == number for number in range(5))
        if here.any()
    ]
    sure = claims >= 0.95
    right = float(truths[sure].mean()) if sure.any() else None
    return {"kind": kind, "items": n, "spread": spread, "bins": bins, "sure": int(sure.sum()), "right": right}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    found = []
    cases = [("change", n, spread) for n in COUNTS for spread in SPREADS] + [("score", n, 0.0) for n in COUNTS]
    for kind, n, spread in cases:
        one = case(kind, n, spread, asked.runs)
        found.append(one)
        bins = "  ".join(f"{each['claimed']:.2f}/{each['true']:.2f}" for each in one["bins"])
        right = "–" if one["right"] is None else f"{one['right']:.1%}"
        sure = f"{one['sure'] / asked.runs:.1%}"
        print(
            f"{kind:6} {n:4} items, spread {spread:.1%}: {bins}  >= 95 %: {sure}, right {right}",
            flush=True,
        )
    if asked.json is not None:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
