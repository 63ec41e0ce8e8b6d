"""Joint draws of what configurations are worth: whose errors they have, how they are shrunk, what goes together."""

from __future__ import annotations

import math

import attrs
import numpy as np
import pytest
from scipy.stats import t as student

from llem.analysis.background import Background
from llem.analysis.clusters import shrunk
from llem.analysis.correlation import correlation_of
from llem.analysis.difference import BOARD_SD
from llem.analysis.evidence import Evidence, evidence_of
from llem.analysis.posterior import Posterior
from llem.analysis.sides import Run, Side
from llem.analysis.units import Part
from llem.analysis.variance import ASSUMED_SD
from llem.metrics.result import Place

ENERGY, SPEED, TTFT = "energy_per_output_token_j", "output_tokens_per_s", "ttft_p99_s"
S = 1_000_000_000


def run(process, worker, at, block=0):
    stamp = f"2026-11-24T{at // 3600:02}:{at // 60 % 60:02}:{at % 60:02}+00:00"
    return Run(process, worker, stamp, at * S, (at + 10) * S, block)


def blocks(table, metric=ENERGY, **more):
    """Sides of one process of one trial in each block: `table` holds logarithms (configurations, blocks)."""
    count = len(table)
    return {
        f"c{i}": Side(
            tuple(run(b, i * len(row) + b, 20 * (b * count + i)) for b in range(len(row))),
            {metric: [math.exp(x) for x in row]},
            backend="simulated",
            **more,
        )
        for i, row in enumerate(table)
    }


def turns(table):
    """Sides that take turns in one engine process: `table` holds logarithms (configurations, trials)."""
    count = len(table)
    return {
        f"c{i}": Side(
            tuple(run(0, 0, 20 * (t * count + i), t) for t in range(len(row))),
            {ENERGY: [math.exp(x) for x in row]},
            backend="simulated",
        )
        for i, row in enumerate(table)
    }


def posterior(sides, **more):
    return Posterior(sides, Background(sides.values()), **more)


def error_of(evidence, a=0, b=1):
    """Standard error of the difference of two."""
    units = evidence.units
    own = sum(part.variances[i] for part in evidence.within for i in (a, b))
    between = sum(part.variances[units[i]] for part in evidence.between for i in (a, b)) if units[a] != units[b] else 0
    return math.sqrt(own + between + sum(evidence.steps))


def noise(shape, sd=0.01, seed=0):
    return np.random.default_rng(seed).normal(0, sd, shape)


# the errors are those of a comparison of two


@pytest.mark.parametrize(
    "sides",
    [
        blocks(noise((2, 3))),
        blocks(noise((5, 3), seed=4)),
        blocks(noise((2, 1), seed=2)),
        turns(noise((2, 5), seed=3)),
    ],
    ids=["two over processes", "blocks removed", "one process each", "turns in one process"],
)
def test_errors_are_those_of_the_comparison(sides):
    background, (a, b, *_) = Background(sides.values()), sides.values()
    found = evidence_of(list(sides.values()), ENERGY, background)
    pair = background.difference(a, b, ENERGY).estimate

    assert found.values[1] - found.values[0] == pytest.approx(pair.value)
    assert error_of(found) == pytest.approx(pair.error)


def test_configurations_of_one_engine_share_what_differs_between_engines():
    """Five trials in turns: the unit has the assumed 1 %, each configuration its residual of 8 degrees of freedom."""
    found = evidence_of(list(turns(noise((3, 5))).values()), ENERGY, Background())

    assert found.units == (0, 0, 0)
    assert [part.variances for part in found.between] == [(ASSUMED_SD**2,)]
    assert [part.freedom for part in found.within] == [8.0]
    assert found.steps == ()


def test_configurations_one_after_the_other_drift_by_assumption():
    """One process each in sequence: a step of sqrt(2) % for each mean length between their middles (20 s of 10 s)."""
    found = evidence_of(list(blocks(noise((3, 1))).values()), ENERGY, Background())

    assert found.steps == pytest.approx([4e-4, 4e-4])


def test_random_order_has_the_drift_of_neighbours():
    found = evidence_of(list(blocks(noise((3, 1)), shuffled=True).values()), ENERGY, Background())

    assert found.steps == ()
    assert [part.variances for part in found.between] == [(1e-4,) * 3, (1e-4,) * 3]


def test_an_unsteady_configuration_has_its_own_variance():
    table = noise((8, 5), 0.001)
    table[3] *= 30
    sides = blocks(table)
    own, pooled = evidence_of(list(sides.values()), ENERGY, Background(sides.values())).between

    assert [i for i, one in enumerate(own.variances) if one] == [3]
    assert pooled.variances[3] == 0
    assert own.variances[3] == pytest.approx(table[3].var(ddof=1) / 5)


