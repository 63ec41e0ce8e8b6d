"""Which format a file has: by its ending, and never another table than the ending says."""

from __future__ import annotations

import csv
import json

import pytest

import llem
from llem.reports.export import csv_text, format_of, labelled

AXES = {"load.batch_size": [1, 8]}
GPU = {"scope": "gpu", "kind": "measured"}
MODEL = {"scope": "cpu+dram", "kind": "modelled"}


@pytest.mark.parametrize(
    ("out", "asked", "expected"),
    [
        (None, None, "csv"),
        (None, "jsonl", "jsonl"),
        ("t.csv", None, "csv"),
        ("t.JSONL", None, "jsonl"),
        ("a.csv/t.parquet", None, "parquet"),
        ("t.csv", "csv", "csv"),
        ("t.txt", "csv", "csv"),
        ("t", "parquet", "parquet"),
        ("board.json", "leaderboard", "leaderboard"),
        ("folder.csv", "hf", "hf"),
    ],
)
def test_the_ending_says_the_format(out, asked, expected):
    """Unless it was asked for."""
    assert format_of(out, asked) == expected


@pytest.mark.parametrize(
    ("out", "asked", "message"),
    [
        ("t.xlsx", None, "t.xlsx has the ending .xlsx"),
        ("t", None, "t has no ending"),
        ("t.csv.gz", None, "ending .gz"),
        ("t.parquet", "csv", "t.parquet ends with .parquet, and the format asked for is csv"),
        ("t.csv", "jsonl", "t.csv ends with .csv"),
        ("t.csv", "cvs", "there is no format 'cvs'"),
    ],
)
def test_an_ending_that_says_nothing_or_another_table_is_refused(run_llem, grid_store, tmp_path, out, asked, message):
    """With the endings that there are; nothing is written."""
    store = grid_store(AXES, lambda _: 1.0)
    with pytest.raises(llem.ConfigError) as caught:
        llem.export(store.path, tmp_path / out, asked)

    assert message in str(caught.value)
    assert not (tmp_path / out).exists()
    if asked is None:
        assert ".csv, .jsonl, .parquet" in str(caught.value)
        done = run_llem("export", store.path, "-o", out)
        assert (done.exit_code, done.stdout) == (2, "")
        assert ".csv, .jsonl, .parquet" in done.stderr


def test_each_ending_writes_its_table(run_llem, grid_store, tmp_path):
    """Parquet in particular is Parquet."""
    store = grid_store(AXES, lambda _: 1.0)
    for ending in ("csv", "jsonl"):
        assert run_llem("export", store.path, "-o", tmp_path / f"t.{ending}").exit_code == 0
    assert (tmp_path / "t.csv").read_text().startswith("id,load.batch_size,")
    assert json.loads((tmp_path / "t.jsonl").read_text().splitlines()[0])["load.batch_size"] == 8
    polars = pytest.importorskip("polars")
    assert run_llem("export", store.path, "-o", tmp_path / "t.parquet").exit_code == 0
    assert (tmp_path / "t.parquet").read_bytes()[:4] == b"PAR1"
    assert polars.read_parquet(tmp_path / "t.parquet").height == 2


def test_text_of_others_is_no_formula(grid_store, tmp_path):
    """In CSV it begins with an apostrophe; numbers stay numbers, and JSON needs none."""
    formula = "=HYPERLINK(A1)"

    def given(point):
        config = {"model": formula, "dtype": "-1"}
        return {"energy": None, "outcome": "crash", "error": "+1 @x", "valid": False, "config": config}

    store = grid_store(AXES, given)
    llem.export(store.path, tmp_path / "t.csv")
    llem.export(store.path, tmp_path / "t.jsonl")
    with (tmp_path / "t.csv").open(newline="") as file:
        row = next(csv.DictReader(file))

    assert (row["model"], row["error"], row["dtype"]) == (f"'{formula}", "'+1 @x", "-1")
    assert json.loads((tmp_path / "t.jsonl").read_text().splitlines()[0])["model"] == formula


def test_codes_of_others_are_no_formula():
    """A cell of several codes begins with the first of them; names of columns are text too."""
    assert list(csv_text({"=a": [["=b", "c"], []], "n": [-1.5, 2]})) == ["'=a,n\n", "'=b c,-1.5\n", ",2\n"]


@pytest.mark.parametrize("kind", ["hf", "eee", "leaderboard"])
def test_what_is_to_be_published_has_no_prices(run_llem, grid_store, kind):
    """They are the user's own."""
    done = run_llem("export", grid_store(AXES, lambda _: 1.0).path, "--format", kind, "--kwh", "0.2", "-o", "x")

    assert done.exit_code == 2
    assert "leave the prices out" in done.stderr


@pytest.mark.parametrize("kind", ["hf", "eee"])
def test_a_folder_is_needed_and_never_written_into(run_llem, h200, tmp_path, kind):
    """It must be new or empty."""
    assert "is a folder; name one with -o" in run_llem("export", h200 / "store", "--format", kind).stderr
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine").touch()
    done = run_llem("export", h200 / "store", "--format", kind, "-o", tmp_path / "there")

    assert done.exit_code == 2
    assert "is there already and not an empty folder" in done.stderr
    assert [one.name for one in (tmp_path / "there").iterdir()] == ["mine"]


def test_numbers_that_leave_alone_say_what_they_are_of(grid_store):
    """Scope and kind of energies, that a result is not valid, and that the backend is a fake."""
    store = grid_store(
        {"load.batch_size": [1, 2, 3]},
        lambda point: {
            "energy": None if point["load.batch_size"] == 2 else 1.0,
            "basis": MODEL,
            "valid": point["load.batch_size"] != 3,
            "config": {"backend": "echo" if point["load.batch_size"] == 2 else "pytorch"},
        },
    )
    invalid, fake, first = (labelled(one) for one in llem.load_results(store.path).values())

    assert first["energy_per_output_token_j/cpu-dram/modelled"] == 1.0
    assert first["energy_per_output_token_j_low/cpu-dram/modelled"] == 0.99
    assert first["output_tokens_per_s"] == 100.0
    assert set(fake) == {"fake/output_tokens_per_s", "fake/output_tokens_per_s_low", "fake/output_tokens_per_s_high"}
    assert all(name.startswith("invalid/") for name in invalid)
