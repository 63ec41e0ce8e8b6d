"""Views of many results: what a number is of never gets lost, in no table, comparison, export or frame."""

from __future__ import annotations

import csv
import io
import json

import attrs
import pytest

from llem.analysis.collection import Results
from llem.findings import finding
from llem.reports.views import result_view, study_view
from llem.store.models import EnergyReading
from llem.store.store import Store

GPU = {"scope": "gpu", "kind": "measured"}
MODEL = {"scope": "cpu+dram", "kind": "modelled"}
AXES = {"load.batch_size": [1, 8], "device": ["cuda", "cpu"]}


def of_the_gpu(point):
    """Energy as measured on a GPU, whatever the point."""
    return {"energy": 1.0 / point["load.batch_size"], "basis": GPU}


def of_both(point):
    """Measured on the GPU, modelled without one."""
    return {"energy": 1.0 / point["load.batch_size"], "basis": GPU if point["device"] == "cuda" else MODEL}


def lines(text):
    return [line.rstrip() for line in text.splitlines()]


def table(text):
    """The lines of a table, from its heading on: what all rows have alike stands above it."""
    found = lines(text)
    return found[2:] if found[0].startswith("all: ") else found


def test_one_basis_stands_in_the_heading(run_llem, grid_store):
    """Of the table of a study, of the tables of an axis, and beside the best of a summary."""
    store = grid_store(AXES, of_the_gpu)
    view = study_view(Results.open(store).overviews(), store.study())

    assert [column.heading for column in view.columns] == [
        "J/output token (gpu, measured)",
        "W (gpu, measured)",
        "output token/s",
    ]
    assert not view.mixed
    assert "(gpu, measured)" in table(run_llem("show", store.path).stdout)[1]  # below J/output token
    by = run_llem("show", store.path, "--by", "load.batch_size").stdout
    assert "energy_per_output_token_j (gpu, measured), by load.batch_size: against 1, all else equal" in by
    assert "output_tokens_per_s, by load.batch_size" in by


def test_each_row_says_its_own_where_they_differ(run_llem, grid_store):
    """Then the heading says nothing that is untrue of a row."""
    store = grid_store(AXES, of_both)
    shown = table(run_llem("show", store.path).stdout)

    assert shown[0].split()[-2:] == ["energy", "outcome"]
    assert "(" not in shown[0]
    assert sorted(line.count("gpu, measured") for line in shown[2:6]) == [0, 0, 1, 1]
    assert sorted(line.count("cpu+dram, modelled") for line in shown[2:6]) == [0, 0, 1, 1]


def test_measured_against_modelled_is_no_verdict(run_llem, grid_store):
    """An axis along which the basis changes says so, in a note, in each row and in JSON."""
    store = grid_store(AXES, lambda point: {**of_both(point), "energy": 1.0 if point["device"] == "cuda" else 9.0})
    shown = run_llem("show", store.path, "--by", "device", "--metric", "energy_per_output_token_j").stdout
    [effect] = json.loads(run_llem("show", store.path, "--by", "device", "--json").stdout)[:1]

    assert "energies differ in what they cover, or one is measured and one modelled" in shown
    row = next(line for line in lines(shown) if line.startswith("cpu"))
    assert "gpu, measured and cpu+dram, modelled" in row
    assert not row.endswith(("better", "worse"))
    assert effect["bases"] == [GPU, MODEL]
    [same, *_] = json.loads(run_llem("show", store.path, "--by", "load.batch_size", "--json").stdout)
    assert [pair["bases"] for pair in same["pairs"]] == [[GPU], [MODEL]]


@pytest.mark.parametrize(
    ("processes", "note"),
    [
        (1, "±: 95 % interval, n = 5, one process; what varies between engine processes is not in it"),
        (3, "±: 95 % interval, n = 15, over 3 processes"),
    ],
)
def test_a_table_says_what_its_intervals_cover(run_llem, grid_store, processes, note):
    """Below it where all rows have as many trials and engine processes."""
    shown = table(run_llem("show", grid_store(AXES, lambda _: {"energy": 1.0, "processes": processes}).path).stdout)

    assert note in shown
    assert shown[0].split()[-1] == "outcome"


