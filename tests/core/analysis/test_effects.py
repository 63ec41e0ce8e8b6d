"""What an axis does, all else equal: pairing, reference, intervals, correction, and axes that only some values have."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llem.analysis.collection import Results
from llem.analysis.effects import Sample, axis_effects, find_axis
from llem.analysis.pareto import Candidate, non_dominated
from llem.errors import StoreError
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
    assert effect.low == pytest.approx(0.8)
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


def test_p_values_are_corrected_over_the_values_of_the_axis():
    """Holm: of three values the least p is tripled, and none becomes smaller than one before it."""
    noise = random.Random(1)
    points = samples(
        {"d": ["a", "b", "c", "e"], "n": range(6)},
        lambda p: noise.lognormvariate(0, 0.05) * {"a": 1, "b": 1.2, "c": 1.02, "e": 1.0}[p["d"]],
    )
    effects = axis_effects(points, "d", METRIC)
    least = min(effects, key=lambda one: one.p_value)

    assert [one.value for one in effects] == ["b", "c", "e"]
    assert least.value == "b"
    assert least.p_adjusted == pytest.approx(3 * least.p_value)
    assert all(one.p_adjusted >= one.p_value for one in effects)


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

    assert (two.value, two.value_id, two.ratio, two.method) == ("b", "exp-two", 1.0, "paired_by_block")
    assert two.low == pytest.approx(1.0)
    assert two.p_adjusted == pytest.approx(1.0)
    assert (three.value, three.low, three.p_adjusted, three.method) == ("c", None, None, "")


# what no other point beats


def point(name, x, y, half=0.0, lower=(True, True)):
    """A candidate with both intervals of the same half-width."""
    quantities = [Quantity(value, "J", value - half, value + half) for value in (x, y)]
    return Candidate(name, *quantities, lower)


def test_points_that_another_beats_are_dropped():
    """Less of both is better: the corner that is worse in both goes."""
    found = non_dominated([point("a", 1, 3), point("b", 2, 2), point("c", 3, 1), point("d", 3, 3)])

    assert found == ["a", "b", "c"]


def test_a_difference_that_may_be_noise_drops_nothing():
    """Worse in both values, and both intervals overlap: it stays. Beyond doubt worse in one: it goes."""
    assert non_dominated([point("a", 1.0, 1.0, 0.2), point("b", 1.1, 1.1, 0.2)]) == ["a", "b"]
    assert non_dominated([point("a", 1.0, 1.0, 0.2), point("b", 1.5, 1.1, 0.2)]) == ["a"]


def test_directions_are_each_metrics_own():
    """Less energy and more speed."""
    pairs = [("a", 1, 10), ("b", 2, 20), ("c", 2, 10)]

    assert non_dominated([point(name, x, y, lower=(True, False)) for name, x, y in pairs]) == ["a", "b"]


def test_equal_points_all_stay():
    """None of them beats another."""
    assert non_dominated([point("b", 1, 1), point("a", 1, 1)]) == ["a", "b"]


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=25), st.sampled_from([0.0, 0.4, 1.2])
)
def test_the_fast_way_gives_what_looking_at_all_pairs_gives(values, half):
    """By the definition, over every pair of points."""
    points = [point(str(n), x, y, half) for n, (x, y) in enumerate(values)]

    def beats(q, p):
        no_worse = q.x.value <= p.x.value and q.y.value <= p.y.value
        return no_worse and (q.x.high < p.x.low or q.y.high < p.y.low)

    assert set(non_dominated(points)) == {p.id for p in points if not any(beats(q, p) for q in points)}
