"""The arithmetic of a window: from ticks and samples to joules with an error budget; and how GPUs fared in it. Pure.

A counter is known at its ticks only (every 100 ms on Hopper). A window's edges are read off by linear interpolation
between the ticks around them; what may then still be wrong is bounded from what was seen:

    tick     what power may have done between the two ticks around each edge, given the least and greatest power seen
             near the window; the time a tick is known to (one read of the counter); and the sensor's delay, which
             cancels when power after the window's end is what it was after its beginning
    gap      updates that did not come (integrated power only: a counter loses nothing in a gap)
    repeat   scatter of the reading's own updates: 95 % half-width of their mean, times the duration
    sensor   the sensor's stated calibration uncertainty

Sources: update periods, delays and averaging windows of NVIDIA sensors from Yang, Adámek, Armour, SC'24.
"""

from __future__ import annotations

import bisect
import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from llem.devices.nvml import THROTTLE_BITS
from llem.meters.base import Domain, EnergyReading, ErrorBudget
from llem.meters.trace import ReadingName, TraceRow, series

__all__ = ["Ticks", "counter_energy", "energy_readings", "health_summary", "power_energy"]

HEALTH_READINGS: tuple[ReadingName, ...] = ("temperature_c", "throttle_bits", "utilisation_percent", "sm_clock_mhz")
#: Delays of NVIDIA's power sensors were 23 to 311 ms on H100 (Yang et al., table of results).
SENSOR_DELAY_S = 0.32
DELAY_STEPS = 16
#: A gap is an update later than this many periods.
GAP_PERIODS = 3.0
#: A counter that has not moved for this many periods stands still.
STUCK_PERIODS = 5.0


@attrs.frozen
class Ticks:
    """A counter's ticks: times in seconds from the first, how well each is known, and joules since the first."""

    times: tuple[float, ...]
    uncertain: tuple[float, ...]
    joules: tuple[float, ...]
    origin_ns: int

    @classmethod
    def of(cls, rows: Sequence[TraceRow]) -> Ticks:
        """Ticks from counter rows; a tick's time is the middle of the span in which it happened."""
        origin, first = rows[0].t_ns, rows[0].value
        times = tuple(((row.t_from_ns - origin) + (row.t_ns - origin)) / 2e9 for row in rows)
        uncertain = tuple((row.t_ns - row.t_from_ns) / 2e9 for row in rows)
        return cls(times, uncertain, tuple(row.value - first for row in rows), origin)

    def slope(self, i: int) -> float:
        """Mean power between tick i and tick i + 1, in watts."""
        return (self.joules[i + 1] - self.joules[i]) / (self.times[i + 1] - self.times[i])

    def interval(self, t: float) -> int:
        """Index of the tick that begins the interval holding t; the outermost interval for t outside."""
        return min(max(bisect.bisect_right(self.times, t) - 1, 0), len(self.times) - 2)

    def at(self, t: float) -> float:
        """Joules at t, linear between ticks and beyond the outermost."""
        i = self.interval(t)
        return self.joules[i] + self.slope(i) * (t - self.times[i])

    def edge_bound(self, t: float, low: float, high: float) -> float:
        """Bound in joules on the error of `at(t)` when power stays within [low, high] watts.

        Within an interval of length d and mean power p, x after its beginning, the true energy lies above the line
        by at most min((high - p) x, (p - low) (d - x)), and below it by the mirror image.
        """
        i = self.interval(t)
        p, x, d = self.slope(i), t - self.times[i], self.times[i + 1] - self.times[i]
        up, down = max(high - p, 0.0), max(p - low, 0.0)
        if 0 <= x <= d:
            shape = max(min(up * x, down * (d - x)), min(down * x, up * (d - x)))
            timing = high * (self.uncertain[i] * (1 - x / d) + self.uncertain[i + 1] * x / d)
            return shape + timing
        outside = -x if x < 0 else x - d
        return max(up, down) * outside + high * max(self.uncertain[i], self.uncertain[i + 1])


