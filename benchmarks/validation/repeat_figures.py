"""F4 and F5: repeatability, and comparisons of what is the same. Pure but for the reading of stores."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import numpy as np
from benchmarks.validation.chart import BLUE, GREEN, ORANGE, RED, Series, chart
from benchmarks.validation.figure import Check, Figure, percent, spread
from benchmarks.validation.known_figures import part_of
from benchmarks.validation.raw import NotMeasured, Raw, side_with
from benchmarks.validation.studies import EFFECTS

from llem.analysis.compare import compare
from llem.analysis.sides import Run, Side
from llem.store.store import Store

__all__ = ["bootstrap_p", "repeatability", "same", "split"]

TOKEN = "energy_per_output_token_j"
LEVEL = 0.05
#: Comparisons that are drawn of each pool, of so many trials a side.
DRAWN, TRIALS = 20, 5
#: Draws of the bootstrap.
RESAMPLED = 2000
#: What is wanted of F4: windows of a process, and processes.
WINDOWS, PROCESSES = 20, 2


def _stores(raw: Raw) -> list[tuple[Store, str]]:
    """Experiments whose scatter counts."""
    found: list[tuple[Store, str]] = []
    lacking = []
    for part in ("repeat", "graphs"):
        try:
            store, names = raw.store(part)
        except NotMeasured as error:
            lacking.append(str(error))
        else:
            found += [(store, name) for name in names]
    if not found:
        raise NotMeasured("; ".join(lacking))
    return found


def _called(store: Store, name: str) -> str:
    config = store.read_experiment(name)["config"]
    work, size = config["workload"], config["load"]["batch_size"]
    cache = (config.get("pytorch") or {}).get("cache_implementation")
    kind = "prefill" if work["output_tokens"] == 1 else "decode"
    seed = f", seed {work['seed']}" if work["seed"] != 1 else ""
    lengths, graphs = f"{work['input_tokens']} in, {work['output_tokens']} out", ", CUDA graphs" if cache else ""
    return f"{kind} B={size}, {lengths}{seed}{graphs}"


def repeatability(raw: Raw) -> Figure:
    """F4: scatter of windows within and between engine processes."""
    named = {_called(store, name): side_with(store, name, TOKEN) for store, name in _stores(raw)}
    table = [
        [
            "configuration",
            "windows by process",
            "CV within a process",
            "CV of all",
            "processes apart",
            "CV of time",
            "energy with time",
        ]
    ]
    checks, series = [], []
    numbers: dict[str, dict[str, Any]] = {}
    for at, (name, side) in enumerate(named.items()):
        groups = _by_process(side)
        counts = [len(group) for group in groups]
        pooled = _within(groups)
        everything = [value for group in groups for value in group]
        total = spread(everything)
        means = [statistics.mean(group) for group in groups]
        apart = (max(means) - min(means)) / statistics.mean(means) if len(means) > 1 else math.nan
        table.append(
            [name, " + ".join(map(str, counts)), percent(pooled), percent(total), percent(apart), *_with_time(side)]
        )
        numbers[name] = {"windows": counts, "within": pooled, "total": total, "apart": apart}
        checks.append(Check(f"{name}: CV within a process", percent(pooled), "≤ 0.5 %", pooled <= 0.005))
        checks.append(Check(f"{name}: CV of all", percent(total), "≤ 1.5 %", total <= 0.015))
        centre = statistics.mean(everything)
        for process, group in enumerate(groups):
            xs = [at + 0.85 + 0.12 * process + 0.008 * i for i in range(len(group))]
            ys = [100 * (value / centre - 1) for value in group]
            series.append(
                Series(name="" if at else f"process {process}", xs=xs, ys=ys, colour=(BLUE, ORANGE, GREEN)[process % 3])
            )
    least, processes = (
        min(c for one in numbers.values() for c in one["windows"]),
        min(len(_by_process(s)) for s in named.values()),
    )
    checks.append(
        Check(
            "windows of each process, and processes",
            f"{least} at least, in {processes} process{'es' if processes > 1 else ''}",
            f"≥ {WINDOWS} × ≥ {PROCESSES}",
            least >= WINDOWS and processes >= PROCESSES,
        )
    )
    checks.append(
        Check(
            "decoding of 8 sequences with CUDA graphs",
            "measured" if raw.done("graphs") else "not measured",
            "measured",
            raw.done("graphs"),
        )
    )
    notes = [
        "Configurations stand from left to right in the order of the table. *Energy with time* is the correlation of a "
        "window's joules with its length, at equal work."
    ]
    return Figure(
        name="F4",
        title="Repeatability",
        parts=("repeat", "graphs"),
        done="The 8B shape on PyTorch, the same experiments in turns, each in several engine processes. The scatter is "
        "of joules per output token over windows of at least 1.5 s; within a process it is pooled over processes.",
        checks=checks,
        notes=notes,
        table=table,
        plots={
            "F4": chart(
                "Joules per token of each window, by configuration and process",
                ("configuration", ""),
                ("energy per token over the configuration's mean, less 1, in percent", ""),
                series,
            )
        },
        numbers=numbers,
    )


def _by_process(side: Side) -> list[list[float]]:
    groups: dict[int, list[float]] = {}
    for run, value in zip(side.runs, side.values[TOKEN], strict=True):
        groups.setdefault(run.process, []).append(value)
    return [groups[process] for process in sorted(groups)]


def _with_time(side: Side) -> tuple[str, str]:
    """Scatter of the windows' lengths, and how energy goes with them."""
    seconds = [(run.t1_ns - run.t0_ns) / 1e9 for run in side.runs]
    values = side.values[TOKEN]
    varied = len(set(seconds)) > 1 and len(set(values)) > 1
    return percent(spread(seconds)), f"{statistics.correlation(seconds, values):.2f}" if varied else "–"


