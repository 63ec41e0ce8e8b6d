"""Goodput: requests per second that kept every limit of the service level objective.

A request that ended within the window is good when its time to first token, its time per further token and its whole
time are each within their limit (the limits that are stated). A failed request is not good. A request of one output
token has no time per further token and keeps that limit. Each request is judged by itself: the limits are not met by
percentiles of different requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from llem.config.slo import Slo
from llem.metrics.flow import Flow
from llem.metrics.serving_latency import request_latencies

__all__ = ["Judged", "judge", "slo_of"]


@attrs.frozen
class Judged:
    """Requests that ended within one window, and how many of them kept every limit."""

    ended: int
    good: int

    @property
    def attainment(self) -> float | None:
        """Share of the requests that kept every limit; None where none ended."""
        return self.good / self.ended if self.ended else None


def slo_of(config: Mapping[str, Any]) -> Slo | None:
    """The service level objective of a stored configuration; None where none is stated."""
    stated = config.get("slo")
    return None if stated is None else Slo(**stated)


def judge(flow: Flow, limits: Mapping[str, float]) -> Judged:
    """The requests of one window against limits in seconds, by latency."""
    import numpy as np

    latencies = request_latencies(flow)
    good = ~np.isnan(latencies["ttft_s"])  # without a token nothing was served
    for name, limit in limits.items():
        good &= ~(latencies[name] > limit)  # NaN is not above: without a further token there is none that is late
    return Judged(len(good) + int(flow.failed.sum()), int(good.sum()))
