"""Whether statements about differences hold: simulated studies with known truth through the functions that llem ships.

    python benchmarks/simulate_comparisons.py [--runs N] [--claims N] [--json FILE] [--only NAME]

Prints nominal against measured. Values are exp(configuration + process + drift + residual), in per cent of the value;
trials are 20 s apart. It also runs on an older llem (put its source on PYTHONPATH), for figures of before and after.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from llem.analysis import compare as comparing
from llem.metrics.statistics import mean_interval
from llem.store.models import Quantity

try:
    from llem.analysis import sides as new
except ImportError:
    new = None  # type: ignore[assignment]

ENERGY, SPEED = "energy_per_output_token_j", "output_tokens_per_s"
LEVEL = 0.05
#: Of the first scenario. The prior's constants were chosen with the seeds from 0 on, so that these must be others.
SEED = 70_000
BEGIN = datetime(2026, 11, 24, tzinfo=UTC)


@attrs.frozen
class Plan:
    """How a study is measured.

    Attributes:
        shared: whether all configurations are in one engine, trial by trial in turns.
        sequential: all trials of one configuration before those of the next.
        resumed: whether the one shared engine process ended after the study's first trial, and another one went on.
        within, between: standard deviations of trials and of process means.
        drift: from the first trial of the study to the last.
    """

    configurations: int = 2
    processes: int = 1
    trials: int = 5
    shared: bool = False
    sequential: bool = False
    within: float = 0.01
    between: float = 0.0
    drift: float = 0.0
    resumed: bool = False


def order(plan: Plan, rng: np.random.Generator) -> list[tuple[int, int]]:
    """(configuration, process) of each trial, in the order of time."""
    names = range(plan.configurations)
    if plan.sequential and not plan.shared:
        return [(c, p) for c in names for p in range(plan.processes) for _ in range(plan.trials)]
    found: list[tuple[int, int]] = []
    for process in range(plan.processes):
        if plan.sequential:
            found += [(c, process) for c in names for _ in range(plan.trials)]
        elif plan.shared:
            found += [(int(c), process) for _ in range(plan.trials) for c in rng.permutation(plan.configurations)]
        else:
            found += [(int(c), process) for c in rng.permutation(plan.configurations) for _ in range(plan.trials)]
    return [(c, int(place > 0)) for place, (c, _) in enumerate(found)] if plan.resumed else found


def study(plan: Plan, effects: Sequence[float], rng: np.random.Generator) -> list[Any]:
    """A side of a comparison for each configuration."""
    turns = order(plan, rng)
    engines = plan.processes + plan.resumed
    process = rng.normal(0, plan.between, (plan.configurations, engines)) if plan.between else None
    runs: list[list[tuple[int, int, float]]] = [[] for _ in range(plan.configurations)]
    for place, (c, p) in enumerate(turns):
        value = effects[c] + rng.normal(0, plan.within) + plan.drift * place / max(1, len(turns) - 1)
        if process is not None:
            value += process[0 if plan.shared else c][p]
        runs[c].append((place, p, math.exp(value)))
    return [side(plan, c, one if plan.resumed else _by_index(one)) for c, one in enumerate(runs)]


def _by_index(runs: Sequence[tuple[int, int, float]]) -> list[tuple[int, int, float]]:
    """As a store lists trials: the first of each process, then the second of each, and so on."""
    seen: dict[int, int] = {}
    keys = []
    for _, process, _ in runs:
        seen[process] = seen.get(process, 0) + 1
        keys.append((seen[process], process))
    return [one for _, one in sorted(zip(keys, runs, strict=True))]


def side(plan: Plan, number: int, runs: Sequence[tuple[int, int, float]]) -> Any:
    """The side of one configuration, as this version of llem has it."""
    values = {ENERGY: [value for *_, value in runs]}
    begins = [(BEGIN + timedelta(seconds=20 * place)).isoformat() for place, *_ in runs]
    if new is None:
        return comparing.Side(tuple(begins), values, None)
    made = []
    for index, ((place, p, _), at) in enumerate(zip(runs, begins, strict=True)):
        worker = p if plan.shared else number * plan.processes + p
        block = {"block": index // plan.processes} if "block" in attrs.fields_dict(new.Run) else {}
        made.append(new.Run(p, worker, at, place * 20 * 10**9, (place * 20 + 10) * 10**9, **block))
    return new.Side(tuple(made), values, backend="simulated")


def compared(sides: Sequence[Any], a: int, b: int, background: Any = None) -> Any:
    """The comparison of two of them."""
    if new is None:
        return comparing.compare(sides[a], sides[b])[0]
    return comparing.compare(sides[a], sides[b], None, background or comparing.Background(sides))[0]


def rejected(plan: Plan, effect: float, runs: int, seed: int, other: int = 1) -> dict[str, float]:
    """How often a difference is found between two configurations, and how often the interval covers the true one.

    Args:
        effect: of the one with number `other`, which is compared with the first; of all others it is 0.
    """
    rng = np.random.default_rng(seed)
    found, covers, chances = 0, 0, []
    for _ in range(runs):
        effects = [0.0] * plan.configurations
        effects[other] = effect
        one = compared(study(plan, effects, rng), 0, other)
        found += (one.ratio.p_value or 0.0) <= LEVEL
        covers += one.ratio.low <= math.exp(effect) <= one.ratio.high
        chances.append(one.probability_better)
    surest = float(np.quantile(np.abs(np.asarray(chances) - 0.5) + 0.5, 0.95))
    return {"found": found / runs, "covered": covers / runs, "surest_p_95": surest}


BOTH = {"within": 0.01, "between": 0.01}
#: Two configurations of a sequential study with 3 % drift: of how many, and the other one's number.
SEQUENCES = {
    f"A/A in sequence, {count} configurations, {'ends' if other > 1 else 'neighbours'}, {processes} process"
    f"{'es' if processes > 1 else ''} each, between {between:.1%}, drift 3 %": (
        Plan(count, processes, sequential=True, between=between, drift=0.03), other,
    )
    for count, other in ((2, 1), (4, 1), (4, 3), (12, 1), (12, 11))
    for processes in (1, 2)
    for between in (0.005, 0.01)
}  # fmt: skip
#: Name: the plan, the true effect, and what is wanted of how often it is found (least, most).
CASES: dict[str, tuple[Plan, float, tuple[float, float]]] = {
    "A/A paired, a study that went on after its first trial, drift 3 %": (
        Plan(shared=True, between=0.01, drift=0.03, resumed=True), 0.0, (0.03, 0.07),
    ),
    "A/A paired, one process, drift 3 %": (Plan(shared=True, between=0.01, drift=0.03), 0.0, (0.03, 0.07)),
    "A/A paired, 2 processes, drift 3 %": (Plan(processes=2, shared=True, between=0.01, drift=0.03), 0.0, (0.03, 0.07)),
    "A/A blocks, 2 processes": (Plan(processes=2, **BOTH), 0.0, (0.03, 0.07)),
    "A/A blocks, 5 processes": (Plan(processes=5, **BOTH), 0.0, (0.03, 0.07)),
    "A/A blocks, 5 processes of 1 trial, no between (as Welch)": (Plan(processes=5, trials=1), 0.0, (0.03, 0.07)),
    "A/A blocks, 2 processes, 12 configurations": (Plan(12, 2, **BOTH), 0.0, (0.03, 0.07)),
    "A/A blocks, 5 processes, 12 configurations": (Plan(12, 5, **BOTH), 0.0, (0.03, 0.07)),
    "A/A blocks, 2 processes, 12 configurations, drift 3 %": (Plan(12, 2, drift=0.03, **BOTH), 0.0, (0.03, 0.07)),
    "A/A one process each, between 1 %": (Plan(**BOTH), 0.0, (0.0, 0.07)),
    "A/A one process each, between 0, no drift": (Plan(), 0.0, (0.0, 0.07)),
    "A/A in sequence, one process each, drift 3 %": (Plan(sequential=True, drift=0.03), 0.0, (0.0, 0.07)),
    "A/A in sequence, one process each, CV 0.3 %, drift 3 %": (
        Plan(sequential=True, drift=0.03, within=0.003), 0.0, (0.0, 0.07),
    ),
    "A/A in sequence, 2 processes each, drift 3 %": (
        Plan(processes=2, sequential=True, drift=0.03, within=0.003), 0.0, (0.0, 0.07),
    ),
    "A/A in sequence in one shared process, drift 3 %": (
        Plan(shared=True, sequential=True, drift=0.03, within=0.003), 0.0, (0.0, 0.07),
    ),
    "1 % on a shared engine, 10 trials, a study that went on after its first, CV 0.5 %": (
        Plan(trials=10, shared=True, within=0.005, between=0.01, drift=0.03, resumed=True), 0.01, (0.9, 1.0),
    ),
    "1 % on a shared engine, 2 processes of 5 + 5 trials, CV 0.5 %": (
        Plan(processes=2, shared=True, within=0.005, between=0.01, drift=0.03), 0.01, (0.95, 1.0),
    ),
    "1 % on a shared engine, 2 processes of 5 + 5 trials, CV 1 %": (
        Plan(processes=2, shared=True, between=0.01, drift=0.03), 0.01, (0.0, 1.0),
    ),
    "2 %, blocks of 2 processes, 12 configurations, between 0.3 %, CV 0.5 %": (
        Plan(12, 2, within=0.005, between=0.003), 0.02, (0.95, 1.0),
    ),
    "five-fold, in sequence, one process each": (Plan(sequential=True, drift=0.03), math.log(5), (1.0, 1.0)),
}  # fmt: skip


def calibration(plan: Plan, sd: float, runs: int, seed: int, null: float = 0.0) -> dict[str, float]:
    """Of claims in [0.85, 0.95] (either side), how many are right; effects between two configurations are N(0, sd²).

    Args:
        null: share of configurations that are exactly alike. `empty`: of the claims, those about exactly equal ones.
    """
    rng = np.random.default_rng(seed)
    right = claims = empty = 0
    for _ in range(runs):
        effects = rng.normal(0, sd / math.sqrt(2), plan.configurations)
        if null:
            effects[rng.random(plan.configurations) < null] = 0.0
        sides = study(plan, effects, rng)
        background = None if new is None else comparing.Background(sides)
        for a in range(0, plan.configurations - 1, 2):
            p = compared(sides, a, a + 1, background).probability_better  # less is better
            if 0.85 <= max(p, 1 - p) <= 0.95:
                claims += 1
                empty += effects[a] == effects[a + 1]
                right += (effects[a + 1] < effects[a]) == (p > 0.5)
    return {"right": right / claims, "claims": claims, "empty": empty / claims}


SHARED, BLOCKS = Plan(12, shared=True, between=0.01, drift=0.03), Plan(12, 5, 1, between=0.005)
CALIBRATIONS = {
    f"P calibrated, effects {sd:.1%}, {name}": (plan, sd)
    for sd in (0.02, 0.01, 0.005)
    for name, plan in (("paired", SHARED), ("5 processes of 1 trial", BLOCKS))
}


# a whole study over axes


AXES = {"a": [0, 1], "b": [0, 1, 2], "c": [0, 1]}


def whole(runs: int, seed: int, *, shared: str | None, between: float, processes: int = 1) -> dict[str, float]:
    """How often any effect of a study of 3 axes and 2 metrics is called better or worse, where nothing differs.

    Args:
        shared: an axis whose values share engines; None: each point has an engine of its own.
    """
    rng = np.random.default_rng(seed)
    grid = [dict(zip(AXES, v, strict=True)) for v in np.array(np.meshgrid(*AXES.values())).T.reshape(-1, 3).tolist()]
    false = sum(any(_judged(grid, rng, shared, between, processes)) for _ in range(runs))
    return {"found": false / runs}


def _judged(
    grid: Sequence[dict[str, Any]], rng: np.random.Generator, shared: str | None, between: float, processes: int
) -> Iterator[bool]:
    keys = [tuple(v for k, v in point.items() if k != shared) for point in grid]
    number = {key: n for n, key in enumerate(dict.fromkeys(keys))} if shared else {}
    engines = [number[key] for key in keys] if shared else list(range(len(grid)))
    made: dict[str, list[Any]] = {}
    for metric in (ENERGY, SPEED):
        levels = rng.normal(0, between, (len(grid), processes))
        trials = [np.exp(levels[e][:, None] + rng.normal(0, 0.01, (processes, 5))) for e in engines]
        made[metric] = [_quantity(one) for one in trials]
    if new is None:
        yield from _judged_before(grid, made)
        return
    from llem.analysis.cells import sample_of
    from llem.analysis.effects import adjusted, axis_effects

    found = []
    for metric, quantities in made.items():
        samples = [
            sample_of(str(n), point, one, None, frozenset(engines[n] * processes + p for p in range(processes)))
            for n, (point, one) in enumerate(zip(grid, quantities, strict=True))
        ]
        for axis in AXES:
            found += axis_effects(samples, axis, metric)
    yield from (one.verdict != "" for one in adjusted(found, dict.fromkeys({one.metric for one in found}, True)))


def _judged_before(grid: Sequence[dict[str, Any]], made: dict[str, list[Any]]) -> Iterator[bool]:
    from llem.analysis import effects

    for metric, quantities in made.items():
        pairs = zip(grid, quantities, strict=True)
        samples = [effects.Sample(str(n), point, one.value) for n, (point, one) in enumerate(pairs)]
        for axis in AXES:
            yield from (not one.low <= 1 <= one.high for one in effects.axis_effects(samples, axis, metric))


def _quantity(trials: Any) -> Quantity:
    """As llem makes one of trials, by process."""
    processes = len(trials)
    over = mean_interval([float(v) for v in (trials.mean(axis=1) if processes > 1 else trials[0])])
    covers = "over processes" if processes > 1 else "within one process"
    return Quantity(over.value, "J", over.low, over.high, 0.95, trials.size, processes, covers, "student_t")


WHOLE: dict[str, dict[str, Any]] = {
    "A/A over a study of 3 axes x 2 metrics, one process each": {"shared": None, "between": 0.01},
    "A/A over a study of 3 axes x 2 metrics, one process each, between 2 %": {"shared": None, "between": 0.02},
    "A/A over a study of 3 axes x 2 metrics, no between": {"shared": None, "between": 0.0},
    "A/A over a study of 3 axes x 2 metrics, an axis in shared engines": {"shared": "b", "between": 0.01},
    "A/A over a study of 3 axes x 2 metrics, 2 processes": {"shared": None, "between": 0.01, "processes": 2},
}


def pareto(runs: int, seed: int) -> dict[str, float]:
    """How often a point that is 0.5 % better in y, and worse in x, is dropped: CV 1 %, 5 trials of each."""
    from llem.analysis.pareto import Candidate, non_dominated

    rng = np.random.default_rng(seed)

    def candidate(name: str, x: float, y: float) -> Any:
        trials = rng.normal(1, 0.01, (2, 5))
        ends = [mean_interval([float(level * v) for v in row]) for level, row in zip((x, y), trials, strict=True)]
        covered = [
            Quantity(one.value, "J", one.low, one.high, 0.95, 5, 5, "over processes", "student_t") for one in ends
        ]
        return Candidate(name, covered[0], covered[1], (True, True))

    dropped = sum("p" not in non_dominated([candidate("p", 1.05, 0.995), candidate("q", 1, 1)]) for _ in range(runs))
    return {"dropped": dropped / runs}


def scenarios(runs: int, claims: int) -> Iterator[tuple[str, str, int, Callable[[], dict[str, float]]]]:
    """Name, what is wanted, how many studies, and what measures it.

    Args:
        claims: studies for each row on P.
    """
    for seed, (name, (plan, effect, (least, most))) in enumerate(CASES.items(), SEED):
        yield name, f"found {least:.0%} to {most:.0%}", runs, lambda p=plan, e=effect, s=seed: rejected(p, e, runs, s)
    for seed, (name, (plan, other)) in enumerate(SEQUENCES.items(), SEED + 50):
        yield name, "found 0% to 7%", runs, lambda p=plan, o=other, s=seed: rejected(p, 0.0, runs, s, o)
    for seed, (name, settings) in enumerate(WHOLE.items(), SEED + 100):
        yield name, "found at most 7%", runs, lambda k=settings, s=seed: whole(runs, s, **k)
    for seed, (name, (plan, sd)) in enumerate(CALIBRATIONS.items(), SEED + 200):
        yield name, "right 87% to 93%", claims, lambda p=plan, d=sd, s=seed: calibration(p, d, claims, s)
    yield (
        "P, half of the configurations alike, effects 1.0%, paired",
        "told",
        claims,
        lambda: calibration(SHARED, 0.01, claims, SEED + 300, 0.5),
    )
    yield "Pareto: 0.5 % better in y, worse in x", "dropped at most 5%", runs, lambda: pareto(runs, SEED + 400)


def main() -> None:
    """Run all, or those whose name contains a text."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--claims", type=int, help="studies for each row on P; else as many as --runs")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", default="")
    asked = parser.parse_args()
    report = {}
    for name, wanted, studies, measure in scenarios(asked.runs, asked.claims or asked.runs):
        if asked.only in name:
            begin = time.process_time()
            found = measure()
            report[name] = {"wanted": wanted, "studies": studies, **found}
            told = ", ".join(f"{key} {value:.3f}" for key, value in found.items())
            print(f"{name}: {wanted}; {told} ({time.process_time() - begin:.0f} s)", flush=True)
    if asked.json:
        asked.json.write_text(json.dumps({"first_seed": SEED, "measured": report}, indent=2) + "\n")


if __name__ == "__main__":
    main()
