"""Latencies of a serving load, over the requests that ended well within the window.

They count from the request's arrival, which in an open load is its scheduled time: a client that falls behind would
else hide the wait it causes.

    ttft       first token minus arrival
    tpot       (e2el - ttft) / (output tokens - 1), per request: tokens are counted, not chunks
    itl_chunk  gaps between successive chunks, pooled over requests
    e2el       last token minus arrival

Percentiles are observed values over the requests of all windows. Requests in flight together wait for one another, so
single ones are no independent sample. Windows are: from three on, the interval is Student's, on logarithms, from the
scatter of their percentiles. With fewer, a bootstrap resamples runs of consecutive arrivals, `BLOCKS` per window, as
the method of batch means does, where more than 30 gain nothing (Schmeiser, Operations Research 30, 1982). How well
each covers is in the documentation of serving metrics.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from llem.metrics.flow import Flow
from llem.metrics.latency import PERCENTILES, Blocks, family
from llem.store.models import Quantity

__all__ = ["BLOCKS", "request_latencies", "serving_latency_metrics"]

#: Runs of consecutive requests per window; where there are fewer requests, each is its own.
BLOCKS = 20
NS = 1e9


def request_latencies(flow: Flow) -> dict[str, Any]:
    """`ttft_s`, `tpot_s` and `e2el_s` of each row of `flow.completed`; NaN where a request has none."""
    import numpy as np

    rows = flow.completed
    first, further = flow.first[rows], flow.outputs[rows] - 1
    ttft = np.where(first >= 0, (first - flow.arrival[rows]) / NS, np.nan)
    known = (first >= 0) & (further > 0)
    tpot = np.where(known, (flow.end[rows] - first) / np.maximum(further, 1) / NS, np.nan)
    return {"ttft_s": ttft, "tpot_s": tpot, "e2el_s": (flow.end[rows] - flow.arrival[rows]) / NS}


def serving_latency_metrics(flows: Sequence[Flow]) -> dict[str, Quantity]:
    """Latencies of a serving load by flat key, `flows` per trial, and the engine's own time in its queue."""
    each = [request_latencies(flow) for flow in flows]

    def of(name: str, blocks: Sequence[Blocks], reason: str, quantiles: Sequence[float] = PERCENTILES) -> None:
        found.update(family(name, blocks, reason, partial=reason, quantiles=quantiles, serving=True))

    found: dict[str, Quantity] = {}
    of("ttft", [_blocks(values["ttft_s"]) for values in each], "no_completions")
    of("tpot", [_blocks(values["tpot_s"]) for values in each], "one_output_token")
    of("itl_chunk", [_gap_blocks(flow) for flow in flows], "one_output_token")
    of("e2el", [_blocks(values["e2el_s"]) for values in each], "no_completions")
    of("queued", [_blocks(_queued(flow)) for flow in flows], "not_supported", (0.99,))
    return found


def _blocks(values: Any) -> Blocks:
    """Runs of consecutive requests, without those that have no value."""
    import numpy as np

    return [block[~np.isnan(block)] for block in np.array_split(values, BLOCKS)]


def _gap_blocks(flow: Flow) -> Blocks:
    """Gaps between chunks, by the same blocks of requests."""
    import numpy as np

    block_of = np.full(len(flow.rows), -1, dtype=np.int64)
    for number, rows in enumerate(np.array_split(flow.completed, BLOCKS)):
        block_of[rows] = number
    same = flow.owner[1:] == flow.owner[:-1]
    gaps, blocks = (np.diff(flow.at) / NS)[same], block_of[flow.owner[1:]][same]
    order = np.argsort(blocks, kind="stable")
    bounds = np.searchsorted(blocks[order], np.arange(BLOCKS + 1))
    ordered = gaps[order]
    return [ordered[low:high] for low, high in pairwise(bounds)]


def _queued(flow: Flow) -> Any:
    import numpy as np

    told = [(flow.rows[i].engine_metrics or {}).get("queued_s") for i in flow.completed]
    return np.array([np.nan if value is None else value for value in told], dtype=np.float64)
