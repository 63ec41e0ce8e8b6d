"""How each kind of serving load sends its requests: which, when, and from when on the load is settled."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import count
from math import ceil
from typing import ClassVar

import attrs

from llem.config.arrival import ClosedLoad, OpenLoad, ReplayLoad
from llem.experiment.serving.stationary import RequestTimes
from llem.experiment.serving.traffic import Traffic
from llem.experiment.trial import LEAD_S
from llem.findings import Finding, finding
from llem.workloads.arrivals import Timetable, arrivals, arrivals_before, trial_seed
from llem.workloads.base import BLOCK

__all__ = ["SPARE", "STRIDE", "Pace", "PaceClosed", "PaceOpen", "PaceReplay"]

#: Trial i takes its requests from here times i + 1 on, so that they are the same ones in every configuration.
STRIDE = BLOCK
#: Time for which requests are made ready, over the time of a window.
SPARE = 1.5
#: Requests made ready beyond those that a load should take.
SPARE_REQUESTS = 64
#: A replay goes on for this many usual request times before its window: those who ask longest are then in flight too.
REPLAY_LEAD = 2.0
#: An open load that has not settled by then will not: its lead ends at this multiple of what it should be.
EXTENDED = 2.0
#: In flight is averaged over the part of the lead after this share of it, and may lack so many standard deviations of a
#: Poisson number.
LATELY, CHANCE = 0.8, 2.0
#: How often an open load is looked at whose lead is over, in the loop that sends it.
LOOK_S = 0.5
#: Trial i opens its window i + 1 times this share of a request's time after the load has settled, in the circle of that
#: time: the multiples of the golden section lie evenly there, however many they are.
SECTION = (math.sqrt(5) - 1) / 2
#: A replay has so many seconds before its part of the trace in which all is made ready. Its window opens a little
#: before the part, so that the part's first request is in it, and is late beyond so many seconds.
PREPARE_S, EARLY_S, LATE_S = 1.0, 0.02, 0.05


class Pace(ABC):
    """One kind of load. A trial's load begins `lead_s` before its window; `trial` is None for the warm-up's load."""

    kind: ClassVar[str]

    @property
    def concurrency(self) -> int | None:
        """Number of clients, where there are clients."""
        return None

    def ramp_s(self, times: RequestTimes) -> float:
        """How long after its start clients are still being started."""
        return 0.0

    @abstractmethod
    def lead_s(self, times: RequestTimes) -> float:
        """How long the load should take to settle."""

    @abstractmethod
    def in_flight(self, times: RequestTimes) -> float:
        """Requests in flight on average, by Little's law."""

    def first(self, trial: int, lead_s: float) -> int:
        """Index of a trial's first request."""
        return (trial + 1) * STRIDE

    @abstractmethod
    def begin(self, traffic: Traffic, trial: int | None, lead_s: float, first: int, times: RequestTimes) -> None:
        """Start to send; request `first` is the first to go."""

    @abstractmethod
    async def settle(self, traffic: Traffic, trial: int, times: RequestTimes, lead_s: float) -> None:
        """Let the load run until the window may be prepared."""

    def opens_s(self, lead_s: float) -> float:
        """When the window opens at the earliest, in seconds after the load's begin."""
        return 0.0

    @abstractmethod
    def needed(self, trial: int, lead_s: float, sent: int, after_s: float, ahead_s: float, sent_per_s: float) -> int:
        """Requests that the load takes in the time ahead, with some to spare.

        Args:
            sent: requests that went in the `after_s` seconds since its start.
            sent_per_s: at most, as seen so far.
        """

    def seed(self, trial: int) -> int:
        """Of a trial's schedule."""
        return 0

    def request_rate(self, trial: int) -> float | None:
        """Arrivals per second that are scheduled for a trial's window on average; None where none are."""
        return None

    def findings(self, trial: int, late_s: float) -> Sequence[Finding]:
        """What is to be said of a trial's requests.

        Args:
            late_s: the window opened so long after `opens_s`.
        """
        return ()


@attrs.frozen
class PaceClosed(Pace):
    """Clients, each of which waits for its answer."""

    kind: ClassVar[str] = "closed"
    load: ClosedLoad

    @property
    def concurrency(self) -> int:
        return self.load.concurrency

    def ramp_s(self, times: RequestTimes) -> float:
        return times.usual_s if self.load.ramp_s is None else self.load.ramp_s

    def lead_s(self, times: RequestTimes) -> float:
        return max(LEAD_S, self.ramp_s(times) + times.lead_s)

    def in_flight(self, times: RequestTimes) -> float:
        return self.load.concurrency

    def begin(self, traffic: Traffic, trial: int | None, lead_s: float, first: int, times: RequestTimes) -> None:
        traffic.closed(self.load.concurrency, self.ramp_s(times))

    async def settle(self, traffic: Traffic, trial: int, times: RequestTimes, lead_s: float) -> None:
        """Every client has ended a request, or has had a token and the lead is over: a long answer may take longer.

        Clients in step, or a single one, have just begun another request then. In a window that opens at once, every
        trial would lack the same part of a request: so each opens at another time of one.
        """
        clients = self.load.concurrency

        def settled(waited: float) -> bool:
            begun = waited >= lead_s and traffic.begun >= clients
            return waited >= LEAD_S and (traffic.rounds >= clients or begun)

        await traffic.until(settled)
        await traffic.rest((trial + 1) * SECTION % 1 * times.usual_s)

    def needed(self, trial: int, lead_s: float, sent: int, after_s: float, ahead_s: float, sent_per_s: float) -> int:
        return round(sent_per_s * ahead_s) + 2 * self.load.concurrency + SPARE_REQUESTS


