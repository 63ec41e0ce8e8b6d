"""The engine stood still within a window while the worker ran: no token came, or one batch took far too long. Pure.

What is usual is taken from the same trials: the time that ranks after as many as one per two trials, and after one of a
thousand. So one stall in up to half of the windows shows; what recurs in most windows is the engine's own way, and is
not told. How much longer a time must be follows from the usual ones, as of a tail that falls like a power (Hill's
estimator, below that rank): with a slope of 1/a, the longest of k exceeds the k-th by a factor r with a probability of
k r^-a at most.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import attrs

from llem.findings import Finding, finding
from llem.metrics.checks.batches import Batch, batches_of
from llem.metrics.checks.pauses import was_paused
from llem.metrics.flow import Flow
from llem.metrics.metric import Measured
from llem.store.models import RequestRow, Trial

__all__ = ["alike", "stalls"]

#: A stall takes this share of a window at least, and so many seconds.
SHARE, LEAST_S = 0.05, 0.2
#: It lasts so many times as long as the usual longest, at least and at most.
SILENCE_TIMES, BATCH_TIMES = (3.0, 10.0), (1.5, 10.0)
#: So seldom may a time without a stall be as long; and so many usual times tell how they scatter.
LEVEL, TAIL = 0.001, 10
#: Of few batches, little is known of what is usual.
FEW, FEW_TIMES = 5, 2.0
#: Share of the silences that are rare by themselves.
RARE = 0.001
#: A silence while requests wait for their first token may last this many times as long, per token of their prompts, as
#: others' do.
PREFILL_TIMES = 3.0
#: A request waited through a silence that it was sent into within this share of it.
SENT_SHARE = 0.25
#: Of the silences of a request's wait, a tenth of the longest is long: less lies between tokens of one step.
OWN_SHARE = 0.1
#: It is longer than so many times what single requests wait, of which this many are asked.
WAIT_TIMES, ASKED = 3.0, 500
#: Silences of a window at whose begin all requests are looked at.
CLOSELY = 50


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
    trials = sorted({stall.trial for stall in found})
    if not found or len(trials) > max(1, len(measured.trials) / 2):
        return
    worst = max(found, key=lambda stall: stall.seconds)
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


def _times(ordered: Sequence[float], rank: int, bounds: tuple[float, float]) -> float:
    """How many times as long as the usual longest a time must be. `ordered`: from that one on, the longest first."""
    tail = [one for one in ordered[: TAIL + 1] if one > 0]
    slope = statistics.fmean(math.log(one / tail[-1]) for one in tail[:-1]) if len(tail) > 1 else 0.0
    least, most = bounds
    return float(min(max((rank / LEVEL) ** slope, least), most))


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
    times = max(_times(ordered, rank, BATCH_TIMES), BATCH_TIMES[0] if len(ordered) >= FEW else FEW_TIMES)
    for trial, batch in known:
        more = max((kind / of for kind, of in zip(batch.work, work, strict=True) if of), default=1.0)
        seconds, allowed = _seconds(batch), max(more, 1.0) * usual
        if seconds > times * allowed and seconds - median > max(SHARE * _window_s(trial), LEAST_S):
            yield Stall(trial.index, seconds, allowed, (batch.start_ns - trial.t0_ns) / 1e9, "one batch went on")


def _seconds(batch: Batch) -> float:
    return (batch.end_ns - batch.start_ns) / 1e9


def _window_s(trial: Trial) -> float:
    return trial.planned_s or trial.duration_s


# silences of a serving load


@attrs.frozen(eq=False)
class _Silences:
    """Times between tokens within one window, and its edges, in which a request was in flight; columns, monotonic ns.

    Attributes:
        prompts: tokens of the prompts that were worked on: of each request that waited for its first token, they count
            at the last long silence of its wait; those before it are of requests that it queued behind.
    """

    begins: Any
    ends: Any
    prompts: Any

    @property
    def seconds(self) -> Any:
        return (self.ends - self.begins) / 1e9


def _silent(trials: Sequence[tuple[Trial, Flow]]) -> Iterator[Stall]:
    """Times without a token of any request while one was in flight, beyond what work on prompts explains."""
    import numpy as np

    if not trials:
        return
    found = [_silences(flow) for _, flow in trials]
    seconds, prompts = (np.concatenate([getattr(one, name) for one in found]) for name in ("seconds", "prompts"))
    per_token = float(np.median(seconds[prompts > 0] / prompts[prompts > 0])) if (prompts > 0).any() else 0.0
    rest = np.sort(np.maximum(seconds - per_token * prompts, 0.0))[::-1]
    rank = _rank(len(trials), len(rest))
    if len(rest) < rank:
        return
    ordered = [float(one) for one in rest[rank - 1 : rank + TAIL]]
    usual, least = ordered[0], max(_times(ordered, rank, SILENCE_TIMES) * ordered[0], LEAST_S)
    for (trial, flow), one in zip(trials, found, strict=True):
        allowed = np.maximum(least + PREFILL_TIMES * per_token * one.prompts, SHARE * _window_s(trial))
        for place in np.flatnonzero(one.seconds > allowed):
            begin, end = int(one.begins[place]), int(one.ends[place])
            if (end - begin) / 1e9 > _waits([flow for _, flow in trials], flow, begin, end) and not _client_stood(
                trial, begin, end
            ):
                at_s, normal = (begin - trial.t0_ns) / 1e9, max(usual, per_token * float(one.prompts[place]))
                yield Stall(trial.index, (end - begin) / 1e9, normal, at_s, "no token came, with requests in flight,")


def _silences(flow: Flow) -> _Silences:
    import numpy as np

    order = np.argsort(flow.at, kind="stable")
    order = order[flow.inside[order]]
    starts = np.fromiter((row.start_ns for row in flow.rows), dtype=np.int64, count=len(flow.rows))
    plain = np.concatenate(([flow.t0], flow.at[order]))
    ends = np.concatenate((flow.at[order], [flow.t1]))
    # the request of the token that ends a silence was in flight; at the longest ones, all that were
    begins = np.concatenate((np.maximum(plain[:-1], starts[flow.owner[order]]), [flow.t1]))
    for place in {*np.argsort(plain - ends, kind="stable")[:CLOSELY].tolist(), len(ends) - 1}:
        there = starts[(starts < ends[place]) & (flow.end >= ends[place])]
        if len(there):
            begins[place] = max(plain[place], there.min())
    return _Silences(begins, ends, _worked_on(flow, starts, begins, ends))


def _worked_on(flow: Flow, starts: Any, begins: Any, ends: Any) -> Any:
    """Prompt tokens by silence. A request without a token by the window's end waits until then."""
    import numpy as np

    prompts = np.zeros(len(ends), dtype=np.int64)
    lengths = ends - begins
    until = np.where((flow.first < 0) | (flow.first > flow.t1), flow.t1, flow.first)
    # a client sends its next request a moment after the last token, when the silence has begun
    firsts = np.searchsorted(begins + lengths * SENT_SHARE, starts, side="left")
    lasts = np.searchsorted(ends, until, side="right")
    for place in np.flatnonzero((firsts < lasts) & (flow.end > flow.t0)):
        waits = lengths[int(firsts[place]) : int(lasts[place])]
        own = int(np.flatnonzero(waits >= OWN_SHARE * waits.max())[-1])
        prompts[int(firsts[place]) + own] += flow.inputs[place]
    return prompts


