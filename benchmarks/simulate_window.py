"""One window against a simulated sensor whose true energy is known: error, stated bound, and how often it covers.

The sensor's ticks come every 100 ms, 3 % early or late; one read takes 1 to 3 ms; the sensor lags by 25 to 300 ms.
Reads are as in a trial: every tick near the edges, every tenth within, and instantaneous power (25 of 100 ms) beside a
counter.
Lead-in and lead-out are those that llem takes for the sensor. Window lengths vary by 10 %, and phases are random, but
for the loads of "whole periods", whose windows begin and end with a period as offline windows do with a batch. The
energies come from `llem.meters.window`, as those of a trial do.

    python benchmarks/simulate_window.py [--runs 2000] [--seed 1] [--only SENSOR] [--lengths S …] [--json FILE]
    python benchmarks/simulate_window.py --cross [--runs 400]

Prints, by sensor, load and window length: the 95th percentile of the relative error, the median bound, their ratio, and
the share of windows whose bound covers the truth (nominal: 0.95 or more).
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from llem.meters.base import Domain, lead_s
from llem.meters.trace import TraceRow
from llem.meters.tracker import EDGE_TICKS, THIN
from llem.meters.window import energy_readings
from llem.metrics.checks.meters import meters
from llem.store.models import Trial

S = 1_000_000_000
PERIOD, JITTER = 0.1, 0.03
GRID = 0.001
IDLE_W, BUSY_W = 124.0, 690.0

Floats = NDArray[np.float64]
Watts = Callable[[np.random.Generator, Floats, float], tuple[Floats, Floats | None]]


class Truth:
    """True energy at every moment, from power in steps of a millisecond."""

    def __init__(self, watts: Floats) -> None:
        self.times = np.arange(len(watts) + 1) * GRID
        self.sums = np.concatenate([[0.0], np.cumsum(watts) * GRID])
        self.twice = np.concatenate([[0.0], np.cumsum((self.sums[1:] + self.sums[:-1]) / 2) * GRID])

    def joules(self, t: Any) -> Any:
        """Energy from 0 to t."""
        return np.interp(t, self.times, self.sums)

    def averaged(self, t: Any, over: float) -> Any:
        """Energy from 0 to t by a sensor that averages power over so many seconds."""
        return (np.interp(t, self.times, self.twice) - np.interp(t - over, self.times, self.twice)) / over


# loads: power by time, with the times at which their periods begin where windows keep to them


def steady(rng: np.random.Generator, t: Floats, begin: float) -> tuple[Floats, None]:
    """Steps of a decode: 600 W, up to 4 % more or less, new every 20 ms."""
    return 600.0 * (1 + 0.04 * rng.uniform(-1, 1, len(t) // 20 + 1)).repeat(20)[: len(t)], None


def ramp(rng: np.random.Generator, t: Floats, begin: float) -> tuple[Floats, None]:
    """From 400 to 650 W over the whole of the trace, with the steady load's noise."""
    return steady(rng, t, begin)[0] / 600.0 * np.linspace(400.0, 650.0, len(t)), None


def batches(rng: np.random.Generator, t: Floats, begin: float) -> tuple[Floats, Floats]:
    """Batches of 1.7 s: 0.15 s of prefill at 690 W, then decode at 420 W."""
    phase = (t - begin) % 1.7
    watts = np.where(phase < 0.15, BUSY_W, 420.0) * steady(rng, t, begin)[0] / 600.0
    return watts, begin + 1.7 * np.arange(round(t[-1] / 1.7))


def square(period_s: float, whole: bool = False) -> Watts:
    """Half of the time busy, half idle; single periods are up to 1 % longer or shorter."""

    def watts(rng: np.random.Generator, t: Floats, begin: float) -> tuple[Floats, Floats | None]:
        count = int((t[-1] - begin) / period_s * 1.02) + 3
        offset = 0.0 if whole else period_s * rng.uniform(0, 1)
        edges = begin - offset + np.cumsum(period_s * (1 + 0.01 * rng.uniform(-1, 1, count))) - period_s
        begun = np.maximum(np.searchsorted(edges, t, side="right") - 1, 0)
        return np.where(t - edges[begun] < period_s / 2, BUSY_W, IDLE_W), edges if whole else None

    return watts


SQUARES_MS = (25, 33.3, 50, 99.5, 100, 150, 200, 400, 800)
LOADS: dict[str, Watts] = {
    "steady": steady,
    "ramp": ramp,
    **{f"square {ms:g} ms": square(ms / 1000) for ms in SQUARES_MS},
    "batches of 1.7 s, whole": batches,
    **{f"square {ms:g} ms, whole periods": square(ms / 1000, whole=True) for ms in (50, 100, 400, 800)},
}


