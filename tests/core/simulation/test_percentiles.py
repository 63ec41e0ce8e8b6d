"""Simulated studies through `family`: intervals of percentiles cover what they state, or there are none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from llem.metrics.percentiles import family

STUDIES = 400
#: Standard deviation of batches whose mean is 1.
CV = 0.02
QUANTILES = (0.5, 0.9, 0.95, 0.99)
NORMAL = dict(zip((None, *QUANTILES), (0.0, 0.0, 1.2815516, 1.6448536, 2.3263479), strict=True))


def coverage(
    batches: int, processes: Sequence[int], between: float, cv: float = 0.02
) -> dict[float | None, float | None]:
    """Share of studies whose interval holds the truth; None for a percentile that has no interval in any of them.

    Args:
        processes: of each trial; each process, or with one process each trial, has an effect of its own.
        between: its standard deviation, in units of that of the batches.
    """
    random = np.random.RandomState(11)
    groups = processes if len(set(processes)) > 1 else range(len(processes))
    hits: dict[float | None, list[bool]] = {key: [] for key in NORMAL}
    for _ in range(STUDIES):
        effects = between * random.normal(size=max(groups) + 1)
        trials = [1 + CV * (effects[group] + random.normal(size=(batches, 1))) for group in groups]
        found = family(trials, "", partial="", quantiles=QUANTILES, processes=processes)
        for key, z in NORMAL.items():
            one = found[key]
            if one.low is not None:
                hits[key].append(one.low <= 1 + CV * z <= one.high)
    assert all(len(told) in (0, STUDIES) for told in hits.values())
    return {key: sum(told) / STUDIES if told else None for key, told in hits.items()}


@pytest.mark.parametrize("between", [0.0, 1.0])
@pytest.mark.parametrize(
    ("batches", "processes"),
    [(36, [0] * 5), (3, [0] * 5), (100, [0] * 5), (100, [0] * 10), (36, [0, 0, 0, 1, 1, 1]), (20, [0, 1, 2, 3, 4] * 2)],
)
def test_offline_intervals_cover(batches, processes, between):
    """95 % intervals cover in 92 to 98 % of 400 studies, whatever trials and processes add; others are withheld."""
    for q, covered in coverage(batches, processes, between).items():
        if q is None or batches * (1 - q) >= 1 - 1e-9:
            assert covered is not None, q
            assert 0.92 <= covered <= 0.98, (q, covered)
        else:
            assert covered is None, q


def test_one_trial_claims_nothing():
    """36 batches of one window: values and no interval, since windows may differ."""
    assert set(coverage(36, [0], 1.0).values()) == {None}


@pytest.mark.parametrize("windows", [1, 2, 5])
def test_serving_intervals_cover_where_requests_are_independent(windows):
    """Exponential latencies, 400 requests a window: p50 to p99 cover in 91 to 98 % of 400 studies."""
    random = np.random.RandomState(5)
    hits = dict.fromkeys(QUANTILES, 0)
    for _ in range(STUDIES):
        trials = [np.array_split(random.exponential(size=400), 3) for _ in range(windows)]
        found = family(trials, "", partial="", quantiles=QUANTILES, serving=True)
        for q in QUANTILES:
            hits[q] += found[q].low <= -np.log(1 - q) <= found[q].high
    assert all(0.91 <= one / STUDIES <= 0.98 for one in hits.values()), hits
