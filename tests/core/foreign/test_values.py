"""JSON whose numbers can be computed with, and written again."""

from __future__ import annotations

import json
import math

import pytest

from llem.foreign.values import from_json


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("NaN", "NaN is not a JSON number"),
        ("-Infinity", "-Infinity is not a JSON number"),
        ("1e999", "1e999 is beyond any number"),
        ("[-1E+400]", "-1E+400 is beyond any number"),
        ("9223372036854775808", "9223372036854775808 is no whole number of 64 bits"),
        ("-9223372036854775809", "-9223372036854775809 is no whole"),
        ("1" * 5000, "11111111111111111111… (5000 characters) is no whole number of 64 bits"),
        ("[" * 100_000, "it nests too deeply"),
        ('{"a":' * 100_000, "it nests too deeply"),
        ("", "Expecting value"),
    ],
)
def test_what_is_no_value_is_refused(text, why):
    """With what is wrong, in few characters."""
    with pytest.raises(ValueError, match=r".") as caught:
        from_json(text)

    assert str(caught.value).startswith(why)
    assert len(str(caught.value)) < 100


@pytest.mark.parametrize("value", [0, 1.5e308, -(2**63), 2**63 - 1, 5e-324, "é\ud800", [None, {"a": True}]])
def test_what_is_a_value_is_read(value):
    """As it was written."""
    assert from_json(json.dumps(value)) == value


def test_bytes_are_utf_8():
    """With a mark of the byte order or without; anything else is refused."""
    assert from_json(b'\xef\xbb\xbf"\xc3\xa9"') == "é"
    with pytest.raises(ValueError, match="utf-8"):
        from_json(b'"\xe9"')


def test_numbers_without_end():
    """As other programs write them, where that is asked for; what nests too deeply is still refused."""
    assert from_json("[Infinity, -Infinity, 1e999]", endless=True) == [math.inf, -math.inf, math.inf]
    assert math.isnan(from_json("NaN", endless=True))
    with pytest.raises(ValueError, match="it nests too deeply"):
        from_json("[" * 100_000, endless=True)


def test_numbers_as_text():
    """As they are written, however large."""
    assert from_json("[1e999, 10000000000000000000000, 1.50]", numbers_as_text=True) == [
        "1e999",
        "10000000000000000000000",
        "1.50",
    ]
