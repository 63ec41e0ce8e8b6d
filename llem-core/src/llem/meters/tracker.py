"""When to read an instrument next, and which of its readings to keep: a state machine without a clock of its own."""

from __future__ import annotations

import math
import statistics
from collections import deque

from llem.meters.trace import ReadingName, TraceRow

__all__ = ["CounterTracker", "SampleTracker"]

MS = 1_000_000
#: Time between reads while a tick is searched for, and between reads of a counter that never stands still.
PACE_NS, FAST_PACE_NS = MS, 20 * MS
#: Ticks looked for one by one after a window's beginning, at least; more where that many end before the sensor's delay.
EDGE_TICKS = 5
#: Within a window every so many ticks one is looked for.
THIN = 10
#: After so many periods without a tick the rhythm is lost.
LOST = 3


class CounterTracker:
    """Finds the ticks of a counter with as few reads as it takes.

    One read of the NVML counter costs milliseconds under load and holds up whoever launches kernels meanwhile. So once
    the rhythm is known the tracker sleeps through most of a period and reads closely only where the next tick is due;
    and within a window, away from its edges, it looks for every tenth tick only (`thin`). A counter that moves faster
    than it is read (RAPL) is read at a steady pace instead.

    Args:
        period_s: nominal update period; the real one is learnt.
        settle_s: until this long after a window's edge shows what was true at it.
    """

    def __init__(self, meter: str, domain: str, period_s: float, settle_s: float = 0.0) -> None:
        self.meter, self.domain = meter, domain
        self._nominal_ns = round(period_s * 1e9)
        self.fast = self._nominal_ns <= FAST_PACE_NS
        self._edge_ticks = max(EDGE_TICKS, math.ceil(settle_s / period_s) + 1)
        self._value: float | None = None
        self._last_read_ns = 0
        self._read_end_ns = 0
        self._tick_ns: int | None = None
        self._spans: deque[int] = deque(maxlen=9)
        self._cost_ns = 0
        self._thin_in: int | None = None

    def thin(self) -> None:
        """Look for every tick until the edge is known, `EDGE_TICKS` times at least, then for every `THIN`th."""
        self._thin_in = self._edge_ticks

    def dense(self) -> None:
        """Look for every tick again, from the next one on."""
        self._thin_in = None

    def update(self, before_ns: int, after_ns: int, value: float) -> TraceRow | None:
        """Take a read that began and ended at these times. A row where the value is new, else None."""
        changed = self._value is not None and value != self._value
        first = self._value is None
        since = self._last_read_ns
        self._value, self._last_read_ns, self._read_end_ns = value, before_ns, after_ns
        self._cost_ns = after_ns - before_ns
        if self.fast and (changed or first):
            return self._row(before_ns - self._nominal_ns, after_ns, value)
        period = self.period_ns
        if not changed or (period is not None and after_ns - since > period):
            return None  # after a longer sleep the value is new without saying since when; the next tick will
        self._note((since + after_ns) // 2)
        return self._row(since, after_ns, value)

    def _note(self, tick_ns: int) -> None:
        if self._tick_ns is not None and self._stride == 1:
            self._spans.append(tick_ns - self._tick_ns)
        self._tick_ns = tick_ns
        if self._thin_in:
            self._thin_in -= 1

    def _row(self, t_from_ns: int, t_ns: int, value: float) -> TraceRow:
        return TraceRow(self.meter, self.domain, "counter_j", t_from_ns, t_ns, value)

    @property
    def _stride(self) -> int:
        return THIN if self._thin_in == 0 else 1

    @property
    def period_ns(self) -> int | None:
        """The update period learnt so far, or None before three ticks."""
        return round(statistics.median(self._spans)) if len(self._spans) >= 2 else None

    def due_ns(self, now_ns: int) -> int:
        """When to read next."""
        if self.fast:
            return self._last_read_ns + FAST_PACE_NS
        period, last = self.period_ns, self._tick_ns
        if period is None or last is None:
            return self._read_end_ns + PACE_NS
        # a tenth of a period early: ticks come up to 3 % early, and one that falls into the sleep is known to a tenth
        # of a period only
        early = period // 10 + self._cost_ns
        passed = max((now_ns - last) // period, 0)
        expected = last + period * max(self._stride, passed)
        if now_ns < expected - early:
            return expected - early
        if self._read_end_ns - last > LOST * period * self._stride:  # search anew, but gently
            return self._read_end_ns + period // 20
        return self._read_end_ns + PACE_NS


class SampleTracker:
    """Keeps a reading when it changes, and at least once a period so that a flat line is not a gap."""

    def __init__(self, meter: str, domain: str, reading: ReadingName, pace_s: float, keep_s: float) -> None:
        self.meter, self.domain, self.reading = meter, domain, reading
        self._pace_ns, self._keep_ns = round(pace_s * 1e9), round(keep_s * 1e9)
        self._value: float | None = None
        self._kept_ns = 0
        self._last_ns = 0

    def update(self, before_ns: int, after_ns: int, value: float) -> TraceRow | None:
        """Take a read that began and ended at these times. A row when it is worth keeping, else None."""
        since, self._last_ns = self._last_ns or before_ns, before_ns
        if value == self._value and after_ns - self._kept_ns < self._keep_ns:
            return None
        self._value, self._kept_ns = value, after_ns
        return TraceRow(self.meter, self.domain, self.reading, since, after_ns, value)

    def due_ns(self, now_ns: int) -> int:
        """When to read next."""
        return self._last_ns + self._pace_ns
