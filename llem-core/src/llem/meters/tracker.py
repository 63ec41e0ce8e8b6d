"""When to read an instrument next, and which of its readings to keep: a state machine without a clock of its own."""

from __future__ import annotations

import itertools
import statistics
from collections import deque

from llem.meters.trace import ReadingName, TraceRow

__all__ = ["CounterTracker", "SampleTracker"]

MS = 1_000_000


class CounterTracker:
    """Finds the ticks of a counter with as few reads as it takes.

    One read of the NVML counter costs milliseconds under load, so once the rhythm is known the tracker sleeps through
    most of a period and reads closely only where the next tick is due. A counter that moves faster than it is read
    (RAPL) is read at a steady pace instead.

    Args:
        period_s: nominal update period; the real one is learnt.
        pace_ns: time between reads while searching for a tick.
        fast_pace_ns: time between reads of a fast counter.
    """

    def __init__(
        self, meter: str, domain: str, period_s: float, pace_ns: int = MS, fast_pace_ns: int = 20 * MS
    ) -> None:
        self.meter, self.domain = meter, domain
        self._nominal_ns = round(period_s * 1e9)
        self._pace_ns = pace_ns
        self._fast_pace_ns = fast_pace_ns
        self.fast = self._nominal_ns <= fast_pace_ns
        self._value: float | None = None
        self._last_read_ns = 0
        self._read_end_ns = 0
        self._ticks: deque[int] = deque(maxlen=9)
        self._cost_ns = 0

    def update(self, before_ns: int, after_ns: int, value: float) -> TraceRow | None:
        """Take a read that began and ended at these times. A row where the value is new, else None."""
        changed = self._value is not None and value != self._value
        first = self._value is None
        since = self._last_read_ns
        self._value, self._last_read_ns, self._read_end_ns = value, before_ns, after_ns
        self._cost_ns = after_ns - before_ns
        if self.fast and (changed or first):
            return self._row(before_ns - self._nominal_ns, after_ns, value)
        if not changed:
            return None
        self._ticks.append((since + after_ns) // 2)
        return self._row(since, after_ns, value)

    def _row(self, t_from_ns: int, t_ns: int, value: float) -> TraceRow:
        return TraceRow(self.meter, self.domain, "counter_j", t_from_ns, t_ns, value)

    @property
    def period_ns(self) -> int | None:
        """The update period learnt so far, or None before three ticks."""
        if len(self._ticks) < 3:
            return None
        ticks = list(self._ticks)
        return round(statistics.median(b - a for a, b in itertools.pairwise(ticks)))

    def due_ns(self, now_ns: int) -> int:
        """When to read next."""
        if self.fast:
            return self._last_read_ns + self._fast_pace_ns
        period = self.period_ns
        if period is not None:
            expected = self._ticks[-1] + period
            # a tenth of a period early: ticks come up to 3 % early, and one that falls into the sleep is known to a
            # tenth of a period only
            wake = expected - period // 10 - self._cost_ns
            if now_ns < wake:
                return wake
            if now_ns > expected + period:  # lost: search anew, but gently
                return self._read_end_ns + period // 20
        return self._read_end_ns + self._pace_ns


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
