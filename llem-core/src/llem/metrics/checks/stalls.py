"""The engine stood still within a window while the worker ran: no token came, or one batch took far too long. Pure.

What is usual is taken from the same trials: the time that ranks after as many as one per two trials. So one stall in up
to half of the windows shows, and what recurs in most windows is the engine's own way.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import attrs

from llem.findings import Finding, finding
from llem.metrics.checks.batches import Batch, batches_of
from llem.metrics.checks.pauses import was_paused
from llem.metrics.flow import Flow
from llem.metrics.metric import Measured
from llem.store.models import Trial

__all__ = ["alike", "stalls"]

#: A stall takes this share of a window at least, and so many seconds.
SHARE, LEAST_S = 0.05, 0.2
#: It lasts so many times as long as the usual longest, and departs so many times as far from the median.
SILENCE_TIMES, BATCH_TIMES, SPREAD_TIMES = 3.0, 1.5, 10.0
#: Of few batches, little is known of what is usual.
FEW, FEW_TIMES = 5, 2.0
#: Share of the silences that are rare by themselves.
RARE = 0.001
#: A silence while a request waits for its first token may last this many times as long as others' do.
PREFILL_TIMES = 10.0
#: Silences of a window that are looked at closely, and requests that tell how long a first token keeps others waiting.
CLOSELY, ASKED = 50, 500


@attrs.frozen
class Stall:
    """One time without progress: in seconds, what is usual, and where it began in its window."""

    trial: int
    seconds: float
    usual_s: float
    at_s: float
    what: str


def stalls(measured: Measured) -> Iterable[Finding]:
    """`stalled` where the engine stood still in a window in which the worker did not."""
    usable = [not was_paused(measured.setup, trial) for trial in measured.trials]
    if measured.served:
        flows = [
            (trial, flow)
            for trial, flow, ok in zip(measured.trials, measured.flows, usable, strict=True)
            if ok and flow is not None
        ]
        found = [] if measured.setup.chunks_untold else list(_silent(flows))
    else:
        rows = zip(measured.trials, measured.rows, usable, strict=True)
        found = list(_long([(trial, batches_of(trial, there)) for trial, there, ok in rows if ok]))
    if not found:
        return
    worst = max(found, key=lambda stall: stall.seconds)
    trials = sorted({stall.trial for stall in found})
    where = f" (trial{'s' if len(trials) > 1 else ''} {', '.join(map(str, trials))})"
    message = f"{worst.what} for {worst.seconds:.2f} s, where {worst.usual_s:.3g} s is the usual longest{where}"
    evidence = {"stalled_s": worst.seconds, "usual_s": worst.usual_s, "at_s": worst.at_s}
    yield finding("stalled", message, **evidence, trial=worst.trial, trials=trials)


def alike(measured: Measured) -> bool:
    """Whether all batches of an offline load have the same work."""
    work = {batch.work for trial, rows in zip(measured.trials, measured.rows, strict=True)
            for batch in batches_of(trial, rows)}  # fmt: skip
    return len(work) <= 1


def _rank(trials: int, values: int) -> int:
    """The place, from the longest on, of the longest time that is usual."""
    return max(math.ceil(trials / 2), math.floor(RARE * values)) + 1


# batches


def _long(trials: Sequence[tuple[Trial, Sequence[Batch]]]) -> Iterator[Stall]:
    """Batches that took far longer than others; longer, too, than more work explains."""
    known = [(trial, batch) for trial, batches in trials for batch in batches]
    rank = _rank(len(trials), len(known))
    if len(known) < max(rank, 2):
        return
    ordered = sorted((_seconds(batch) for _, batch in known), reverse=True)[rank - 1 :]
    usual, median = ordered[0], statistics.median(ordered)
    work = [statistics.median(kind) for kind in zip(*(batch.work for _, batch in known), strict=True)]
    times = BATCH_TIMES if len(ordered) >= FEW else FEW_TIMES
    for trial, batch in known:
        more = max((kind / of for kind, of in zip(batch.work, work, strict=True) if of), default=1.0)
        seconds, allowed = _seconds(batch), max(more, 1.0) * usual
        enough = seconds - median > max(SHARE * _window_s(trial), LEAST_S)
        if enough and seconds > times * allowed and seconds - median > SPREAD_TIMES * (usual - median):
            yield Stall(trial.index, seconds, allowed, (batch.start_ns - trial.t0_ns) / 1e9, "one batch went on")


def _seconds(batch: Batch) -> float:
    return (batch.end_ns - batch.start_ns) / 1e9


def _window_s(trial: Trial) -> float:
    return trial.planned_s or trial.duration_s


# silences of a serving load


def _silent(trials: Sequence[tuple[Trial, Flow]]) -> Iterator[Stall]:
    """Times without a token of any request while one was in flight."""
    import numpy as np

    if not trials:
        return
    silences = [_silences(flow) for _, flow in trials]
    lengths = np.sort(np.concatenate([end - begin for begin, end in silences]))[::-1] / 1e9
    rank = _rank(len(trials), len(lengths))
    if len(lengths) < rank:
        return
    usual, median = float(lengths[rank - 1]), float(np.median(lengths[rank - 1 :]))
    least = max(SILENCE_TIMES * usual, median + SPREAD_TIMES * (usual - median), LEAST_S)
    for (trial, flow), (begins, ends) in zip(trials, silences, strict=True):
        long = np.flatnonzero((ends - begins) / 1e9 > max(least, SHARE * _window_s(trial)))
        for begin, end in ((int(begins[place]), int(ends[place])) for place in long):
            allowed = max(least, _prefill_allows([flow for _, flow in trials], flow, begin, end))
            if (end - begin) / 1e9 > allowed and not _client_stood(trial, begin, end):
                at_s = (begin - trial.t0_ns) / 1e9
                yield Stall(trial.index, (end - begin) / 1e9, usual, at_s, "no token came, with requests in flight,")


def _silences(flow: Flow) -> tuple[Any, Any]:
    """Begin and end of each time between tokens within the window, and its edges, in which a request was in flight."""
    import numpy as np

    order = np.argsort(flow.at, kind="stable")
    order = order[flow.inside[order]]
    starts = np.fromiter((row.start_ns for row in flow.rows), dtype=np.int64)
    begins = np.concatenate(([flow.t0], flow.at[order]))
    ends = np.concatenate((flow.at[order], [flow.t1]))
    plain = begins.copy()
    # the request of the token that ends a silence was in flight; of the longest ones, all that were
    begins[:-1] = np.maximum(begins[:-1], starts[flow.owner[order]])
    begins[-1] = flow.t1
    for place in {*np.argsort(plain - ends, kind="stable")[:CLOSELY], len(ends) - 1}:
        there = starts[(starts < ends[place]) & (flow.end >= ends[place])]
        if len(there):
            begins[place] = max(plain[place], there.min())
    return begins, ends


def _prefill_allows(flows: Sequence[Flow], flow: Flow, begin: int, end: int) -> float:
    """Seconds that a silence may last where a request waits for its first token: its prompt may keep all others
    waiting, as other prompts have. 0 where none waits."""
    waiting = _waiting(flow, begin, end)
    if not waiting:
        return 0.0
    others = [
        (one, place)
        for one in flows
        for place in range(len(one.rows))
        if one.first[place] >= 0 and not (one is flow and place in waiting)
    ]
    others = others[:: max(1, len(others) // ASKED)]
    if not others:
        return math.inf
    inputs = statistics.median(one.rows[place].input_tokens for one, place in others)
    longest = max(flow.rows[place].input_tokens for place in waiting)
    kept = statistics.median(_keeps(one, place) for one, place in others)
    return PREFILL_TIMES * kept * max(1.0, longest / max(inputs, 1))


def _waiting(flow: Flow, begin: int, end: int) -> set[int]:
    """Requests that had no token yet at some time of a silence."""
    return {
        place
        for place, row in enumerate(flow.rows)
        if row.start_ns < end and row.end_ns > begin and (flow.first[place] < 0 or flow.first[place] >= end)
    }


def _keeps(flow: Flow, place: int) -> float:
    """The longest time without any token while a request waited for its first one, in seconds."""
    import numpy as np

    begin, end = flow.rows[place].start_ns, int(flow.first[place])
    there = np.sort(flow.at[(flow.at > begin) & (flow.at < end)])
    return float(np.diff(np.concatenate(([begin], there, [end]))).max()) / 1e9


def _client_stood(trial: Trial, begin: int, end: int) -> bool:
    """Whether it was the load generator that took nothing for most of that time, which it says itself."""
    facts = trial.serving
    client = None if facts is None else facts.client
    if client is None:
        return False
    common = sum(max(min(end, until) - max(begin, since), 0) for since, until in client.stalls)
    return common > (end - begin) / 2