def _within(groups: Sequence[Sequence[float]]) -> float:
    """Standard deviation within processes, pooled over them, over the mean of all; nan where no process has two."""
    freedom = sum(len(group) - 1 for group in groups)
    if not freedom:
        return math.nan
    squares = sum((value - statistics.mean(group)) ** 2 for group in groups for value in group)
    return math.sqrt(squares / freedom) / statistics.mean(value for group in groups for value in group)


def split(side: Side, rng: random.Random) -> tuple[Side, Side] | None:
    """The trials of one engine process as two experiments of the same, that took turns in random blocks.

    Neighbours in time are a block, in which chance says which one is of the first experiment. None: fewer than two
    blocks.
    """
    of_one = [i for i, run in enumerate(side.runs) if run.process == side.runs[0].process]
    order = sorted(of_one, key=lambda i: side.runs[i].t0_ns)
    pairs = list(zip(order[::2], order[1::2], strict=False))
    if len(pairs) < 2:
        return None
    chosen = sorted(rng.sample(pairs, min(TRIALS, len(pairs))))
    both = [pair if rng.random() < 0.5 else pair[::-1] for pair in chosen]
    first, second = (_numbered(part_of(side, [pair[i] for pair in both])) for i in (0, 1))
    return first, second


def _numbered(side: Side) -> Side:
    """Its trials as the blocks 0, 1, 2, …"""
    runs: tuple[Run, ...] = tuple(attrs.evolve(run, block=number) for number, run in enumerate(side.runs))
    return attrs.evolve(side, runs=runs)


def _pair(a: Side, b: Side, rng: random.Random) -> tuple[Side, Side] | None:
    """Trials of the same blocks of two experiments, in the first engine process; chance says which one comes first."""
    found = [_by_block(side) for side in (a, b)]
    shared = sorted(found[0].keys() & found[1].keys())
    if len(shared) < 2:
        return None
    chosen = sorted(rng.sample(shared, min(TRIALS, len(shared))))
    sides = [_numbered(part_of(side, [at[i] for i in chosen])) for side, at in zip((a, b), found, strict=True)]
    if rng.random() < 0.5:
        sides.reverse()
    return sides[0], sides[1]


def _by_block(side: Side) -> dict[int, int]:
    """Places of the trials of the first engine process, by their block."""
    return {run.block: i for i, run in enumerate(side.runs) if run.process == 0 and run.block is not None}


