"""How often steady experiments are said to drift, and how often known changes are found.

Each simulated experiment has five trials (unless stated) of batches whose times scatter by 1 % and of power samples
every 100 ms that scatter by 1.5 %, both as autoregressions of order one; trials scatter by 0.5 %. "before" is the rule
that llem had: a straight line through ten parts of each window, Student's t, Holm.

    python benchmarks/simulate_drift.py [--runs 2000] [--only PREFIX] [--json FILE]
    python benchmarks/simulate_drift.py --calibrate 40 [--runs 10000]     quantiles behind `llem.metrics.changes.TAILS`
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from llem.meters.base import EnergyReading
from llem.meters.trace import TraceRow
from llem.metrics import changes
from llem.metrics.checks.between import drift_between
from llem.metrics.checks.drift import steady_state
from llem.metrics.metric import Measured
from llem.metrics.setup import Setup
from llem.metrics.statistics import holm, mean, trend
from llem.store.models import RequestRow, Trial

GPU, S = "gpu:GPU-simulated", 10**9
WINDOW_S, WATTS = 10.0, 600.0
Shape = Callable[[Any], Any]

SHAPES: dict[str, Shape] = {
    "line 3 %": lambda t: 0.03 * t,
    "step 3 %": lambda t: 0.03 * (t >= 0.5),
    "early step 3 %": lambda t: 0.03 * (t >= 0.25),
    "V 5 %": lambda t: 0.05 * np.abs(2 * t - 1),
    "bump 10 %": lambda t: 0.10 * ((t >= 0.4) & (t < 0.55)),
}


@attrs.frozen
class Case:
    """One kind of experiment.

    Attributes:
        what: "time" (of batches) or "power" has the shape, in `every` window or in the third one alone.
        rise: change of the time per batch from first to last trial.
        lengths: output tokens of requests: "equal", "drawn", or "ascending" over all trials as a sorted file has them.
        course: how much more power the first third of a batch needs than the rest.
    """

    name: str
    batches: int = 40
    rho: float = 0.0
    what: str = ""
    shape: str = ""
    every: bool = True
    trials: int = 5
    rise: float = 0.0
    lengths: str = "equal"
    noise: str = "normal"
    course: float = 0.0


def cases() -> Iterator[Case]:
    for batches in (20, 40, 100):
        for rho in (0.0, 0.6):
            yield Case(f"steady, {batches} batches, rho {rho:g}", batches, rho)
    yield Case("steady, 40 batches, rho 0.3", 40, 0.3)
    # ten parts of these windows have a correlation of about 0.6
    yield Case("steady, parts correlated, 40 batches, rho 0.88", 40, 0.88)
    yield Case("steady, parts correlated, 100 batches, rho 0.95", 100, 0.95)
    yield Case("steady, 40 batches, skewed noise", 40, noise="skewed")
    yield Case("steady, 1 trial, rho 0", trials=1)
    yield Case("steady, 1 trial, rho 0.6", trials=1, rho=0.6)
    yield Case("steady, 10 trials", trials=10)
    yield Case("steady, lengths drawn", lengths="drawn")
    yield Case("steady, lengths ascending", lengths="ascending")
    yield Case("steady, power follows 40 batches", course=0.2)
    yield Case("steady, power follows 5 batches", 5, course=0.2)
    for shape in SHAPES:
        for batches, rho in ((40, 0.0), (40, 0.6), (100, 0.6)):
            yield Case(f"{shape}, every window, {batches} batches, rho {rho:g}", batches, rho, "time", shape)
    for shape in SHAPES:
        for batches, rho in ((40, 0.0), (100, 0.0), (100, 0.6)):
            yield Case(f"{shape}, one window, {batches} batches, rho {rho:g}", batches, rho, "time", shape, every=False)
    for shape in ("step 3 %", "V 5 %", "bump 10 %"):
        yield Case(f"{shape}, every window, parts correlated, rho 0.88", 40, 0.88, "time", shape)
    yield Case("power, step 3 %, every window", 40, 0.0, "power", "step 3 %")
    yield Case("power, step 3 %, one window", 40, 0.0, "power", "step 3 %", every=False)
    yield Case("power, step 3 %, every window, follows 5 batches", 5, 0.0, "power", "step 3 %", course=0.2)
    yield Case("step 3 %, every window, lengths drawn", 40, 0.0, "time", "step 3 %", lengths="drawn")
    for trials in (5, 7, 10):
        yield Case(f"trials rise by 1.5 %, {trials} trials", trials=trials, rise=0.015)
    yield Case("trials rise by 3 %, 5 trials", rise=0.03)


def noise(random: Any, count: int, rho: float, kind: str = "normal") -> Any:
    """Deviations of unit variance, an autoregression of order one."""
    fresh = random.standard_normal(count + 20)
    if kind == "skewed":
        fresh = random.standard_gamma(2.0, count + 20) / math.sqrt(2) - math.sqrt(2)
    found, last = [], 0.0
    for one in fresh:
        last = rho * last + math.sqrt(1 - rho * rho) * one
        found.append(last)
    return np.array(found[20:])


def experiment(case: Case, random: Any) -> tuple[Measured, dict[int, list[TraceRow]]]:
    trials, traces, requests, begin = [], {}, {}, 0
    for index in range(case.trials):
        shape = SHAPES[case.shape] if case.shape and (case.every or index == 2) else lambda t: 0 * t
        outputs = np.full(case.batches, 128)
        if case.lengths != "equal":
            outputs = random.randint(64, 193, case.batches)
        if case.lengths == "ascending":  # over all trials, as a sorted file has it
            outputs = 64 + (np.arange(case.batches) + index * case.batches) * 128 // (case.batches * case.trials)
        place = (np.arange(case.batches) + 0.5) / case.batches
        level = (1 + case.rise * index / max(case.trials - 1, 1)) * (1 + 0.005 * random.standard_normal())
        times = (
            WINDOW_S
            / case.batches
            * outputs
            / 128
            * level
            * (1 + 0.01 * noise(random, case.batches, case.rho, case.noise))
        )
        if case.what == "time":
            times = times * (1 + shape(place))
        ends = begin + np.cumsum(np.maximum(times, 1e-3) * S).astype(np.int64)
        starts = np.concatenate(([begin], ends[:-1]))
        end = int(ends[-1])
        at = np.arange(begin + S // 20, end, S // 10)
        watts = WATTS * (1 + 0.015 * noise(random, len(at), case.rho)) * (1 + 0.002 * random.standard_normal())
        if case.course:
            batch = np.minimum(np.searchsorted(ends, at, side="right"), case.batches - 1)
            watts = watts * (1 + case.course * ((at - starts[batch]) < (ends - starts)[batch] / 3))
        if case.what == "power":
            watts = watts * (1 + shape((at - begin) / (end - begin)))
        traces[index] = [
            TraceRow("nvml", GPU, "power_w", int(t), int(t), float(w)) for t, w in zip(at, watts, strict=True)
        ]
        requests[index] = [
            RequestRow(k, k, 128, int(o), int(a), int(b))
            for k, (o, a, b) in enumerate(zip(outputs, starts, ends, strict=True))
        ]
        joules = float(watts.mean()) * (end - begin) / S
        trials.append(trial(index, begin, end, tuple(((ends - starts) / S).tolist()), int(outputs.sum()), joules))
        begin = end + 5 * S
    setup = Setup({}, "cuda", None, None, None, {})
    return Measured(setup, trials, (), lambda index: requests[index]), traces


def trial(index: int, begin: int, end: int, times: tuple[float, ...], tokens: int, joules: float) -> Trial:
    reading = EnergyReading("nvml", GPU, "gpu", "measured", "simulated", joules)
    return Trial(
        experiment_id="simulated", index=index, process=0, started_at="2026-01-01",
        t0_ns=begin, t1_ns=end, batches=len(times),
        requests=len(times), input_tokens=128 * len(times), output_tokens=tokens, expected_output_tokens=tokens,
        batch_s=times, first_index=0, energies=(reading,), peak_memory_bytes=None, memory_covers="",
        memory_reason="not_supported", output_digest="", health={},
    )  # fmt: skip


def before(measured: Measured, traces: dict[int, list[TraceRow]]) -> bool:
    """The former rule: ten parts of each window, the slope's p-value below 0.01 (Holm), 0.5 % at least."""
    found = []
    for one in measured.trials:
        watts = [row.value for row in traces[one.index]]
        for values in (one.batch_s, watts):
            if len(values) >= 10:
                parts = changes.cells(values, 10)
                line = trend(parts)
                found.append((abs(line.slope) * 10 / mean(parts), line.p_value))
    adjusted = holm([p_value for _, p_value in found])
    return any(share > 0.005 and p < 0.01 for (share, _), p in zip(found, adjusted, strict=True))


