"""The engine stood still within a window while the worker ran: no token came, or one batch took far too long. Pure.

Two rules, both from the same trials alone:

- What is usual is the time that ranks after as many as one per two trials, and after one of a thousand. So one stall in
  up to half of the windows shows. How much longer a time must be follows from the usual ones, as of a tail that falls
  like a power (Hill's estimator, below that rank): with a slope of 1/a, the longest of k exceeds the k-th by a factor r
  with a probability of k r^-a at most.
- A few times stand so far apart from all others that no scatter makes them, in whatever windows they are. So a stall in
  most windows shows. An accident and the engine's own way look the same there, and the finding is a warning.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import attrs

from llem.findings import Finding, finding
from llem.metrics.checks.batches import Batch, batches_of
from llem.metrics.checks.pauses import was_paused
from llem.metrics.checks.silences import (
    CLOSELY,
    Silences,
    client_stood,
    decoding,
    pace,
    prompts_of,
    silences_of,
    single_wait,
)
from llem.metrics.checks.words import in_trials
from llem.metrics.flow import Flow
from llem.metrics.metric import Measured
from llem.store.models import Trial

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
#: So many per window, and of so many silences or batches one, are few; the shortest of them lasts so many times as long
#: as the longest of all others.
PER_WINDOW, OF_SILENCES, OF_BATCHES = 3, 100, 10
APART_SILENCE, APART_BATCH = 10.0, 3.0


@attrs.frozen
class Stall:
    """One time without progress: in seconds, what is usual, and where it began in its window."""

    trial: int
    seconds: float
    usual_s: float
    at_s: float
    what: str


def stalls(measured: Measured) -> Iterable[Finding]:
    """`stalled` where the engine stood still in half of the windows at most, `stalls_recur` where it did in more."""
    usable = [not was_paused(measured.setup, trial) for trial in measured.trials]
    if measured.served:
        flows = [
            (trial, flow)
            for trial, flow, ok in zip(measured.trials, measured.flows, usable, strict=True)
            if ok and flow is not None
        ]
        long, apart = ([], []) if measured.setup.chunks_untold else _silent(flows)
    else:
        rows = zip(measured.trials, measured.rows, usable, strict=True)
        batches = [(trial, batches_of(trial, there)) for trial, there, ok in rows if ok]
        long, apart = list(_long(batches)), _apart_batches(batches)
    few = max(1, len(measured.trials) // 2)
    if found := next((each for each in (long, apart) if 0 < len(_indices(each)) <= few), None):
        yield _stalled(found)
    elif apart:
        yield _recur(apart, measured.trials)


def _indices(found: Iterable[Stall]) -> list[int]:
    return sorted({stall.trial for stall in found})


def _stalled(found: Sequence[Stall]) -> Finding:
    worst, trials = max(found, key=lambda stall: stall.seconds), _indices(found)
    message = (
        f"{worst.what} for {worst.seconds:.2f} s, where {worst.usual_s:.3g} s is the usual longest{in_trials(trials)}"
    )
    evidence = {"stalled_s": worst.seconds, "usual_s": worst.usual_s, "at_s": worst.at_s}
    return finding("stalled", message, **evidence, trial=worst.trial, trials=trials)


def _recur(found: Sequence[Stall], trials: Sequence[Trial]) -> Finding:
    worst, where = max(found, key=lambda stall: stall.seconds), _indices(found)
    share = sum(stall.seconds for stall in found) / sum(_window_s(trial) for trial in trials)
    message = (
        f"{worst.what} for up to {worst.seconds:.2f} s, {len(found)} times within {len(where)} of {len(trials)} "
        f"windows and {share:.0%} of their time; the next longest, work apart, is {worst.usual_s:.3g} s"
        f"{in_trials(where)}"
    )
    evidence = {"stalled_s": worst.seconds, "usual_s": worst.usual_s, "at_s": worst.at_s, "times": len(found)}
    return finding("stalls_recur", message, **evidence, share=share, trial=worst.trial, trials=where)


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


Where = TypeVar("Where")


def _few(times: Sequence[tuple[float, Where]], most: int, apart: float) -> tuple[list[tuple[float, Where]], float]:
    """The greatest number of longest times that stand apart from all others, and the longest of those others.

    Args:
        times: in seconds, and of what.
        most: that many at most.
        apart: the shortest of them is so many times the longest of the others.
    """
    ordered = sorted(times, key=lambda one: -one[0])[: most + 1]
    for count in range(len(ordered) - 1, 0, -1):
        shortest, others = ordered[count - 1][0], ordered[count][0]
        if shortest >= max(apart * others, LEAST_S):
            return ordered[:count], others
    return [], 0.0


def _matter(found: list[Stall], trials: Iterable[Trial]) -> list[Stall]:
    """Those that together take their share of the windows; else none."""
    together = sum(stall.seconds for stall in found)
    return found if together >= SHARE * sum(_window_s(trial) for trial in trials) else []


# batches


def _long(trials: Sequence[tuple[Trial, Sequence[Batch]]]) -> Iterator[Stall]:
    """Batches that took far longer than others; longer, too, than more work explains."""
    known = [(trial, batch) for trial, batches in trials for batch in batches]
    rank = _rank(len(trials), len(known))
    if len(known) < max(rank, 2):
        return
    ordered = sorted((_seconds(batch) for _, batch in known), reverse=True)[rank - 1 :]
    usual, median = ordered[0], statistics.median(ordered)
    more = _more([batch for _, batch in known])
    times = max(_times(ordered, rank, BATCH_TIMES), BATCH_TIMES[0] if len(ordered) >= FEW else FEW_TIMES)
    for trial, batch in known:
        seconds, allowed = _seconds(batch), more(batch) * usual
        if seconds > times * allowed and seconds - median > max(SHARE * _window_s(trial), LEAST_S):
            yield Stall(trial.index, seconds, allowed, (batch.start_ns - trial.t0_ns) / 1e9, "one batch went on")


def _apart_batches(trials: Sequence[tuple[Trial, Sequence[Batch]]]) -> list[Stall]:
    """The few batches that took far longer than all others for the work that they had."""
    known = [(trial, batch) for trial, batches in trials for batch in batches]
    if not known:
        return []
    more, median = _more([batch for _, batch in known]), statistics.median(_seconds(batch) for _, batch in known)
    times = [(_seconds(batch) / more(batch), (trial, batch)) for trial, batch in known]
    chosen, others = _few(times, min(PER_WINDOW * len(trials), len(known) // OF_BATCHES), APART_BATCH)
    found = [
        Stall(trial.index, _seconds(batch), others, (batch.start_ns - trial.t0_ns) / 1e9, "one batch went on")
        for _, (trial, batch) in chosen
        if _seconds(batch) - median > LEAST_S
    ]
    return _matter(found, [trial for trial, _ in trials])


def _more(batches: Sequence[Batch]) -> Callable[[Batch], float]:
    """How many times the usual work a batch has at most, by the kind of work of which it has most; 1 for less."""
    work = [statistics.median(kind) for kind in zip(*(batch.work for batch in batches), strict=True)]
    return lambda batch: max([1.0, *(kind / of for kind, of in zip(batch.work, work, strict=True) if of)])


def _seconds(batch: Batch) -> float:
    return (batch.end_ns - batch.start_ns) / 1e9


def _window_s(trial: Trial) -> float:
    return trial.planned_s or trial.duration_s


# silences of a serving load


NO_TOKEN = "no token came, with requests in flight,"


def _silent(trials: Sequence[tuple[Trial, Flow]]) -> tuple[list[Stall], list[Stall]]:
    """Times without a token of any request while one was in flight, beyond what work on prompts explains: by the rule
    of what is usual, and the few that stand apart."""
    import numpy as np

    if not trials:
        return [], []
    found, flows = [silences_of(flow) for _, flow in trials], [flow for _, flow in trials]
    # what an edge of the window cuts off says too little of how long a prompt takes
    whole = np.concatenate([(one.seconds / np.maximum(one.prompts, 1))[1:-1][one.prompts[1:-1] > 0] for one in found])
    per_token = float(np.median(whole)) if len(whole) else pace(flows)
    return list(_beyond(trials, found, per_token)), _apart(trials, found, per_token)


def _beyond(trials: Sequence[tuple[Trial, Flow]], found: Sequence[Silences], per_token: float) -> Iterator[Stall]:
    """Those beyond the usual longest. `per_token`: seconds that a token of a prompt takes."""
    import numpy as np

    rest = np.concatenate([np.maximum(one.seconds - per_token * one.prompts, 0.0) for one in found])
    rest = np.sort(rest)[::-1]
    rank = _rank(len(trials), len(rest))
    if len(rest) < rank:
        return
    ordered = [float(one) for one in rest[rank - 1 : rank + TAIL]]
    usual, least = ordered[0], max(_times(ordered, rank, SILENCE_TIMES) * ordered[0], LEAST_S)
    flows = [flow for _, flow in trials]
    for (trial, flow), one in zip(trials, found, strict=True):
        allowed = np.maximum(least + PREFILL_TIMES * per_token * one.prompts, SHARE * _window_s(trial))
        for place in np.flatnonzero(one.seconds > allowed):
            begin, end = int(one.begins[place]), int(one.ends[place])
            if (end - begin) / 1e9 > single_wait(flows, flow, begin, end) and not client_stood(trial, begin, end):
                normal = max(usual, per_token * float(one.prompts[place]))
                yield Stall(trial.index, (end - begin) / 1e9, normal, (begin - trial.t0_ns) / 1e9, NO_TOKEN)


def _apart(trials: Sequence[tuple[Trial, Flow]], found: Sequence[Silences], per_token: float) -> list[Stall]:
    """The few that stand apart, though no prompt that was there explains them, while a request had had tokens."""
    flows = [flow for _, flow in trials]
    waits = pace(flows)
    times = []
    for (trial, flow), one in zip(trials, found, strict=True):
        for place in one.longest(CLOSELY):
            begin, end = int(one.begins[place]), int(one.ends[place])
            served, largest = prompts_of(flow, begin, end)
            explained = PREFILL_TIMES * max(per_token * served, waits * largest)
            times.append(((end - begin) / 1e9 - explained, (trial, flow, begin, end)))
    most = min(PER_WINDOW * len(trials), sum(len(one.begins) for one in found) // OF_SILENCES)
    chosen, others = _few(times, most, APART_SILENCE)
    spans = [(begin, end) for _, (_, _, begin, end) in chosen]
    stalled = [
        Stall(trial.index, (end - begin) / 1e9, max(others, 0.0), (begin - trial.t0_ns) / 1e9, NO_TOKEN)
        for _, (trial, flow, begin, end) in chosen
        if decoding(flow, begin, end)
        and not client_stood(trial, begin, end)
        and (end - begin) / 1e9 > single_wait(flows, flow, begin, end, spans)
    ]
    return _matter(stalled, [trial for trial, _ in trials])
