"""F3 and F6: work of a known amount, on the backend `products`. Pure but for the reading of stores."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence

import attrs
from benchmarks.validation.chart import GREEN, GREY, Line, Series, chart, stacked
from benchmarks.validation.figure import Check, Figure, percent
from benchmarks.validation.raw import NotMeasured, Raw, side_with
from benchmarks.validation.regression import fit
from benchmarks.validation.studies import EFFECTS

from llem.analysis.compare import Comparison, compare
from llem.analysis.sides import Side
from llem.store.models import Trial

__all__ = ["LEVEL", "REQUEST", "compared", "effects", "joules", "linearity", "part_of"]

REQUEST = "energy_per_request_j"
LEVEL = 0.05
#: Comparisons of five trials that are drawn of each effect.
DRAWN = 20


def joules(trial: Trial) -> float:
    """Energy of a trial's one domain. Raises NotMeasured."""
    energies = [one.energy_j for one in trial.energies if one.energy_j is not None]
    if len(energies) != 1:
        raise NotMeasured(f"trial {trial.index} of {trial.experiment_id} has {len(energies)} energies, not one")
    return energies[0]


def part_of(side: Side, indices: Sequence[int]) -> Side:
    """A side with some of its trials, in this order: what an experiment of these alone would have been."""
    runs = tuple(side.runs[i] for i in indices)
    return attrs.evolve(
        side, runs=runs, values={name: [all_[i] for i in indices] for name, all_ in side.values.items()}
    )


def linearity(raw: Raw) -> Figure:
    """F3: joules against tokens, in windows of 0.5 to 16 s."""
    store, names = raw.store("products")
    trials = [trial for name in names[len(EFFECTS) :] for trial in store.trials(name)]
    if len(trials) < 4:
        raise NotMeasured("the part `products` was stopped before its windows of several lengths")
    tokens, energy = [float(one.output_tokens) for one in trials], [joules(one) for one in trials]
    found = fit([[1.0, n] for n in tokens], energy)
    intercept, slope = found.terms
    off = [rest / expected for rest, expected in zip(found.rests, found.fitted, strict=True)]
    worst = max(map(abs, off))
    spans = [trial.duration_s for trial in trials]
    ends = sorted(set(tokens))
    shown = stacked(
        "Joules by tokens, and what is left of the straight line",
        [
            chart(
                "Joules by tokens",
                ("output tokens of the window", ""),
                ("energy, J", ""),
                [
                    Series(name="windows", xs=tokens, ys=energy),
                    Series(
                        name="line",
                        xs=ends,
                        ys=[intercept.value + slope.value * n for n in ends],
                        colour=GREY,
                        kind="line",
                    ),
                ],
            ),
            chart(
                "Residuals",
                ("length of the window, s", ""),
                ("energy over the line's, less 1, in percent", ""),
                [Series(name="windows", xs=spans, ys=[100 * one for one in off])],
                [Line("y", 1.0, "threshold"), Line("y", -1.0)],
            ),
        ],
    )
    return Figure(
        name="F3",
        title="Linearity",
        parts=("products",),
        done=f"The backend `products` makes a fixed number of equal matrix products for each output token. "
        f"{len(trials)} "
        f"windows of {min(spans):.1f} to {max(spans):.0f} s are fitted by a straight line (least squares).",
        checks=(
            Check("R²", f"{found.r2:.6f}", "≥ 0.9995", found.r2 >= 0.9995),
            Check("greatest residual over the line", percent(worst), "≤ 1 %", worst <= 0.01),
            Check(
                "intercept, 95 %",
                f"{intercept.value:.1f} J [{intercept.low:.1f}, {intercept.high:.1f}]",
                "contains 0",
                intercept.low <= 0 <= intercept.high,
            ),
        ),
        table=_by_length(trials, off),
        notes=(f"Slope: {1e3 * slope.value:.2f} mJ/token [{1e3 * slope.low:.2f}, {1e3 * slope.high:.2f}].",),
        plots={"F3": shown},
        numbers={"r2": found.r2, "worst": worst, "intercept": attrs.asdict(intercept), "slope": attrs.asdict(slope)},
    )


def _by_length(trials: Sequence[Trial], off: Sequence[float]) -> list[list[str]]:
    """What is left of the line by length of window, beside the bound that llem states of each (without the "
    "sensor's)."""
    rows = [["tokens", "window", "mean power", "off the line", "bound that llem states"]]
    for trial, one in sorted(zip(trials, off, strict=True), key=lambda pair: pair[0].duration_s):
        budget, energy = trial.energies[0].budget, joules(trial)
        stated = "–" if budget is None else f"± {percent((budget.tick_j + budget.gap_j + budget.repeat_j) / energy)}"
        watts = f"{energy / trial.duration_s:.0f} W"
        rows.append([str(trial.output_tokens), f"{trial.duration_s:.2f} s", watts, percent(one), stated])
    return rows


