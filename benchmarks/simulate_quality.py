"""Paired differences of quality: how often intervals cover, how often equal ones are found different, and the power.

Right and wrong items without clusters are counted out: every number of lost and gained items with its probability, so
that their figures are exact. All else is drawn: items of two configurations, through the functions that the product
ships. Prints one line for each case.

- `covers`: share of studies whose 95 % interval holds the true difference. `ratio_covers`: of the ratio.
- `found`: share whose p-value is 0.05 or less; without a difference, the false positives.
- `as_items`: share of studies in which each cluster counts as one item, because few of them tell of the others.
- `power`: the same as `found` where the true loss is the smallest one that is stated: for the true share of discordant
  items, or the median of studies without a loss. None where most of these state none.

    python benchmarks/simulate_quality.py [--runs 2000] [--jobs 1] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from scipy.stats import binom

from llem.analysis.binary import mcnemar, score_interval, smallest_loss
from llem.analysis.contrast import Contrast, contrast
from llem.evaluators.base import Aggregation, Item, Score
from llem.evaluators.items import value_of

LEVEL = 0.05
#: What is less probable is left out.
RARE = 1e-9


# right and wrong, counted out


@attrs.frozen
class Counted:
    """`discordant`: share of items that one side alone has right. `loss`: share lost on balance."""

    n: int
    discordant: float
    loss: float

    def outcomes(self) -> Iterator[tuple[int, int, float]]:
        """Items lost and gained, with the probability."""
        lost_of = (self.discordant + self.loss) / 2 / self.discordant
        for m in range(self.n + 1):
            together = float(binom.pmf(m, self.n, self.discordant))
            if together > RARE:
                for lost, share in enumerate(binom.pmf(np.arange(m + 1), m, lost_of)):
                    if together * share > RARE:
                        yield lost, m - lost, together * float(share)

    def figures(self) -> dict[str, float]:
        covers = found = whole = 0.0
        for lost, gained, share in self.outcomes():
            low, high = score_interval(lost, gained, self.n)
            covers += share * (low <= -self.loss <= high)
            found += share * (mcnemar(lost, gained) <= LEVEL)
            whole += share
        return {"covers": covers / whole, "found": found / whole}


def counted_power(n: int, discordant: float) -> dict[str, float] | None:
    """McNemar's power at the smallest loss that is stated with this share of discordant items."""
    loss = smallest_loss(discordant * n, n)
    if loss is None:
        return None
    case = Counted(n, max(discordant, loss), loss)
    found = sum(share for lost, gained, share in case.outcomes() if mcnemar(lost, gained) <= LEVEL)
    return {"smallest_loss": loss, "power": found}


# drawn


@attrs.frozen
class Drawn:
    """Items of a study.

    Attributes:
        kind: "right_wrong", "values", "weighted" (weights of 1 to 40, longer items with other values), "perplexity".
        n: items on average. clusters: how many, 0 for none; their sizes vary like 1 + a geometric number.
        alike: share of the variance of differences that items of a cluster have in common (ICC).
        loss: the second less the first. discordant: as of `Counted`.
        skewed: differences are exponential, not normal.
        unpaired: the second one has other items.
    """

    kind: str
    n: int
    clusters: int = 0
    alike: float = 0.0
    loss: float = 0.0
    discordant: float = 0.1
    skewed: bool = False
    unpaired: bool = False


#: Standard deviations of the values of items, and of the differences of pairs.
SPREAD, SCATTER = 1.0, 0.3
#: Mean of the values: a perplexity of about 8.
CENTRE = 2.0


