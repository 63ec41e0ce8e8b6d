"""What an axis does, all else equal: pairing, reference, intervals, correction, and axes that only some values have."""

from __future__ import annotations

import itertools
import math
import random
import time

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llem.analysis import pareto
from llem.analysis.cells import Sample, sample_of
from llem.analysis.collection import Results
from llem.analysis.effects import adjusted, axis_effects, between, find_axis
from llem.analysis.pareto import Candidate, non_dominated, of_draws
from llem.analysis.ranking import deviation
from llem.analysis.variance import ASSUMED_FREEDOM, ASSUMED_SD, combined, t_quantile
from llem.errors import StoreError
from llem.metrics.statistics import holm
from llem.store.models import Quantity
from llem.store.store import Store

METRIC = "energy_per_output_token_j"


def samples(axes, value):
    """A sample for each point of a grid."""
    grid = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    return [Sample(str(n), point, value(point)) for n, point in enumerate(grid)]


def test_a_known_factor_is_found_whatever_the_other_axes_do():
    """B is 0.8 of A at each batch size, which itself changes the metric a hundredfold: the ratio is 0.8 exactly."""
    points = samples(
        {"dtype": ["a", "b"], "batch": [1, 8, 64]},
        lambda point: 100.0 / point["batch"] * (0.8 if point["dtype"] == "b" else 1.0),
    )
    [effect] = axis_effects(points, "dtype", METRIC)

    assert (effect.reference, effect.value) == ("a", "b")
    assert effect.ratio == pytest.approx(0.8)
    assert effect.low == pytest.approx(0.8, rel=1e-5)
    assert len(effect.pairs) == 3
    assert effect.averaged == ()


def test_the_interval_is_students_t_over_pairs():
    """By hand: logs 0, ln 2 and ln 4 have mean ln 2, deviation ln 2; t(0.975, 2) = 4.3027."""
    points = samples({"d": ["a", "b"], "n": [0, 1, 2]}, lambda p: 2.0 ** p["n"] if p["d"] == "b" else 1.0)
    [effect] = axis_effects(points, "d", METRIC)
    half = 4.302653 * math.log(2) / math.sqrt(3)

    assert effect.ratio == pytest.approx(2)
    assert effect.low == pytest.approx(2 * math.exp(-half), rel=1e-5)
    assert effect.high == pytest.approx(2 * math.exp(half), rel=1e-5)


def test_p_values_are_corrected_over_all_effects_and_verdicts_follow():
    """Holm over two axes and two metrics: the least p counts as often as there are effects; verdicts follow from it."""
    noise = random.Random(1)
    points = samples(
        {"d": ["a", "b", "c", "e"], "n": range(6)},
        lambda p: noise.lognormvariate(0, 0.05) * {"a": 1, "b": 1.2, "c": 1.02, "e": 1.0}[p["d"]],
    )
    metrics = (METRIC, "output_tokens_per_s")
    lower = {METRIC: True, "output_tokens_per_s": False}
    found = [one for axis in ("d", "n") for metric in metrics for one in axis_effects(points, axis, metric)]
    effects = adjusted(found, lower)
    least = min(effects, key=lambda one: one.p_value)

    assert len(effects) == 16
    assert least.value == "b"
    assert least.p_adjusted == pytest.approx(16 * least.p_value)
    assert all(one.p_adjusted >= one.p_value for one in effects)
    assert all((one.verdict != "") == (one.p_adjusted <= 0.05) for one in effects)
    assert {one.verdict for one in adjusted([*axis_effects(points, "d", METRIC)], lower, fake=True)} == {""}


def known(axes, value, error=0.002, workers=None):
    """Samples whose trials say how sure they are; `workers` gives the number of the engine process of a point."""
    return [
        Sample(
            one.id, one.values, one.metric, None, (error, 4.0), 1, frozenset({workers(one.values)} if workers else ())
        )
        for one in samples(axes, value)
    ]


