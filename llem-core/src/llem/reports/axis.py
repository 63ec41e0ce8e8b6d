"""An axis of a plot: which values it shows, where each lies, and its ticks. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import attrs

from llem.reports.figures import scaled

__all__ = ["Axis", "Span", "axis_of"]

#: Values further apart than by this factor are shown on a logarithmic axis.
WIDE = 20.0
#: So much of an axis is left free at either end.
MARGIN = 0.06

#: A value with the ends of its interval; None where there is no interval.
Span = tuple[float, float | None, float | None]


@attrs.frozen
class Axis:
    """An axis from `low` to `high`, in the unit of the values.

    Attributes:
        heading: what it shows, with the unit to read the ticks in.
        log: whether equal distances are equal ratios.
        ticks: values with their text.
    """

    heading: str
    low: float
    high: float
    log: bool
    ticks: tuple[tuple[float, str], ...]

    def at(self, value: float) -> float:
        """Where a value lies: 0 at `low`, 1 at `high`; outside of these it is cut to -0.01 or 1.01."""
        if self.log and value <= 0:
            return -0.01
        low, high, here = ((math.log(one) if self.log else one) for one in (self.low, self.high, value))
        return min(1.01, max(-0.01, (here - low) / (high - low)))


def axis_of(heading: str, unit: str, spans: Sequence[Span], lines: Iterable[float] = (), *, most: int = 8) -> Axis:
    """The axis that shows all these values, and of their intervals as much as does not squeeze the values together.

    Args:
        heading: without the unit. unit: "" where it stands in the heading.
        lines: further values that are to be seen.
        most: ticks at most.
    """
    values = [*(value for value, _, _ in spans), *lines]
    log = min(values) > 0 and max(values) / min(values) > WIDE
    seen = [(math.log(one) if log else one) for one in values]
    both = [end for _, *both in spans for end in both if end is not None and (end > 0 or not log)]
    ends = [(math.log(end) if log else end) for end in both]
    reach = max(seen) - min(seen) or max((abs(end - seen[0]) for end in ends), default=0) or 0.5 * abs(seen[0]) or 1.0
    low = max(min([*seen, *ends]), min(seen) - reach)
    high = min(max([*seen, *ends]), max(seen) + reach)
    free = MARGIN * (high - low) or reach / 2
    low, high = (math.exp(one) if log else one for one in (low - free, high + free))
    if not log and low < 0 <= min(values):
        low = 0.0  # no metric that is never negative seems to be
    shown, divisor = scaled(max(map(abs, values)), unit)
    ticks = (_log_ticks if log else _ticks)(low / divisor, high / divisor, most)  # round in the unit that is shown
    texts = tuple((one * divisor, f"{one:,.0f}" if abs(one) >= 1e6 else f"{one:,.6g}") for one in ticks)
    return Axis(f"{heading}{f', {shown}' if shown else ''}{', logarithmic' if log else ''}", low, high, log, texts)


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Round values from low to high: multiples of 1, 2 or 5 times a power of ten."""
    least = (high - low) / most
    power = 10.0 ** math.floor(math.log10(least))
    step = next(times * power for times in (1, 2, 5, 10) if times * power >= least)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    """Powers of ten, and where there is room 2 and 5 times these; of very many every so many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for times in ((1, 2, 5), (1, 3), (1,)):
        found = [one * 10.0**power for power in powers for one in times if low <= one * 10.0**power <= high]
        if len(found) <= most:
            return found
    return found[:: -(-len(found) // most)]
