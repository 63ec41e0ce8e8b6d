"""Whether recommendations hold: simulated studies with known truth through the functions that llem ships.

    python benchmarks/simulate_recommend.py [--runs N] [--jobs N] [--json FILE] [--only NAME]

Of each kind of study: how often "this one is the best with P" is right, by P; whether the ties hold the best; how many
they are, beside those of a posterior that knows the variances; and the same of Hsu's comparisons with the best. A
choice is right if it is within 1e-9 of the best. Values are exp(configuration + drift + process + residual).
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from llem.analysis.background import Background
from llem.analysis.decision import decide
from llem.analysis.posterior import CENTRES, Posterior, draws
from llem.analysis.sides import Run, Side
from llem.analysis.units import Part

COST, LIMITED = "energy_per_output_token_j", ("ttft_p99_s", "tpot_p50_s")
#: Of the first row; the prior's constants were chosen with seeds below 1000.
SEED = 80_000
DRAWS = 2_000
#: Share of the studies in which ties are compared with those of one that knows the variances, and with Hsu's set.
COMPARED = 0.25
BINS = (0.0, 0.3, 0.5, 0.7, 0.85, 0.95, 1.0)
BEGIN = datetime(2026, 11, 24, tzinfo=UTC)
#: Correlation of the noise of two metrics.
RHO = 0.7
EQUAL = 1e-9


@attrs.frozen
class Kind:
    """One kind of study.

    Attributes:
        k: configurations. processes: of each. trials: of each process.
        truth: how true values scatter; see `TRUTHS`. spread: by how much.
        within, between: standard deviations of trials, and of processes.
        uneven: each configuration has half, one or two times `within`.
        drift: from the first trial to the last one.
        shared: all configurations are in the same engine processes, where they take turns.
        limits: two further metrics have an upper limit, which some 60 % of the configurations keep.
    """

    k: int
    spread: float
    truth: str = "normal"
    processes: int = 3
    trials: int = 1
    within: float = 0.01
    between: float = 0.0
    uneven: bool = False
    drift: float = 0.01
    shared: bool = False
    limits: bool = False

    def __str__(self) -> str:
        design = f"{self.processes} x {self.trials}" if self.trials > 1 else f"n = {self.processes}"
        words = [f"k = {self.k}", design, f"{self.truth}, spread {self.spread:.1%}"]
        words += [f"between {self.between:.1%}"] if self.between else []
        words += [word for word in ("uneven", "shared", "limits") if getattr(self, word)]
        return ", ".join(words)


def two_clusters(kind: Kind, rng: Any) -> Any:
    """Half of them 10 % above the others."""
    return rng.normal(0, kind.spread, kind.k) + np.where(np.arange(kind.k) < kind.k // 2, 0.1, 0.0)


def tight_clusters(kind: Kind, rng: Any) -> Any:
    """Two clusters two spreads apart whose own deviation is a fifth of the spread, of any sizes."""
    low = np.arange(kind.k) < rng.integers(1, kind.k)
    return np.where(low, -kind.spread, kind.spread) + rng.normal(0, kind.spread / 5, kind.k)


def half_equal(kind: Kind, rng: Any) -> Any:
    """Half of them exactly equal."""
    found = rng.normal(0, kind.spread, kind.k)
    found[: kind.k // 2] = found[0]
    return found


def three_near(kind: Kind, rng: Any) -> Any:
    """The second and the third are within 0.3 % of the best."""
    found = np.sort(rng.normal(0, kind.spread, kind.k))
    found[1:3] = found[0] + rng.uniform(0, 0.003, 2)
    return found


def three_equal(kind: Kind, rng: Any) -> Any:
    """Three are exactly equal and the best."""
    found = np.sort(rng.normal(0, kind.spread, kind.k))
    found[1:3] = found[0]
    return found


TRUTHS: dict[str, Callable[[Kind, Any], Any]] = {
    "normal": lambda kind, rng: rng.normal(0, kind.spread, kind.k),
    "two clusters": two_clusters,
    "tight clusters": tight_clusters,
    "half equal": half_equal,
    "three near": three_near,
    "three equal": three_equal,
}


def runs_of(kind: Kind, number: int) -> tuple[Run, ...]:
    """Trials of one configuration, block by block; of a process, one after the other, or in turns where shared."""
    found = []
    for process in range(kind.processes):
        for trial in range(kind.trials):
            turn, place = (trial, number) if kind.shared else (number, trial)
            width = kind.k if kind.shared else kind.trials
            at = 20 * (process * kind.k * kind.trials + turn * width + place)
            worker = process if kind.shared else number * kind.processes + process
            begin = (BEGIN + timedelta(seconds=at)).isoformat()
            found.append(Run(process, worker, begin, at * 10**9, (at + 10) * 10**9, trial))
    return tuple(found)


@attrs.frozen
class Study:
    """A simulated study: its sides, true values by metric, and the variance of each estimate."""

    sides: dict[str, Side]
    truth: dict[str, Any]
    variance: Any


def study(kind: Kind, runs: list[tuple[Run, ...]], rng: Any) -> Study:
    """Metrics have correlated noise; drift is common to all, in an order that chance gives each block."""
    names = (COST, *LIMITED) if kind.limits else (COST,)
    truth = {name: rng.permutation(TRUTHS[kind.truth](kind, rng)) for name in names}
    deviations = kind.within * (rng.choice([0.5, 1.0, 2.0], kind.k) if kind.uneven else np.ones(kind.k))
    count = kind.k * kind.processes * kind.trials
    common = _noise(kind, rng, deviations)
    values = {}
    for name in names:
        noise = math.sqrt(RHO) * common + math.sqrt(1 - RHO) * _noise(kind, rng, deviations)
        place = _places(kind, rng)
        values[name] = np.exp(truth[name][:, None, None] + noise + kind.drift * place / count).reshape(kind.k, -1)
    sides = {
        str(i): Side(runs[i], {name: list(one[i]) for name, one in values.items()}, backend="simulated")
        for i in range(kind.k)
    }
    own = deviations**2 / kind.trials / kind.processes
    return Study(sides, truth, own if kind.shared else own + kind.between**2 / kind.processes)


def _places(kind: Kind, rng: Any) -> Any:
    """Place in time of each trial (configurations, processes, trials): turns and blocks come in an order of chance."""
    if kind.shared:
        order = rng.permuted(np.tile(np.arange(kind.k)[:, None, None], (kind.processes, kind.trials)), axis=0)
        return (np.arange(kind.processes)[:, None] * kind.trials + np.arange(kind.trials)) * kind.k + order
    order = np.stack([rng.permutation(kind.k) for _ in range(kind.processes)], axis=1)[:, :, None]
    return (np.arange(kind.processes)[:, None] * kind.k + order) * kind.trials + np.arange(kind.trials)


def _noise(kind: Kind, rng: Any, deviations: Any) -> Any:
    engines = 1 if kind.shared else kind.k
    process = kind.between * rng.standard_normal((engines, kind.processes, 1))
    return process + deviations[:, None, None] * rng.standard_normal((kind.k, kind.processes, kind.trials))


def knowing(posterior: Posterior, made: Study, metric: str, rng: Any) -> Any:
    """Draws of the same posterior with the true variances in place of estimated ones."""
    evidence = posterior.evidence(metric)
    part = (Part(tuple(made.variance), 1e9),)
    shared = len(set(evidence.units)) == 1 < len(evidence.units)
    known = attrs.evolve(evidence, within=part) if shared else attrs.evolve(evidence, between=part, within=())
    return draws(known, rng.standard_normal((DRAWS, len(made.variance) + CENTRES)), rng)


def measured(kind: Kind, runs: int, seed: int) -> dict[str, Any]:
    """All figures of one kind. Studies in which nothing keeps all limits, or seems to, are counted and left out."""
    rng = np.random.default_rng(seed)
    times = [runs_of(kind, number) for number in range(kind.k)]
    found = [_row(kind, study(kind, times, rng), number, number < runs * COMPARED, rng) for number in range(runs)]
    rows = [row for row in found if row is not None]
    return {"studies": runs, "without_choice": runs - len(rows), **_figures(np.array(rows, dtype=float), kind.limits)}


def _row(kind: Kind, made: Study, number: int, compared: bool, rng: Any) -> tuple[float, ...] | None:
    """P of the choice, whether it is right, whether the ties hold the best, how many they are; of those compared the
    ties of one that knows the variances, whether Hsu's set holds the best, and its size."""
    bound = 0.25 * kind.spread
    level = bound + kind.drift / 2  # what all configurations share, half of the drift, is in what is measured
    names = LIMITED if kind.limits else ()
    able = np.logical_and.reduce([np.ones(kind.k, bool), *(made.truth[name] <= bound for name in names)])
    posterior = Posterior(made.sides, Background(made.sides.values()), count=DRAWS, seed=number)
    one = decide(posterior.logs(COST), [posterior.logs(name) <= level for name in names])
    if one.choice is None or not able.any():
        return None
    best = able & (made.truth[COST] <= made.truth[COST][able].min() + EQUAL)
    row = float(one.probability[one.choice]), best[one.choice], best[list(one.ties)].any(), len(one.ties)
    if not compared:
        return *row, math.nan, math.nan, math.nan
    known = {name: knowing(posterior, made, name, rng) for name in made.truth}
    oracle = decide(known[COST], [known[name] <= level for name in names])
    sure = posterior.guaranteed(COST, True)
    return *row, len(oracle.ties), any(best[int(i)] for i in sure), len(sure)