def test_cells_that_agree_by_luck_do_not_make_the_interval_tiny():
    """Two cells with the same ratio, trials of 0.2 % each and one engine process: by hand."""
    points = known({"d": ["a", "b"], "n": [1, 2]}, lambda p: 1.01 if p["d"] == "b" else 1.0)
    [effect] = axis_effects(points, "d", METRIC)
    own, between = 2 * 0.002**2 / 2, ASSUMED_SD**2
    freedom = (own + between) ** 2 / (4 * (own / 4) ** 2 / 4 + between**2 / ASSUMED_FREEDOM)

    assert effect.ratio == pytest.approx(1.01)
    assert math.log(effect.high / effect.ratio) == pytest.approx(t_quantile(freedom) * math.sqrt(own + between))
    assert effect.assumed == ("processes",)


def test_scatter_over_cells_counts_where_it_is_greater():
    """An effect that depends on the other axis: the interval is over the cells, not over the trials of each."""
    axes = {"d": ["a", "b"], "n": list(range(6))}

    def value(point):
        return 1.0 + 0.1 * point["n"] * (point["d"] == "b")

    [effect], [bare] = (axis_effects(one, "d", METRIC) for one in (known(axes, value, 1e-5), samples(axes, value)))
    assert (effect.low, effect.high) == pytest.approx((bare.low, bare.high), rel=5e-3)


def test_cells_of_the_same_two_engines_are_one():
    """What differs between two engine processes is common to all batch sizes that ran in them."""
    axes, level = {"d": ["a", "b"], "n": list(range(20))}, {"a": 1.0, "b": 1.015}
    numbers = (lambda p: "ab".index(p["d"]), lambda p: 2 * p["n"] + (p["d"] == "b"))
    [shared], [apart] = (
        axis_effects(known(axes, lambda p: level[p["d"]], workers=one), "d", METRIC) for one in numbers
    )

    assert shared.low < 1 < shared.high
    assert apart.low > 1


def reference_and_others(error):
    """Two values and two batch sizes, 3 % apart; the first point has three processes, the others one each."""
    points = known({"d": ["a", "b"], "n": [1, 2]}, lambda p: 1.03 if p["d"] == "b" else 1.0)
    points = [attrs.evolve(one, number=number) for number, one in enumerate(points)]
    return [attrs.evolve(points[0], processes=3, error=(error, 2.0)), *points[1:]]


def test_a_measured_variance_between_processes_is_taken_and_not_the_assumed_one():
    """By hand: s^2 is 3 error^2; it counts 1/3 + 1 times in one cell, twice in the other, and a quarter of it all."""
    error = 0.031 / math.sqrt(3)
    [effect] = axis_effects(reference_and_others(error), "d", METRIC)
    half = t_quantile(2) * 0.031 * math.sqrt((1 / 3 + 1 + 2) / 4)

    assert (effect.between, effect.assumed) == ("measured", ())
    assert math.log(effect.high / effect.ratio) == pytest.approx(half)
    assert effect.p_value > 0.3
    [assumed] = axis_effects(reference_and_others(error), "d", METRIC, measured={})
    assert (assumed.between, assumed.assumed) == ("assumed", ("processes",))


def test_what_one_backend_measured_says_nothing_of_another():
    """A cell of two backends has a measured variance only where both have."""
    points = reference_and_others(0.01)
    points = [attrs.evolve(one, backend="x" if one.values["d"] == "a" else "y") for one in points]
    both = [attrs.evolve(one, processes=2, error=(0.02, 1.0)) if one.id == "2" else one for one in points]

    assert [axis_effects(one, "d", METRIC)[0].between for one in (points, both)] == ["assumed", "measured"]


def test_cells_less_steady_than_the_others_keep_their_own_variance():
    """Five processes each, one pair with ten times the scatter: the pooled variance would promise too much."""
    points = known({"d": ["a", "b"], "n": list(range(9))}, lambda p: 1.0, 0.002)
    points = [attrs.evolve(one, processes=5, error=(0.05 if one.values["n"] == 0 else 0.002, 4.0)) for one in points]
    [effect] = axis_effects(points, "d", METRIC)

    own, rest = 2 * 0.05**2, 8 * 2 * (16 * 0.002**2 + 2 * 0.05**2) / 18
    by_hand = combined(0.0, [(own / 81, 8.0), (rest / 81, 72.0)])
    assert math.log(effect.high) == pytest.approx(by_hand.half_width, rel=1e-6)


