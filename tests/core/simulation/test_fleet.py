"""The number of replicas is near the truth in simulated studies: seeded, with noisy trials and few loads."""

from __future__ import annotations

import math

import numpy as np

from llem.analysis.capacity import Configuration, MeasuredLoad, capacity_of, interpolated
from llem.analysis.demand import DAY_S, Demand
from llem.analysis.fleet import power_curve, replicas_for, serve
from llem.analysis.limits import Limit
from llem.metrics.metric import Basis

CASES, COUNT, TRIALS = 500, 1_000, 5
#: Measured loads, as shares of the rate at which the queue never ends.
SHARES = (0.25, 0.5, 0.7, 0.8, 0.9, 0.97)
#: Standard deviations of the logarithm of one trial: of a p99 latency, and of power.
LATENCY_SD, POWER_SD = 0.10, 0.01


def latency(base, share):
    """As in a queue: it grows without bound as the rate nears what the engine can do."""
    return base / (1 - share)


def watts(idle, busy, share):
    """A curve that bends: power rises fast at first."""
    return idle + (busy - idle) * (1 - math.exp(-3 * share)) / (1 - math.exp(-3))


def measured(rng, truth, sd):
    """Draws of the true value from a few trials: Student's t around the mean of logarithms."""
    trials = math.log(truth) + sd * rng.standard_normal(TRIALS)
    error = trials.std(ddof=1) / math.sqrt(TRIALS)
    return np.exp(trials.mean() + error * rng.standard_t(TRIALS - 1, COUNT))


def case(seed):
    """One study, and what is true of it: replicas and kilowatt-hours a day."""
    rng = np.random.default_rng(seed)
    most, base, idle = rng.uniform(2, 40), rng.uniform(0.02, 0.1), rng.uniform(80, 130)
    busy = rng.uniform(400, 700)
    allowed = rng.uniform(0.3, 0.95)  # the true capacity as a share of the greatest rate
    limit = Limit("ttft:p99", "ttft_p99_s", True, latency(base, allowed))
    loads = tuple(
        MeasuredLoad(
            str(share),
            np.full(COUNT, share * most),
            measured(rng, watts(idle, busy, share), POWER_SD),
            (measured(rng, latency(base, share), LATENCY_SD),),
        )
        for share in SHARES
    )
    one = Configuration("one", "open", loads, 1, measured(rng, idle, POWER_SD), basis=Basis("gpu", "measured"))
    load = allowed * most * rng.uniform(1, 8)
    return one, limit, load, allowed * most, (most, idle, busy)


def test_replicas_are_within_1_of_the_truth():
    """The truth is 2 to 8. Within ±1 in at least 95 % of 500 studies; too few in at most 5 %, as the number claims."""
    near, enough = 0, 0
    for seed in range(CASES):
        one, limit, load, capacity, _ = case(seed)
        [row] = serve([one], Demand("load", ((DAY_S, load),)), [limit])
        needed = replicas_for(load, capacity)
        near += row.replicas is not None and abs(row.replicas - needed) <= 1
        enough += row.replicas is not None and row.replicas >= needed

    assert near >= 0.95 * CASES
    assert enough >= 0.95 * CASES


def test_capacity_is_not_overstated():
    """Latency bends upward between loads and the straight line does not, so the truth may lie above the interval; it
    lies below it in at most 2.5 % of the studies."""
    found = [(capacity_of(one, [limit]).estimate, truth) for one, limit, _, truth, _ in map(case, range(CASES))]

    assert np.mean([truth < estimate.low for estimate, truth in found]) <= 0.025
    assert np.mean([estimate.low <= truth <= estimate.high for estimate, truth in found]) >= 0.85


def test_power_between_loads_is_near_the_truth():
    """Straight lines through a curve that bends lie below it: by less than 5 % of power on these loads."""
    errors = []
    for seed in range(100):
        one, _, _, capacity, (most, idle, busy) = case(seed)
        found = float(np.median(interpolated(np.array([[capacity]]), *power_curve(one, capacity))))
        errors.append(found / watts(idle, busy, capacity / most) - 1)

    assert max(map(abs, errors)) < 0.05