def counter_energy(
    rows: Sequence[TraceRow], power: Sequence[TraceRow], t0_ns: int, t1_ns: int, nominal_s: float = 0.1
) -> tuple[float, ErrorBudget, float, int] | None:
    """Joules in [t0, t1] off a counter, its budget (without sensor), the update period in s, and the ticks used within.

    `nominal_s` is the period the meter states. None when fewer than three ticks are known.
    """
    if len(rows) < 3:
        return None
    ticks = Ticks.of(rows)
    t0, t1 = (t0_ns - ticks.origin_ns) / 1e9, (t1_ns - ticks.origin_ns) / 1e9
    near = [i for i in range(len(rows) - 1) if _near(ticks.times[i], ticks.times[i + 1], t0, t1)]
    near = near or [ticks.interval(t0), ticks.interval(t1)]
    seen = [ticks.slope(i) for i in near]
    moments = [((row.t_ns - ticks.origin_ns) / 1e9, row.value) for row in power]
    seen += [watts for t, watts in moments if _near(t, t, t0, t1)]
    samples = [watts for t, watts in moments if t0 <= t <= t1]
    low, high = min(seen), max(seen)
    inside = [i for i in near if ticks.times[i] >= t0 and ticks.times[i + 1] <= t1]
    spans = [b - a for a, b in itertools.pairwise(ticks.times)]
    # within a window not every tick is looked for, so the period is that of the close ones
    period = statistics.median([span for span in spans if span < 1.5 * nominal_s] or spans)
    budget = ErrorBudget(
        tick_j=_edges(ticks, t0, t1, low, high),
        gap_j=0.0,
        # by the second instrument where there is one: within a window not every tick of the counter is looked for
        repeat_j=_half_width(samples if len(samples) >= 3 else [ticks.slope(i) for i in inside], low, high) * (t1 - t0),
    )
    return ticks.at(t1) - ticks.at(t0), budget, period, len(inside)


def _near(begin: float, end: float, t0: float, t1: float) -> bool:
    return end >= t0 - SENSOR_DELAY_S and begin <= t1 + SENSOR_DELAY_S


def _edges(ticks: Ticks, t0: float, t1: float, low: float, high: float) -> float:
    """Bound in joules on what the two edges may hide, for a sensor that lags by anything up to `SENSOR_DELAY_S`.

    A reading that lags by d shows at t + d what was true at t, so the window's truth is the reading from t0 + d to
    t1 + d, edges as uncertain there as here. Where the trace ends before that, power may have been anything seen.
    """
    straight = ticks.at(t1) - ticks.at(t0)

    def hidden(delay: float) -> float:
        a, b = t0 + delay, t1 + delay
        shift = abs(ticks.at(b) - ticks.at(a) - straight)
        return shift + ticks.edge_bound(a, low, high) + ticks.edge_bound(b, low, high)

    if t1 + SENSOR_DELAY_S > ticks.times[-1] + ticks.times[-1] - ticks.times[-2]:
        return hidden(0.0) + (high - low) * SENSOR_DELAY_S
    return max(hidden(SENSOR_DELAY_S * step / DELAY_STEPS) for step in range(DELAY_STEPS + 1))


def _half_width(watts: Sequence[float], low: float, high: float) -> float:
    """95 % half-width of the mean of updates, in watts; the whole range where there are too few.

    The scatter is taken from successive differences (von Neumann), so that the load's own slow course, such as prefill
    followed by decode, does not count as noise of the reading.
    """
    if len(watts) < 3:
        return high - low
    steps = [b - a for a, b in itertools.pairwise(watts)]
    scatter = math.sqrt(sum(step * step for step in steps) / (2 * len(steps)))
    return _t975(len(watts) - 1) * scatter / math.sqrt(len(watts))


def _t975(freedom: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.975))


def power_energy(
    rows: Sequence[TraceRow], t0_ns: int, t1_ns: int, period_s: float
) -> tuple[float, ErrorBudget, int] | None:
    """Joules in [t0, t1] by the trapezoid over power samples, its budget, and the samples within.

    None when fewer than two samples are known. Beyond the outermost sample its value is held, and the budget says so.
    """
    if len(rows) < 2:
        return None
    times = [(row.t_ns - t0_ns) / 1e9 for row in rows]
    watts = [row.value for row in rows]
    end = (t1_ns - t0_ns) / 1e9
    inner = [(t, w) for t, w in zip(times, watts, strict=True) if 0 < t < end]
    points = [(0.0, _held(times, watts, 0.0)), *inner, (end, _held(times, watts, end))]
    joules = sum((t2 - t1) * (w1 + w2) / 2 for (t1, w1), (t2, w2) in itertools.pairwise(points))
    seen = [w for t, w in zip(times, watts, strict=True) if -SENSOR_DELAY_S <= t <= end + SENSOR_DELAY_S] or watts
    low, high = min(seen), max(seen)
    gaps = [
        (t2 - t1) * max(high - (w1 + w2) / 2, (w1 + w2) / 2 - low)  # anything seen may have been there all the while
        for (t1, w1), (t2, w2) in itertools.pairwise(points)
        if t2 - t1 > GAP_PERIODS * period_s
    ]
    budget = ErrorBudget(
        tick_j=(high - low) * (period_s + SENSOR_DELAY_S),
        gap_j=sum(gaps),
        repeat_j=_half_width([w for _, w in inner], low, high) * end,
    )
    return joules, budget, len(inner)