def test_drift_that_is_assumed_grows_with_the_distance_unless_a_reference_has_it():
    """Values whose points lie 2 and 9 apart in the file; a reference that was measured to the end has drift in it."""
    near, far = (known({"d": ["a", "b"], "n": list(range(count))}, lambda p: 1.0, 1e-5) for count in (2, 9))
    near, far = ([attrs.evolve(one, number=n) for n, one in enumerate(points)] for points in (near, far))
    [two], [nine] = (axis_effects(points, "d", METRIC, sequential=True) for points in (near, far))
    halves = [math.log(one.high) for one in (two, nine)]
    variances = [2 * ASSUMED_SD**2 * (1 / count + count) for count in (2, 9)]
    freedoms = [(1 / c + c) ** 2 * ASSUMED_FREEDOM / (1 / c**2 + c**2) for c in (2, 9)]

    assert halves == pytest.approx(
        [t_quantile(f) * math.sqrt(v) for v, f in zip(variances, freedoms, strict=True)], rel=1e-3
    )
    points = reference_and_others(0.01)
    for spanning, assumed in ((frozenset({"0"}), ()), (frozenset(), ("drift",))):
        [one] = axis_effects(points, "d", METRIC, sequential=True, measured=between(points, spanning))
        assert (one.between, one.assumed) == ("measured", assumed)


def test_the_pooled_view_and_a_comparison_know_the_same_variance(tmp_path, make):
    """One of three experiments has two processes that differ: neither view assumes anything of the others."""
    points = {"exp-one": "a", "exp-two": "b", "exp-thr": "c"}
    document = {
        "axes": ["d"],
        "experiments": list(points),
        "points": {name: {"number": n, "values": {"d": value}} for n, (name, value) in enumerate(points.items())},
    }
    store = Store.create(tmp_path / "measured", document)
    for name in points:
        make.fill(store, name, processes=2 if name == "exp-thr" else 1)
    results = Results.open(store)
    [effect, _] = results.by_axis("d", [METRIC])
    [compared] = results.compare("exp-one", "exp-two", [METRIC])

    assert (effect.between, compared.between) == ("measured", "measured")
    assert "processes" not in (*effect.assumed, *compared.assumed)
    assert math.log(effect.high) == pytest.approx(math.log(compared.ratio.high), rel=0.6)


def test_an_engine_that_both_share_cancels():
    """A load's axis within one engine: nothing is assumed between processes."""
    points = known({"d": [1, 2], "n": [1, 2]}, lambda p: float(p["d"]), workers=lambda p: p["n"])
    [effect] = axis_effects(points, "d", METRIC)

    assert (effect.between, effect.assumed) == ("shared", ())
    assert math.log(effect.high / 2) < 0.02


def test_a_study_in_sequence_assumes_drift():
    """All of one experiment before the next: cells that agree show nothing of it."""
    points = known({"d": ["a", "b"], "n": list(range(20))}, lambda p: 1.01 if p["d"] == "b" else 1.0)
    [blocks], [sequence] = (axis_effects(points, "d", METRIC, sequential=one) for one in (False, True))

    assert blocks.low > 1
    assert sequence.low < 1
    assert sequence.assumed == ("processes", "drift")


def test_a_sample_takes_the_error_of_its_quantity():
    """Half the interval over Student's quantile, relative to the value; of processes where there are several."""
    one = Quantity(2.0, "J", 1.9, 2.1, 0.95, 10, 2, "over processes", "student_t")
    assert sample_of("a", {}, one, None, frozenset()).error == (pytest.approx(0.1 / t_quantile(1) / 2), 1.0)
    assert sample_of("a", {}, Quantity(2.0, "J", n=1, processes=1), None, frozenset()).error is None


