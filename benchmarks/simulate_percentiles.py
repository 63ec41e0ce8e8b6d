"""How often intervals of batch times cover: mean and percentiles of an offline load, nominal 95 %.

A study has trials of batches, in one engine process or several. Batches are normal or lognormal. Each trial (each
process, where there are several) has an effect of its own, whose standard deviation is 0 or that of the batches. The
truth is the percentile of a trial without effect. Prints, by case, the share of studies whose interval holds it: by the
rule of llem (`family`), and by the one before it, a bootstrap over the batches of all trials together.

    python benchmarks/simulate_percentiles.py [--runs 2000] [--json FILE] [--part 0/4]
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from statistics import NormalDist
from typing import Any

import attrs
import numpy as np

from llem.metrics.percentiles import PERCENTILES, family
from llem.metrics.statistics import mean_interval

KEYS = (None, *PERCENTILES)
RESAMPLES = 1000
#: Batches up to which a mean is resampled: those of one trial.
MEANS = 300


@attrs.frozen
class Case:
    """Batches per window, engine process of each trial, effect between trials or processes in units of the batches'."""

    shape: str
    cv: float
    batches: int
    processes: tuple[int, ...]
    between: float


def cases() -> Iterator[Case]:
    layouts = [(0,) * trials for trials in (1, 2, 3, 5, 10)]
    layouts += [(0,) * 3 + (1,) * 3, (0, 1, 2, 3, 4), tuple(p for p in range(5) for _ in range(2))]
    for shape, cv in (("normal", 0.01), ("lognormal", 0.05)):
        for batches in (3, 10, 20, 36, 100, 300):
            for processes in layouts:
                for between in (0.0, 1.0):
                    yield Case(shape, cv, batches, processes, between)


def truth(case: Case, key: float | None) -> float:
    """The value without effects; both shapes have the mean or median 1 and (nearly) the coefficient of variation."""
    if case.shape == "normal":
        return 1.0 if key is None else 1 + case.cv * NormalDist().inv_cdf(key)
    return math.exp(case.cv**2 / 2 if key is None else case.cv * NormalDist().inv_cdf(key))


def study(case: Case, random: np.random.RandomState) -> list[np.ndarray]:
    """Batch times of each trial, of shape (batches,). Effects shift normal batches, and scale lognormal ones."""
    several = len(set(case.processes)) > 1
    groups = case.processes if several else range(len(case.processes))
    effects = case.between * random.normal(size=max(groups) + 1)
    units = [effects[group] + random.normal(size=case.batches) for group in groups]
    return [1 + case.cv * unit if case.shape == "normal" else np.exp(case.cv * unit) for unit in units]


def present(case: Case, trials: Sequence[np.ndarray]) -> list[tuple[float, float] | None]:
    blocks = [[[value] * 2 for value in trial] for trial in trials]  # two requests to a batch, which share its time
    found = family(blocks, "", partial="", processes=case.processes)
    return [None if found[key].low is None else (found[key].low, found[key].high) for key in KEYS]


@cache
def resampled(n: int) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Which of n batches each resample draws, and the ranks between which a bootstrap puts each percentile."""
    drawn = np.random.RandomState(0).randint(0, n, size=(RESAMPLES, n))
    ordered = np.sort(drawn, axis=1)
    ends = [np.quantile(ordered[:, max(0, math.ceil(q * n - 1e-9) - 1)], (0.025, 0.975)) for q in PERCENTILES]
    return drawn if n <= MEANS else drawn[:0], [(int(low), int(high)) for low, high in ends]


def before(trials: Sequence[np.ndarray]) -> list[tuple[float, float] | None]:
    """Until schema 3: batches of all trials resampled; the mean had Student's t over trials, whatever the process."""
    values = np.sort(np.concatenate(trials))
    drawn, spans = resampled(len(values))
    percentiles = [(float(values[low]), float(values[high])) for low, high in spans]
    if len(trials) == 1:
        low, high = np.quantile(values[drawn].mean(axis=1), (0.025, 0.975))
        return [(float(low), float(high)), *percentiles]
    over = mean_interval([float(trial.mean()) for trial in trials])
    return [(over.low, over.high), *percentiles]


def covered(case: Case, runs: int, seed: int) -> dict[str, Any]:
    """Shares of `runs` studies; None where a rule gives no interval."""
    random = np.random.RandomState(seed)
    true = [truth(case, key) for key in KEYS]
    hits: dict[str, list[list[bool]]] = {"llem": [[] for _ in KEYS], "before": [[] for _ in KEYS]}
    for _ in range(runs):
        trials = study(case, random)
        for way, spans in (("llem", present(case, trials)), ("before", before(trials))):
            for told, span, value in zip(hits[way], spans, true, strict=True):
                if span is not None:
                    told.append(span[0] <= value <= span[1])
    names = ["mean", *(f"p{round(q * 100)}" for q in PERCENTILES)]
    shares = {
        way: {name: sum(told) / len(told) if told else None for name, told in zip(names, each, strict=True)}
        for way, each in hits.items()
    }
    return {**attrs.asdict(case), "runs": runs, "nominal": 0.95, **shares}


def line(found: dict[str, Any]) -> str:
    trials, processes = len(found["processes"]), len(set(found["processes"]))
    head = f"{found['shape']:9} {found['cv']:.0%} {found['batches']:3} batches, {trials:2} trials, "
    head += f"{processes} processes, between {found['between']:.0f}:"
    parts = []
    for name, now in found["llem"].items():
        old = found["before"][name]
        parts.append(f"{name} {'  –  ' if now is None else f'{now:5.1%}'} ({'–' if old is None else f'{old:.0%}'})")
    return f"{head} {'  '.join(parts)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--part", default="0/1", help="every n-th case from the i-th on: i/n")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    first, step = map(int, asked.part.split("/"))
    print(f"coverage of nominal 95 %, {asked.runs} studies each (before: in brackets); – is no interval")
    found = []
    for seed, case in list(enumerate(cases()))[first::step]:
        found.append(covered(case, asked.runs, seed))
        print(line(found[-1]), flush=True)
    inside = [share for one in found for share in one["llem"].values() if share is not None]
    print(f"{len(inside)} intervals: least {min(inside):.1%}, most {max(inside):.1%}")
    if asked.json is not None:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
