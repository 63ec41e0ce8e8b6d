"""Axes to points: how many, which, where each value stands, and what is no axis."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llem.config.study import axes as axes_module
from llem.config.study.axes import Point, declared_points
from llem.config.study.file import parse_study
from llem.errors import ConfigError


def points(**parts: Any) -> list[Point]:
    """The points that a study with these parts declares."""
    return declared_points(parse_study({"base": {}, **parts}))


def values(**parts: Any) -> list[dict]:
    """What they set."""
    return [dict(point.values) for point in points(**parts)]


def test_a_grid_has_every_combination_in_the_files_order() -> None:
    """The last axis changes fastest; each value knows its place."""
    found = points(axes={"a": [1, 2], "b.c": ["x", "y"]})

    assert [dict(one.values) for one in found] == [
        {"a": 1, "b.c": "x"},
        {"a": 1, "b.c": "y"},
        {"a": 2, "b.c": "x"},
        {"a": 2, "b.c": "y"},
    ]
    assert [one.number for one in found] == [0, 1, 2, 3]
    assert found[1].where == {"a": "python: axes.a[0]", "b.c": "python: axes.b.c[1]"}


def test_a_value_may_bring_further_axes() -> None:
    """Each only with its own value, to any depth; null brings none."""
    found = points(axes={"backend": {"x": {"x.a": [1, 2], "kind": {"k": {"deep": [3]}}}, "y": None}, "n": [0]})

    assert [dict(one.values) for one in found] == [
        {"backend": "x", "x.a": 1, "kind": "k", "deep": 3, "n": 0},
        {"backend": "x", "x.a": 2, "kind": "k", "deep": 3, "n": 0},
        {"backend": "y", "n": 0},
    ]
    assert found[0].where["deep"] == "python: axes.backend.x.kind.k.deep[0]"
    assert found[2].where["backend"] == "python: axes.backend.y"


def test_zipped_axes_vary_together_and_with_all_others() -> None:
    """Each group is one factor of the grid."""
    found = values(axes={"n": [0, 1]}, zip=[{"a": [1, 2], "b": {"linear": [5, 6, 2]}}, {"c": ["x"]}])

    assert found == [
        {"n": 0, "a": 1, "b": 5, "c": "x"},
        {"n": 0, "a": 2, "b": 6, "c": "x"},
        {"n": 1, "a": 1, "b": 5, "c": "x"},
        {"n": 1, "a": 2, "b": 6, "c": "x"},
    ]


def test_points_by_hand_come_after_the_grid() -> None:
    """Alone they are all there is: the base is then no point of its own."""
    by_hand = [{"a": 1}, {"b": {"c": 2}, "d.e": 3}]

    assert values(experiments=by_hand) == [{"a": 1}, {"b.c": 2, "d.e": 3}]
    assert values(axes={"a": [0]}, experiments=by_hand)[0] == {"a": 0}
    assert points(experiments=by_hand)[1].where == {
        "b.c": "python: experiments[1].b.c",
        "d.e": "python: experiments[1].d.e",
    }


def test_where_nothing_varies_the_base_is_the_one_point() -> None:
    """It sets nothing of its own."""
    assert values() == [{}]


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("load.batch_size", "python: axes.load[0].batch_size"),
        ("load", "python: axes.load[0]"),
        ("meters[1]", "python: axes.meters[0][1]"),
        ("sampling", "python: axes.sampling.top_k[0]"),
        ("sampling.top_p", None),
        ("loads", None),
    ],
)
def test_the_place_of_a_setting(path: str, place: str | None) -> None:
    """Of what the point sets, of something within it, and of a section in which it sets something."""
    [point] = points(axes={"load": [{"batch_size": 1}], "meters": [["a", "b"]], "sampling.top_k": [3]})

    assert point.place(path) == place


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ({"axes": {"a": 3}}, "python: axes.a: must be a list of values, got the number 3 (write [3])"),
        ({"axes": {"a": range(3)}}, "python: axes.a: must be a list of values, got a range (make it a list)"),
        ({"axes": {"a": "12"}}, "python: axes.a: must be a list of values, got the text '12' (write [12])"),
        ({"axes": {"a": []}}, "python: axes.a: has no values (give one at least, or remove it)"),
        ({"axes": {"a": {}}}, "python: axes.a: has no values (give one at least, or remove it)"),
        (
            {"axes": {"a": {"log": [1, 2]}}},
            "python: axes.a.log: must be [start, stop, count], three numbers, got [1, 2]",
        ),
        (
            {"axes": {"a": {"liner": [1, 2, 2]}}},
            "python: axes.a.liner: must be a section of further axes, got a list (did you mean 'linear'?)",
        ),
        (
            {"axes": {"load": {"batch_size": [1]}}},
            "python: axes.load.batch_size: must be a section of further axes, got a list "
            "(for values of load.batch_size write `load.batch_size: [...]`)",
        ),
        (
            {"axes": {"load": [{}], "load.batch_size": [1]}},
            "python: axes.load.batch_size: sets load.batch_size, and python: axes.load sets load "
            "(give each setting one axis)",
        ),
        (
            {"axes": {"a": [1]}, "zip": {"a": [1]}},
            "python: zip.a: sets a, and python: axes.a sets a (give each setting one axis)",
        ),
        (
            {"axes": {"a": {"x": {"b": [1]}}, "b": [1]}},
            "python: axes.b: sets b, and python: axes.a sets b (give each setting one axis)",
        ),
        (
            {"axes": {"a": {"x": {"a": [1]}}}},
            "python: axes.a.x.a: sets a, and python: axes.a sets a (give each setting one axis)",
        ),
        ({"zip": {"a": [1], "b": [1, 2]}}, "python: zip: its axes need equally many values; a has 1, b has 2"),
        (
            {"zip": [{"a": [1], "b": [2]}, {"c": [1], "d.e": [1, 2]}]},
            "python: zip[1]: its axes need equally many values; c has 1, d.e has 2",
        ),
        (
            {"axes": {"a": {"linear": [1, 2, 2], "log": [1, 2, 2]}}},
            "python: axes.a: is a range with more than its rule: linear, log (give an axis one rule alone)",
        ),
        (
            {"zip": {"a": {"x": None}}},
            "python: zip.a: must be a list of values or a range, got a section",
        ),
    ],
)
def test_what_is_no_axis(parts: dict, problem: str) -> None:
    """One problem, where it stands, with what would be right."""
    with pytest.raises(ConfigError) as caught:
        points(**parts)

    assert [str(one) for one in caught.value.problems] == [problem]


def test_far_too_many_points_are_refused_before_they_are_made(monkeypatch) -> None:
    """A slip in a count must not fill the memory."""
    monkeypatch.setattr(axes_module, "MOST_POINTS", 1_000)
    monkeypatch.setattr(axes_module, "_from_axes", None)  # would fail if a point were made
    with pytest.raises(ConfigError, match="declares 1,001 points, more than 1,000"):
        points(axes={"a": {"linear": [1, 1001, 1001]}})


leaf = st.lists(st.integers(), min_size=1, max_size=3)


@st.composite
def grids(draw) -> tuple[dict, int]:
    """Axes with disjoint paths, some of them conditional, and the number of their combinations."""
    axes: dict[str, Any] = {}
    count = 1
    for number in range(draw(st.integers(1, 4))):
        if draw(st.booleans()):
            axes[f"p{number}"] = plain = draw(leaf)
            count *= len(plain)
            continue
        branches = draw(st.lists(st.lists(leaf, max_size=2), min_size=1, max_size=3))
        axes[f"p{number}"] = {
            f"v{n}": {f"q{number}.{n}.{m}": one for m, one in enumerate(branch)} for n, branch in enumerate(branches)
        }
        count *= sum(math.prod(len(one) for one in branch) for branch in branches)
    return axes, count


@given(grids())
def test_there_are_as_many_points_as_the_product_says(grid: tuple[dict, int]) -> None:
    """Over plain axes it is the product, over conditional ones the sum of their branches' products."""
    axes, count = grid
    found = points(axes=axes)

    assert len(found) == count
    assert all(point.values.keys() == point.where.keys() for point in found)
