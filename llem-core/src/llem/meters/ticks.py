"""The ticks of a counter, and the joules between two moments read off them with a bound. Pure.

A counter is known at its ticks only (every 100 ms on Hopper). The edges of a window are read off by linear
interpolation between the ticks around them. Four things may then be wrong, and each is bounded from what was seen:

    shape      what power did between the two ticks around an edge, given the least and greatest mean power between
               neighbouring ticks near that edge
    structure  what power did within one tick interval and no mean over one shows. The instantaneous reading, where
               there is one, departs from the means by as much
    timing     a tick happened somewhere within the span of two reads
    delay      a reading that lags by d shows at t + d what was true at t. It cancels when power after the window's end
               is what it was after its beginning

Shape, timing and delay are bounds; structure is two standard deviations.

Sources: delays of NVIDIA's sensors from Yang, Adámek, Armour, SC'24; the H200 counter integrates without pause, while
its instantaneous power is a sample that aliases (square waves of 25 to 800 ms, docs/explanation/measurement.md).
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence

import attrs

from llem.meters.base import LEAD_S, Domain
from llem.meters.trace import TraceRow

__all__ = ["Ticks", "delayed", "edges_bound"]

DELAY_STEPS = 20
GROWTH = 0.75
#: Standard deviation of an edge's error by a square wave, in units of (half swing, period). Energy departs from a
#: straight line by a triangle of height 1/4, 1 / (4 sqrt 3) in the root mean square, at the edge as at its ticks.
SQUARE = math.sqrt(2) / (4 * math.sqrt(3))
#: Share of a wave's half swing that instantaneous readings show, if its period is that of the ticks. They are means
#: over 25 ms, and may come at nearly the same phase throughout (set by `benchmarks/simulate_window.py`).
SHOWN = 0.6


@attrs.frozen
class Ticks:
    """A counter's ticks: times in seconds from the first, how well each is known, and joules since the first."""

    times: tuple[float, ...]
    uncertain: tuple[float, ...]
    joules: tuple[float, ...]
    origin_ns: int

    @classmethod
    def of(cls, rows: Sequence[TraceRow]) -> Ticks:
        """Ticks from counter rows; a tick's time is the middle of the span in which it happened, give or take half."""
        origin, first = rows[0].t_ns, rows[0].value
        times = tuple(((row.t_from_ns - origin) + (row.t_ns - origin)) / 2e9 for row in rows)
        uncertain = tuple((row.t_ns - row.t_from_ns) / 2e9 for row in rows)  # half the span, in seconds
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

    def doubt(self, i: int) -> float:
        """How far the slope after tick i may be off for the times of its two ticks, in watts."""
        length = self.times[i + 1] - self.times[i]
        return abs(self.slope(i)) * math.hypot(self.uncertain[i], self.uncertain[i + 1]) / length

    def around(self, t: float) -> tuple[float, float]:
        """Least and greatest mean power in the interval that holds t and in its neighbours, in watts.

        A neighbour differs where its slope differs by more than the times of the ticks explain.
        """
        i = self.interval(t)
        low = high = self.slope(i)
        for j in (i - 1, i + 1):
            if 0 <= j < len(self.times) - 1:
                there, doubt = self.slope(j), self.doubt(i) + self.doubt(j)
                low, high = min(low, there + doubt), max(high, there - doubt)
        return low, high

    def shape_bound(self, t: float, low: float, high: float) -> float:
        """Bound in joules on the error of `at(t)` when power stays within [low, high] watts.

        Within an interval of length d and mean power p, x after its beginning, the true energy lies above the line
        by at most min((high - p) x, (p - low) (d - x)), and below it by the mirror image.
        """
        i = self.interval(t)
        p, x, d = self.slope(i), t - self.times[i], self.times[i + 1] - self.times[i]
        up, down = max(high - p, 0.0), max(p - low, 0.0)
        if 0 <= x <= d:
            return max(min(up * x, down * (d - x)), min(down * x, up * (d - x)))
        return max(up, down) * (-x if x < 0 else x - d)

    def timing(self, t: float) -> float:
        """Standard deviation in joules of `at(t)` for the times of the ticks, each anywhere within its span.

        Power at a tick is taken to be the greatest around it.
        """
        i = self.interval(t)
        share = min(max((t - self.times[i]) / (self.times[i + 1] - self.times[i]), 0.0), 1.0)
        seconds = math.hypot(self.uncertain[i] * (1 - share), self.uncertain[i + 1] * share) / math.sqrt(3)
        return max(map(abs, self.around(t))) * seconds


def edges_bound(ticks: Ticks, samples: Sequence[tuple[float, float]], t0: float, t1: float, domain: Domain) -> float:
    """Bound in joules on what the two edges of [t0, t1] hide.

    `samples` are instantaneous power as (seconds from the first tick, watts); none where the meter has none.
    """
    straight = ticks.at(t1) - ticks.at(t0)
    structure = _structure(ticks, samples, t0, t1, domain.average_s)

    def shift(delay: float) -> float:
        return abs(ticks.at(t1 + delay) - ticks.at(t0 + delay) - straight)

    def rest(delay: float) -> float:
        edges = (t0 + delay, t1 + delay)
        shape = sum(ticks.shape_bound(t, *ticks.around(t)) for t in edges)
        return shape + 2 * math.hypot(structure, structure, *(ticks.timing(t) for t in edges))

    known, last = ticks.times[-1] - t1, ticks.times[-1] - ticks.times[-2]
    if known + last < domain.settle_s:  # the trace ends before the truth of the window's end shows
        near = [watts for t in (t0, t1) for watts in ticks.around(t)]
        return rest(0.0) + (max(near) - min(near)) * domain.settle_s
    return delayed(shift, rest, domain.settle_s, known)


def delayed(shift: Callable[[float], float], rest: Callable[[float], float], settle_s: float, known_s: float) -> float:
    """The greatest error in joules that a lag of up to `settle_s` leaves.

    A sensor may be slower than its meter states. So the lag is taken up to `LEAD_S` where the trace goes on for that
    long (`known_s`). Where the shift still grows then, `GROWTH` of what it grew by last is added, which is more than
    a sensor that averages over 1 s and lags by 0.3 s has left.

    Args:
        shift: joules by which the window moves for a lag.
        rest: joules that the edges hide besides, for a lag.
    """
    reach = max(settle_s, min(LEAD_S, known_s))
    growth = max(shift(reach) - shift(reach / 2), 0.0)
    lags = [reach * step / DELAY_STEPS for step in range(DELAY_STEPS + 1)]
    return max(max(shift(lag) + rest(lag) for lag in lags), shift(reach) + GROWTH * growth + rest(reach))


def _structure(ticks: Ticks, samples: Sequence[tuple[float, float]], t0: float, t1: float, average_s: float) -> float:
    """Standard deviation in joules of the error at an edge by what power does within a tick interval.

    A sensor that averages hides what is shorter than its average in the same way.
    """
    departures, lengths = [], []
    for moment, watts in samples:
        i = ticks.interval(moment)
        if t0 - LEAD_S <= moment <= t1 + LEAD_S and ticks.times[i] <= moment <= ticks.times[i + 1]:
            departures.append(watts - ticks.slope(i))
            lengths.append(ticks.times[i + 1] - ticks.times[i])
    if not departures:
        return 0.0
    spread = math.sqrt(sum(one * one for one in departures) / len(departures))
    return SQUARE * spread * max(min(lengths) / SHOWN, average_s)
