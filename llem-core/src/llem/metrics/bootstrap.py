"""Percentile bootstraps over groups of values. Pure: the same numbers in give the same bits out.

Requests of one batch share their fate, and so do consecutive requests of a serving load. So groups are resampled as
wholes, not the values in them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from llem.metrics.statistics import CONFIDENCE, Interval, quantile

__all__ = ["bootstrap_mean", "bootstrap_quantiles"]

RESAMPLES = 1000
#: Of the resamples; changing it would change results that are stored.
SEED = 0
#: Groups beyond this number are merged with their neighbours, and values beyond it share bins of equal count.
MAX_BLOCKS = 1000
MAX_BINS = 1024


def _weights(blocks: int) -> Any:
    """How often each block is drawn, by resample: an array of shape (RESAMPLES, blocks)."""
    import numpy as np

    # The legacy generator, because its stream is frozen across releases of numpy and results must recompute exactly.
    random = np.random.RandomState(SEED)
    drawn = random.randint(0, blocks, size=(RESAMPLES, blocks), dtype=np.int64)
    return np.stack([np.bincount(row, minlength=blocks) for row in drawn]).astype(np.float64)


def _blocks(groups: Sequence[Sequence[float]]) -> Sequence[Sequence[float]]:
    """Groups without the empty ones, neighbours merged when there are more than `MAX_BLOCKS`."""
    filled = [group for group in groups if len(group)]
    if len(filled) <= MAX_BLOCKS:
        return filled
    merged: list[list[float]] = [[] for _ in range(MAX_BLOCKS)]
    for i, group in enumerate(filled):
        merged[i * MAX_BLOCKS // len(filled)].extend(group)
    return merged


def _percentile_interval(point: float, estimates: Any, n: int) -> Interval:
    ordered = sorted(float(e) for e in estimates)
    tail = (1 - CONFIDENCE) / 2
    return Interval(point, quantile(ordered, tail), quantile(ordered, 1 - tail), n)


def bootstrap_mean(groups: Sequence[Sequence[float]]) -> Interval | None:
    """Mean over all values with a percentile bootstrap over groups; None for fewer than two groups."""
    import numpy as np

    blocks = _blocks(groups)
    if len(blocks) < 2:
        return None
    sums = np.array([math.fsum(block) for block in blocks])
    counts = np.array([float(len(block)) for block in blocks])
    weights = _weights(len(blocks))
    # Elementwise, not by a matrix product: its order of summation differs from one linear-algebra library to the next.
    estimates = [math.fsum(w * sums) / math.fsum(w * counts) for w in weights]
    return _percentile_interval(math.fsum(sums) / math.fsum(counts), estimates, len(blocks))


def bootstrap_quantiles(groups: Sequence[Sequence[float]], quantiles: Sequence[float]) -> tuple[Interval, ...] | None:
    """Quantiles over all values with percentile bootstrap intervals over groups; None for fewer than two groups.

    Beyond `MAX_BINS` values the ends of an interval are exact to one bin of equal count (0.1 % of the values).
    """
    import numpy as np

    blocks = _blocks(groups)
    if len(blocks) < 2:
        return None
    values = np.concatenate([np.asarray(block, dtype=np.float64) for block in blocks])
    owner = np.repeat(np.arange(len(blocks)), [len(block) for block in blocks])
    order = np.argsort(values, kind="stable")
    n = len(values)
    ordered: Any = values[order]
    bins = min(n, MAX_BINS)
    place = np.arange(n) * bins // n
    counts = np.zeros((len(blocks), bins))
    np.add.at(counts, (owner[order], place), 1.0)
    edges = ordered[np.searchsorted(place, np.arange(bins), side="right") - 1]
    # Whole numbers in float64: this product is exact in any order of summation.
    below = np.cumsum(_weights(len(blocks)) @ counts, axis=1)
    found = []
    for q in quantiles:
        need = np.ceil(q * below[:, -1] - 1e-9)
        estimates = edges[(below < need[:, None]).sum(axis=1)]
        found.append(_percentile_interval(float(quantile(ordered, q)), estimates, len(blocks)))
    return tuple(found)