def test_one_window_has_nothing_of_other_trials(grid_store):
    """The instrument's bound of one trial says so below the table; a value without any interval has none."""
    store = grid_store({"load.batch_size": [1, 8]}, lambda _: 1.0)
    rows = list(Results.open(store).overviews())
    bound = {"n": 1, "processes": 1, "covers": "one window", "method": "instrument"}
    alone = {"low": None, "high": None, "n": 1, "processes": 1, "covers": "", "method": "single_trial"}

    def notes(**of):
        changed = [
            attrs.evolve(row, metrics={k: attrs.evolve(q, **of) for k, q in row.metrics.items()}) for row in rows
        ]
        return study_view(changed, store.study()).notes

    said = "±: 95 % interval, one window, instrument's bound; what varies between trials is not in it"
    assert said in notes(**bound)
    assert "n = 1: no interval" in notes(**alone)


@pytest.mark.parametrize(
    ("processes", "heading", "cells"),
    [((1, 1), "pytorch, by arrivals (n = 5, one process)", 0), ((1, 3), "pytorch, by arrivals", 1)],
)
def test_a_curve_says_what_its_points_rest_on(run_llem, grid_store, processes, heading, cells):
    """Above it, or in each line where points differ; and what the energies cover, also where that differs."""
    many = dict(zip((1, 4), processes, strict=True))
    store = grid_store(
        {"load.request_rate": [1, 4]},
        lambda point: {
            "energy": 1.0,
            "basis": GPU if point["load.request_rate"] == 1 else MODEL,
            "processes": many[point["load.request_rate"]],
            "config": {"load": {"kind": "open", "request_rate": point["load.request_rate"]}},
        },
    )
    for name in store.result_ids():
        result = store.read_result(name)
        rate = result.config["load"]["request_rate"]
        asked = attrs.evolve(result.metrics["output_tokens_per_s"], value=rate, low=None, high=None, method="exact")
        energy = result.metrics["energy_per_output_token_j"]
        more = {"request_rate": asked, "energy_per_request_j": energy}
        store.write_result(attrs.evolve(result, metrics={**result.metrics, **more}), replace=True)
    shown = lines(run_llem("show", store.path).stdout)
    curve = shown[shown.index(heading) + 1 :]

    assert sum("gpu, measured" in line for line in curve) == 1
    assert sum("cpu+dram, modelled" in line for line in curve) == 1
    assert sum("15, over 3 processes" in line for line in curve) == cells


def test_each_row_says_its_trials_and_processes_where_they_differ(run_llem, grid_store):
    """In a column; the note below says what the column is."""
    shown = table(
        run_llem("show", grid_store(AXES, lambda point: {"energy": 1.0, "processes": point["load.batch_size"]}).path)
        .stdout
    )  # fmt: skip

    assert shown[0].split()[-2:] == ["n", "outcome"]
    assert sorted(line.count("5, one process") for line in shown[2:6]) == [0, 0, 1, 1]
    assert sorted(line.count("40, over 8 processes") for line in shown[2:6]) == [0, 0, 1, 1]
    assert any(line.startswith("±: 95 % interval, of the trials and engine processes in column n; ") for line in shown)


def test_backend_and_model_are_told_though_no_axis_has_them(run_llem, grid_store):
    """What rows have alike stands above the table; what differs and is no axis is a column."""
    names = {1: "shape:tiny", 8: "shape:llama-3.1-8b"}
    store = grid_store(
        AXES, lambda point: {**of_the_gpu(point), "config": {"model": names[point["load.batch_size"]], "dtype": "int8"}}
    )
    shown = lines(run_llem("show", store.path).stdout)

    assert shown[0] == "all: pytorch · int8"
    assert "configuration" in " ".join(shown[2:4])
    assert sum(line.count("shape:tiny") for line in shown) == 2
    assert sum(line.count("shape:llama-3.1-8b") for line in shown) == 2