def simulated(case: Case, runs: int, seed: int) -> dict[str, Any]:
    random = np.random.RandomState(seed)
    told = {"before": 0, "within": 0, "between": 0, "any": 0}
    for _ in range(runs):
        measured, traces = experiment(case, random)
        within, between = bool(steady_state(measured, traces)), bool(drift_between(measured))
        for name, yes in (
            ("before", before(measured, traces)),
            ("within", within),
            ("between", between),
            ("any", within or between),
        ):
            told[name] += yes
    return {**attrs.asdict(case), "runs": runs, "seed": seed, **{name: count / runs for name, count in told.items()}}


def calibrate(n: int, runs: int) -> None:
    """Quantiles of the statistic of steady series with rho 0.6: what `TAILS` must reproduce."""
    changes.TAILS = ((n, ((0.0, 1.0),) * 4),)  # the p-value is then exp(- statistic)
    for windows in (1, 3, 5):
        random = np.random.RandomState(n)
        found: dict[str, list[float]] = {"a window": [], "their mean": []}
        for _ in range(runs):
            pooled, each = changes.changes([(100 + noise(random, n, 0.6)).tolist() for _ in range(windows)])
            found["a window"].append(-math.log(max(each[0].p_value, 1e-300)))
            if pooled:
                found["their mean"].append(-math.log(max(pooled.p_value, 1e-300)))
        for name, values in found.items():
            if values:
                told = {p: round(float(np.quantile(values, 1 - p)), 2) for p in (0.05, 0.02, 0.005, 0.001)}
                print(f"{n} values, {windows} windows, {name}: statistic exceeded with probability {told}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--only", default="", help="cases whose name begins with this")
    parser.add_argument("--calibrate", type=int, default=0)
    parser.add_argument("--json", type=Path, help="add the figures to this file")
    given = parser.parse_args()
    if given.calibrate:
        calibrate(given.calibrate, given.runs)
        return
    print(f"{'case':58} {'before':>7} {'within':>7} {'between':>8} {'any':>6}   (steady: nominal 0.01, 0.04, 0.05)")
    for number, case in enumerate(cases()):
        if not case.name.startswith(given.only):
            continue
        found = simulated(case, given.runs, 100 + number)
        print(
            f"{case.name:58} {found['before']:7.3f} {found['within']:7.3f} {found['between']:8.3f} {found['any']:6.3f}",
            flush=True,
        )
        if given.json:
            known = json.loads(given.json.read_text()) if given.json.exists() else []
            kept = [one for one in known if one["name"] != case.name]
            given.json.parent.mkdir(parents=True, exist_ok=True)
            given.json.write_text(json.dumps([*kept, found], indent=1) + "\n")


if __name__ == "__main__":
    main()
