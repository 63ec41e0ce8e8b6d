"""What an engine bears: the rate at which requests end under a closed load of many clients. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import attrs

from llem.errors import ExperimentFailed
from llem.experiment.serving.traffic import Flight
from llem.experiment.serving.window import arrived_tokens

__all__ = ["Probe", "capacity"]


@attrs.frozen
class Probe:
    """What a closed load of many clients found the engine to bear."""

    concurrency: int
    seconds: float
    requests_per_s: float
    output_tokens_per_s: float


def capacity(concurrency: int, flights: Sequence[Flight], t0: int, t1: int, *, exact: bool) -> Probe:
    """The capacity, from the requests of a probe that lasted from t0 to t1 (monotonic ns).

    Taken from the tokens that came, over the tokens of a request: requests that began together end together, so that
    how many ends fall within the probe is a matter of chance.

    Args:
        flights: every request that was sent.
        exact: every request yields exactly the tokens that it asks for.

    Raises:
        ExperimentFailed: no token came.
    """
    tokens_per_s = arrived_tokens(flights, t0, t1) / (t1 - t0) * 1e9
    if not tokens_per_s:
        raise ExperimentFailed("no token came during the capacity probe", "lengthen `load.probe_seconds`")
    asked = [flight.request.output_tokens for flight in flights]
    done = [sum(chunk.tokens for chunk in flight.chunks) for flight in flights if flight.outcome == "done"]
    # those that ended are the shorter ones, where lengths differ: all that were sent tell, where each is made whole
    per_request = statistics.fmean(asked if exact else done or asked)
    return Probe(concurrency, (t1 - t0) / 1e9, tokens_per_s / per_request, tokens_per_s)