def test_a_table_of_an_axis_of_backends_says_the_model(run_llem, grid_store):
    """What the axis does not say, and all rows have alike."""
    store = grid_store(
        {"backend": ["vllm", "pytorch"]}, lambda point: {"energy": 1.0, "config": {**point, "model": "shape:tiny"}}
    )
    shown = lines(run_llem("show", store.path).stdout)

    assert shown[:2] == ["all: shape:tiny · batch ?", ""]
    assert shown[2].split()[:2] == ["id", "backend"]
    assert "configuration" not in shown[2]


def test_different_reasons_of_one_column_stand_in_their_rows(run_llem, grid_store):
    """The note names each; where all rows lack a figure for one reason, the note alone says it."""

    def given(point):
        lost = {"energy": None, "outcome": "oom", "error": "out of memory", "valid": False}
        return lost if point["load.batch_size"] == 8 else of_the_gpu(point)

    store = grid_store(AXES, given)
    [lacking, *_] = [name for name in store.result_ids() if not store.read_result(name).valid]
    result = store.read_result(lacking)
    energy = attrs.evolve(result.metrics["energy_per_output_token_j"], reason="no_trials")
    store.write_result(
        attrs.evolve(result, metrics={**result.metrics, "energy_per_output_token_j": energy}), replace=True
    )
    shown = table(run_llem("show", store.path).stdout)

    assert sum("– (no_trials)" in line for line in shown[2:6]) == 1
    assert sum("– (no_meter)" in line for line in shown[2:6]) == 1
    assert "– in J/output token (no_meter): No meter covers this quantity on this machine." in shown


def test_a_study_of_measured_and_modelled_says_so_below(run_llem, grid_store):
    """Beside the column in which each row says its own."""
    note = "energies differ in what they cover, or some are measured and others modelled: see `energy`"

    assert note in lines(run_llem("show", grid_store(AXES, of_both).path).stdout)


@pytest.mark.parametrize("given", [of_the_gpu, of_both])
def test_tables_fit_a_hundred_columns(run_llem, grid_store, monkeypatch, given):
    """With the basis in the heading and in a column."""
    monkeypatch.setenv("COLUMNS", "100")
    store = grid_store(AXES, given)
    for arguments in ((), ("--by", "device"), ("--by", "device", "--pairs")):
        assert max(map(len, lines(run_llem("show", store.path, *arguments).stdout))) <= 100


def test_a_summary_says_what_the_energies_are_of(run_llem, grid_store):
    """Of the best, and of each axis."""
    store = grid_store({**AXES, "sampling.seed": list(range(51))}, of_the_gpu)
    text = run_llem("show", store.path).stdout

    assert "best energy_per_output_token_j: 0.1250 ± 0.0013 J (gpu, measured)  " in text
    assert "energy_per_output_token_j (gpu, measured), by device" in text
    assert "all: pytorch" in text


def test_why_a_result_is_not_valid_stands_in_its_line(run_llem, grid_store):
    """And below the table, what all rows share, how many may be published and what stands against the others."""

    def given(point):
        found = (finding("energy_suspect", "x"), finding("short_window", "y"))
        return (
            {"energy": 1.0, "valid": False, "publishable": False, "findings": found}
            if point["load.batch_size"] == 8
            else 2.0
        )

    shown = run_llem("show", grid_store({"load.batch_size": [1, 8]}, given).path).stdout
    assert "done (not valid): energy_suspect\n" in shown.replace(" \n", "\n")
    assert "all: pytorch\n" in shown
    assert "1 of 2 valid, 1 publishable; findings: energy_suspect 1, short_window 1\n" in shown


