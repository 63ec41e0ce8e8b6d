"""The arithmetic of a window: from ticks and samples to joules with an error budget; and how GPUs fared in it. Pure.

What may be wrong with the joules of one window is bounded from what was seen:

    tick     the two edges, which lie between updates of the reading: see `llem.meters.ticks`
    gap      updates that did not come (integrated power only: a counter loses nothing in a gap)
    repeat   sampling: 95 % half-width of the mean of the updates, times the duration, for a sensor that looks at
             samples of power only. A counter that integrates without pause has no such error
    sensor   the sensor's stated calibration uncertainty
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
from llem.meters.base import LEAD_S, Domain, EnergyReading, ErrorBudget
from llem.meters.ticks import Ticks, delayed, edges_bound
from llem.meters.trace import ReadingName, TraceRow, series

__all__ = ["counter_energy", "cross_parts", "energy_readings", "health_summary", "power_energy"]

HEALTH_READINGS: tuple[ReadingName, ...] = ("temperature_c", "throttle_bits", "utilisation_percent", "sm_clock_mhz")
#: A gap is an update later than this many periods.
GAP_PERIODS = 3.0
#: A counter that has not moved for this many periods stands still.
STUCK_PERIODS = 5.0
#: Length of the parts of a window in which two instruments are compared, in seconds: ten samples of 0.1 s.
PART_S = 0.8


def counter_energy(
    rows: Sequence[TraceRow], power: Sequence[TraceRow], t0_ns: int, t1_ns: int, domain: Domain
) -> tuple[float, ErrorBudget, float, int] | None:
    """Joules in [t0, t1] off a counter, its budget (without sensor), the update period in s, and the ticks used within.

    None when fewer than three ticks are known.
    """
    if len(rows) < 3:
        return None
    ticks = Ticks.of(rows)
    t0, t1 = (t0_ns - ticks.origin_ns) / 1e9, (t1_ns - ticks.origin_ns) / 1e9
    samples = [((row.t_ns - ticks.origin_ns) / 1e9, row.value) for row in power]
    spans = [b - a for a, b in itertools.pairwise(ticks.times)]
    # within a window not every tick is looked for, so the period is that of the close ones
    nominal = domain.period_s or 0.1
    period = statistics.median([span for span in spans if span < 1.5 * nominal] or spans)
    inside = [i for i in range(len(spans)) if ticks.times[i] >= t0 and ticks.times[i + 1] <= t1]
    repeat = 0.0
    if domain.coverage is not None and domain.coverage < 1:
        # the samples themselves where they are known: within a window not every tick of the counter is looked for
        within = [watts for t, watts in samples if t0 <= t <= t1]
        repeat = _half_width(within if len(within) >= 3 else [ticks.slope(i) for i in inside]) * (t1 - t0)
    tick = edges_bound(ticks, samples, t0, t1, domain)
    return ticks.at(t1) - ticks.at(t0), ErrorBudget(tick, 0.0, repeat), period, len(inside)


def _half_width(watts: Sequence[float]) -> float:
    """95 % half-width of the mean of updates, in watts; the whole range where there are too few.

    The scatter is taken from successive differences (von Neumann), so that the load's own slow course, such as prefill
    followed by decode, does not count as noise of the reading.
    """
    if len(watts) < 3:
        return max(watts, default=0.0) - min(watts, default=0.0)
    return _t975(len(watts) - 1) * _scatter(watts) / math.sqrt(len(watts))


def _scatter(watts: Sequence[float]) -> float:
    """Standard deviation of single updates from their successive differences, in watts."""
    steps = [b - a for a, b in itertools.pairwise(watts)]
    return math.sqrt(sum(step * step for step in steps) / (2 * len(steps)))


def _t975(freedom: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.975))


@attrs.frozen
class Course:
    """Power over time as straight lines between samples, held beyond the outermost. Times in seconds, watts."""

    times: tuple[float, ...]
    watts: tuple[float, ...]

    def at(self, t: float) -> float:
        """Watts at t."""
        i = bisect.bisect_right(self.times, t) - 1
        if i < 0:
            return self.watts[0]
        if i >= len(self.times) - 1:
            return self.watts[-1]
        share = (t - self.times[i]) / (self.times[i + 1] - self.times[i])
        return self.watts[i] + (self.watts[i + 1] - self.watts[i]) * share

    def points(self, a: float, b: float) -> list[tuple[float, float]]:
        """The corners within (a, b), with both ends."""
        low, high = bisect.bisect_right(self.times, a), bisect.bisect_left(self.times, b)
        inner = zip(self.times[low:high], self.watts[low:high], strict=True)
        return [(a, self.at(a)), *inner, (b, self.at(b))]

    def joules(self, a: float, b: float) -> float:
        """Energy from a to b."""
        return math.fsum((t2 - t1) * (w1 + w2) / 2 for (t1, w1), (t2, w2) in itertools.pairwise(self.points(a, b)))

    def near(self, t: float) -> Sequence[float]:
        """Watts of the two samples on each side of t."""
        i = bisect.bisect_right(self.times, t)
        return self.watts[max(i - 2, 0) : i + 2]


def power_energy(
    rows: Sequence[TraceRow], t0_ns: int, t1_ns: int, domain: Domain
) -> tuple[float, ErrorBudget, int] | None:
    """Joules in [t0, t1] by the trapezoid over power samples, its budget, and the samples within.

    None when fewer than two samples are known. Beyond the outermost sample its value is held, and the budget says so.
    """
    if len(rows) < 2:
        return None
    course = Course(tuple((row.t_ns - t0_ns) / 1e9 for row in rows), tuple(row.value for row in rows))
    end, period = (t1_ns - t0_ns) / 1e9, domain.period_s or 0.1
    points = course.points(0.0, end)
    seen = [w for t, w in zip(course.times, course.watts, strict=True) if -LEAD_S <= t <= end + LEAD_S]
    low, high = min(seen or course.watts), max(seen or course.watts)
    gaps = [
        (t2 - t1) * max(high - (w1 + w2) / 2, (w1 + w2) / 2 - low)  # anything seen may have been there all the while
        for (t1, w1), (t2, w2) in itertools.pairwise(points)
        if t2 - t1 > GAP_PERIODS * period
    ]
    inner = [watts for _, watts in points[1:-1]]
    sampled = domain.coverage is None or domain.coverage < 1
    budget = ErrorBudget(
        tick_j=_power_edges(course, end, domain, high - low),
        gap_j=math.fsum(gaps),
        repeat_j=_half_width(inner) * end if sampled else 0.0,
    )
    return course.joules(0.0, end), budget, len(inner)


def _power_edges(course: Course, end: float, domain: Domain, spread: float) -> float:
    """Bound in joules on what the two edges of [0, end] hide: the sensor's delay, and power between two samples.

    A sample stands for one period around it, in which power was what its neighbours show. Noise of power within what a
    reading averages over is estimated from successive readings, which share all of that time but one period.
    """
    period, known = domain.period_s or 0.1, course.times[-1] - end
    average = max(period, domain.average_s)
    within = [watts for t, watts in zip(course.times, course.watts, strict=True) if 0 <= t <= end]
    noise = _scatter(within) * average * math.sqrt(average / period / 3) if len(within) > 1 else 0.0

    def shift(delay: float) -> float:
        return abs(course.joules(end, end + delay) - course.joules(0.0, delay))

    def rest(delay: float) -> float:
        ranges = [max(near) - min(near) for near in (course.near(delay), course.near(end + delay))]
        return period * sum(ranges) / 2 + 2 * math.hypot(noise, noise)

    if known + 2 * period < domain.settle_s:  # the trace ends before the truth of the window's end shows
        return rest(0.0) + spread * domain.settle_s
    return delayed(shift, rest, domain.settle_s, known)


def energy_readings(
    rows: Sequence[TraceRow], domains: Sequence[tuple[str, Domain]], t0_ns: int, t1_ns: int
) -> tuple[EnergyReading, ...]:
    """The energies of a window in the given domains (pairs of meter name and domain), from the trace alone."""
    return tuple(_reading(rows, meter, domain, t0_ns, t1_ns) for meter, domain in domains)


def _reading(rows: Sequence[TraceRow], meter: str, domain: Domain, t0_ns: int, t1_ns: int) -> EnergyReading:
    period = domain.period_s or 0.1
    power = series(rows, meter, domain.name, "power_w")
    integrated = power_energy(power, t0_ns, t1_ns, domain)
    if domain.method == "power":
        if integrated is None:
            return EnergyReading.of(meter, domain, None, reason="meter_failed")
        joules, budget, updates = integrated
        budget = _with_sensor(budget, domain, joules)
        return EnergyReading.of(meter, domain, joules, budget=budget, period_s=period, updates=updates)
    counter = series(rows, meter, domain.name, "counter_j")
    fault = _counter_fault(counter, t0_ns, t1_ns, period)
    counted = None if fault else counter_energy(counter, power, t0_ns, t1_ns, domain)
    if counted is None:
        return EnergyReading.of(meter, domain, None, reason=fault or "meter_failed")
    joules, budget, period, updates = counted
    budget = _with_sensor(budget, domain, joules)
    cross = None if integrated is None else integrated[0]
    return EnergyReading.of(
        meter, domain, joules, budget=budget, period_s=period, updates=updates, cross_energy_j=cross
    )


def cross_parts(rows: Sequence[TraceRow], meter: str, domain: str, t0_ns: int, t1_ns: int) -> list[float]:
    """Counter over integrated instantaneous power in the parts of a window, each `PART_S` long or little more.

    A reading that resolves the load gives nearly one ratio in all parts, be it 1 or not. One that aliases gives ratios
    that scatter. Empty where the trace lacks one of the two.
    """
    counter = [row for row in series(rows, meter, domain, "counter_j") if t0_ns <= row.t_ns <= t1_ns]
    power = series(rows, meter, domain, "power_w")
    if len(counter) < 2 or len(power) < 2:
        return []
    ticks = Ticks.of(counter)
    course = Course(tuple((row.t_ns - ticks.origin_ns) / 1e9 for row in power), tuple(row.value for row in power))
    found, begin = [], 0
    for i, t in enumerate(ticks.times):
        if t - ticks.times[begin] >= PART_S:
            integrated = course.joules(ticks.times[begin], t)
            if integrated > 0:
                found.append((ticks.joules[i] - ticks.joules[begin]) / integrated)
            begin = i
    return found


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