@attrs.frozen
class Sensor:
    """A counter or a power meter; `average_s` is what it averages over, `share` of each period what it looks at."""

    method: str
    average_s: float = 0.0
    share: float = 1.0
    stated: bool = True

    def domain(self) -> Domain:
        """What its meter states; one that does not know its sensor leaves the defaults."""
        known: dict[str, Any] = {"average_s": self.average_s, "coverage": self.share} if self.stated else {}
        return Domain("node", "node", "measured", "simulated", method=self.method, period_s=PERIOD, **known)  # type: ignore[arg-type]


SENSORS = {
    "counter": Sensor("counter"),
    "counter, 25 of 100 ms": Sensor("counter", share=0.25),
    "counter, 1 s average": Sensor("counter", average_s=1.0),
    "counter, 1 s average, not stated": Sensor("counter", average_s=1.0, stated=False),
    "power, mean of 100 ms": Sensor("power", average_s=0.1),
    "power, 25 of 100 ms": Sensor("power", share=0.25),
    "power, 25 of 100 ms, not stated": Sensor("power", share=0.25, stated=False),
    "power, 1 s average": Sensor("power", average_s=1.0),
}


def shown(sensor: Sensor, truth: Truth, ticks: Floats, delay: float) -> tuple[Floats, Floats]:
    """What a counter and an instantaneous reading show from each tick on."""
    t = ticks - delay
    if sensor.average_s and sensor.method == "power":
        return t, (truth.joules(t) - truth.joules(t - sensor.average_s)) / sensor.average_s
    instant = (truth.joules(t) - truth.joules(t - 0.025)) / 0.025
    if sensor.average_s:
        return truth.averaged(t, sensor.average_s), instant
    if sensor.share < 1:
        return np.concatenate([[0.0], np.cumsum(instant[1:] * np.diff(ticks))]), instant
    return truth.joules(t), instant


def rows_of(
    sensor: Sensor, truth: Truth, rng: np.random.Generator, since: float, t0: float, t1: float, ends: float
) -> list[TraceRow]:
    """The trace as a trial has it, from `since` on."""
    count = int(ends / PERIOD) - 1
    ticks = PERIOD * (np.arange(1, count + 1) + JITTER * rng.uniform(-1, 1, count) + rng.uniform(0, 1))
    counter, instant = shown(sensor, truth, ticks, rng.uniform(0.025, 0.3))
    polls = ticks + rng.uniform(0, 0.02, count)
    reads = rng.uniform(0.001, 0.003, (2, count))
    found_at = ticks - reads[0] / 2 - rng.uniform(0, 1, count) * (0.001 + reads.mean(axis=0))
    domain, rows, within = sensor.domain(), [], 0
    dense = max(EDGE_TICKS, math.ceil(domain.settle_s / PERIOD) + 1)
    for i in range(int(np.searchsorted(ticks, since)), count):
        rows.append(_row("power_w", polls[i] - 0.02, polls[i], instant[i]))
        within = within + 1 if t0 <= ticks[i] < t1 else 0
        if sensor.method == "counter" and (within <= dense or (within - dense) % THIN == 0):
            rows.append(_row("counter_j", found_at[i], found_at[i] + reads[0, i] + reads[1, i] + 0.001, counter[i]))
    return rows


def _row(reading: Any, begin: float, end: float, value: float) -> TraceRow:
    return TraceRow("simulated", "node", reading, round(begin * S), round(end * S), float(value))


def window(sensor: Sensor, load: Watts, length: float, rng: np.random.Generator) -> dict[str, Any]:
    """One trial: idle, lead-in, window, lead-out, idle."""
    lead = lead_s([sensor.domain()])
    begin = 2.0 + rng.uniform(0, 0.1)
    wanted = length * rng.uniform(0.9, 1.1)
    t = np.arange(round((begin + wanted + 2 * lead + 5.0) / GRID)) * GRID
    watts, edges = load(rng, t, begin)
    t0, t1 = begin + lead, begin + lead + wanted
    if edges is not None:
        t0 = float(edges[np.searchsorted(edges, t0)])
        t1 = float(edges[np.searchsorted(edges, t0 + wanted)])
    truth = Truth(np.where((t >= begin) & (t < t1 + lead), watts, IDLE_W))
    rows = rows_of(sensor, truth, rng, begin - 0.2, t0, t1, t1 + lead)
    span = round(t0 * S), round(t1 * S)
    [found] = energy_readings(rows, [("simulated", sensor.domain())], *span)
    assert found.energy_j is not None
    assert found.budget is not None
    true = float(truth.joules(t1) - truth.joules(t0))
    return {
        "error": found.energy_j / true - 1,
        "bound": found.budget.bound_j / true,
        "window": (rows, *span),
        "reading": found,
    }