def _figures(rows: Any, limits: bool) -> dict[str, Any]:
    claimed, right = rows[:, 0], rows[:, 1]
    sure = claimed >= 0.95
    bins = []
    for low, high in itertools.pairwise(BINS):
        here = (claimed >= low) & ((claimed < high) | (high == 1.0))
        if here.any():
            bins.append([low, high, int(here.sum()), float(claimed[here].mean()), float(right[here].mean())])
    compared = ~np.isnan(rows[:, 4])
    ties, oracle = float(rows[compared, 3].mean()), float(rows[compared, 4].mean())
    found = {
        "claimed": float(claimed.mean()),
        "right": float(right.mean()),
        "sure": int(sure.sum()),
        "sure_right": float(right[sure].mean()) if sure.any() else None,
        "bins": bins,
        "ties_hold_best": float(rows[:, 2].mean()),
        "ties": float(rows[:, 3].mean()),
        "ratio": ties / oracle,
    }
    mcb = {"mcb_holds_best": float(rows[compared, 5].mean()), "mcb": float(rows[compared, 6].mean())}
    return found if limits else {**found, **mcb}


def kinds() -> Iterator[Kind]:
    """The rows of the table."""
    for k in (4, 8, 24):
        for spread in (0.005, 0.01, 0.02, 0.05):
            yield Kind(k, spread)
    yield from (Kind(k, spread, processes=5) for k, spread in ((4, 0.01), (8, 0.01), (24, 0.02)))
    yield from (Kind(k, 0.01, processes=2, trials=5, between=0.01) for k in (4, 8, 24))
    yield from (
        Kind(k, spread, "two clusters") for k, spread in ((4, 0.01), (8, 0.005), (8, 0.02), (24, 0.01), (24, 0.02))
    )
    yield from (Kind(k, 0.01, "half equal") for k in (8, 24))
    yield from (Kind(24, 0.02, truth) for truth in ("three equal", "three near"))
    yield from (Kind(k, 0.01, "tight clusters") for k in (8, 24))
    yield from (
        Kind(k, spread, processes=n, uneven=True) for k, n, spread in ((8, 3, 0.01), (8, 5, 0.01), (24, 5, 0.02))
    )
    yield from (Kind(k, spread, limits=True) for k, spread in ((8, 0.01), (8, 0.05), (24, 0.02)))
    yield from (Kind(k, 0.01, processes=1, trials=5, between=0.01, shared=True) for k in (8, 24))
    yield Kind(8, 0.02, processes=1, trials=5, between=0.01, drift=0.0)