def _waits(flows: Sequence[Flow], flow: Flow, begin: int, end: int) -> float:
    """Seconds that single requests wait at most, by their median and apart from this silence: where each is slow and
    many overlap, silences are short until one is alone. Between tokens where a request had some, else for the first.
    """
    within = [i for i, row in enumerate(flow.rows) if row.start_ns <= begin and row.end_ns >= end]
    decoding = any(0 <= flow.first[i] <= begin for i in within)
    rows = [row for one in flows for i, row in enumerate(one.rows) if decoding or not (one is flow and i in within)]
    known = [row for row in rows if len(row.token_times_ns or ()) > decoding]
    longest = [_longest(row, decoding, begin, end) for row in known[:: len(known) // ASKED + 1]]
    return WAIT_TIMES * statistics.median(longest) if longest else math.inf


def _longest(row: RequestRow, decoding: bool, begin: int, end: int) -> float:
    times = row.token_times_ns or ()
    if not decoding:
        return (times[0] - row.start_ns) / 1e9
    return max((later - one for one, later in pairwise(times) if one > begin or later < end), default=0) / 1e9


def _client_stood(trial: Trial, begin: int, end: int) -> bool:
    """Whether it was the load generator that took nothing for most of that time, which it says itself."""
    facts = trial.serving
    client = None if facts is None else facts.client
    if client is None:
        return False
    common = sum(max(min(end, until) - max(begin, since), 0) for since, until in client.stalls)
    return common > (end - begin) / 2