@attrs.frozen
class PaceOpen(Pace):
    """A schedule drawn from a seed; `rate` in arrivals per second."""

    kind: ClassVar[str] = "open"
    load: OpenLoad
    rate: float

    def lead_s(self, times: RequestTimes) -> float:
        return max(LEAD_S, times.lead_s)

    def in_flight(self, times: RequestTimes) -> float:
        return self.rate * times.mean_s

    def begin(self, traffic: Traffic, trial: int | None, lead_s: float, first: int, times: RequestTimes) -> None:
        seed = self.load.seed if trial is None else self.seed(trial)
        traffic.open(arrivals(self.rate, self.load.burstiness, seed))

    async def settle(self, traffic: Traffic, trial: int, times: RequestTimes, lead_s: float) -> None:
        """The lead is over, by the times of what was answered in it too; and as many requests are in flight as Little's
        law says, within what chance does. A load above the capacity never settles: the lead ends at twice its length.
        """
        lately: deque[tuple[float, int]] = deque()
        in_flight, look_s = 0, lead_s  # the sum of those, and when to look the next time

        def settled(waited: float) -> bool:
            nonlocal in_flight, look_s
            lately.append((waited, traffic.in_flight))
            in_flight += lately[-1][1]
            while lately[0][0] < LATELY * waited:
                in_flight -= lately.popleft()[1]
            if waited >= EXTENDED * lead_s:
                return True
            if waited < look_s or traffic.begun < max(1, round(self.rate * times.usual_s)):
                return False
            look_s = waited + LOOK_S
            now = times.again(traffic.answered)
            expected = self.in_flight(now)
            enough = in_flight / len(lately) >= expected - CHANCE * math.sqrt(expected)
            return enough and waited >= self.lead_s(now)

        await traffic.until(settled)

    def needed(self, trial: int, lead_s: float, sent: int, after_s: float, ahead_s: float, sent_per_s: float) -> int:
        due = arrivals_before(after_s + ahead_s, self.rate, self.load.burstiness, self.seed(trial))
        return max(due - sent, 0) + SPARE_REQUESTS

    def seed(self, trial: int) -> int:
        return trial_seed(self.load.seed, trial)

    def request_rate(self, trial: int) -> float:
        return self.rate


@attrs.frozen
class PaceReplay(Pace):
    """The workload's own times. The windows of trials 0, 1, … are parts of it that follow each other without a gap.

    Which part a window measures hangs on `window_s` and `speed` alone and not on how fast the engine is: the load
    begins a lead before it, with what arrived then (before the first request comes the end of the pass before).
    """

    kind: ClassVar[str] = "replay"
    load: ReplayLoad
    times: Timetable
    window_s: float

    def lead_s(self, times: RequestTimes) -> float:
        return max(LEAD_S, REPLAY_LEAD * times.usual_s, times.lead_s) + PREPARE_S

    def in_flight(self, times: RequestTimes) -> float:
        return len(self.times.offsets_s) / self.times.period_s * self.load.speed * times.mean_s

    def _at_s(self, trial: int, since_window_s: float) -> float:
        """Time of the trace at so many seconds after a trial's window opens.

        Where requests share prompts, all trials are of one pass: what earlier parts left in a cache is there, as it was
        when the trace was taken. Else a trial has passes that no other has: its requests are none of another trial's,
        though they are as long and come as they did.
        """
        passes = (1 if self.times.related else trial + 1) * ceil(STRIDE / len(self.times.offsets_s))
        since_part_s = trial * self.window_s + since_window_s - EARLY_S
        return passes * self.times.period_s + since_part_s * self.load.speed

    def first(self, trial: int, lead_s: float) -> int:
        return self.times.index(self._at_s(trial, -lead_s))

    def begin(self, traffic: Traffic, trial: int | None, lead_s: float, first: int, times: RequestTimes) -> None:
        start_s = self.times.time_s(first) if trial is None else self._at_s(trial, -lead_s)
        traffic.open(self._offsets(first, start_s))

    def _offsets(self, first: int, start_s: float) -> Iterator[float]:
        return ((self.times.time_s(index) - start_s) / self.load.speed for index in count(first))

    async def settle(self, traffic: Traffic, trial: int, times: RequestTimes, lead_s: float) -> None:
        """The time of its part of the trace has nearly come."""
        await traffic.rest(lead_s - PREPARE_S)

    def opens_s(self, lead_s: float) -> float:
        return lead_s

    def needed(self, trial: int, lead_s: float, sent: int, after_s: float, ahead_s: float, sent_per_s: float) -> int:
        end = self.times.index(self._at_s(trial, after_s - lead_s + ahead_s))
        return max(end - self.first(trial, lead_s) - sent, 0) + SPARE_REQUESTS

    def request_rate(self, trial: int) -> float:
        begin, end = (self.times.index(self._at_s(trial, at)) for at in (0.0, self.window_s))
        return (end - begin) / self.window_s

    def findings(self, trial: int, late_s: float) -> Sequence[Finding]:
        found = []
        if late_s > LATE_S:
            message = f"the window opened {late_s:.2f} s after its part of the trace had begun (trial {trial})"
            found.append(finding("window_off_plan", message, late_s=late_s, trial=trial))
        lasts_s, measured_s = self.times.period_s / self.load.speed, (trial + 1) * self.window_s
        if measured_s > lasts_s * (1 + 1e-9):
            message = (
                f"the trace lasts {lasts_s:.4g} s at this speed; windows of {self.window_s:g} s reach past its end"
            )
            found.append(finding("trace_repeated", message, trace_s=lasts_s, window_s=self.window_s))
        return found