def study(case: Drawn, rng: np.random.Generator) -> tuple[Score, Score]:
    """The scores of both sides."""
    cluster = _clusters(case, rng)
    n = len(cluster)
    if case.kind == "right_wrong":
        common = rng.uniform(size=case.clusters or 1)[cluster] if case.clusters else np.zeros(n)
        same = rng.uniform(size=n) < math.sqrt(case.alike)
        drawn = np.where(same, common, rng.uniform(size=n))
        lost, gained = (case.discordant + case.loss) / 2, (case.discordant - case.loss) / 2
        first = np.where(drawn < lost, 1.0, np.where(drawn < lost + gained, 0.0, rng.integers(0, 2, n)))
        second = np.where(drawn < lost + gained, 1 - first, first)
        return _score(first, cluster, case), _score(second, cluster, case)
    weights = 1 + 39 * rng.beta(1, 3, n) if case.kind == "weighted" else np.ones(n)
    first = CENTRE + SPREAD * rng.normal(size=n) + (0.02 * weights if case.kind == "weighted" else 0)
    noise = _noise(case, n, rng)
    if case.clusters:
        common = _noise(case, case.clusters, rng)[cluster]
        noise = math.sqrt(case.alike) * common + math.sqrt(1 - case.alike) * noise
    if case.unpaired:
        second = CENTRE + SPREAD * rng.normal(size=n) + case.loss
        return _score(first, cluster, case, weights), _score(second, cluster, case, weights, "other ")
    second = first + case.loss + SCATTER * noise
    return _score(first, cluster, case, weights), _score(second, cluster, case, weights)


def _noise(case: Drawn, n: int, rng: np.random.Generator) -> np.ndarray:
    return rng.exponential(size=n) - 1 if case.skewed else rng.normal(size=n)


def _clusters(case: Drawn, rng: np.random.Generator) -> np.ndarray:
    if not case.clusters:
        return np.arange(case.n)
    mean_size = case.n / case.clusters
    sizes = 1 + rng.geometric(1 / (mean_size - 1), size=case.clusters) if mean_size > 2 else np.full(case.clusters, 2)
    return np.repeat(np.arange(case.clusters), sizes)


def _score(
    values: np.ndarray, cluster: np.ndarray, case: Drawn, weights: np.ndarray | None = None, name: str = ""
) -> Score:
    how: Aggregation = "exp" if case.kind == "perplexity" else "mean"
    marks = [str(number) if case.clusters else "" for number in cluster]
    weight = [1.0] * len(values) if weights is None else weights.tolist()
    items = tuple(Item(f"{name}{i}", v, "", weight[i], marks[i]) for i, v in enumerate(values.tolist()))
    value = value_of(items, how)
    assert value is not None
    return Score("task", "score", value, None, len(items), items=items, aggregation=how)


def truth(case: Drawn) -> tuple[float, float]:
    """The difference that intervals should hold, and the ratio."""
    if case.kind != "perplexity":
        return (-case.loss if case.kind == "right_wrong" else case.loss), math.nan
    centre = math.exp(CENTRE)
    return centre * (math.exp(case.loss) - 1), math.exp(case.loss)


def figures(case: Drawn, runs: int, seed: int) -> dict[str, float]:
    """Shares of the studies; one without an interval counts as covered."""
    rng = np.random.default_rng(seed)
    difference, ratio = truth(case)
    done: list[Contrast] = [contrast(*study(case, rng)) for _ in range(runs)]
    told = {
        "covers": _share(one.low is None or one.high is None or one.low <= difference <= one.high for one in done),
        "found": _share(one.p_value is not None and one.p_value <= LEVEL for one in done),
    }
    if case.kind == "right_wrong":
        told["as_items"] = _share(bool(one.why) for one in done)
    if case.kind == "perplexity":
        ends = [(one.ratio_low or 0.0, one.ratio_high or math.inf) for one in done]
        told["ratio_covers"] = _share(low <= ratio <= high for low, high in ends)
    return told


def _share(hits: Iterator[bool] | Sequence[bool]) -> float:
    listed = list(hits)
    return sum(listed) / len(listed)


