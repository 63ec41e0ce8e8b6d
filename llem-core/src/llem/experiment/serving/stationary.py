"""When a load is stationary: how long it has to run before its window, by the times that its requests will take. Pure.

A load that has run for t lacks those requests that it would have begun more than t before and that would still be in
flight. By Little's law they are rate · E[(S − t)+] of rate · E[S], for S the time of a request; which is why the tail
of S decides and not its mean.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import attrs

from llem.experiment.serving.traffic import Answered, Flight

__all__ = ["RequestTimes", "least_lead", "request_times"]

#: What may be lacking of the mean number in flight.
LACKING = 0.01
#: All but so many requests are shorter than the lead: a window that follows it has no longer ones among those that end.
#: With lognormal lengths (sigma 1) its p99 is else 8 to 14 % short (`benchmarks/open_load.py`).
BEYOND = 0.001
#: Lengths are spread when the longest time is this many mean times; the load then runs for some mean times at least,
#: because the sample of lengths may lack the longest.
SPREAD, LEAST_TIMES = 1.5, 5.0
#: A load is measured after this time, whatever the rule says.
LEAD_MOST_S = 1800.0
#: What is in flight when a load stops has this many usual request times to end, this long at least, and so many times
#: the time of the longest.
DRAIN_TIMES, DRAIN_LEAST_S, DRAIN_LONGEST = 4, 10.0, 1.5
#: Of so many requests the mean is taken, below it the median: a first request may have taken a minute.
ENOUGH = 20


def least_lead(seconds: Sequence[float], lacking: float = LACKING) -> float:
    """The least t with E[(S − t)+] ≤ lacking · E[S] over these times of requests; 0 without any."""
    ordered = sorted(seconds, reverse=True)
    bound = lacking * sum(ordered)
    above = 0.0  # sum of the times so far
    for number, one in enumerate(ordered, start=1):
        above += one
        following = ordered[number] if number < len(ordered) else 0.0
        if above - number * following > bound:  # t lies between `following` and `one`
            return (above - bound) / number
    return 0.0


@attrs.frozen
class RequestTimes:
    """How long requests of a load take.

    Attributes:
        first_s: from sending to the first token.
        token_s: of each further token.
        tokens: output lengths of the requests to come, or of those that were answered where answers may end early.
        usual_s: median time of a whole request, as seen.
        exact: every request yields exactly the tokens that it asks for.
    """

    first_s: float
    token_s: float
    tokens: tuple[int, ...]
    usual_s: float
    exact: bool = True

    @property
    def seconds(self) -> list[float]:
        """Time of each request."""
        return [self.first_s + (count - 1) * self.token_s for count in self.tokens] or [self.usual_s]

    @property
    def mean_s(self) -> float:
        """Mean time of a request."""
        return statistics.fmean(self.seconds)

    @property
    def longest_s(self) -> float:
        """Time of the longest one."""
        return max(self.seconds)

    @property
    def lead_s(self) -> float:
        """How long a load has to run until it is stationary."""
        ordered = sorted(self.seconds)
        beyond = ordered[-1 - int(BEYOND * len(ordered))]
        lead = max(least_lead(ordered), beyond, self.usual_s)
        if self.longest_s > SPREAD * self.mean_s:
            lead = max(lead, LEAST_TIMES * self.mean_s)
        return min(lead, LEAD_MOST_S)

    @property
    def drain_s(self) -> float:
        """How long what is in flight when a load stops may take to end."""
        return max(DRAIN_TIMES * self.usual_s, DRAIN_LEAST_S, DRAIN_LONGEST * self.longest_s)

    def again(self, answered: Answered) -> RequestTimes:
        """The same lengths at the pace of these requests; the same where they are too few.

        How many tokens an answer has that may end early is not counted while a load runs: as many as others' have.
        Of their times, and not of how many there are by then: those that are answered first are the short ones.

        A server that sends bytes before its first token seems to begin early, and to take longer for each token.
        """
        count = answered.count
        if count < ENOUGH:
            return self
        steps = (answered.tokens if self.exact else statistics.fmean(self.tokens) * count) - count
        token_s = answered.rest_ns / 1e9 / steps if steps else self.token_s
        return attrs.evolve(self, first_s=answered.first_ns / 1e9 / count, token_s=token_s)


def request_times(flights: Sequence[Flight], lengths: Sequence[int], *, exact: bool) -> RequestTimes:
    """The times, from requests that were answered.

    Args:
        flights: of a warm-up; at least one, all answered.
        lengths: output tokens that the requests to come ask for.
        exact: every request yields exactly the tokens that it asks for; otherwise the answered ones tell the lengths.
    """
    mean = statistics.fmean if len(flights) >= ENOUGH else statistics.median
    made = [sum(chunk.tokens for chunk in flight.chunks) for flight in flights]
    first = [(flight.chunks[0].time_ns - flight.sent_ns) / 1e9 for flight in flights]
    rest = [(flight.ended_ns - flight.chunks[0].time_ns) / 1e9 for flight in flights]
    paces = [seconds / (count - 1) for seconds, count in zip(rest, made, strict=True) if count > 1]
    usual_s = statistics.median((flight.ended_ns - flight.sent_ns) / 1e9 for flight in flights)
    pace = mean(paces) if paces else 0.0
    return RequestTimes(mean(first), pace, tuple(lengths if exact else made), usual_s, exact)
