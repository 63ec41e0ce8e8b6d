"""Goodput: requests that keep every limit of a service level objective.

A request is good when it completes and its time to first token, its time per further token and its whole time
are each within their limit (the limits that are stated). It is judged in the window in which that is decided, by itself
(`llem.metrics.requests.fates`): the limits are not met by percentiles of different requests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from llem.config.slo import Slo
from llem.metrics.flow import Flow
from llem.metrics.metric import Measured, Metric, mean_over_trials
from llem.metrics.quantity import Value
from llem.metrics.requests import TOGETHER_SHARE, fates
from llem.store.models import Quantity

__all__ = ["Judged", "goodput_metrics", "judge", "slo_of"]


def goodput_metrics() -> Iterator[Metric]:
    """A row for each."""
    yield Metric(
        "goodput_requests_per_s", "request/s", "goodput", "higher", "serving",
        "Requests per second that kept every limit of `slo`, corrected for the window's edges like `requests_per_s`.",
        each=_goodput, over=_scattered, lacks=_no_slo, shown=("result", "curve"), heading="goodput/s", since=5,
    )  # fmt: skip
    yield Metric(
        "slo_attainment", "", "share within limits", "higher", "serving",
        "Share of the requests that kept every limit of `slo`, of those whose fate was decided within the window: they "
        "ended, failed, or had waited for longer than a limit allows, answered or not. Of a closed load also those "
        "that were late before and got no token in the whole window.",
        each=lambda measured: [one.attainment for one in measured.once(_judged)],
        over=_scattered, lacks=_no_slo, shown=("result",), since=5, most=1.0,
    )  # fmt: skip
    yield Metric(
        "energy_per_good_request_j", "J", "energy per good request", "lower", "serving",
        "The window's energy, also that of late answers, divided by the requests that kept every limit of `slo`.",
        each=_per_good, lacks=_no_slo, scoped=True, shown=("result",), since=5,
    )  # fmt: skip


def _scattered(measured: Measured, metric: Metric) -> Quantity:
    """The mean; without an interval where all trials are alike: all or none kept the limits, by whatever margin."""
    found = mean_over_trials(measured, metric)
    return attrs.evolve(found, low=None, high=None, confidence=None, covers="") if found.low == found.high else found


@attrs.frozen
class Judged:
    """Requests whose fate was decided within one window, and how many of them kept every limit.

    Attributes:
        judged: they ended, failed, or were late for certain; without those in `untold`.
        good: kept every limit.
        untold: it is not known, because all tokens came at one time and one of the limits is on the time per token.
    """

    judged: int
    good: int
    untold: int = 0

    @property
    def reason(self) -> str:
        """Why nothing is said of the window; "" where something is."""
        if self.untold > TOGETHER_SHARE * (self.judged + self.untold):
            return "tokens_together"
        return "" if self.judged else "no_completions"

    @property
    def attainment(self) -> Value:
        """Share of the requests that kept every limit."""
        return Value(None if self.reason else self.good / self.judged, reason=self.reason or None)


def slo_of(config: Mapping[str, Any]) -> Slo | None:
    """The service level objective of a stored configuration; None where none is stated."""
    stated = config.get("slo")
    return None if stated is None else Slo(**stated)


def judge(flow: Flow, limits: Mapping[str, float]) -> Judged:
    """The requests of one window against limits in seconds, by latency."""
    found = fates(flow, limits)
    untold = int(found.untold.sum())
    return Judged(len(found.rows) - untold, int(found.kept.sum()), untold)


def _no_slo(measured: Measured) -> str | None:
    return None if slo_of(measured.setup.config) else "not_requested"


def _judged(measured: Measured) -> list[Judged]:
    slo = slo_of(measured.setup.config)
    limits = slo.limits() if slo else {}
    return [judge(flow, limits) for flow in measured.flows if flow is not None]


def _good(measured: Measured) -> list[Value]:
    """Good requests of each trial, corrected for its edges."""
    return [
        Value(None if one.reason else one.good * edge, reason=one.reason or None)
        for one, edge in zip(measured.once(_judged), measured.edges, strict=True)
    ]


def _goodput(measured: Measured) -> list[Value]:
    good = zip(_good(measured), measured.trials, strict=True)
    return [one.scaled(1 / trial.duration_s) for one, trial in good]


def _per_good(measured: Measured) -> list[Value]:
    return [
        energy.scaled(1 / good.value) if good.value else Value(None, reason=energy.reason or good.reason or "none_good")
        for energy, good in zip(measured.gross, _good(measured), strict=True)
    ]