def summary(found: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Of many windows of one kind."""
    errors = np.abs([one["error"] for one in found])
    bounds = np.array([one["bound"] for one in found])
    p95 = float(np.quantile(errors, 0.95))
    return {
        "windows": len(found),
        "bias": float(np.mean([one["error"] for one in found])),
        "error_p95": p95,
        "bound_median": float(np.median(bounds)),
        "bound_over_p95": float(np.median(bounds)) / p95,
        "covered": float(np.mean(errors <= bounds)),
    }


def trial_of(index: int, found: dict[str, Any]) -> Trial:
    """A trial with this energy, of one batch."""
    _, t0, t1 = found["window"]
    return Trial(
        experiment_id="simulated", index=index, process=0, started_at="2026-01-01",
        t0_ns=t0, t1_ns=t1, batches=1, requests=1,
        input_tokens=1, output_tokens=10**6, expected_output_tokens=10**6, batch_s=((t1 - t0) / S,), first_index=0,
        energies=(found["reading"],), peak_memory_bytes=None, memory_covers="", memory_reason="not_supported",
        output_digest="", health={},
    )  # fmt: skip


def second_instrument(
    load: Watts, reads: float, runs: int, rng: np.random.Generator, trials: int = 5
) -> dict[str, float]:
    """What studies of five windows of 5 s say about a true counter, or one that reads so much of the truth.

    `before` is the share that the former rule would have made invalid: a ratio of the means more than 5 % from 1.
    """
    counts = {"before": 0, "meters_disagree": 0, "cross_unresolved": 0}
    for _ in range(runs):
        windows = [window(SENSORS["counter"], load, 5.0, rng) for _ in range(trials)]
        for one in windows:
            reading = one["reading"]
            one["reading"] = attrs.evolve(reading, energy_j=reading.energy_j * reads)
            rows, *span = one["window"]
            scaled = [attrs.evolve(r, value=r.value * reads) if r.reading == "counter_j" else r for r in rows]
            one["window"] = (scaled, *span)
        made = [trial_of(i, one) for i, one in enumerate(windows)]
        ratio = np.mean([one["reading"].energy_j / one["reading"].cross_energy_j for one in windows])
        counts["before"] += bool(abs(ratio - 1) > 0.05)
        for found in meters(made, (), {i: one["window"][0] for i, one in enumerate(windows)}):
            counts[found.code] += 1
    return {name: count / runs for name, count in counts.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="one sensor by its name")
    parser.add_argument("--cross", action="store_true", help="studies with a second instrument instead")
    parser.add_argument("--lengths", type=float, nargs="+", default=[1.0, 5.0, 10.0])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    table: list[dict[str, Any]] = []
    if args.cross:
        print("load | counter reads | invalid before | meters_disagree | cross_unresolved")
        for (name, load), reads in itertools.product(LOADS.items(), (1.0, 1.04)):
            shares = second_instrument(load, reads, args.runs, np.random.default_rng([args.seed, len(table)]))
            table.append({"load": name, "reads": reads, "runs": args.runs, **shares})
            print(f"{name} | {reads:g} | " + " | ".join(f"{share:.3f}" for share in shares.values()), flush=True)
    else:
        print("sensor | load | window | bias | p95 of the error | bound | ratio | covered (nominal 0.95)")
    chosen = [name for name in SENSORS if args.only in ("", name)]
    for sensor, load, length in () if args.cross else itertools.product(chosen, LOADS, args.lengths):
        rng = np.random.default_rng([args.seed, len(table)])
        found = summary([window(SENSORS[sensor], LOADS[load], length, rng) for _ in range(args.runs)])
        table.append({"sensor": sensor, "load": load, "window_s": length, **found})
        row = f"{found['bias']:+.3%} | {found['error_p95']:.3%} | {found['bound_median']:.3%}"
        print(
            f"{sensor} | {load} | {length:g} s | {row} | {found['bound_over_p95']:.1f} | {found['covered']:.3f}",
            flush=True,
        )
    if args.json:
        args.json.write_text(json.dumps({"runs": args.runs, "seed": args.seed, "table": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
