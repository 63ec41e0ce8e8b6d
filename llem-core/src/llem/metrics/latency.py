"""Latencies: time to first token, per further token, gaps between chunks, end to end, and in the engine's queue.

Of an offline load, where all requests of a batch begin and end together, times count from the start of the request.
Of a serving load they are of the requests that ended well within the window, and count from a request's arrival, which
in an open load is its scheduled time: a client that falls behind would else hide the wait it causes.

Requests in flight together wait for one another, so single ones are no independent sample. Of an offline load all
requests of a batch are one observation (of gaps between chunks: all that end at the same step of it), and trials give
the interval. Of a serving load windows give it, or long runs of consecutive arrivals where there are too few windows.
See `llem.metrics.percentiles`; how well each covers is in the documentation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise, zip_longest
from typing import Any

from llem.metrics.flow import Flow, head_of, is_hidden
from llem.metrics.metric import Measured, Metric, Place
from llem.metrics.percentiles import PERCENTILES, RUNS, Blocks, family, of_trial
from llem.metrics.quantity import Value
from llem.metrics.requests import TOGETHER_SHARE, further_token_s, request_latencies, together_share
from llem.store.models import Quantity, RequestRow

__all__ = ["latency_metrics"]

NS = 1e9
#: The percentile of each latency that is shown by default.
SHOWN = 0.99

#: Why an experiment, or a request, has no value of a latency.
Reason = Callable[[Measured], str]


def latency_metrics() -> Iterator[Metric]:
    """A row for the mean and each percentile of every latency."""
    yield from _latency(
        "ttft", "time to first token", "TTFT",
        "Time from the arrival of a request (offline: its start) to its first chunk with a token.",
        offline=_ttft, serving=lambda flow: _blocks(request_latencies(flow)["ttft_s"]),
        why=lambda measured: "no_completions" if measured.served else _token_times(measured),
        shown=("result", "latencies"), percentile=("curve", "study"),
    )  # fmt: skip
    yield from _latency(
        "tpot", "time per further token", "TPOT",
        "Time from the first token of a request to its last, divided by the tokens that came after the first arrival: "
        "its output tokens less those that came with the first, which is one where tokens come one by one. The "
        "engine's count of tokens counts, not the number of chunks. Requests whose tokens all came at one time have "
        "none, nor have those of which the server hid more than 5 % of the tokens; where these are more than 5 % of a "
        "window's requests with several tokens, the window has none.",
        offline=_tpot, fit=_apart, serving=_tpot_blocks, why=_no_further,
        shown=("result", "latencies"), percentile=("curve",), since=5,
    )  # fmt: skip
    yield from _latency(
        "itl_chunk", "gap between chunks", "ITL",
        "Time between the arrivals of successive chunks of one request; the gaps of all requests together. A chunk may "
        "bring several tokens.",
        offline=_gaps, serving=_gap_blocks, why=_no_further,
        shown=("latencies",), percentile=("result",),
        lacks=lambda measured: "not_told" if measured.setup.chunks_untold else None,
    )  # fmt: skip
    yield from _latency(
        "e2el", "time per request", "E2EL",
        "Time from the arrival of a request to its last token; offline, the time of its batch.",
        offline=lambda row: [(row.end_ns - row.start_ns) / NS],
        serving=lambda flow: _blocks(request_latencies(flow)["e2el_s"]),
        why=lambda measured: "no_completions" if measured.served else "no_trials",
        shown=("result", "latencies"),
    )  # fmt: skip
    yield from _latency(
        "queued", "time in the queue", "queued",
        "Time that a request waited in the engine's queue, as the engine reports it. Few engines do.",
        serving=lambda flow: _blocks(_queued(flow)), why=lambda _: "not_supported",
        quantiles=(0.99,), group="serving",
    )  # fmt: skip


def _latency(
    name: str,
    label: str,
    short: str,
    doc: str,
    *,
    serving: Callable[[Flow], Blocks],
    why: Reason,
    offline: Callable[[RequestRow], list[float]] = lambda _: [],
    fit: Callable[[Sequence[RequestRow]], bool] = lambda _: True,
    quantiles: Sequence[float] = PERCENTILES,
    group: str = "latency",
    lacks: Callable[[Measured], str | None] = lambda _: None,
    shown: tuple[Place, ...] = (),
    percentile: tuple[Place, ...] = (),
    since: int = 2,
) -> Iterator[Metric]:
    """The rows of one latency: its mean and its percentiles.

    Args:
        serving, offline: its values in a serving window, by runs of requests; and of a request in a batch.
        fit: whether the batches of a window have values; else none of them counts.
        why: the reason where no request has a value.
        shown: where the mean and `SHOWN` stand; `percentile`: where `SHOWN` stands besides.
        lacks: why an experiment has no value at all.
        since: as in `Metric`, of the mean.
    """

    def blocks(measured: Measured) -> list[Blocks]:
        if measured.served:
            return [serving(flow) for flow in measured.flows if flow is not None]
        return [_by_batch(offline, rows) if fit(rows) else [] for rows in measured.rows]

    def singles(measured: Measured) -> list[dict[float | None, Value]]:
        reason, served = why(measured), measured.served
        return [of_trial(trial, quantiles, reason, serving=served) for trial in measured.once(blocks)]

    def found(measured: Measured) -> dict[float | None, Quantity]:
        reason, served = why(measured), measured.served
        partial = reason if served or not all(map(fit, measured.rows)) else "not_supported"
        trials, processes = measured.once(blocks), measured.processes
        return family(trials, reason, partial=partial, quantiles=quantiles, serving=served, processes=processes)

    def row(q: float | None) -> Metric:
        part = "mean" if q is None else f"p{round(q * 100)}"
        places = (*shown, *percentile) if q == SHOWN else shown
        if q not in (None, SHOWN):
            places = tuple(place for place in shown if place == "latencies")
        return Metric(
            f"{name}_s" if q is None else f"{name}_{part}_s",
            "s",
            label if q is None else f"{label}, {part}",
            "lower",
            group,
            doc,
            each=lambda measured: [single[q] for single in measured.once(singles)],
            over=lambda measured, _: measured.once(found)[q],
            lacks=lacks,
            shown=places,
            heading=short if q is None else f"{short} {part}",
            part=(label, part),
            since=since if q is None else max(since, 4),
        )

    yield from map(row, (None, *quantiles))


def _token_times(measured: Measured) -> str:
    """Why no request of an offline load has times of tokens, or too few."""
    setup = measured.setup
    if not (setup.token_times or setup.serving):
        return "not_requested"
    timed = any(row.token_times_ns is not None for rows in measured.rows for row in rows)
    if any(len(row.token_times_ns or ()) > 1 for rows in measured.rows for row in rows):
        return "tokens_together"
    return "one_output_token" if timed else "not_supported"


def _no_further(measured: Measured) -> str:
    """Why there is no time of a token after the first."""
    if not measured.served:
        return _token_times(measured)
    flows = [flow for flow in measured.flows if flow is not None]
    if any(together_share(flow) > TOGETHER_SHARE for flow in flows):
        return "tokens_together"
    return "one_output_token" if any(len(flow.completed) for flow in flows) else "no_completions"


# of requests in batches


def _ttft(row: RequestRow) -> list[float]:
    return [(row.token_times_ns[0] - row.start_ns) / NS] if row.token_times_ns else []


def _tpot(row: RequestRow) -> list[float]:
    times = row.token_times_ns or ()
    head = head_of(times)
    if head == len(times) or is_hidden(row):
        return []
    return [float(further_token_s(times[0], times[-1], len(times), head))]


def _apart(rows: Sequence[RequestRow]) -> bool:
    """Whether so few requests with several tokens have no time of a token that the others do not speak for all."""
    several = [row for row in rows if len(row.token_times_ns or ()) > 1]
    return sum(not _tpot(row) for row in several) <= TOGETHER_SHARE * len(several)


def _gaps(row: RequestRow) -> list[float]:
    """Tokens of one time came in one chunk: a batch has no other record of its chunks."""
    return [(later - earlier) / NS for earlier, later in pairwise(dict.fromkeys(row.token_times_ns or ()))]


def _by_batch(take: Callable[[RequestRow], list[float]], rows: Sequence[RequestRow]) -> Blocks:
    """One block per batch, or, where a request has several values, per step of a batch."""
    batches: dict[int, list[list[float]]] = {}
    for row in rows:
        batches.setdefault(row.batch, []).append(take(row))
    steps = (step for values in batches.values() for step in zip_longest(*values))
    return [[value for value in step if value is not None] for step in steps]


# of a serving window


def _blocks(values: Any) -> Blocks:
    """Runs of consecutive requests, without those that have no value."""
    import numpy as np

    return [block[~np.isnan(block)] for block in np.array_split(values, RUNS)]


def _tpot_blocks(flow: Flow) -> Blocks:
    """Nothing where too many requests have none: the others would speak for all."""
    import numpy as np

    values = request_latencies(flow)["tpot_s"]
    return _blocks(np.full_like(values, np.nan) if together_share(flow) > TOGETHER_SHARE else values)


def _gap_blocks(flow: Flow) -> Blocks:
    """Gaps between chunks, by the same blocks of requests."""
    import numpy as np

    block_of = np.full(len(flow.rows), -1, dtype=np.int64)
    for number, rows in enumerate(np.array_split(flow.completed, RUNS)):
        block_of[rows] = number
    same = flow.owner[1:] == flow.owner[:-1]
    gaps, blocks = (np.diff(flow.at) / NS)[same], block_of[flow.owner[1:]][same]
    order = np.argsort(blocks, kind="stable")
    bounds = np.searchsorted(blocks[order], np.arange(RUNS + 1))
    ordered = gaps[order]
    return [ordered[low:high] for low, high in pairwise(bounds)]


def _queued(flow: Flow) -> Any:
    import numpy as np

    told = [(flow.rows[i].engine_metrics or {}).get("queued_s") for i in flow.completed]
    return np.array([np.nan if value is None else value for value in told], dtype=np.float64)
