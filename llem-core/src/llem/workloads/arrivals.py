"""When requests arrive that wait for nobody: seeded schedules and recorded times, known before anything is sent."""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from collections.abc import Iterator
from itertools import takewhile

import attrs

__all__ = ["Timetable", "arrivals", "arrivals_before", "trial_seed"]

#: A time that is summed from passes, windows and offsets is off by so many last digits at most.
ROUNDINGS = 4


def arrivals(rate: float, burstiness: float = 1.0, seed: int = 0) -> Iterator[float]:
    """Arrival times in seconds after the start, ascending, without an end.

    The gaps are independent, gamma distributed with shape `burstiness` and mean 1 / `rate`, so that their coefficient
    of variation is 1 / sqrt(burstiness): 1 is a Poisson process, below 1 arrivals come in bursts, above they are more
    regular. The same arguments give the same schedule; another rate stretches it and keeps its pattern.

    Args:
        rate: mean arrivals per second, above 0.
        burstiness: above 0.
    """
    rng = random.Random(f"arrivals/{seed}")
    units = 0.0  # in mean gaps, so that the pattern does not depend on the rate
    while True:
        units += rng.gammavariate(burstiness, 1 / burstiness)
        yield units / rate


def arrivals_before(seconds: float, rate: float, burstiness: float, seed: int) -> int:
    """How many arrivals a schedule has before this time."""
    return sum(1 for _ in takewhile(lambda at: at < seconds, arrivals(rate, burstiness, seed)))


def trial_seed(seed: int, trial: int) -> int:
    """The seed of one trial's schedule: the same for every configuration, so that trials can be compared in pairs."""
    return random.Random(f"trial/{seed}/{trial}").getrandbits(31)


@attrs.frozen
class Timetable:
    """Recorded arrival times of the requests of a sequence, which begins again and again. Endless, by index.

    Attributes:
        offsets_s: seconds of each request after the first one, ascending from 0.
        period_s: after this time the first comes again; longer than the last offset.
        related: requests share parts of their prompts with earlier ones of the same pass.
    """

    offsets_s: tuple[float, ...]
    period_s: float
    related: bool = False

    def time_s(self, index: int) -> float:
        """When request `index` arrives, in seconds after request 0."""
        turn, row = divmod(index, len(self.offsets_s))
        return turn * self.period_s + self.offsets_s[row]

    def index(self, time_s: float) -> int:
        """The first request that arrives at this time or later; what rounding puts a hair before it counts as at it."""
        turn, rest = divmod(time_s, self.period_s)
        return int(turn) * len(self.offsets_s) + bisect_left(self.offsets_s, rest - ROUNDINGS * math.ulp(time_s))
