"""Bounds of settings: finite numbers, and times that can be waited for."""

from __future__ import annotations

import math
import threading
import typing
from collections.abc import Iterator

import attrs
import pytest

from llem.backends.echo import EchoOptions
from llem.config.arrival import OpenLoad
from llem.config.converter import settings
from llem.config.fields import YEAR_S, at_least, between
from llem.config.models import Experiment, Slo
from llem.config.study.order import Limits, Order


@pytest.mark.parametrize("bounds", [at_least(0), between(0, 10)], ids=str)
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, -1])
def test_only_finite_numbers_are_within_bounds(bounds, value):
    """An open end is no infinity, also where an object is made in Python and no file is read."""
    with pytest.raises(ValueError, match="must be"):
        bounds(None, None, value)


def test_bounds_take_their_ends_null_and_numbers_too_large_for_a_float():
    """An integer of 400 digits is finite; whether it is sensible is for an upper bound to say."""
    for value in (0, 0.0, 10**400, None):
        at_least(0)(None, None, value)
    with pytest.raises(ValueError, match="must be between 0 and 10, got 1000"):
        between(0, 10)(None, None, 10**400)


def test_an_object_of_python_is_bounded_too():
    """Its values never pass the converter."""
    with pytest.raises(ValueError, match="must be a finite number, got inf"):
        OpenLoad(request_rate=1.0, burstiness=math.inf)


def durations(cls: typing.Any) -> Iterator[attrs.Attribute[typing.Any]]:
    """Settings in seconds of a class and of the sections in it."""
    for field in settings(cls):
        if field.metadata.get("unit") == "s":
            yield field
        for inner in (field.type, *typing.get_args(field.type)):
            if attrs.has(inner) and inner is not Slo:  # limits of latencies: nothing waits for them
                yield from durations(inner)


def test_every_duration_can_be_waited_for():
    """No setting in seconds is larger than a year, which the system's clocks and locks can count."""
    found = [field for cls in (Experiment, Order, Limits, EchoOptions) for field in durations(cls)]

    assert len(found) >= 10
    assert [field.name for field in found if field.validator.high is None or field.validator.high > YEAR_S] == []
    assert YEAR_S < threading.TIMEOUT_MAX