def test_exports_and_frames_keep_what_a_number_is_of(run_llem, grid_store):
    """Scope and kind of energies, the reason of what is missing; backend, model and dtype though they do not vary."""
    store = grid_store(
        AXES, lambda point: {**of_both(point), **({"energy": None} if point["load.batch_size"] == 8 else {})}
    )
    rows = list(csv.DictReader(io.StringIO(run_llem("export", store.path).stdout)))
    energy = "energy_per_output_token_j"

    assert {(row["device"], row[f"{energy}_scope"], row[f"{energy}_kind"]) for row in rows if row[energy]} == {
        ("cuda", "gpu", "measured"),
        ("cpu", "cpu+dram", "modelled"),
    }
    assert {row[f"{energy}_reason"] for row in rows if not row[energy]} == {"no_meter"}
    assert {(row["backend"], row["model"], row["dtype"], row["error"]) for row in rows} == {("pytorch", "", "", "")}
    assert not [
        name for name in rows[0] if name.startswith("output_tokens_per_s_") and name.endswith(("scope", "kind"))
    ]
    polars = pytest.importorskip("polars")
    frame = Results.open(store).frame(everything=True)
    assert frame["ttft_s_reason"].dtype == polars.String
    assert set(frame["ttft_s_reason"]) == {"not_requested"}
    assert frame["ttft_s_covers"].dtype == polars.String
    assert frame["error"].dtype == polars.String
    assert frame["model"].dtype == polars.String


def test_exports_and_frames_say_what_an_interval_rests_on(run_llem, grid_store, tmp_path):
    """Trials, engine processes and what the interval covers, as CSV, as JSON lines, as Parquet and as a frame."""
    store = grid_store(AXES, lambda point: {**of_both(point), "processes": point["load.batch_size"]})
    expected = {(1, 5, 1, "within one process"), (8, 40, 8, "over processes")}
    names = ["load.batch_size", *(f"energy_per_output_token_j_{part}" for part in ("n", "processes", "covers"))]
    rows = list(csv.DictReader(io.StringIO(run_llem("export", store.path).stdout)))
    lines = run_llem("export", store.path, "--format", "jsonl").stdout.splitlines()

    assert {tuple(row[name] for name in names) for row in rows} == {tuple(map(str, one)) for one in expected}
    assert {tuple(json.loads(line)[name] for name in names) for line in lines} == expected
    polars = pytest.importorskip("polars")
    run_llem("export", store.path, "--format", "parquet", "-o", tmp_path / "t.parquet")
    for frame in (polars.read_parquet(tmp_path / "t.parquet"), Results.open(store).frame()):
        assert {tuple(row) for row in frame.select(names).iter_rows()} == expected


def test_columns_that_say_nothing_are_left_out(run_llem, grid_store, store):
    """What no row has and none was to be expected, and parts that are empty; a missing number keeps its reason."""
    grid = grid_store(AXES, lambda _: {"energy": None, "basis": GPU})
    header = next(csv.reader(io.StringIO(run_llem("export", grid.path).stdout)))

    assert [name for name in header if name.startswith("energy")] == [
        "energy_per_output_token_j",
        "energy_per_output_token_j_reason",
    ]
    assert not [name for name in header if name.startswith("ttft")]
    assert [name for name in header if name.startswith("output_tokens")] == [
        "output_tokens_per_s" + part for part in ("", "_low", "_high", "_n", "_processes", "_covers")
    ]
    whole = next(csv.reader(io.StringIO(run_llem("export", grid.path, "--all").stdout)))
    assert {"ttft_s", "ttft_s_reason", "ttft_s_covers", "energy_per_output_token_j_kind"} <= set(whole)
    offline = next(csv.reader(io.StringIO(run_llem("export", store.path).stdout)))
    assert len(offline) < 150
    assert not {"ttft_p99_s", "goodput_requests_per_s"} & set(offline)


def test_an_axis_keeps_its_own_column(grid_store):
    """Where the dtype varies, its column is what the study sets."""
    columns = Results.open(grid_store({"dtype": ["float16", None]}, lambda _: 1.0)).columns()

    assert columns["dtype"] == [None, "float16"]
    assert list(columns).count("dtype") == 1