def test_process_means_vary_at_least_as_their_trials_make_them():
    """Two processes of two trials whose means agree by luck: trials of 1 % give means of 0.7 % by themselves."""
    trials = [0.01, 0.01, -0.01, -0.01]
    sides = {
        f"c{i}": Side(
            tuple(run(b % 2, 2 * i + b % 2, 20 * (4 * i + b), b // 2) for b in range(4)),
            {ENERGY: [math.exp(i / 10 + x) for x in trials]},
            backend="simulated",
        )
        for i in range(2)
    }
    [part] = evidence_of(list(sides.values()), ENERGY, Background(sides.values())).between

    assert part.variances == pytest.approx((0.0, 0.0), abs=1e-12)
    assert part.least == pytest.approx((5e-5, 5e-5))
    assert part.least_freedom == 4.0


def test_what_is_counted_has_no_scatter():
    """Trials that never differ: one in a million more is more."""
    draws = posterior(turns([[1.0] * 5, [1.00001] * 5])).logs(ENERGY)

    assert (draws[:, 0] < draws[:, 1]).mean() > 0.99
    assert draws.std(axis=0).max() < 1e-4


def test_other_boards_are_off_by_their_calibration():
    """Beside 1.4 % of each by assumption, 2.6 % of each board."""
    same = blocks([[0.0], [0.0]], shuffled=True)
    place = [Place((uuid,), ("H200",), "machine") for uuid in ("GPU-a", "GPU-b")]
    other = {n: attrs.evolve(side, places=frozenset({p})) for (n, side), p in zip(same.items(), place, strict=True)}

    assert evidence_of(list(same.values()), ENERGY, Background()).places == ()
    assert evidence_of(list(other.values()), ENERGY, Background()).places == (0, 1)
    wider = posterior(other).logs(ENERGY).std() / posterior(same).logs(ENERGY).std()
    assert wider > 1.3
    assert BOARD_SD > ASSUMED_SD


# one configuration, one trial, no metric


def test_one_configuration_with_one_trial():
    """Nothing is measured of its scatter: the assumed 1 %, with few degrees of freedom."""
    found = posterior(blocks([[0.5]])).logs(ENERGY)

    assert found.shape == (10_000, 1)
    low, middle, high = np.quantile(found, (0.025, 0.5, 0.975))
    assert middle == pytest.approx(0.5, abs=0.001)
    assert (high - low) / 2 == pytest.approx(student.ppf(0.975, 4) * ASSUMED_SD, rel=0.1)


def test_a_side_without_the_metric_has_no_draws():
    sides = blocks(noise((3, 3)))
    sides["c1"] = attrs.evolve(sides["c1"], values={SPEED: [1.0, 1.1, 1.2]})
    found = posterior(sides, count=100)

    assert found.having(ENERGY) == ("c0", "c2")
    assert np.isnan(found.logs(ENERGY)).all(axis=0).tolist() == [False, True, False]
    assert np.isnan(found.predicted(ENERGY, 2)).all(axis=0).tolist() == [False, True, False]
    assert set(found.guaranteed(ENERGY, True)) <= {"c0", "c2"}
    with pytest.raises(KeyError, match=TTFT):
        found.logs(TTFT)


def test_the_same_seed_draws_the_same_whatever_was_asked_before():
    sides = {name: attrs.evolve(one, values={**one.values, SPEED: one.values[ENERGY]}) for name, one in
             blocks(noise((4, 3))).items()}  # fmt: skip
    first, second = posterior(sides, count=50, seed=3), posterior(sides, count=50, seed=3)
    first.logs(SPEED)

    assert (first.logs(ENERGY) == second.logs(ENERGY)).all()
    assert (first.logs(ENERGY) != posterior(sides, count=50, seed=4).logs(ENERGY)).any()


# the draws


def test_far_apart_means_are_not_shrunk_and_have_the_errors_of_student():
    """10 % apart at 0.3 %: the 95 % interval of a difference is that of the two-way layout."""
    table = np.array([[0.0], [0.1], [0.25], [0.4]]) + noise((4, 4), 0.003)
    sides = blocks(table)
    draws = posterior(sides).logs(ENERGY)
    pair = Background(sides.values()).difference(*list(sides.values())[:2], ENERGY).estimate
    low, high = np.quantile(draws[:, 1] - draws[:, 0], (0.025, 0.975))

    assert (low + high) / 2 == pytest.approx(pair.value, abs=2e-4)
    assert (high - low) / 2 == pytest.approx(pair.half_width, rel=0.1)


def test_means_that_differ_by_the_noise_are_drawn_together():
    """Twelve estimates as far apart as their errors make them: most of the differences are gone."""
    values = noise(12)
    draws = shrunk(values, np.full((1, 12), 1e-4), noise((4000, 12), 1.0), noise((4000, 2), 1.0), _rng())

    assert draws.mean(axis=0).std() < 0.5 * values.std()
    assert draws.mean() == pytest.approx(values.mean(), abs=0.002)


def test_clusters_are_shrunk_each_for_itself():
    """Two of 1 % scatter, as large as the error, and 50 % apart: one common deviation would leave both as they are."""
    values = np.concatenate([noise(6, seed=1), 0.5 + noise(6, seed=2)])
    draws = shrunk(values, np.full((1, 12), 1e-4), noise((4000, 12), 1.0), noise((4000, 2), 1.0), _rng())
    means = draws.mean(axis=0)

    assert means[:6].std() < 0.75 * values[:6].std()
    assert means[6:].mean() - means[:6].mean() == pytest.approx(0.5, abs=0.02)


def test_the_order_of_the_values_does_not_matter():
    values = noise(7)
    errors, innovations, centres = np.full((1, 7), 1e-4), noise((500, 7), 1.0), noise((500, 2), 1.0)
    there = shrunk(values, errors, innovations, centres, _rng())
    back = shrunk(values[::-1], errors, innovations[:, ::-1], centres, _rng())[:, ::-1]

    assert there == pytest.approx(back)


def test_a_new_process_varies_by_the_measured_variance():
    sides = blocks(noise((30, 4)) + np.arange(30)[:, None] / 10)
    found = posterior(sides)
    more = found.predicted(ENERGY, 2) - found.logs(ENERGY)
    pooled = Background(sides.values()).spread(ENERGY, sides["c0"])

    assert more.mean() == pytest.approx(0, abs=1e-3)
    assert more.std() == pytest.approx(math.sqrt(pooled.variance / 2), rel=0.05)


# two metrics


def test_metrics_are_drawn_as_their_residuals_go_together():
    """Speed is the inverse of energy, TTFT has noise of its own; configurations are far apart."""
    table = noise((10, 4)) + np.arange(10)[:, None] / 10
    own = blocks(noise((10, 4), seed=9) + np.arange(10)[:, None] / 10)
    sides = {
        name: attrs.evolve(
            one, values={**one.values, SPEED: [1 / x for x in one.values[ENERGY]], TTFT: own[name].values[ENERGY]}
        )
        for name, one in blocks(table).items()
    }
    found = posterior(sides)
    energy, speed, ttft = (found.logs(name)[:, 4] for name in (ENERGY, SPEED, TTFT))

    assert np.corrcoef(energy, speed)[0, 1] < -0.65
    assert abs(np.corrcoef(energy, ttft)[0, 1]) < 0.35


def test_correlations_of_few_residuals_are_drawn_to_zero():
    """Two blocks of two: one residual each, always in line; 2 of 2 + 2 degrees of freedom are believed."""
    sides = [
        Side(one.runs, {ENERGY: one.values[ENERGY], SPEED: one.values[ENERGY]})
        for one in blocks(noise((2, 2))).values()
    ]
    found = correlation_of(sides)

    assert (found.loadings @ found.loadings.T)[0, 1] == pytest.approx(0.5)


# Hsu's comparisons with the best


@pytest.mark.parametrize(("beyond", "left"), [(0.97, ("c0", "c1")), (1.03, ("c0",))])
def test_the_critical_value_of_two_is_students(beyond, left):
    """Two of 50 processes: the second is out from t(0.95) errors on."""
    table = noise((2, 50))
    table -= table.mean(axis=1, keepdims=True)
    sides = blocks(table)
    pair = Background(sides.values()).difference(sides["c0"], sides["c1"], ENERGY).estimate
    table[1] += beyond * student.ppf(0.95, pair.freedom) * pair.error

    assert posterior(blocks(table)).guaranteed(ENERGY, True) == left


def test_the_guaranteed_set_goes_by_direction_and_by_those_asked():
    found = posterior(blocks(noise((4, 3), 0.001) + np.arange(4)[:, None] / 10))

    assert found.guaranteed(ENERGY, True) == ("c0",)
    assert found.guaranteed(ENERGY, False) == ("c3",)
    assert found.guaranteed(ENERGY, True, among=("c2", "c3")) == ("c2",)


def test_alike_ones_are_all_kept():
    table = noise((6, 3))

    assert len(posterior(blocks(table - table.mean(axis=1, keepdims=True))).guaranteed(ENERGY, True)) == 6


def test_parts_of_one_scatter_are_wrong_together():
    """A draw that has a great variance has it for all: two estimates of one part are far off in the same draws."""
    from llem.analysis.posterior import CENTRES, draws

    found = Evidence((0.0, 1.0), (0, 1), (Part((1e-4, 1e-4), 2.0),))
    drawn = draws(found, noise((20_000, 2 + CENTRES), 1.0), _rng())

    assert np.corrcoef(np.abs(drawn - np.median(drawn, axis=0)).T)[0, 1] > 0.1


def _rng():
    return np.random.default_rng(5)
