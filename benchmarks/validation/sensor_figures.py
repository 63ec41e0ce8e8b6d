"""F1 and F2: of the sensors alone, from recordings of known loads. Pure."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence

import attrs
from benchmarks.validation.chart import BLUE, GREEN, ORANGE, RED, Line, Series, chart
from benchmarks.validation.figure import Check, Figure, percent
from benchmarks.validation.raw import Raw, Recording, Segment
from benchmarks.validation.windows import S, plan, thinned

__all__ = ["agreement", "lengths", "naive_energy"]

#: A steady segment settles for so long; a reading averages over up to a second.
SETTLE_S = 1.0
WINDOW_S = 1.0
SQUARE_SETTLE_S = 0.6
#: The least error that is drawn, in percent.
SEEN = 0.003


def windows_of(segment: Segment) -> list[tuple[int, int]]:
    """The windows of a steady segment, without its settling and without an end that is cut short."""
    count = int((segment.seconds - SETTLE_S) / WINDOW_S + 1e-6)
    first = segment.begin_ns + round(SETTLE_S * S)
    return [(first + round(i * WINDOW_S * S), first + round((i + 1) * WINDOW_S * S)) for i in range(count)]


def agreement(raw: Raw) -> Figure:
    """F1: counter against the integrated instantaneous reading."""
    found = raw.recording("sensors")
    steady = [found.both(*window) for one in found.of("level") for window in windows_of(one)]
    longer = raw.recording("thermal") if raw.done("thermal") else None
    if longer is not None:
        steady += [longer.both(*window) for one in longer.of("constant") for window in windows_of(one)]
    idle = [found.both(*window) for one in found.of("idle") for window in windows_of(one)]
    busy = [(counter, instant) for counter, instant in steady if counter >= 200]
    off = [counter / instant - 1 for counter, instant in busy]
    mean_off, sd = statistics.mean(off), statistics.stdev(off)
    limits = mean_off - 1.96 * sd, mean_off + 1.96 * sd
    absolute = statistics.mean(map(abs, off))
    table, squares = _squares(found)
    points = [
        _bland_altman("steady", steady, BLUE),
        _bland_altman("idle", idle, ORANGE),
    ]
    shown = chart(
        "Counter less instantaneous reading, over their mean",
        ("mean of both", "W"),
        ("counter over instantaneous, less 1, in percent", ""),
        points,
        [Line("y", 100 * limits[0], "limits of agreement"), Line("y", 100 * limits[1])],
    )
    return Figure(
        name="F1",
        title="Counter and instantaneous reading",
        parts=("sensors", "thermal"),
        done=f"Eight steady levels of matrix products, then a constant load, were cut into {len(steady)} windows of "
        "1 s. "
        f"Each window's energy is taken twice by llem: from the counter, and from the instantaneous power integrated. "
        f"{len(busy)} windows draw 200 W or more; {len(idle)} more are idle.",
        checks=(
            Check("windows of 200 W or more", str(len(busy)), "≥ 100", len(busy) >= 100),
            Check("mean of the absolute difference", percent(absolute), "≤ 1 %", absolute <= 0.01),
            Check(
                "limits of agreement (mean ± 1.96 standard deviations)",
                f"{percent(limits[0])} to {percent(limits[1])}",
                "within ± 2 %",
                max(map(abs, limits)) <= 0.02,
            ),
        ),
        notes=(
            f"Idle: the counter differs by {percent(statistics.mean(c / i - 1 for c, i in idle))} on average.",
            "The table is of square waves of 50 % duty, 2.2 s each, at phases spread over the period. *Spread* is the "
            "greatest less the least over their mean; *work* is that of the matrix products done. Where the "
            "counter's spread is well above the work's, either the counter aliases, or a product cost more at one "
            "phase than at another, as the clocks follow the power limit. This measurement does not tell which.",
        ),
        table=table,
        plots={"F1": shown, "F1-squares": squares},
        numbers={"windows": len(busy), "mean_absolute": absolute, "mean": mean_off, "limits": limits},
    )


def _bland_altman(name: str, pairs: Sequence[tuple[float, float]], colour: str) -> Series:
    return Series(
        name=name,
        xs=[(counter + instant) / 2 for counter, instant in pairs],
        ys=[100 * (counter / instant - 1) for counter, instant in pairs],
        colour=colour,
    )


def _squares(found: Recording) -> tuple[list[list[str]], str]:
    rows = [["period", "phases", "counter, W", "spread", "instantaneous, W", "spread", "work: spread"]]
    waves = found.of("square")
    seen: list[list[tuple[float, float, float]]] = []
    for period in sorted({one.about["period_ms"] for one in waves}):
        same = [one for one in waves if one.about["period_ms"] == period]
        both = [(*found.both(one.begin_ns + round(SQUARE_SETTLE_S * S), one.end_ns), one.about["done"]) for one in same]
        seen.append([(period, counter, instant) for counter, instant, _ in both])
        columns = list(zip(*both, strict=True))
        rows.append([f"{period:g} ms", str(len(same))])
        for values in columns[:2]:
            rows[-1] += [f"{min(values):.0f} to {max(values):.0f}", percent(_range(values), 1)]
        rows[-1].append(percent(_range(columns[2]), 1))
    shown = chart(
        "Square waves: watts by period, at several phases",
        ("period of the square wave, ms", ""),
        ("mean power of a window at each phase, W", ""),
        [
            Series(name="instantaneous", xs=_flat(seen, 0), ys=_flat(seen, 2), colour=ORANGE),
            Series(name="counter", xs=_flat(seen, 0), ys=_flat(seen, 1), colour=BLUE),
        ],
    )
    return rows, shown


def _flat(seen: Sequence[Sequence[tuple[float, float, float]]], column: int) -> list[float]:
    return [one[column] for group in seen for one in group]


def _range(values: Sequence[float]) -> float:
    return (max(values) - min(values)) / statistics.mean(values)


def naive_energy(averages: Sequence[tuple[int, float]], begin_ns: int, end_ns: int) -> float:
    """Joules by the trapezoid over polls of the averaged power, as tools do that know no other reading."""
    times = [((t - begin_ns) / 1e9, watts) for t, watts in averages if begin_ns - S // 100 <= t <= end_ns + S // 100]
    return math.fsum((t2 - t1) * (w1 + w2) / 2 for (t1, w1), (t2, w2) in itertools.pairwise(times))


def lengths(raw: Raw) -> Figure:
    """F2: error by the length of the window."""
    found = raw.recording("thermal")
    [constant] = found.of("constant")
    reference_s = constant.about["reference_s"]
    listed = plan(reference_s, seed=1, scale=reference_s / 60)
    edges = sorted({0.0, reference_s, *(edge for _, *both in listed for edge in both)})
    at = dict(zip(edges, found.bare, strict=False))
    truth_w = found.joules(at[0.0][0], at[reference_s][0]) / ((at[reference_s][0] - at[0.0][0]) / 1e9)
    rows: list[tuple[float, float, float]] = []
    for nominal, begin, end in listed:
        (t0, j0), (t1, j1) = at[begin], at[end]
        truth = truth_w * (t1 - t0) / 1e9
        rows.append(
            (
                nominal,
                found.joules(t0, t1, thinned(list(found.rows), t0, t1)) / truth - 1,
                (j1 - j0) / truth - 1,
            )
        )
    naive = _bursts(found, found.bare[len(edges) :])
    kinds = sorted({nominal for nominal, *_ in rows})
    table = [["window", "windows", "llem: greatest error", "mean error", "two bare reads: greatest", "mean"]]
    for kind in kinds:
        aligned, bare = ([abs(row[i]) for row in rows if row[0] == kind] for i in (1, 2))
        table.append(
            [f"{kind:g} s", str(len(aligned))]
            + [percent(f(values)) for values in (aligned, bare) for f in (max, statistics.mean)]
        )
    at_five = max(abs(error) for nominal, error, _ in rows if nominal == 5.0)
    means = {length: statistics.mean(e for n, e, _, _ in naive if n == length) for length in {n for n, *_ in naive}}
    predicted = {length: statistics.mean(p for n, _, _, p in naive if n == length) for length in means}
    shown = chart(
        "Absolute error by the length of the window",
        ("length of the window, s", ""),
        ("absolute error, percent", ""),
        [
            _errors("1 s average, integrated", [(n, e) for n, e, *_ in naive], RED),
            _errors("two bare reads", [(n, bare) for n, _, bare in rows], ORANGE),
            _errors("llem", [(n, error) for n, error, _ in rows], BLUE),
            attrs.evolve(_errors("predicted of the average", sorted(predicted.items()), GREEN), kind="line"),
        ],
    )
    checks = [Check("llem, greatest error at 5 s", percent(at_five), "≤ 0.5 %", at_five <= 0.005)]
    for length in (2.0, 10.0):
        if length in means:
            error, expected = means[length], predicted[length]
            checks.append(
                Check(
                    f"1 s average, {length:g} s of load between idle times",
                    percent(error, 1),
                    f"as predicted, {percent(expected, 1)}, within a tenth and 0.5 points",
                    abs(error - expected) <= 0.1 * abs(expected) + 0.005,
                )
            )
    bursts = "; ".join(
        f"{length:g} s: {percent(means[length], 1)} (bare reads "
        f"{percent(statistics.mean(b for n, _, b, _ in naive if n == length), 1)})"
        for length in sorted(means)
    )
    return Figure(
        name="F2",
        title="Error by the length of the window",
        parts=("thermal",),
        done=f"Of {reference_s:g} s of a constant load, {len(rows)} windows that begin at random are compared with "
        "the mean "
        "power of the whole: by llem (ticks of the counter, thinned as in a trial) and by two bare reads of the "
        "counter, as Zeus takes its edges. The third curve is of bursts of the same load between idle times: the "
        "driver's average reading, polled every 100 ms and integrated, against the energy by llem.",
        checks=checks,
        notes=(
            f"Bursts, by the average reading: {bursts}.",
            "Prediction: an average over 1 s lacks half a second of the difference between load and idle. With an idle "
            "power of 0.13 of the load's that is -22 % at 2 s and -4.3 % at 10 s; here the board's own idle power is "
            "used.",
        ),
        table=table,
        plots={"F2": shown},
        numbers={"reference_w": truth_w, "at_five": at_five, "naive": means, "predicted": predicted},
    )


def _errors(name: str, errors: Sequence[tuple[float, float]], colour: str) -> Series:
    """Absolute errors in percent by length; what is below `SEEN` is drawn there, as the axis is logarithmic."""
    ys = [max(SEEN, 100 * abs(error)) for _, error in errors]
    return Series(name=name, xs=[length for length, _ in errors], ys=ys, colour=colour)


def _bursts(found: Recording, bare: Sequence[tuple[int, float]]) -> list[tuple[float, float, float, float]]:
    """Of each burst: nominal length, error of the average, error of two bare reads, and what is predicted of the
    average: half a second of the difference between load and idle."""
    rows = []
    for number, one in enumerate(found.of("burst")):
        (t0, j0), (t1, j1) = bare[2 * number : 2 * number + 2]
        truth, seconds = found.joules(t0, t1), (t1 - t0) / 1e9
        idle = found.both(one.begin_ns - S, one.begin_ns - S // 5)[0]
        lacking = 0.5 * (1 - idle * seconds / truth) / seconds
        rows.append(
            (one.about["length_s"], naive_energy(found.averages, t0, t1) / truth - 1, (j1 - j0) / truth - 1, -lacking)
        )
    return rows
