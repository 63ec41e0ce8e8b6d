"""What layers say name by name: the same as all layers over each other, and read once for points that say the same."""

import pytest

from llem.config.layers import Layer
from llem.config.load import Resolver, resolve
from llem.config.said import Around, Remembered, merged, sources_of
from llem.plugins.registry import registry

BELOW = [Layer("file", {"backend": "echo", "load": {"kind": "closed", "concurrency": 4}, "warmup.batches": 1})]
ABOVE = [Layer("flag", {"trials": 3, "warmup": {"seconds": 1.0}})]
POINTS = [
    {"dtype": "float16"},
    {"load.concurrency": 8},
    {"load": {"kind": "offline", "batch_size": 2}},
    {"warmup": {"batches": 3}, "trials": 9},
    {"warmup.seconds": 5, "workload.seed": 1, "workload.input_tokens": 7},
    {"preset": "quick"},
    {"preset": "publication", "max_trials": 20},
]


def every(point: dict) -> list[Layer]:
    return [*BELOW, Layer("point", point), *ABOVE]


@pytest.mark.parametrize("point", POINTS)
def test_points_are_what_all_their_layers_say_over_each_other(point) -> None:
    around, resolver = Around(BELOW, ABOVE, "point"), Resolver(registry())
    alone = resolve(every(point), registry())
    for _ in range(2):  # the second time from what is remembered
        found = around.of(point)
        whole = merged(every(point))
        assert list(found) == list(whole)
        assert {name: one.values for name, one in found.items()} == {name: one.values for name, one in whole.items()}
        assert sources_of(found) == sources_of(whole)
        resolved = resolver(found, ["file", "point", "flag"])
        assert (resolved.experiment, list(resolved.sources.items())) == (alone.experiment, list(alone.sources.items()))


def test_points_in_turn_are_each_what_they_say() -> None:
    """What one point says is remembered for no other."""
    around, resolver = Around(BELOW, ABOVE, "point"), Resolver(registry())
    found = [resolver(around.of(point), ["point"]) for point in (*POINTS, *reversed(POINTS))]
    assert found == [resolve(every(point), registry()) for point in (*POINTS, *reversed(POINTS))]


@pytest.mark.parametrize(("one", "other"), [(1, True), (1, 1.0), (0.0, -0.0), (None, 0), ("1", 1), ([1], [1.0])])
def test_equal_values_that_say_different_things_are_not_one(one, other) -> None:
    around = Around(BELOW, ABOVE, "point")
    values = [around.of({"warmup.batches": value})["warmup"].values["batches"] for value in (one, other)]
    assert [repr(value) for value in values] == [repr(one), repr(other)]


def test_what_points_say_alike_is_one_object() -> None:
    around, resolver = Around(BELOW, ABOVE, "point"), Resolver(registry())
    first, second, third = (
        around.of({"sampling.seed": 1, "dtype": dtype}) for dtype in ("float16", "float32", "float16")
    )
    assert first["sampling"] is second["sampling"]
    assert first["load"] is second["load"]
    assert (first["dtype"] is second["dtype"], first["dtype"] is third["dtype"]) == (False, True)
    one, other = (resolver(found, ["point"]) for found in (first, second))
    assert one.experiment.sampling is other.experiment.sampling
    assert one.experiment.baseline is other.experiment.baseline  # of which nothing is said
    assert one.sources is other.sources


def test_what_is_remembered_is_of_no_other_object() -> None:
    """An object that is gone leaves its identity to the next one."""
    first = Remembered(lambda value: value[0])
    assert [first([number]) for number in range(100)] == list(range(100))
