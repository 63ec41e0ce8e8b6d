"""What the load generator itself has added to the figures of a load: by sending late, and by looking late.

Three signs, each in proportion to what is reported. Below a millisecond nothing is told: no clock of a server and its
client agrees to less.

1. Lag: latencies count from the arrival, and a request that was sent late waited for the client. Of the same requests,
   the TTFT from the arrival is compared with the one from the sending.
2. Delay: what has arrived waits for its turn in the event loop. A timer there rings late by as much. The median delay
   is in the median TTFT, and the 99th percentile in the p99. A time per further token is the time between two arrivals
   over the tokens between them, so it is off by the delay of one of them over that number.
3. Stalls: the event loop stood still while a measured request ran.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from llem.findings import Finding, finding
from llem.metrics.checks.arrivals import Served
from llem.metrics.flow import Flow
from llem.metrics.requests import request_latencies
from llem.metrics.spans import covered
from llem.store.client import ClientFacts

__all__ = ["client_lag"]

NS = 1e9
#: Less than this is never told.
LEAST_S = 0.001
#: Shares of a figure that the client may be: of means and medians, and of 99th percentiles.
CENTRE_SHARE, TAIL_SHARE = 0.05, 0.1
#: Share of a window in which the event loop may stand still.
STALLED_SHARE = 0.01


@attrs.frozen
class _Off:
    """A figure that the client has changed by so many seconds, at most; and in words, how."""

    figure: str
    reported_s: float
    off_s: float
    how: str

    @property
    def share(self) -> float:
        return self.off_s / self.reported_s if self.reported_s else math.inf

    def __str__(self) -> str:
        off = f"is off by {_told(self.off_s)} at most ({self.share:.0%})"
        return f"{self.how}: {self.figure}, {_told(self.reported_s)}, {off}"


def client_lag(served: Served) -> Iterable[Finding]:
    """One finding of all trials: of each sign the figure that it changes most."""
    signs = [_lag(served), _delay(served), _stalls(served)]
    worst = [max(sign, key=lambda one: one.share) for sign in signs if sign]
    if worst:
        evidence: dict[str, Any] = {"figures": [attrs.asdict(one) for one in worst]}
        yield finding("client_lag", "; ".join(map(str, worst)), **evidence)


def _told(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def _joined(values: Sequence[Any]) -> Any:
    """Of all windows, ascending and without those that have none."""
    import numpy as np

    joined = np.concatenate(values)
    return np.sort(joined[~np.isnan(joined)])


def _figures(ordered: Any) -> dict[str, float]:
    import numpy as np

    if not len(ordered):
        return {}
    p50, p99 = np.quantile(ordered, (0.5, 0.99), method="hazen")
    return {"mean": float(ordered.mean()), "p50": float(p50), "p99": float(p99)}


def _lag(served: Served) -> list[_Off]:
    flows = [flow for *_, flow in served]
    each = [request_latencies(flow)["ttft_s"] for flow in flows]
    lags = [(flow.start - flow.arrival)[flow.completed] / NS for flow in flows]
    whole = _figures(_joined(each))
    sent = _figures(_joined([one - lag for one, lag in zip(each, lags, strict=True)]))
    found = [
        _Off(f"TTFT {name}", value, value - sent[name], "requests were sent late") for name, value in whole.items()
    ]
    return [one for one in found if one.off_s > LEAST_S and one.share > CENTRE_SHARE]


def _clients(served: Served) -> list[tuple[ClientFacts, Flow]]:
    return [(facts.client, flow) for _, facts, flow in served if facts.client is not None]


def _delay(served: Served) -> list[_Off]:
    clients = _clients(served)
    if not clients:
        return []
    p50, p99 = (max(getattr(one, name) for one, _ in clients) for name in ("delay_p50_s", "delay_p99_s"))
    flows = [flow for _, flow in clients]
    latencies = [request_latencies(flow) for flow in flows]
    ttft, tpot = (_figures(_joined([one[name] for one in latencies])) for name in ("ttft_s", "tpot_s"))
    gaps = _figures(_joined([flow.gaps_s for flow in flows]))
    how = "answers waited for their turn in the client's event loop"
    found = [
        (_Off(f"{name}", figures[part], off, how), limit)
        for name, figures, part, off, limit in (
            ("TTFT p50", ttft, "p50", p50, CENTRE_SHARE),
            ("TTFT p99", ttft, "p99", p99, TAIL_SHARE),
            ("TPOT p50", tpot, "p50", p99 / _further(flows), CENTRE_SHARE),
            ("ITL p99", gaps, "p99", p99, TAIL_SHARE),
        )
        if part in figures
    ]
    delays = {"TPOT p50": p99}  # the delay counts, of which the figure has a part
    return [one for one, limit in found if delays.get(one.figure, one.off_s) > LEAST_S and one.share > limit]


def _further(flows: Sequence[Flow]) -> float:
    """Median number of tokens after the first arrival, of the requests that have some."""
    import numpy as np

    counts = np.concatenate([(flow.outputs - flow.head)[flow.completed] for flow in flows])
    counts = counts[counts > 0]
    return float(np.median(counts)) if len(counts) else 1.0


def _stalls(served: Served) -> list[_Off]:
    found = []
    for trial, facts, flow in served:
        client = facts.client
        stalls = [] if client is None else _touching(client.stalls, flow)
        if client is None or not stalls:
            continue
        stood_s = covered(stalls) / NS if client.stalled_s is None else client.stalled_s
        longest_s = max(end - begin for begin, end in stalls) / NS
        how = (
            f"the client's event loop stood still for {_told(stood_s)} in all, {stood_s / flow.seconds:.0%} of the "
            f"window, and for {_told(longest_s)} at once (trial {trial.index})"
        )
        if stood_s > STALLED_SHARE * flow.seconds:
            found.append(_Off("the window", flow.seconds, stood_s, how))
        figures = _figures(_joined([request_latencies(flow)["ttft_s"]]))
        if "p99" in figures and longest_s > LEAST_S and longest_s > TAIL_SHARE * figures["p99"]:
            found.append(_Off("TTFT p99", figures["p99"], longest_s, how))
    return found


def _touching(stalls: Sequence[tuple[int, int]], flow: Flow) -> list[tuple[int, int]]:
    """Stalls within the life of a request that completed within the window, or within the window itself."""
    rows = flow.completed
    arrival, end = flow.arrival[rows], flow.end[rows]
    return [
        (begin, until)
        for begin, until in stalls
        if (begin < flow.t1 and until > flow.t0) or bool(((arrival < until) & (end > begin)).any())
    ]
