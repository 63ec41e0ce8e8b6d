"""Closed loads: do the requests that ended speak for those that were in flight? Pure.

A server that answers some requests again and again, and lets others wait, has short latencies: who waits ends in no
window. Little's law tells. Requests in flight, over the time of a window, are the time of the requests that ended in
it, but for what its edges cut: how long each client's request had taken when the window opened, less when it closed.
That is chance, of two kinds:

- Clients in lock-step have the same at each edge, so that it adds up: one time of a request, as all but few take, for
  each client.
- Else clients are independent. What a request has taken at some moment, of requests that take x, has the mean square
  E[x^3] / 3 E[x] (renewal theory), and two moments twice that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from llem.findings import Finding, finding
from llem.metrics.checks.arrivals import Served
from llem.metrics.checks.words import in_trials
from llem.metrics.flow import Flow

__all__ = ["left_out"]

#: Time in flight that may be missing among the requests that ended, as a share; and how sure it must be (1 %).
OFF, Z = 0.1, 2.576
#: Share of the requests that take no longer than what clients in lock-step may be off by.
MOST = 0.95
#: A window that lasts so many times as long as most requests shows who gets nothing in it.
TIMES = 3.0


def left_out(served: Served) -> Iterable[Finding]:
    """`not_stationary` where the requests that ended were in flight for much less time than all were."""
    import numpy as np

    flows = [flow for *_, flow in served]
    ended, known = (np.concatenate([take(flow) for flow in flows]) for take in (_ended_s, _known_s))
    seconds = math.fsum(flow.seconds for flow in flows)
    in_flight = math.fsum(flow.in_flight(flow.t0, flow.t1) * flow.seconds for flow in flows)
    if not len(ended) or not known.sum():
        return
    most, clients = float(np.quantile(known, MOST)), in_flight / seconds * len(flows)
    silent = [(trial.index, int(flow.silent.sum()) if flow.seconds > TIMES * most else 0) for trial, _, flow in served]
    missing, count = in_flight - float(ended.sum()), sum(number for _, number in silent)
    chance = clients * most + Z * math.sqrt(2 * clients * float((known**3).mean() / 3 / known.mean()))
    if not count and missing <= max(OFF * in_flight, chance):
        return
    trials = [index for index, number in silent if number]
    message = (
        f"{in_flight / seconds:.3g} requests were in flight, and those that ended account for "
        f"{float(ended.sum()) / seconds:.3g} of them: they took {float(ended.mean()):.3g} s on average, where Little's "
        f"law asks for {in_flight / len(ended):.3g} s"
    )
    if count:
        message += f"; {count} waited through a whole window without a token{in_trials(trials)}"
    evidence: dict[str, Any] = {"in_flight": in_flight / seconds, "ended": float(ended.sum()) / seconds}
    yield finding("not_stationary", message, **evidence, e2el_s=float(ended.mean()), waiting=count, trials=trials)


def _ended_s(flow: Flow) -> Any:
    """Seconds that each request took that ended within the window, in whatever way but by llem's own hand."""
    ended = (flow.end >= flow.t0) & (flow.end < flow.t1) & ~flow.stopped
    return ((flow.end - flow.arrival) / 1e9)[ended]


def _known_s(flow: Flow) -> Any:
    """The same of all that touch the window and got a token in it, until they ended."""
    return ((flow.end - flow.arrival) / 1e9)[~flow.silent]