def _held(times: Sequence[float], watts: Sequence[float], t: float) -> float:
    """Linear between samples, held beyond the outermost."""
    i = bisect.bisect_right(times, t) - 1
    if i < 0:
        return watts[0]
    if i >= len(times) - 1:
        return watts[-1]
    share = (t - times[i]) / (times[i + 1] - times[i])
    return watts[i] + (watts[i + 1] - watts[i]) * share


def energy_readings(
    rows: Sequence[TraceRow], domains: Sequence[tuple[str, Domain]], t0_ns: int, t1_ns: int
) -> tuple[EnergyReading, ...]:
    """The energies of a window in the given domains (pairs of meter name and domain), from the trace alone."""
    return tuple(_reading(rows, meter, domain, t0_ns, t1_ns) for meter, domain in domains)


def _reading(rows: Sequence[TraceRow], meter: str, domain: Domain, t0_ns: int, t1_ns: int) -> EnergyReading:
    period = domain.period_s or 0.1
    power = series(rows, meter, domain.name, "power_w")
    integrated = power_energy(power, t0_ns, t1_ns, period)
    if domain.method == "power":
        if integrated is None:
            return EnergyReading.of(meter, domain, None, reason="meter_failed")
        joules, budget, updates = integrated
        budget = _with_sensor(budget, domain, joules)
        return EnergyReading.of(meter, domain, joules, budget=budget, period_s=period, updates=updates)
    counter = series(rows, meter, domain.name, "counter_j")
    fault = _counter_fault(counter, t0_ns, t1_ns, period)
    counted = None if fault else counter_energy(counter, power, t0_ns, t1_ns, period)
    if counted is None:
        return EnergyReading.of(meter, domain, None, reason=fault or "meter_failed")
    joules, budget, period, updates = counted
    budget = _with_sensor(budget, domain, joules)
    cross = None if integrated is None else integrated[0]
    return EnergyReading.of(
        meter, domain, joules, budget=budget, period_s=period, updates=updates, cross_energy_j=cross
    )


def _with_sensor(budget: ErrorBudget, domain: Domain, joules: float) -> ErrorBudget:
    """The budget with the sensor's stated uncertainty, where one is stated."""
    relative = domain.sensor_relative
    return budget if relative is None else attrs.evolve(budget, sensor_j=relative * abs(joules))


def _counter_fault(rows: Sequence[TraceRow], t0_ns: int, t1_ns: int, period_s: float) -> str | None:
    """Why a counter gives no energy: it stood still at the window's end, or went backwards."""
    if any(b.value < a.value for a, b in itertools.pairwise(rows)):
        return "counter_reset"
    patience_ns = round(STUCK_PERIODS * max(period_s, 0.02) * 1e9)
    if not rows or t1_ns - rows[-1].t_ns > patience_ns:
        return "counter_stuck"
    return None


def health_summary(rows: Sequence[TraceRow], t0_ns: int, t1_ns: int) -> Mapping[str, dict[str, Any]]:
    """Per GPU domain: temperature, clock, utilisation and throttle reasons seen within the window.

    `throttle` is each reason that was seen to the share of the `throttle_readings` that had it, in (0, 1]. Nothing is
    said of what no reading told.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        if row.reading in HEALTH_READINGS and t0_ns <= row.t_ns <= t1_ns:
            found.setdefault(row.domain, {}).setdefault(row.reading, []).append(row.value)
    return {domain: _summary(values) for domain, values in sorted(found.items())}


def _summary(values: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    summary: dict[str, Any] = {}
    if temperature := values.get("temperature_c"):
        summary["temperature_c"] = {"first": temperature[0], "last": temperature[-1], "max": max(temperature)}
    if clock := values.get("sm_clock_mhz"):
        summary["sm_clock_mhz"] = {"mean": sum(clock) / len(clock), "min": min(clock)}
    if busy := values.get("utilisation_percent"):
        summary["utilisation_percent"] = {"mean": sum(busy) / len(busy)}
    if masks := [int(mask) for mask in values.get("throttle_bits", ())]:
        counts = {name: sum(bool(mask & bit) for mask in masks) for bit, name in THROTTLE_BITS.items()}
        summary["throttle"] = {name: count / len(masks) for name, count in counts.items() if count}
        summary["throttle_readings"] = len(masks)
    return summary
