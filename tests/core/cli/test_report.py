"""`llem report`: the page is written whole, over nothing but a page, and says what `llem recommend` says."""

from __future__ import annotations

import json
import re

import pytest

import llem

ENERGY = "energy_per_output_token_j"


@pytest.fixture
def out(isolated_llem):
    return isolated_llem.folder / "page.html"


def head(path):
    """The document of a page."""
    found = re.search(r'<script type="application/json" id="llem">(.*?)</script>', path.read_text(), re.S)
    assert found is not None
    return json.loads(found[1])


def test_a_page_is_written(run_llem, store, out):
    """The verdict goes to standard output, and the page holds it and the experiment."""
    done = run_llem("report", store.path, "-o", out)

    assert done.exit_code == 0
    assert done.stdout.startswith("Take exp-one")
    assert "Take exp-one" in out.read_text()
    assert head(out)["verdict"]["choice"] == "exp-one"
    assert 'id="x-exp-one"' in out.read_text()


def test_options_are_those_of_recommend(run_llem, store, out):
    """Limits decide; a report of a study that nothing satisfies is still a report."""
    done = run_llem("report", store.path, "-o", out, "--power", "10W", "--slo", "output_tokens_per_s>1")

    assert done.exit_code == 0
    assert head(out)["verdict"]["outcome"] == "none_feasible"
    assert [one["text"] for one in head(out)["verdict"]["limits"]] == ["output_tokens_per_s>1", "power<=10W"]


def test_prices_give_amounts(run_llem, store, out):
    """Costs are columns, and may decide."""
    prices = ("--gpu-hour", "3", "--kwh", "0.2", "--currency", "EUR")
    assert run_llem("report", store.path, "-o", out, *prices, "--minimise", "cost").exit_code == 0
    assert head(out)["verdict"]["objective"] == "cost_per_million_output_tokens"
    assert head(out)["metrics"]["cost_per_million_output_tokens"]["unit"] == "EUR"


def test_the_python_call_writes_the_same(run_llem, store, out, isolated_llem):
    """`llem.report` takes a folder or results, and the options as words."""
    run_llem("report", store.path, "-o", out)
    other = isolated_llem.folder / "other.html"
    made = llem.report(store.path, other)

    assert other.read_bytes() == out.read_bytes()
    assert made.head["verdict"]["choice"] == "exp-one"
    assert llem.report(llem.load_results(store.path), other, power="10W").head["verdict"]["choice"] is None


def test_a_page_is_replaced_and_nothing_else(run_llem, store, out, isolated_llem):
    """A page of HTML is; a text with that name, a folder, and a name that is no page's are refused and stay."""
    out.write_text("<!DOCTYPE html>\n<title>old</title>")
    assert run_llem("report", store.path, "-o", out).exit_code == 0
    assert "old" not in out.read_text()[:200]

    text = isolated_llem.folder / "notes.html"
    text.write_text("my notes")
    done = run_llem("report", store.path, "-o", text)
    assert done.exit_code == 2
    assert "no page of HTML" in done.stderr
    assert text.read_text() == "my notes"

    (isolated_llem.folder / "folder.html").mkdir()
    assert run_llem("report", store.path, "-o", isolated_llem.folder / "folder.html").exit_code == 2
    done = run_llem("report", store.path, "-o", store.path / "study.json")
    assert done.exit_code == 2
    assert "does not end with .html" in done.stderr


def test_mistakes_leave_no_file(run_llem, store, out):
    """A folder that is none, a limit without a unit, two objectives, an unknown metric: exit 2, and nothing written."""
    assert run_llem("report", "nowhere", "-o", out).exit_code == 2
    for wrong in (
        ("--slo", "ttft:p99<500"),
        ("--minimise", "energy", "--maximise", "speed"),
        ("--minimise", "no_such_metric"),
        ("--minimise", "cost"),
        ("--reference", "zz", "--quality", "arc>=-0.01"),
    ):
        done = run_llem("report", store.path, "-o", out, *wrong)
        assert done.exit_code == 2, wrong
        assert "Traceback" not in done.stderr
    assert list(out.parent.glob(".page*")) == []
    assert not out.exists()


def test_failed_and_damaged_experiments_end_nothing(run_llem, store, out):
    """The exit code is 0: the report is written."""
    (store.folder("exp-one") / "result.json").write_text("[")
    done = run_llem("report", store.path, "-o", out)

    assert done.exit_code == 0
    assert head(out)["experiments"][0]["state"] == "damaged"
    assert done.stdout.startswith("No decision: ")
    assert ENERGY not in head(out)["metrics"]
