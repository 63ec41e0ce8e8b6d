"""The page of metrics, made from the catalogue, names every metric that a result has."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

import llem
from llem.metrics.catalogue import METRICS, PRICED
from llem.metrics.metric import Metric

pytestmark = pytest.mark.process

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
SHORT = {
    "backend": "echo",
    "preset": "quick",
    "window_s": 0.2,
    "warmup": {"seconds": 0},
    "baseline": {"seconds": 0},
    "echo": {"token_seconds": 0.001},
    "workload": {"input_tokens": 4, "output_tokens": 4},
}
LOADS = [{"kind": "offline"}, {"kind": "open", "request_rate": 50}]


@pytest.mark.parametrize("load", LOADS, ids=lambda load: load["kind"])
def test_every_metric_is_on_the_page(load, isolated_llem):
    """Each by its name, percentiles by the name of their mean; and with its unit where the page gives a name a row."""
    rows = re.findall(r"^\| (`[^|]*`) \|([^|]*)\|", PAGE.read_text(encoding="utf-8"), re.M)
    units = {name: unit.strip() for names, unit in rows for name in re.findall(r"`(\w+)`", names)}

    for name, metric in llem.run(**SHORT, load=load).metrics.items():
        named = name if name in units else re.sub(r"_p\d\d_s$", "_s", name)
        assert units.get(named) == metric.unit, name


def test_every_metric_on_the_page_is_one(isolated_llem):
    """No row is of a metric that no result has, of itself or where prices are given."""
    rows = re.findall(r"^\| (`[^|]*`) \|", PAGE.read_text(encoding="utf-8"), re.M)

    named = {name for names in rows for name in re.findall(r"`(\w+)`", names)}
    assert named <= llem.run(**SHORT).metrics.keys() | PRICED.keys()
    assert named >= PRICED.keys()


def test_a_row_of_the_catalogue_is_a_row_of_the_page(monkeypatch):
    """With its unit, the better direction and its paragraph."""
    spec = importlib.util.spec_from_file_location("docs_generate", PAGE.parents[1] / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    doc = "Batches that ended in the window over its time."
    monkeypatch.setitem(METRICS, "batches_per_s", Metric("batches_per_s", "1/s", "batches", "higher", "speed", doc))

    assert f"| `batches_per_s` | 1/s | higher | {doc} |\n" in generate.metrics()
