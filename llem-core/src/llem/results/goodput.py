"""Goodput: requests per second that kept every limit of the service level objective.

A request that ended within the window is good when its time to first token, its time per further token and its whole
time are each within their limit (the limits that are stated). A failed request is not good. A request of one output
token has no time per further token and keeps that limit. Each request is judged by itself: the limits are not met by
percentiles of different requests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from llem.config.slo import Slo
from llem.results.flow import Flow
from llem.results.serving_latency import request_latencies

__all__ = ["Judged", "judge", "limits_of"]


@attrs.frozen
class Judged:
    """Requests that ended within one window, and how many of them kept every limit."""

    ended: int
    good: int

    @property
    def attainment(self) -> float | None:
        """Share of the requests that kept every limit; None where none ended."""
        return self.good / self.ended if self.ended else None


def limits_of(config: Mapping[str, Any]) -> tuple[Mapping[str, float], float] | None:
    """Limits in seconds by latency, and the share of requests that must keep them; None where none are stated."""
    stated = config.get("slo")
    if stated is None:
        return None
    slo = Slo(**stated)
    return slo.limits(), slo.percentile


def judge(flows: Sequence[Flow], limits: Mapping[str, float]) -> list[Judged]:
    """The requests of each window against the limits."""
    return [_judge(flow, limits) for flow in flows]


def _judge(flow: Flow, limits: Mapping[str, float]) -> Judged:
    import numpy as np

    latencies = request_latencies(flow)
    good = ~np.isnan(latencies["ttft_s"])  # without a token nothing was served
    for name, limit in limits.items():
        good &= ~(latencies[name] > limit)  # NaN is not above: without a further token there is none that is late
    return Judged(len(good) + int(flow.failed.sum()), int(good.sum()))