def test_a_comparison_of_different_things_is_refused(run_llem, tmp_path, make):
    """Both are named; with a speed asked for, energies are left out with a warning."""
    store = Store.create(tmp_path / "two", {})
    make.fill(store, "measured")
    make.fill(store, "modelled")
    for index in range(5):
        path = store.folder("modelled") / f"trial-{index}.json"
        trial = store.trials("modelled")[index]
        kept = tuple(one for one in trial.energies if isinstance(one, EnergyReading) and one.kind == "modelled")
        path.unlink()
        store.write_trial(
            attrs.evolve(trial, energies=kept), store.trace("modelled", index), store.requests("modelled", index)
        )
    (store.folder("modelled") / "result.json").unlink()
    refused = run_llem("compare", store.path, "measured", "modelled")
    metrics = ("--metric", "power_w", "--metric", "output_tokens_per_s")
    done = run_llem("compare", store.path, "measured", "modelled", *metrics)

    differ = "energies of A and B differ in what they cover (A: gpu, measured, B: cpu+dram, modelled)"
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr.startswith(f"error: {differ}")
    assert (done.exit_code, done.stderr) == (0, f"warning: {differ}: they are left out\n")
    assert "A = measured  pytorch · shape:llama-3.1-8b · bfloat16 · batch 2 · energy: gpu, measured\n" in done.stdout
    assert "energy: cpu+dram, modelled" in done.stdout
    assert not any(line.startswith("power ") for line in lines(done.stdout))
    assert "tested: output tokens" in done.stdout
    assert max(map(len, lines(done.stdout)[:7])) <= 110


def test_a_comparison_of_one_kind_does_not_warn(run_llem, store, make):
    """Nothing on standard error; what is assumed stands below the table."""
    make.fill(store, "exp-two")
    done = run_llem("compare", store.path, "exp-o", "exp-t")

    assert done.stderr == ""
    assert "the intervals cover: over processes, by assumption" in done.stdout
    assert "assumed: what differs between engine processes is not measured" in done.stdout
    assert "tested: energy per output token; all other metrics are secondary" in done.stdout


def test_a_fake_study_is_ranked_nowhere(run_llem, grid_store):
    """Neither by an axis nor in a summary; ratios and counts are shown."""
    axes = {"load.batch_size": [1, 8], "sampling.seed": list(range(101))}
    store = grid_store(axes, lambda point: {"energy": 1.0 / point["load.batch_size"], "config": {"backend": "echo"}})
    for text in (run_llem("show", store.path).stdout, run_llem("show", store.path, "--by", "batch_size").stdout):
        assert "all results are of echo, a fake: its figures mean nothing, and nothing is ranked" in text
        assert "best " not in text
        assert "better" not in text


def test_a_summary_ranks_no_mixed_energies_and_tells_ties(run_llem, grid_store):
    """Why there is no best energy; of the speeds, which are all alike, how many more are not separated."""
    store = grid_store({**AXES, "sampling.seed": list(range(51))}, of_both)
    text = run_llem("show", store.path).stdout

    assert "best energy" not in text
    assert "energy_per_output_token_j is not ranked: the results' energies differ in what they cover" in text
    [ties] = [line.rstrip() for line in text.splitlines() if line.startswith("  not separated from: ")]
    assert ties.endswith(" and 200 more")


def test_a_result_is_plain_data_before_it_is_text(store):
    """State, configuration and figures with their rows of the catalogue; one reason is told once."""
    view = result_view(store.read_result("exp-one"))

    assert view.configuration == "pytorch · shape:llama-3.1-8b · bfloat16 · batch 2"
    assert view.state == "publishable"
    assert view.latencies == {}
    names = [metric.name for metric, _ in view.figures]
    assert names[:2] == ["energy_per_output_token_j", "energy_per_token_j"]
    assert "ttft_s" not in names
    reasons = [quantity.reason for _, quantity in view.figures if quantity.value is None]
    assert len(set(reasons)) == len(reasons)