def effects(raw: Raw) -> Figure:
    """F6: known changes of the work, found again by the production comparison."""
    store, names = raw.store("products")
    sides = [side_with(store, name, REQUEST) for name in names[: len(EFFECTS)]]
    work = [store.read_experiment(name)["config"]["workload"]["output_tokens"] for name in names[: len(EFFECTS)]]
    if len(sides) < 2:
        raise NotMeasured("the part `products` was stopped before its second experiment")
    found = [(i, j, compared(sides[i], sides[j])) for i in range(len(sides)) for j in range(i + 1, len(sides))]
    truths = [work[j] / work[i] for i, j, _ in found]
    held = [one.ratio.low <= truth <= one.ratio.high for (*_, one), truth in zip(found, truths, strict=True)]
    drawn, shares = _of_five(sides, work), {}
    for effect in sorted({effect for effect, *_ in drawn}):
        shares[effect] = statistics.mean(p <= LEVEL for e, _, p in drawn if e == effect)
    covered = statistics.mean(inside for _, inside, _ in drawn) if drawn else math.nan
    first = [(j, one) for i, j, one in found if i == 0]
    two = next(((j, one) for j, one in first if abs(work[j] / work[0] - 1.02) < 1e-9), None)
    table = [["work", "time", "trials", "estimate, 95 %", "p", "covers", "found with five trials"]]
    for j, one in first:
        truth, longer = work[j] / work[0], _seconds(sides[j]) / _seconds(sides[0])
        covers = "yes" if one.ratio.low <= truth <= one.ratio.high else "no"
        estimate = [_effect(one), f"{one.ratio.p_value:.2g}", covers, _share(shares.get(round(100 * (truth - 1))))]
        table.append([f"+{percent(truth - 1, 0)}", percent(longer - 1), str(one.ratio.n), *estimate])
    expected = [100 * (work[j] / work[0] - 1) for j, _ in first]
    shown = chart(
        "Effects: injected and estimated",
        ("injected, percent of the work", ""),
        ("estimated, percent", ""),
        [
            Series(
                name="estimate with 95 % interval",
                xs=expected,
                ys=[100 * (one.ratio.value - 1) for _, one in first],
                ends=[(100 * (one.ratio.low - 1), 100 * (one.ratio.high - 1)) for _, one in first],
            ),
            Series(name="truth", xs=[0.0, max(expected)], ys=[0.0, max(expected)], colour=GREEN, kind="line"),
        ],
    )
    missed = [
        f"{work[j]} over {work[i]} tokens: {_effect(one)}, true {percent(work[j] / work[i] - 1)}"
        for (i, j, one), inside in zip(found, held, strict=True)
        if not inside
    ]
    checks = [
        Check(
            "of all pairs, intervals that cover the truth",
            f"{sum(held)} of {len(held)}",
            "≥ 90 %",
            sum(held) >= 0.9 * len(held),
        ),
        Check(
            f"the same with five trials of each, {len(drawn)} drawn comparisons",
            percent(covered, 0),
            "≥ 90 %",
            covered >= 0.9,
        ),
    ]
    if two is not None:
        j, one = two
        checks.append(
            Check(
                f"2 % found with {one.ratio.n} trials, and with five",
                f"p = {one.ratio.p_value:.2g}; in {_share(shares.get(2))} of the draws",
                "p ≤ 0.05 with 5 to 10 trials",
                (one.ratio.p_value or 0.0) <= LEVEL and shares.get(2, 0.0) >= 0.8,
            )
        )
    return Figure(
        name="F6",
        title="Known effects",
        parts=("products",),
        done=f"{len(sides)} experiments in one engine process, in blocks, do 0, 0, 1, 2, 5 and 10 % more work than "
        "the first "
        "one, exactly. `llem compare` sets joules per request of every pair against each other. Its intervals are held "
        "against the true ratio.",
        checks=checks,
        notes=(
            "*Time* is how much longer the windows were. Where it differs from the work, the clocks did.",
            "The pairs share experiments, and drawn comparisons share trials, so they are no independent tests. "
            "In draws, a 2 % change counts as found where 80 % and more find it.",
            *([f"Not covered: {'; '.join(missed)}."] if missed else []),
        ),
        table=table,
        plots={"F6": shown},
        numbers={
            "covered": sum(held) / len(held),
            "pairs": len(held),
            "covered_of_five": covered,
            "found_of_five": shares,
        },
    )


def _seconds(side: Side) -> float:
    """Mean length of its windows, which are of equally many requests."""
    return statistics.mean((run.t1_ns - run.t0_ns) / 1e9 for run in side.runs)


def _of_five(sides: Sequence[Side], work: Sequence[int]) -> list[tuple[int, bool, float]]:
    """Comparisons of five drawn blocks with the first experiment: effect in percent, whether covered, p-value."""
    rng, found = random.Random(6), []
    for j in range(1, len(sides)):
        truth, blocks = work[j] / work[0], min(len(sides[0].runs), len(sides[j].runs))
        for _ in range(DRAWN if blocks > 5 else 0):
            chosen = sorted(rng.sample(range(blocks), 5))
            one = compared(part_of(sides[0], chosen), part_of(sides[j], chosen))
            inside = one.ratio.low <= truth <= one.ratio.high
            found.append((round(100 * (truth - 1)), inside, one.ratio.p_value or 0.0))
    return found


def compared(a: Side, b: Side) -> Comparison:
    """Joules per request of `b` over those of `a`, by the production comparison."""
    [found] = compare(a, b, [REQUEST])
    return found


def _effect(one: Comparison) -> str:
    return f"{percent(one.ratio.value - 1)} [{percent(one.ratio.low - 1)}, {percent(one.ratio.high - 1)}]"


def _share(share: float | None) -> str:
    return "–" if share is None else percent(share, 0)
