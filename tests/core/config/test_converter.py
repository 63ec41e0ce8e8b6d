"""Strict structuring: nothing is coerced, and every fault is found with its path."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import attrs
import pytest

from llem.config.converter import structure, structure_all, unstructure
from llem.config.fields import at_least, between, option
from llem.errors import ConfigError
from llem.store.models import EnergyReading, ErrorBudget


@attrs.frozen(kw_only=True)
class Left:
    kind: Literal["left"] = "left"
    low: int = option(1, help="Low.")
    high: int = option(9, help="High.")

    @high.validator
    def _ordered(self, attribute: Any, value: int) -> None:
        if value < self.low:
            raise ValueError(f"must not be below low ({self.low}), got {value}")


@attrs.frozen(kw_only=True)
class Right:
    kind: Literal["right"] = "right"
    width: float = 1.0


@attrs.frozen(kw_only=True)
class Inner:
    count: int = option(1, help="Count.", validator=at_least(1))


@attrs.frozen(kw_only=True)
class Sample:
    flag: bool = False
    count: int = option(1, help="Count.", validator=at_least(1))
    share: float = option(0.5, help="Share.", validator=between(0, 1))
    name: str = "x"
    choice: Literal["auto", "sdpa", "eager"] = "auto"
    bits: Literal[4, 8] | None = None
    maybe: int | None = None
    length: int | Left | Right = 3
    ids: tuple[int | str, ...] | None = None
    pair: tuple[int, str] = (1, "a")
    names: list[str] = attrs.field(factory=list)
    inner: Inner = attrs.field(factory=Inner)
    free: Mapping[str, Any] = attrs.field(factory=dict)
    counts: Mapping[str, int] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Summed:
    a: int = 0
    b: int = 0

    def __attrs_post_init__(self) -> None:
        if self.a + self.b > 10:
            raise ValueError("a and b together must not exceed 10")


@attrs.frozen(kw_only=True)
class Needy:
    path: str = option(help="The file to read.")


@attrs.frozen(kw_only=True)
class Unsupported:
    when: complex = 0j


def faults(raw: Any, cls: type = Sample) -> list[str]:
    return [str(problem) for problem in structure_all(cls, raw)[1]]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("flag", "false", "must be true or false, got the text 'false' (write true or false, without quotes)"),
        ("flag", 1, "must be true or false, got the number 1"),
        ("flag", None, "must be true or false, got null"),
        ("count", 2.9, "must be an integer, got the number 2.9"),
        ("count", 2.0, "must be an integer, got the number 2.0"),
        ("count", True, "must be an integer, got true"),
        ("count", "3", "must be an integer, got the text '3' (write 3 without quotes)"),
        ("share", "0.5", "must be a number, got the text '0.5' (write the number without quotes)"),
        ("share", True, "must be a number, got true"),
        ("share", math.nan, "must be a finite number, got nan"),
        ("share", math.inf, "must be a finite number, got inf"),
        ("name", 12, 'must be text, got the number 12 (write it in quotes: "12")'),
        ("name", [], "must be text, got a list"),
        ("choice", "sdpaa", "must be one of 'auto', 'sdpa', 'eager', got the text 'sdpaa' (did you mean 'sdpa'?)"),
        ("choice", {}, "must be one of 'auto', 'sdpa', 'eager', got a section"),
        ("bits", 5, "must be one of 4, 8 or null, got the number 5"),
        ("bits", 4.0, "must be one of 4, 8 or null, got the number 4.0"),
        ("maybe", "3", "must be an integer or null, got the text '3' (write 3 without quotes)"),
        ("ids", "ab", "must be a list or null, got the text 'ab' (write [ab])"),
        ("pair", [1], "must have 2 entries, got 1"),
        ("names", "abc", "must be a list, got the text 'abc' (write [abc])"),
        ("inner", None, "must be a section, got null (give its settings, or leave the line out)"),
        ("inner", 3, "must be a section, got the number 3"),
        ("free", [1], "must be a section, got a list"),
        ("length", "3", "must be an integer or a section, got the text '3' (write 3 without quotes)"),
    ],
)
def test_wrong_types_are_refused(field, value, message):
    """A value of another type is refused, with what it is, what it must be and how to write that."""
    assert faults({field: value}) == [f"{field}: {message}"]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"ids": [0, 2.5]}, "ids[1]: must be an integer or text, got the number 2.5"),
        ({"pair": ["a", "a"]}, "pair[0]: must be an integer, got the text 'a'"),
        ({"names": ["a", 1]}, 'names[1]: must be text, got the number 1 (write it in quotes: "1")'),
        ({"inner": {"count": "x"}}, "inner.count: must be an integer, got the text 'x'"),
        ({"counts": {"a": 1.5}}, "counts.a: must be an integer, got the number 1.5"),
        ({"free": {"a": [{"b": math.nan}]}}, "free.a[0].b: must be a finite number, got nan"),
        ({"free": {"a": {1, 2}}}, "free.a: must be a JSON value, got a set"),
        ({"free": {1: 2}}, "free: keys must be text, got the number 1"),
        ({"length": {"kind": "left", "low": 1.5}}, "length.low: must be an integer, got the number 1.5"),
        ({"length": {"low": 1}}, "length.kind: is missing (one of 'left', 'right')"),
        (
            {"length": {"kind": "lefd"}},
            "length.kind: must be one of 'left', 'right', got the text 'lefd' (did you mean 'left'?)",
        ),
        (
            {"length": {"kind": "left", "width": 1}},
            "length.width: is a setting of kind 'right', and this is of kind 'left' (remove it, or change `kind`)",
        ),
    ],
)
def test_faults_inside_have_their_path(raw, message):
    """What is wrong inside a list, a mapping, a section or a tagged union is named by its path."""
    assert faults(raw) == [message]


def test_every_fault_is_found():
    """One error lists the faults of all fields, validators' included, not only the first."""
    raw = {"flag": "no", "count": 0, "share": 2, "inner": {"cuont": 1, "count": 0}, "nmae": "x", "ids": [None, 1.5]}

    assert faults(raw) == [
        "nmae: unknown field (did you mean 'name'?)",
        "flag: must be true or false, got the text 'no' (write true or false, without quotes)",
        "ids[0]: must be an integer or text, got null",
        "ids[1]: must be an integer or text, got the number 1.5",
        "inner.cuont: unknown field (did you mean 'count'?)",
        "inner.count: must be at least 1, got 0",
        "count: must be at least 1, got 0",
        "share: must be between 0 and 1, got 2.0",
    ]