def test_the_adjusted_p_is_the_same_in_every_view(grid_store):
    """Of one metric or of all, whichever axis is asked for: one family over the study."""
    noise = random.Random(3)
    axes = {"dtype": ["a", "b"], "n": [1, 2, 3, 4]}
    results = Results.open(grid_store(axes, lambda p: {"energy": noise.lognormvariate(0, 0.05), "speed": 100.0}))
    both = {(one.axis, one.metric, one.value): one for axis in axes for one in results.by_axis(axis)}
    family = [one.p_value for one in both.values()]

    [alone] = results.by_axis("dtype", [METRIC])
    assert alone == both["dtype", METRIC, "b"]
    assert [one.p_adjusted for one in both.values()] == pytest.approx(list(holm(family)))


def test_one_pair_has_a_ratio_and_no_interval():
    """Of one pair nothing is known of the spread."""
    [effect] = axis_effects(samples({"d": ["a", "b"]}, lambda p: 1.0 if p["d"] == "a" else 3.0), "d", METRIC)

    assert effect.ratio == pytest.approx(3.0)
    assert (effect.low, effect.high, effect.p_value, effect.p_adjusted) == (None, None, None, None)


def test_points_without_a_partner_are_no_pair():
    """A point whose partner is missing says nothing of the axis."""
    points = samples({"d": ["a", "b"], "n": [1, 2, 3]}, lambda p: 1.0)
    effect = axis_effects([one for one in points if one.values != {"d": "b", "n": 2}], "d", METRIC)[0]

    assert [pair.reference for pair in effect.pairs] == [("0",), ("2",)]


def test_the_reference_can_be_chosen_by_value_or_as_it_is_typed():
    """`8` as number and as text; ratios turn round. One that no point has is refused with those there are."""
    points = samples({"n": [1, 8], "d": [0, 1]}, lambda p: float(p["n"]))

    for wanted in (8, "8"):
        [effect] = axis_effects(points, "n", METRIC, wanted)
        assert (effect.reference, effect.value, effect.ratio) == (8, 1, pytest.approx(1 / 8))
    with pytest.raises(StoreError, match="no point has n = 7") as caught:
        axis_effects(points, "n", METRIC, 7)
    assert caught.value.hint == "its values: 1, 8"


def test_axes_of_one_value_only_are_averaged_over():
    """A backend's own axis cannot be equal in another backend: its points enter by their geometric mean."""
    one = samples({"backend": ["x"], "x.cache": [0, 1], "n": [1, 2]}, lambda p: [2.0, 8.0][p["x.cache"]] * p["n"])
    other = samples({"backend": ["y"], "n": [1, 2]}, lambda p: 1.0 * p["n"])
    [effect] = axis_effects([*one, *other], "backend", METRIC)

    assert effect.averaged == ("x.cache",)
    assert effect.ratio == pytest.approx(1 / 4)
    assert [len(pair.reference) for pair in effect.pairs] == [2, 2]


def test_true_is_not_one():
    """Values that Python takes for equal are two values of an axis."""
    points = [Sample("0", {"d": True}, 1.0), Sample("1", {"d": 1}, 2.0)]

    assert [effect.value for effect in axis_effects(points, "d", METRIC)] == [1]


@given(st.integers(2, 4), st.integers(1, 4), st.randoms(use_true_random=False))
def test_what_does_not_depend_on_the_axis_has_the_ratio_1(values, others, rng):
    """Whatever the other axis does, and in whatever order the points come."""
    points = samples({"d": range(values), "n": range(others)}, lambda p: 10.0 ** p["n"])
    rng.shuffle(points)

    assert [effect.ratio for effect in axis_effects(points, "d", METRIC)] == [1.0] * (values - 1)


