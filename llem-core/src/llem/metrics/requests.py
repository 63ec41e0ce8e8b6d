"""Single requests of a window: their latencies, and whether each keeps limits and when that is decided. Pure.

A time per further token needs tokens that arrive apart. Where k of n tokens come with the first, which is one read, the
other n - k arrive in the time from the first to the last; a request whose tokens all come at once has no such time, and
it is not known whether it keeps a limit of it. Nor has one whose server hid some of the tokens, which it counts.

A request counts in the window in which its fate is decided: when it ends, or as soon as it is late for certain because
a time that counts from its arrival exceeds its limit. So requests that an engine keeps waiting count without waiting
for their end, and each counts once. In a closed load a client sends nothing else meanwhile: one that was late before a
window and got no token in all of it counts there again. The search for a rate judges its windows by the same function.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from llem.metrics.flow import Flow

__all__ = ["TOGETHER_SHARE", "Fates", "fates", "further_token_s", "latencies", "request_latencies", "together_share"]

NS = 1e9
#: A window has a time per further token while at most this share of its requests with several tokens have none.
TOGETHER_SHARE = 0.05


def further_token_s(first: Any, last: Any, tokens: Any, head: Any) -> Any:
    """Time per further token: (last - first) / (tokens - head); arrays, or numbers; NaN where no token came later.

    Args:
        first, last: arrival of the first and of the last token, nanoseconds; negative where none came.
        tokens: of the request. head: of these, how many came with the first.
    """
    import numpy as np

    further = np.asarray(tokens) - head
    known = (np.asarray(first) >= 0) & (further > 0)
    spans = (np.asarray(last) - first) / np.maximum(further, 1) / NS
    return np.where(known, spans, np.nan)


def latencies(flow: Flow) -> dict[str, Any]:
    """`ttft_s`, `tpot_s` and `e2el_s` of each row, until it ended in whatever way; NaN where a request has none."""
    import numpy as np

    ttft = np.where(flow.first >= 0, (flow.first - flow.arrival) / NS, np.nan)
    tpot = further_token_s(flow.first, flow.last, flow.outputs, flow.head)
    tpot[flow.hidden] = np.nan
    return {"ttft_s": ttft, "tpot_s": tpot, "e2el_s": (flow.end - flow.arrival) / NS}


def request_latencies(flow: Flow) -> dict[str, Any]:
    """The same of each row of `flow.completed`."""
    return {name: values[flow.completed] for name, values in latencies(flow).items()}


def together_share(flow: Flow) -> float:
    """Share of the completed requests with several tokens that have no time of a token, because all came at one time or
    some were hidden; 0 where none has more."""
    rows = flow.completed
    several = int((flow.outputs[rows] > 1).sum())
    return int(flow.together[rows].sum()) / several if several else 0.0


@attrs.frozen(eq=False)
class Fates:
    """Requests of a window whose fate was decided within it, in the order in which it was.

    Attributes:
        rows: their indices in the flow.
        kept: bool, every limit was kept.
        untold: bool, whether a limit was kept is not known: all tokens came at one time, and there is one of `tpot_s`.
        latencies: by limit, in seconds; NaN where a request has none. At least so much, where it did not complete.
    """

    rows: Any
    kept: Any
    untold: Any
    latencies: Mapping[str, Any]


def fates(flow: Flow, limits: Mapping[str, float]) -> Fates:
    """The requests of a window against limits in seconds, by latency.

    A request that failed or was aborted, or that ended without a token, keeps no limit. One of one output token has no
    time per further token and keeps that limit. What was not late before it was aborted counts when that was.
    """
    import numpy as np

    found = latencies(flow)
    found["ttft_s"] = np.where(flow.first >= 0, found["ttft_s"], found["e2el_s"])  # it has waited for so long at least
    decided, within = flow.end.copy(), np.ones(len(flow.rows), dtype=bool)
    for name, limit in limits.items():
        over = found[name] > limit  # NaN is not above: without a further token there is none that is late
        within &= ~over
        if name != "tpot_s":
            decided = np.where(over, np.minimum(decided, flow.arrival + round(limit * NS)), decided)
    whole = ~flow.lost & ~flow.stopped & (flow.first >= 0)
    untold = whole & within & flow.together if "tpot_s" in limits else np.zeros(len(flow.rows), dtype=bool)
    waits = flow.silent & ~within & flow.unscheduled
    rows = np.flatnonzero(((decided >= flow.t0) & (decided < flow.t1)) | (waits & (decided < flow.t0)))
    rows = rows[np.argsort(decided[rows], kind="stable")]
    kept = whole & within & ~untold
    return Fates(rows, kept[rows], untold[rows], {name: found[name][rows] for name in limits})
