"""Prices on the command line: show, compare and export with amounts, each beside its inputs."""

from __future__ import annotations

import csv
import io
import json

import pytest

FILE = "currency: EUR\ngpu_hour: 3.6\nkwh: 0.24\ngrid_g_per_kwh: 300\npue: 1.5\n"
INPUTS = "prices: 3.6 EUR per GPU-hour, 0.24 EUR per kWh, 300 gCO2e per kWh, PUE 1.5; GPUs counted: 1; energy counted: "
INPUTS += "gpu, measured; idle time is not counted"


@pytest.fixture
def prices(tmp_path):
    """A file of all inputs but the machine's."""
    path = tmp_path / "prices.yaml"
    path.write_text(FILE)
    return path


def test_a_result_is_shown_with_amounts_and_inputs(run_llem, store, prices):
    """20.703125 a million output tokens, by hand in the tests of prices; the inputs stand in a line below."""
    done = run_llem("show", store.path, "--prices", prices)
    lines = [line.rstrip() for line in done.stdout.splitlines()]

    assert (done.exit_code, done.stderr) == (0, "")
    assert any(line.startswith("cost per million output tokens") and "20.7" in line and "EUR" in line for line in lines)
    assert any(line.startswith("emissions per request") and "gCO2e" in line for line in lines)
    assert " ".join(lines).count(INPUTS) == 1
    assert "EUR" not in run_llem("show", store.path).stdout


def test_a_study_is_shown_with_amounts_and_inputs(run_llem, store, make, prices):
    """A column each, in the currency; one line of inputs."""
    make.fill(store, "two")
    done = run_llem("show", store.path, "--prices", prices)

    assert done.exit_code == 0
    assert "EUR/M output" in " ".join(done.stdout.splitlines()[2:4])
    assert " ".join(done.stdout.split()).count(INPUTS) == 1


def test_json_has_amounts_and_inputs(run_llem, store, make, prices):
    """A Result with more metrics, and beside them what they were computed with; a list for several."""
    one = json.loads(run_llem("show", store.path, "--json", "--prices", prices).stdout)
    plain = json.loads(run_llem("show", store.path, "--json").stdout)
    make.fill(store, "two")
    several = json.loads(run_llem("show", store.path, "--json", "--kwh", "0.24", "--gpu-hour", "3.6").stdout)

    assert one["metrics"]["cost_per_request"]["value"] == pytest.approx(0.001325)
    assert one["metrics"]["cost_per_request"]["method"] == "added"
    assert one["prices"] == {
        "currency": "EUR", "gpu_hour": 3.6, "machine_hour": None, "kwh": 0.24, "grid_g_per_kwh": 300.0, "pue": 1.5,
        "electricity_included": False, "gpus": 1,
    }  # fmt: skip
    assert {name: value for name, value in one.items() if name not in ("metrics", "prices")} == {
        name: value for name, value in plain.items() if name != "metrics"
    }
    assert "prices" not in plain
    assert [document["prices"]["gpus"] for document in several] == [1, 1]
    assert several[0]["metrics"]["gco2e_per_request"]["reason"] == "no_grid"


def test_json_leaves_out_an_experiment_that_is_damaged_and_tells_it(run_llem, store, make):
    """Its GPUs are counted only with prices."""
    make.fill(store, "two")
    engine = store.folder("exp-one") / "engine-0.json"
    engine.write_text("{")
    done = run_llem("show", store.path, "--json", "--kwh", "0.3")

    assert [one["id"] for one in json.loads(done.stdout)] == ["two"]
    assert str(engine) in done.stderr


def test_options_lie_on_top_of_the_file(run_llem, store, prices):
    """A PUE and a currency given here replace those of the file."""
    found = run_llem("show", store.path, "--json", "--prices", prices, "--pue", "3", "--currency", "USD", "--grid", "0")
    document = json.loads(found.stdout)

    assert document["metrics"]["cost_per_request"]["value"] == pytest.approx(0.00125 + 2 * 7.5e-5)
    assert document["metrics"]["cost_per_request"]["unit"] == "USD"
    assert document["metrics"]["gco2e_per_request"]["value"] == 0


def test_a_comparison_by_cost(run_llem, store, make, prices):
    """In the currency, with the inputs below; in JSON beside each amount, and beside no other metric."""
    make.fill(store, "two")
    shown = run_llem("compare", store.path, "exp", "two", "--prices", prices).stdout
    rows = json.loads(run_llem("compare", store.path, "exp", "two", "--prices", prices, "--json").stdout)

    assert "cost per million output tokens, EUR" in " ".join(shown.split())
    assert "20.70" in shown
    assert " ".join(shown.split()).count(INPUTS) == 1
    assert {row["metric"]: row.get("prices", {}).get("currency") for row in rows} == {
        "energy_per_output_token_j": None, "energy_per_request_j": None, "power_w": None, "output_tokens_per_s": None,
        "requests_per_s": None, "cost_per_million_output_tokens": "EUR", "gco2e_per_million_output_tokens": "EUR",
    }  # fmt: skip


def test_effects_of_an_axis_by_cost(run_llem, grid_store, make, prices):
    """A table for the cost too; the inputs once."""
    basis = {"scope": "gpu", "kind": "measured"}
    made = grid_store({"dtype": ["float16", "bfloat16"]}, lambda point: {"energy": len(point["dtype"]), "basis": basis})
    for name in made.result_ids():
        made.write_engine(name, make.engine_document())
    shown = run_llem("show", made.path, "--by", "dtype", "--prices", prices).stdout
    asked = ("--metric", "cost_per_million_output_tokens", "--json")
    [row] = json.loads(run_llem("show", made.path, "--by", "dtype", "--prices", prices, *asked).stdout)

    assert "cost_per_million_output_tokens (gpu, measured), by dtype" in shown
    assert " ".join(shown.split()).count(INPUTS) == 1
    assert row["prices"]["kwh"] == 0.24


def test_exports_have_inputs_in_columns(run_llem, store, prices):
    """Whoever reads the table alone sees what amounts rest on."""
    [row] = csv.DictReader(io.StringIO(run_llem("export", store.path, "--prices", prices).stdout))

    assert float(row["cost_per_million_output_tokens"]) == pytest.approx(20.703125)
    assert (row["prices_currency"], row["prices_gpu_hour"], row["prices_gpus"]) == ("EUR", "3.6", "1")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--gpu-hour", "-1"), "gpu_hour: must be at least 0"),
        (("--gpu-hour", "nan"), "gpu_hour"),
        (("--kwh", "cheap"), "'cheap' is not a valid float"),
        (("--pue", "0.5", "--grid", "1"), "pue: must be at least 1"),
        (("--pue", "1.5"), "no price and no grid"),
        (("--prices", "none.yaml"), "no such file"),
        (("--time", "--grid", "1"), "--time shows no amounts"),
        (("--quality", "--grid", "1"), "--quality shows no amounts"),
    ],
)
def test_mistakes_are_told(run_llem, store, options, told):
    """With exit code 2 and no traceback."""
    done = run_llem("show", store.path, *options)

    assert done.exit_code == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_cost_without_prices_is_refused_with_the_option(run_llem, store, make):
    """In a comparison as along an axis."""
    make.fill(store, "two")
    done = run_llem("compare", store.path, "exp", "two", "--metric", "cost_per_request")

    assert done.exit_code == 2
    assert "cost_per_request needs prices, and none are given" in done.stderr
    assert "--prices FILE" in done.stderr