def at_smallest_loss(case: Drawn, runs: int, seed: int) -> Drawn | None:
    """The same with a loss: the median of the smallest ones that studies without a loss state; None for none."""
    rng = np.random.default_rng(seed)
    stated = [contrast(*study(case, rng)).smallest_loss for _ in range(runs)]
    loss = float(np.median([math.inf if one is None else one for one in stated]))
    if math.isinf(loss):
        return None
    if case.kind == "perplexity":
        loss = math.log1p(loss / math.exp(CENTRE))
    return attrs.evolve(case, loss=loss, discordant=max(loss, case.discordant))


# all cases


def counted_cases() -> Iterator[Counted]:
    for n in (50, 200, 1000):
        for discordant in (0.01, 0.05, 0.2):
            for share in (0.0, 0.5, 0.9):
                yield Counted(n, discordant, share * discordant)


def drawn_cases() -> Iterator[Drawn]:
    for kind in ("values", "weighted", "perplexity"):
        for n in (50, 200):
            for skewed in (False, True):
                yield Drawn(kind, n, skewed=skewed)
                yield Drawn(kind, n, loss=0.1, skewed=skewed)
    yield Drawn("values", 50, unpaired=True)
    yield Drawn("values", 200, unpaired=True, loss=0.3)
    for clusters in (5, 10, 30, 100):
        for alike in (0.1, 0.5):
            for kind in ("values", "weighted", "perplexity"):
                yield Drawn(kind, 400, clusters, alike)
            for discordant in (0.05, 0.2):
                for share in (0.0, 0.5, 0.8):
                    yield Drawn("right_wrong", 400, clusters, alike, share * discordant, discordant)
            for share in (0.0, 0.8):
                yield Drawn("right_wrong", 400, clusters, alike, share * 0.5, 0.5)


def power_cases() -> Iterator[Drawn]:
    for n in (20, 50, 200):
        yield Drawn("values", n)
    for kind in ("weighted", "perplexity"):
        yield Drawn(kind, 200)
    for clusters in (5, 10, 30, 100):
        yield Drawn("values", 400, clusters, 0.3)
        yield Drawn("right_wrong", 400, clusters, 0.3, discordant=0.2)
    yield Drawn("values", 200, unpaired=True)


def every(runs: int) -> Iterator[Callable[[], dict[str, Any]]]:
    """Makes the row of each case, in any order: each has a seed of its own."""
    yield from (partial(_counted, case) for case in counted_cases())
    for n in (50, 200, 1000):
        yield from (partial(_counted_power, n, share) for share in (0.0, 0.01, 0.05, 0.1, 0.2, 0.4))
    yield from (partial(_power, case, runs) for case in power_cases())
    yield from (partial(_drawn, case, runs, seed) for seed, case in enumerate(drawn_cases(), 2))


def _counted(case: Counted) -> dict[str, Any]:
    return {"case": "counted", **attrs.asdict(case), "runs": "exact", **case.figures()}


def _counted_power(n: int, discordant: float) -> dict[str, Any]:
    return {"case": "power", "n": n, "discordant": discordant, **(counted_power(n, discordant) or {})}


def _power(case: Drawn, runs: int) -> dict[str, Any]:
    lossy = at_smallest_loss(case, runs, 1)
    if lossy is None:
        return {"case": "power", **attrs.asdict(case), "runs": runs, "loss": None, "power": None}
    return {"case": "power", **attrs.asdict(lossy), "runs": runs, "power": figures(lossy, runs, 2)["found"]}


def _drawn(case: Drawn, runs: int, seed: int) -> dict[str, Any]:
    return {"case": "drawn", **attrs.asdict(case), "runs": runs, **figures(case, runs, seed)}


def _row(make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in make().items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--jobs", type=int, default=1, help="processes that run cases side by side")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    rows = []
    with ProcessPoolExecutor(asked.jobs) as pool:
        for row in pool.map(_row, every(asked.runs)):
            rows.append(row)
            print(row, flush=True)
    if asked.json is not None:
        asked.json.write_text("[" + ",\n ".join(map(json.dumps, rows)) + "]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
