"""JSON as it is stored: byte for byte what the standard library writes."""

import json
import math
from enum import IntEnum

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llem.store.json_text import digest, to_text

NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | NUMBERS | st.text()
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


@given(VALUES | st.dictionaries(st.integers(), SCALARS) | st.dictionaries(st.booleans() | st.floats(0, 1), SCALARS))
def test_text_is_what_the_standard_library_writes(value) -> None:
    assert to_text(value) == json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


@pytest.mark.parametrize("value", [IntEnum("Level", "LOW").LOW, np.float64(0.5)])
def test_a_number_of_a_class_of_its_own_is_a_number(value) -> None:
    """What Python writes of it for a reader is none."""
    assert to_text([value]) == json.dumps([value], indent=2) + "\n"


@given(VALUES)
def test_lines_within_a_list_are_indented_and_no_string_is_changed(value) -> None:
    """Some characters within strings end lines for `str.splitlines`; none is the end of a line of JSON."""
    listed = "[\n  " + to_text(value, "  ") + "]"
    assert listed == json.dumps([value], sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)


@pytest.mark.parametrize("value", [math.nan, [math.inf], {"a": {"b": -math.inf}}, {math.nan: 1}])
def test_what_is_no_number_is_refused(value) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_text(value)


@pytest.mark.parametrize("written", [to_text, digest])
def test_what_nests_too_deeply_is_refused(written) -> None:
    """The decoder reads some of what cannot be gone through value by value."""
    value: list = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(ValueError, match="it nests too deeply"):
        written(value)


@pytest.mark.parametrize("value", [{("a",): 1}, [object()], {1, 2}])
def test_what_is_no_json_is_refused(value) -> None:
    with pytest.raises(TypeError):
        to_text(value)
