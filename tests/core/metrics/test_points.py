"""What study.json says that points set is what their experiments were configured with."""

from __future__ import annotations

from typing import Any

import pytest

from llem.metrics.points import unlike
from llem.metrics.verify import verify
from llem.store.store import Store

CONFIG = {
    "backend": "echo",
    "dtype": "auto",
    "load": {"kind": "offline", "batch_size": 4},
    "slo": {"ttft_s": 0.5},
    "warmup": {"seconds": 1.0},
    "meters": ["nvml"],
    "echo": {
        "token_seconds": 0.001,
        "none": False,
        "more": {"a": {"x": 1}, "a.b": [{"x": 1, "y": 2}], "a.c": {"d": 5}},
    },
    "quality": {"tasks": ["one", "two"]},
    "sections": None,
}


def differing(values: dict[str, Any], **study: Any) -> list[str]:
    """Paths of a point that are not as configured."""
    found = unlike({"points": {"x": {"number": 0, "values": values}}, **study}, "x", CONFIG)
    return [path.removeprefix("points.x.values.") for path, _, _ in found]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"load.batch_size": 4, "dtype": "auto"},
        {"load": {"batch_size": 4}},
        {"warmup.seconds": 1},
        {"backend": None},
        {"meters": ["nvml"]},
        {"echo.more.a.b": [{"x": 1}]},
        {"echo.more.a.c.d": 5},
        {"sections": None},
        {"vllm.seed": 1},
    ],
)
def test_what_was_configured(values: dict[str, Any]) -> None:
    """Also a whole number for a fraction, part of a section, and a section of another backend."""
    assert differing(values) == []


@pytest.mark.parametrize(
    "values",
    [
        {"load.batch_size": 2},
        {"load.batch_size": True},
        {"warmup.seconds": True},
        {"echo.none": 0},
        {"load": {"batch_size": 4, "kind": "open"}},
        {"load.concurrency": 4},
        {"meters": ["nvml", "rapl"]},
        {"echo.more.a.b": [{"x": 2}]},
        {"slo": None},
        {"dtype.name": "auto"},
    ],
)
def test_what_was_not(values: dict[str, Any]) -> None:
    """A value, a type, a key that is not there."""
    assert differing(values) == list(values)


def test_what_says_nothing_of_the_experiment_is_left_out() -> None:
    """Settings that an option overrode, and the quality of several points together."""
    overrides = [{"source": "flag", "values": {"load": {"batch_size": 4}}}]
    assert differing({"load.batch_size": 2}, overrides=overrides) == []
    assert differing({"load": {"batch_size": 2}}, overrides=overrides) == []
    assert differing({"slo.ttft_s": 9.0}, overrides=[{"source": "flag", "values": {"slo": None}}]) == []
    assert differing({"quality.tasks": ["one"]}) == ["quality.tasks"]
    assert differing({"quality.tasks": ["one"]}, merged=[{"into": "x"}]) == []


def test_exchanged_values_are_told(store: Store) -> None:
    """By the path in study.json, with what was configured."""
    configured = store.read_experiment("exp-one")["config"]["load"]["batch_size"]
    points = {"exp-one": {"number": 0, "values": {"load.batch_size": configured}}}
    store.write_study({"experiments": ["exp-one"], "points": points})
    assert verify(store) == []
    points["exp-one"]["values"]["load.batch_size"] = configured + 1
    store.write_study({"experiments": ["exp-one"], "points": points})

    assert [str(one) for one in verify(store)] == [
        f"study.json: points.exp-one.values.load.batch_size: stored {configured + 1}, recomputed {configured}"
    ]
