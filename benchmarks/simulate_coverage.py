"""How often 95 % intervals hold the truth: simulated studies, each through the product's own estimators.

    python benchmarks/simulate_coverage.py [--runs N] [--json FILE] [NAME ...]

`before` is Student's t over all trials as if they were independent, further trials while that interval is wider than
the target, and net energy from the baseline before the trials alone (commit 7def4ca). `after` is what llem does now.
A NAME runs only the cases whose name begins with it.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import attrs

from llem.config.models import Experiment
from llem.metrics.idle import nets
from llem.metrics.precision import is_wanted
from llem.metrics.quantity import Value, quantity
from llem.metrics.statistics import mean, mean_interval, relative_half_width
from llem.store.models import BaselineReading, EnergyReading, ErrorBudget, Trial

Z = 1.959963984540054
WINDOW_S, SECOND = 10.0, 10**9
GPU = ("nvml", "gpu:0")


@attrs.frozen
class Outcome:
    """One simulated study: whether the interval held the truth, before and after; and further figures by name."""

    before: bool
    after: bool
    more: dict[str, float] = attrs.field(factory=dict)


Study = Callable[[random.Random], Outcome]


def holds(low: float | None, high: float | None, truth: float) -> bool:
    """Whether an interval holds the truth; one that is missing does not."""
    return low is not None and high is not None and low <= truth <= high


def compared(values: Sequence[Value], processes: Sequence[int], truth: float) -> Outcome:
    """The same values by plain t and by the product."""
    plain = mean_interval([value.value for value in values if value.value is not None])
    now = quantity(values, "J", processes)
    return Outcome(holds(plain.low, plain.high, truth), holds(now.low, now.high, truth))


# clusters


def clusters(processes: int, trials: int, between: float, within: float, log: bool = False) -> Study:
    """`trials` in all, dealt to engine processes in turn; normal or lognormal, with a true mean of 1."""

    def study(rng: random.Random) -> Outcome:
        shift = [rng.gauss(0, between) for _ in range(processes)]
        where = [index % processes for index in range(trials)]
        spread = math.sqrt(math.log(1 + within**2))  # of the logarithm, where the values' own is `within`
        drawn = [math.exp(rng.gauss(-spread * spread / 2, spread)) if log else rng.gauss(1, within) for _ in where]
        return compared([Value(x + shift[p]) for x, p in zip(drawn, where, strict=True)], where, 1.0)

    return study


def edges(trials: int, scatter: float, edge: float) -> Study:
    """Trials whose windows have their edges off alike, as the budget says: `edge` is its 95 % half-width."""

    def study(rng: random.Random) -> Outcome:
        off = rng.gauss(0, edge / Z)
        values = [Value(rng.gauss(1, scatter) + off, edge, shared=edge) for _ in range(trials)]
        return compared(values, [0] * trials, 1.0)

    return study


# the stopping rule


def trial(index: int, process: int, watts: float) -> Trial:
    """A trial of 10 s and 1,000 output tokens at this power."""
    t0 = round(index * 2 * WINDOW_S * SECOND)
    reading = EnergyReading(*GPU, "gpu", "measured", "simulated", watts * WINDOW_S, ErrorBudget(0.0, 0.0, 0.0))
    return Trial(
        "simulated", index, process, "2026-01-01",
        t0, t0 + round(WINDOW_S * SECOND), 1, 1, 1000, 1000, 1000, (WINDOW_S,), 0,
        (reading,), None, "", "not_supported", "", {},
    )  # fmt: skip


def stopped(processes: int, between: float, within: float, least: int = 5, most: int = 10) -> Study:
    """A study that measures trials until the rule is content, by each rule on the same draws."""
    experiment = Experiment(backend="echo", trials=least, max_trials=most, target_half_width=0.01, processes=processes)

    def study(rng: random.Random) -> Outcome:
        shift = [rng.gauss(0, between) for _ in range(processes)]
        watts = [100 * (1 + shift[index % processes] + rng.gauss(0, within)) for index in range(most)]
        old, narrow = sequential(watts, processes, least)
        plain = mean_interval([watts[index] for index in old])
        taken: list[Trial] = []
        for process in range(processes):  # one after the other
            for index in range(process, most, processes):
                if is_wanted(experiment, taken, index):
                    taken.append(trial(index, process, watts[index]))
        values = [Value(one.energies[0].energy_j) for one in taken]
        now = quantity(values, "J", [one.process for one in taken])
        held = holds(plain.low, plain.high, 100)
        within_target = now.value is not None and now.high is not None and now.high / now.value - 1 <= 0.01
        more = {
            "trials before": len(old),
            "trials after": len(taken),
            "narrow before": narrow,
            "narrow after": within_target,
            "covered where narrow, before": held if narrow else math.nan,
        }
        return Outcome(held, holds(now.low, now.high, 100 * WINDOW_S), more)

    return study


def sequential(watts: Sequence[float], processes: int, least: int) -> tuple[list[int], bool]:
    """The rule of before: indices of trials, one process after the other, until all so far give a narrow interval."""
    taken: list[int] = []
    for process in range(processes):
        for index in range(process, len(watts), processes):
            width = relative_half_width([watts[one] for one in taken])
            if index < least or width is None or width > 0.01:
                taken.append(index)
    width = relative_half_width([watts[one] for one in taken])
    return taken, width is not None and width <= 0.01


# net energy


def net(processes: int, trials: int, error: float, knows: str, scatter: float = 0.003) -> Study:
    """174 W of load on 123 W of idle; each baseline is off by `error` of its power, each trial by `scatter` of its own.

    Args:
        knows: what the baselines' budgets say: "nothing"; "scatter", its size; or "alike", its size, of an error that
            both baselines of all processes have alike.
    """
    watts, idle = 174.0, 123.0

    def study(rng: random.Random) -> Outcome:
        alike = rng.gauss(0, error)
        truth = (watts - idle) * WINDOW_S
        baselines = []
        for process in range(processes):
            for phase, seconds in (("before", 20), ("after", 10)):
                off = alike if knows == "alike" else rng.gauss(0, error)
                part = Z * error * idle * seconds
                budget = ErrorBudget(part if knows == "alike" else 0.0, 0.0, part if knows == "scatter" else 0.0)
                baselines.append(baseline(process, phase, seconds, idle * (1 + off), budget))
        measured = [trial(index, index % processes, rng.gauss(watts, scatter * watts)) for index in range(trials)]
        return _net(measured, baselines, truth)

    return study


def drift(trials: int, truth: float) -> Study:
    """Idle power that rises from 120 to 123 W, and the net power that is right."""

    def study(rng: random.Random) -> Outcome:
        baselines = [
            baseline(0, "before", 20, 120.0, ErrorBudget(0.0, 0.0, 0.0)),
            baseline(0, "after", 10, 123.0, ErrorBudget(0.0, 0.0, 0.0)),
        ]
        measured = [trial(index, 0, rng.gauss(174, 0.003 * 174)) for index in range(trials)]
        return _net(measured, baselines, truth * WINDOW_S)

    return study


def baseline(process: int, phase: str, seconds: int, watts: float, budget: ErrorBudget) -> BaselineReading:
    """A baseline of this length and power."""
    reading = EnergyReading(*GPU, "gpu", "measured", "simulated", watts * seconds, budget)
    return BaselineReading(process, phase, 0, seconds * SECOND, (reading,))  # type: ignore[arg-type]


def _net(measured: Sequence[Trial], baselines: Sequence[BaselineReading], truth: float) -> Outcome:
    rest = {one.process: one.readings[0].energy_j / one.duration_s for one in baselines if one.phase == "before"}
    gross = [one.energies[0].energy_j for one in measured]
    plain = mean_interval([joules - rest[one.process] * WINDOW_S for joules, one in zip(gross, measured, strict=True)])
    now = quantity(nets(measured, baselines, lambda _: (GPU,)), "J", [one.process for one in measured])
    width = math.nan if now.high is None or now.low is None else (now.high - now.low) / 2 / truth
    old_width = plain.half_width / truth
    more = {"half-width before": old_width, "half-width after": width}
    return Outcome(holds(plain.low, plain.high, truth), holds(now.low, now.high, truth), more)


def cases() -> Iterator[tuple[str, Study]]:
    """Every case with its name."""
    yield "clusters: 1 process x 5, normal", clusters(1, 5, 0, 0.01)
    yield "clusters: 1 process x 10, normal", clusters(1, 10, 0, 0.01)
    yield "clusters: 1 process x 5, lognormal 5 %", clusters(1, 5, 0, 0.05, log=True)
    yield "clusters: 2 processes x 5, between = within", clusters(2, 10, 0.01, 0.01)
    yield "clusters: 2 processes x 10, between = within", clusters(2, 20, 0.01, 0.01)
    yield "clusters: 5 processes x 2, between = within", clusters(5, 10, 0.01, 0.01)
    yield "clusters: 5 processes x 4, between = within", clusters(5, 20, 0.01, 0.01)
    yield "clusters: 5 processes x 2, lognormal 5 %, between 1 %", clusters(5, 10, 0.01, 0.05, log=True)
    yield "edges: scatter 0.5 %, edges 0.2 %, 5 trials", edges(5, 0.005, 0.002)
    yield "edges: scatter 0.5 %, edges 0.5 %, 5 trials", edges(5, 0.005, 0.005)
    yield "edges: scatter 0.1 %, edges 0.5 %, 10 trials", edges(10, 0.001, 0.005)
    for cv in (0.5, 1.0, 1.5, 2.0, 3.0):
        yield f"stopping: CV {cv:g} %, 5 to 10 trials", stopped(1, 0, cv / 100)
    yield "stopping: CV 2 %, 10 to 20 trials", stopped(1, 0, 0.02, 10, 20)
    for processes in (2, 5):
        for cv in (0.5, 1.5):
            name = f"stopping: {processes} processes, between = within = {cv:g} %, 10 to 20 trials"
            yield name, stopped(processes, cv / 100, cv / 100, 10, 20)
    for knows in ("nothing", "scatter", "alike"):
        for error in (0.5, 1.0):
            for processes, trials in ((1, 5), (2, 10), (5, 10)):
                name = f"net: baseline error {error:g} %, budget knows {knows}, {processes} x {trials // processes}"
                yield name, net(processes, trials, error / 100, knows)
    for truth in (54.0, 52.5, 51.0):
        yield f"drift: 120 to 123 W, right is {truth:g} W net, 1 x 5", drift(5, truth)


def simulate(name: str, study: Study, runs: int) -> dict[str, object]:
    """Coverage of many studies, and the means of their further figures."""
    rng = random.Random(name)
    found = [study(rng) for _ in range(runs)]
    row: dict[str, object] = {
        "case": name,
        "studies": runs,
        "nominal": 0.95,
        "before": mean([float(one.before) for one in found]),
        "after": mean([float(one.after) for one in found]),
    }
    for key in found[0].more:
        known = [one.more[key] for one in found if not math.isnan(one.more[key])]
        middle = statistics.median if key.startswith("half-width") else statistics.fmean
        row[key] = middle(known) if known else None
    return row


def main() -> None:
    """Run the cases and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="beginnings of names of cases")
    parser.add_argument("--runs", type=int, default=4000, help="simulated studies of each case")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    rows = []
    for name, study in cases():
        if options.names and not name.startswith(tuple(options.names)):
            continue
        row = simulate(name, study, options.runs)
        rows.append(row)
        more = ", ".join(f"{key} {value:.3g}" for key, value in list(row.items())[5:] if isinstance(value, float))
        print(f"{name}: nominal 95 %, before {row['before']:.1%}, after {row['after']:.1%}  {more}", flush=True)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(
            json.dumps({"script": "benchmarks/simulate_coverage.py", "rows": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