def test_an_axis_is_found_by_its_ending():
    """As the table names it, where that is no other's; else the nearest is named."""
    axes = ["load.batch_size", "vllm.seed", "sampling.seed"]

    assert find_axis(axes, "batch_size") == "load.batch_size"
    assert find_axis(axes, "vllm.seed") == "vllm.seed"
    with pytest.raises(StoreError) as caught:
        find_axis(axes, "seed")
    assert caught.value.hint == "write one of vllm.seed, sampling.seed"
    with pytest.raises(StoreError) as caught:
        find_axis(axes, "load.batchsize")
    assert caught.value.hint == "did you mean 'load.batch_size'?"


def test_only_valid_results_count_and_the_reference_is_the_files_first(grid_store):
    """The study ran in another order; one result is not valid, so its pair is none."""

    def given(point):
        bad = point == {"dtype": "b", "n": 2}
        return {"energy": 3.0 if point["dtype"] == "b" else 1.0, "valid": not bad}

    results = Results.open(grid_store({"dtype": ["a", "b"], "n": [1, 2, 3]}, given))
    [effect] = results.by_axis("dtype", [METRIC])

    assert (effect.reference, effect.ratio, len(effect.pairs)) == ("a", pytest.approx(3.0), 2)


def test_pairs_one_by_one_have_the_interval_of_their_trials(tmp_path, make):
    """As `compare` gives it, with Holm over the pairs; where there are too few trials, the ratio alone."""
    points = {"exp-one": "a", "exp-two": "b", "exp-thr": "c"}
    document = {
        "axes": ["d"],
        "experiments": list(points),
        "points": {name: {"number": n, "values": {"d": value}} for n, (name, value) in enumerate(points.items())},
    }
    store = Store.create(tmp_path / "pairs", document)
    for name in points:
        make.fill(store, name, per_process=1 if name == "exp-thr" else 5)
    two, three = Results.open(store).by_pair("d", [METRIC])

    assert (two.value, two.value_id, two.ratio, two.method) == ("b", "exp-two", 1.0, "trials")
    assert (two.assumed, two.covers, two.verdict) == (("processes",), "over processes, by assumption", "")
    assert two.low == pytest.approx(0.96, abs=0.01)
    assert two.p_adjusted == pytest.approx(1.0)
    assert (three.value, three.low, three.p_adjusted, three.method) == ("c", None, None, "")


# what no other point beats


def point(name, x, y, half=0.0, lower=(True, True), covers="over processes"):
    """A candidate with both intervals of the same half-width."""
    quantities = [Quantity(v, "J", v - half, v + half, 0.95, 5, 5, covers, "student_t") for v in (x, y)]
    return Candidate(name, *quantities, lower)


def test_points_that_another_beats_are_dropped():
    """Less of both is better: the corner that is worse in both goes."""
    found = non_dominated([point("a", 1, 3), point("b", 2, 2), point("c", 3, 1), point("d", 3, 3)])

    assert found == {"a": 0.0, "b": 0.0, "c": 0.0}


def test_a_point_is_dropped_at_a_probability_of_95_percent():
    """The product of both, from the intervals: each kept point says how probably another dominates it."""
    sd = 0.2 / 1.959964 * math.sqrt(2)
    kept = non_dominated([point("a", 1.0, 1.0, 0.2), point("b", 1.1, 1.2, 0.2)])
    chance = [0.5 * (1 + math.erf(ahead / sd / math.sqrt(2))) for ahead in (0.1, 0.2)]

    assert kept["b"] == pytest.approx(chance[0] * chance[1])
    assert kept["a"] == pytest.approx((1 - chance[0]) * (1 - chance[1]))
    assert list(non_dominated([point("a", 1.0, 1.0, 0.2), point("b", 1.27, 1.27, 0.2)])) == ["a", "b"]
    assert list(non_dominated([point("a", 1.0, 1.0, 0.2), point("b", 1.5, 1.5, 0.2)])) == ["a"]


def test_what_intervals_do_not_cover_is_assumed():
    """Within one process 1 % between processes comes on top: 1.5 % worse in both is no reason to drop."""
    inside, over = (
        [point(n, v, v, covers=c) for n, v in (("a", 1.0), ("b", 1.015))]
        for c in ("within one process", "over processes")
    )

    assert list(non_dominated(inside)) == ["a", "b"]
    assert list(non_dominated(over)) == ["a"]


