"""Mean and percentiles of latencies, with intervals. Pure and closed: the same numbers in give the same bits out.

Of an offline load a percentile is a metric like any other: each trial has one, the value is their mean, and the
interval is Student's over trials, or over engine processes where there are several. What differs from trial to trial
is thus in the interval, however many batches a window has.

Of a serving load a percentile is over the requests of all windows together, because a tail needs many of them. Its
interval is Student's, on logarithms, from the scatter of the windows' percentiles. One window, or two of one process,
are cut into `RUNS` runs of consecutive requests, which take the place of windows: the method of batch means (Schmeiser,
Operations Research 30, 1982), with few long runs because requests wait for those before them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from llem.metrics.quantity import ONE_WINDOW, Value, absent, covers, quantity
from llem.metrics.statistics import CONFIDENCE, clustered, mean
from llem.store.models import Quantity

__all__ = ["PERCENTILES", "RUNS", "Blocks", "family", "hazen", "of_trial", "supports"]

PERCENTILES = (0.5, 0.9, 0.95, 0.99)
#: Values of one trial in blocks. Offline, a block is one observation: the values of all requests of a batch, which
#: share its time. Of a serving load, a block is a run of consecutive requests, and each value is an observation.
Blocks = Sequence[Sequence[float]]
#: Serving windows from which on their scatter gives an interval; runs that a window is cut into below it.
RUNS = 3


def supports(observations: int, q: float) -> bool:
    """Whether so many observations have one beyond the quantile `q` on average: 2 for p50, 10, 20 and 100 for p99.

    With fewer, every estimate without a model of the tail is biased: the p99 of 36 values is about their maximum.
    """
    return observations * (1 - q) >= 1 - 1e-9


def hazen(ordered: Sequence[float], q: float, observations: int) -> float:
    """The mean of the ascending values around the quantile: of the share 1 / `observations` of them.

    Where each value is an observation, this is Hazen's estimate, linear between the ranks next to
    n q + 1/2 (1914; definition 5 of Hyndman and Fan, American Statistician 50, 1996). Its bias is less than a tenth of
    its standard deviation for normal values and n (1 - q) >= 1, where that of the observed rank is up to 0.6 of it. As
    a mean of trials does not average a bias away, an interval over trials needs that. Copies of an observation change
    nothing.
    """
    n = len(ordered)
    low, high = max((q - 0.5 / observations) * n, 0.0), min((q + 0.5 / observations) * n, float(n))
    ranks = range(math.floor(low), math.ceil(high))
    weights = [min(rank + 1, high) - max(rank, low) for rank in ranks]
    return math.fsum(w * float(ordered[r]) for w, r in zip(weights, ranks, strict=True)) / math.fsum(weights)


def of_trial(blocks: Blocks, quantiles: Sequence[float], reason: str, *, serving: bool) -> dict[float | None, Value]:
    """The mean, by None, and the percentiles of one trial's values, in seconds.

    Args:
        reason: why there is no value where no request has one. A percentile that `supports` denies to this trial has
            the reason "too_few_values".
    """
    filled = sum(1 for block in blocks if len(block))
    if not filled:
        return {key: Value(None, reason=reason) for key in (None, *quantiles)}
    ordered = _ordered(blocks)
    found: dict[float | None, Value] = {None: Value(mean(ordered.tolist()))}
    for q in quantiles:
        observations = len(ordered) if serving else filled
        if supports(observations, q):
            found[q] = Value(hazen(ordered, q, observations))
        else:
            found[q] = Value(None, reason="too_few_values")
    return found


def family(
    trials: Sequence[Blocks],
    reason: str,
    *,
    partial: str,
    quantiles: Sequence[float] = PERCENTILES,
    serving: bool = False,
    processes: Sequence[int] | None = None,
) -> dict[float | None, Quantity]:
    """The mean of one latency in seconds, by None, and its percentiles.

    Args:
        trials: the blocks of each trial.
        reason: why there is no value where no request has one; `partial`: where one of several trials has none.
        serving: blocks are runs of consecutive requests, not observations.
        processes: the engine process of each trial; None where all are of one.
    """
    keys = (None, *quantiles)
    some = [any(map(len, trial)) for trial in trials]
    if not all(some) or not some:  # never a mean over those trials that happened to have it
        return {key: absent("s", partial if any(some) else reason) for key in keys}
    numbers = [0] * len(trials) if processes is None else processes
    singles = [of_trial(trial, quantiles, reason, serving=serving) for trial in trials]
    if not serving:
        return {key: quantity([single[key] for single in singles], "s", numbers) for key in keys}
    return _served(trials, singles, quantiles, numbers)


def _served(
    trials: Sequence[Blocks],
    singles: Sequence[Mapping[float | None, Value]],
    quantiles: Sequence[float],
    processes: Sequence[int],
) -> dict[float | None, Quantity]:
    """Means over windows, and percentiles over all requests; with runs in place of windows where those are few.

    A percentile has an interval where each part supports it: the scatter of maxima is not that of a percentile.
    """
    runs = [block for trial in trials for block in trial]
    cut = len(trials) < RUNS and len(set(processes)) == 1
    parts = [of_trial([run], quantiles, "", serving=True) for run in runs] if cut else singles
    sizes = [len(run) for run in runs] if cut else [sum(map(len, trial)) for trial in trials]
    label = ONE_WINDOW if len(trials) == 1 else covers(processes)
    numbers = list(processes[:1]) * len(runs) if cut else processes
    whole = _ordered(runs)

    def over_parts(value: float, key: float | None) -> Quantity:
        each = [part[key].value for part in parts]
        known = [one for one in each if one is not None]
        if len(known) < max(len(each), 2) or not (key is None or supports(min(sizes), key)):
            return Quantity(value, "s", n=len(whole), processes=len(set(processes)), method="observed")
        low, high = _around(value, known, numbers)
        method = "batch_means" if cut else "student_t"
        return Quantity(value, "s", low, high, CONFIDENCE, len(known), len(set(processes)), label, method)

    means = [Value(single[None].value) for single in singles]
    first = quantity(means, "s", processes) if len(trials) > 1 else over_parts(means[0].value or 0.0, None)
    return {None: first, **{q: over_parts(hazen(whole, q, len(whole)), q) for q in quantiles}}


def _around(value: float, each: Sequence[float], processes: Sequence[int]) -> tuple[float, float]:
    """The scatter of the parts around the value: on logarithms, for tails are skewed, where no part's value is 0."""
    if min(each) <= 0:
        half = clustered(each, processes).half_width
        return value - half, value + half
    half = clustered([math.log(one) for one in each], processes).half_width
    return value * math.exp(-half), value * math.exp(half)


def _ordered(groups: Sequence[Sequence[float]]) -> Any:
    """All values, ascending, as an array: gaps between tokens come in millions."""
    import numpy as np

    return np.sort(np.concatenate(groups, dtype=np.float64))