def _one(task: tuple[Kind, int, int]) -> tuple[str, dict[str, Any], float]:
    begin = time.process_time()
    return str(task[0]), measured(*task), time.process_time() - begin


def told(found: Mapping[str, Any]) -> str:
    """One row in a line."""
    bins = " ".join(f"{n}:{claim:.2f}/{hit:.2f}" for _, _, n, claim, hit in found["bins"])
    sure = "-" if found["sure_right"] is None else f"{found['sure_right']:.3f}"
    return (
        f"sure {found['sure']} right {sure} | {bins} | ties hold {found['ties_hold_best']:.3f}, {found['ties']:.2f} "
        f"(x {found['ratio']:.2f}) | MCB {found.get('mcb_holds_best', 0):.3f}, {found.get('mcb', 0):.2f}"
    )


def main() -> None:
    """Run all, or those whose name contains a text."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", default="")
    asked = parser.parse_args()
    tasks = [(kind, asked.runs, SEED + seed) for seed, kind in enumerate(kinds()) if asked.only in str(kind)]
    report = {}
    with ProcessPoolExecutor(asked.jobs) as pool:
        for name, found, seconds in pool.map(_one, tasks):
            report[name] = found
            print(f"{name}: {told(found)} ({seconds:.0f} s)", flush=True)
            if asked.json:
                asked.json.write_text(json.dumps({"first_seed": SEED, "measured": report}, indent=2) + "\n")


if __name__ == "__main__":
    main()