def test_right_values_pass_unchanged():
    """Values of the right type come through; whole numbers become floats, lists become tuples."""
    raw = {
        "flag": True, "count": 2, "share": 1, "bits": 8, "maybe": None, "length": {"kind": "right", "width": 2},
        "ids": [0, "GPU-1"], "pair": [2, "b"], "names": ["a"], "free": {"a": (1, None, {"b": 0.5})}, "counts": {"a": 1},
    }  # fmt: skip

    assert structure(Sample, raw) == Sample(
        flag=True, count=2, share=1.0, bits=8, length=Right(width=2.0), ids=(0, "GPU-1"), pair=(2, "b"),
        names=["a"], free={"a": [1, None, {"b": 0.5}]}, counts={"a": 1},
    )  # fmt: skip
    assert type(structure(Sample, {"share": 1}).share) is float


def test_validator_over_neighbours_keeps_its_text():
    """A validator that looks at another field works, defaults included, and its text is kept."""
    assert faults({"low": 3, "high": 2}, Left) == ["high: must not be below low (3), got 2"]
    assert faults({"high": 0}, Left) == ["high: must not be below low (1), got 0"]


def test_validator_whose_neighbour_is_wrong_is_not_asked():
    """Where the neighbour itself is wrong, that alone is reported."""
    assert faults({"low": "x", "high": 2}, Left) == ["low: must be an integer, got the text 'x'"]


def test_rule_over_the_whole_object():
    """An error of `__attrs_post_init__` is a problem of the section."""
    assert structure_all(Summed, {"a": 6, "b": 6}, "here")[1][0].path == "here"
    assert faults({"a": 6, "b": 6}, Summed) == ["a and b together must not exceed 10"]


def test_missing_field_says_what_it_is_for():
    """A required field that is missing is reported with its help."""
    assert faults({}, Needy) == ["path: is missing (The file to read.)"]


def test_unsupported_type_is_a_defect_of_the_class():
    """A field of a type that is not handled strictly is refused loudly, not coerced."""
    with pytest.raises(TypeError, match="a setting cannot have the type"):
        structure(Unsupported, {"when": 1})


def test_error_names_source_and_path():
    """The raised error names the source, and each path begins with the given one."""
    with pytest.raises(ConfigError) as caught:
        structure(Inner, {"count": "x"}, "load", source="study.yaml")

    assert str(caught.value) == "invalid settings in study.yaml\n  load.count: must be an integer, got the text 'x'"


def test_round_trip_drops_nothing():
    """Objects come back from their JSON values, None and nested objects included."""
    value = Sample(length=Left(low=2), ids=(1, "a"), free={"a": {"b": None}})
    raw = unstructure(value)

    assert raw["ids"] == [1, "a"]
    assert raw["maybe"] is None
    assert raw["length"] == {"kind": "left", "low": 2, "high": 9}
    assert structure(Sample, raw) == value


def test_results_go_through_the_same_converter():
    """A stored reading with an optional nested object is read back strictly."""
    reading = EnergyReading("nvml", "gpu:1", "gpu", "measured", "counter", 1.0, ErrorBudget(0.1, 0.0, 0.2), 0.1, 5)

    assert structure(EnergyReading, unstructure(reading)) == reading
    assert faults({**unstructure(reading), "energy_j": math.nan}, EnergyReading) == [
        "energy_j: must be a finite number, got nan"
    ]