def bootstrap_p(first: Sequence[float], second: Sequence[float], seed: int) -> float:
    """Two-sided p-value of the percentile bootstrap of the ratio of means: it rejects where the interval lacks 1."""
    rng = np.random.default_rng(seed)
    means = [rng.choice(np.asarray(v), (RESAMPLED, len(v))).mean(axis=1) for v in (first, second)]
    above = float(np.mean(means[1] > means[0]))
    return min(1.0, 2 * max(min(above, 1 - above), 0.5 / RESAMPLED))


def _drawn(raw: Raw) -> Iterator[tuple[str, Side, Side]]:
    """Comparisons of what is the same, each with the pool that it is of."""
    rng = random.Random(5)
    stored = [(f"repeat: {_called(store, name)}", side_with(store, name, TOKEN)) for store, name in _stores(raw)]
    decode = [side for name, side in stored if "decode" in name and "graphs" not in name]
    pairs = [("repeat: both decodes, in pairs", decode[0], decode[1])] if len(decode) == 2 else []
    if (raw.folder / "products").is_dir():
        store, names = raw.store("products")
        known = [side_with(store, name, TOKEN) for name in names[: len(EFFECTS)]]
        stored += [
            (f"products: +{effect} %, experiment {i}", side)
            for i, (effect, side) in enumerate(zip(EFFECTS, known, strict=False))
        ]
        pairs += [("products: both of +0 %, in pairs", known[0], known[1])] if len(known) > 1 else []
    for name, side in stored:
        for _ in range(DRAWN):
            if (both := split(side, rng)) is not None:
                yield name, *both
    for name, a, b in pairs:
        for _ in range(DRAWN):
            if (both := _pair(a, b, rng)) is not None:
                yield name, *both


def same(raw: Raw) -> Figure:
    """F5: p-values of comparisons in which nothing differs."""
    pools: dict[str, list[tuple[float, float]]] = {}
    for seed, (name, a, b) in enumerate(_drawn(raw)):
        [found] = compare(a, b, [TOKEN])
        p = 1.0 if found.ratio.p_value is None else found.ratio.p_value
        pools.setdefault(name, []).append((p, bootstrap_p(a.values[TOKEN], b.values[TOKEN], seed)))
    values = [pair for pool in pools.values() for pair in pool]
    n = len(values)
    if not n:
        raise NotMeasured("no engine process has four windows of one experiment")
    rejected = [statistics.mean(pair[i] <= LEVEL for pair in values) for i in (0, 1)]
    table = [["pool", "comparisons", "rejected by `llem compare`", "by the percentile bootstrap"]]
    for name, pool in pools.items():
        table.append([name, str(len(pool)), *(str(sum(pair[i] <= LEVEL for pair in pool)) for i in (0, 1))])
    expected = [(i + 0.5) / n for i in range(n)]
    shown = chart(
        "p-values against those of chance",
        ("p-value expected by chance", ""),
        ("p-value found", ""),
        [
            Series(name="llem compare", xs=expected, ys=sorted(p for p, _ in values), colour=BLUE),
            Series(name="percentile bootstrap", xs=expected, ys=sorted(p for _, p in values), colour=RED),
            Series(name="chance", xs=[0.0, 1.0], ys=[0.0, 1.0], colour=GREEN, kind="line"),
        ],
    )
    return Figure(
        name="F5",
        title="A against A",
        parts=("repeat", "graphs", "products"),
        done=f"{n} comparisons through `llem compare`, {TRIALS} trials against {TRIALS} at most, in which nothing "
        "differs: trials of "
        "one experiment split at random within neighbouring pairs, and pairs of two experiments of the same work. "
        "The percentile bootstrap of the same trials stands beside it.",
        checks=(
            Check("comparisons", str(n), "≥ 100", n >= 100),
            Check(
                "rejected at 5 % by `llem compare`", percent(rejected[0], 1), "1 to 10 %", 0.01 <= rejected[0] <= 0.10
            ),
            Check(
                "rejected at 5 % by the percentile bootstrap",
                percent(rejected[1], 1),
                "more than 10 %",
                rejected[1] > 0.10,
            ),
        ),
        notes=(
            f"The comparisons are of {len(pools)} pools of trials and share trials within each, so their number of "
            "rejections "
            "scatters more than that of independent tests; each pool's is in the table.",
        ),
        table=table,
        plots={"F5": shown},
        numbers={"comparisons": n, "llem": rejected[0], "bootstrap": rejected[1]},
    )