def test_directions_are_each_metrics_own():
    """Less energy and more speed; exactly equal in one and worse in the other is dominated."""
    pairs = [("a", 1, 10), ("b", 2, 20), ("c", 2, 10)]

    assert list(non_dominated([point(name, x, y, lower=(True, False)) for name, x, y in pairs])) == ["a", "b"]


@pytest.mark.parametrize("leaders", [1, 200])
def test_many_points_stay_as_all_pairs_say(monkeypatch, leaders):
    """Whichever points are compared first, and however many pairs are held at once: exact points and copies too."""
    monkeypatch.setattr(pareto, "LEADERS", leaders)
    monkeypatch.setattr(pareto, "AT_ONCE", 1000)
    draw = random.Random(0)
    pairs = [(5 + draw.random(), 5 + draw.random(), draw.choice([0, 0.1, 0.5])) for _ in range(120)]
    points = [point(f"{n:03}", *one) for n, one in enumerate(pairs + pairs[:20])]

    def chance(a, b):
        """That b dominates a."""
        ahead = [(one.value - other.value, math.hypot(deviation(one), deviation(other))) for one, other in
                 ((a.x, b.x), (a.y, b.y))]  # fmt: skip
        if all(by == error == 0 for by, error in ahead):
            return 0.0
        each = [0.5 * (1 + math.erf(by / error / math.sqrt(2))) if error else float(by >= 0) for by, error in ahead]
        return each[0] * each[1]

    greatest = {a.id: max(chance(a, b) for b in points if b is not a) for a in points}
    expected = {name: one for name, one in greatest.items() if one < 0.95}
    assert 5 < len(expected) < len(points) - 5
    assert non_dominated(points) == pytest.approx(expected)


def test_draws_say_which_one_dominates():
    """Counted draw by draw; one that is equal in both does not dominate, and one that is equal in one does."""
    x = np.array([[1.0, 1.0, 2.0, 1.0], [1.0, 1.0, 0.0, 2.0], [1.0, 1.0, 2.0, 1.0], [1.0, 1.0, 2.0, 1.0]])
    y = np.array([[1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 0.0, 2.0], [1.0, 1.0, 2.0, 1.0], [1.0, 1.0, 2.0, 2.0]])
    kept, by = of_draws(("a", "b", "c", "d"), x, y)

    assert kept == {"a": 0.25, "b": 0.25, "c": 0.75, "d": 0.75}
    assert by == {"a": "c", "b": "c", "c": "a", "d": "a"}


def test_equal_points_all_stay():
    """None of them beats another."""
    assert list(non_dominated([point("b", 1, 1), point("a", 1, 1)])) == ["a", "b"]
    assert non_dominated([]) == {}


@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=25), st.sampled_from([0.0, 0.4, 1.2])
)
def test_the_fast_way_gives_what_looking_at_all_pairs_gives(values, half):
    """By the definition, over every pair of points."""
    points = [point(str(n), x, y, half) for n, (x, y) in enumerate(values)]
    sd = half / 1.959963984540054 * math.sqrt(2)

    def chance(q, p):
        ahead = [p.x.value - q.x.value, p.y.value - q.y.value]
        if sd:
            return math.prod(0.5 * (1 + math.erf(one / sd / math.sqrt(2))) for one in ahead)
        return float(min(ahead) >= 0 and max(ahead) > 0)

    greatest = {p.id: max((chance(q, p) for q in points if q is not p), default=0.0) for p in points}
    assert non_dominated(points) == pytest.approx({name: one for name, one in greatest.items() if one < 0.95})


def test_thousands_of_points_take_seconds():
    """All of them near the front, so that none is dropped early."""
    rng = random.Random(1)
    points = [point(str(n), x := rng.uniform(1, 2), 3 / x * rng.uniform(1, 1.02), 0.02) for n in range(3000)]
    begin = time.process_time()

    assert 0 < len(non_dominated(points)) <= 3000
    assert time.process_time() - begin < 5
