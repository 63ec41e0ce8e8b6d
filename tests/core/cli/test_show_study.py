"""`llem show` of many experiments, by axis and pair by pair, and `llem export`."""

from __future__ import annotations

import csv
import io
import json
import os
import threading

import attrs
import pytest

import llem
from llem.store.models import Quantity

AXES = {"load.batch_size": [1, 8, 64], "dtype": ["float16", "bfloat16"]}


def energy(point):
    """About 8 % less in bfloat16, and less per token with the batch."""
    less = {1: 0.91, 8: 0.92, 64: 0.93}[point["load.batch_size"]] if point["dtype"] == "bfloat16" else 1.0
    return 4.0 / point["load.batch_size"] * less


@pytest.fixture
def store(grid_store):
    """Three batch sizes in two dtypes."""
    return grid_store(AXES, energy)


def test_an_axis_is_shown_against_its_first_value(run_llem, store) -> None:
    """A table for each metric: ratio with interval, p, pairs, and which is better."""
    done = run_llem("show", store.path, "--by", "dtype", "--metric", "energy_per_output_token_j")

    assert (done.exit_code, done.stderr) == (0, "")
    assert [line.rstrip() for line in done.stdout.splitlines()] == [
        "energy_per_output_token_j, by dtype: against float16, all else equal",
        "dtype      ratio   95 % interval   p (Holm)   pairs",
        "─" * 60,
        "bfloat16   0.920   0.900 … 0.941   0.00075    3       better",
        "",
        "assumed: a standard deviation of 1% between engine processes, which `processes: 2` or more measures",
        "a ratio is the mean over these pairs, and no statement on other ones",
    ]


def test_the_reference_is_chosen_and_the_axis_found_by_its_ending(run_llem, store) -> None:
    """As the headings of the table name it."""
    done = run_llem("show", store.path, "--by", "batch_size", "--reference", "8", "--json")
    found = json.loads(done.stdout)

    assert [(one["metric"], one["value"]) for one in found] == [
        ("energy_per_output_token_j", 1),
        ("energy_per_output_token_j", 64),
        ("output_tokens_per_s", 1),
        ("output_tokens_per_s", 64),
    ]
    assert found[0]["ratio"] == pytest.approx(8 * (0.91 / 0.92) ** 0.5)
    assert found[0]["axis"] == "load.batch_size"
    assert [len(pair["value"]) for pair in found[0]["pairs"]] == [1, 1]


def test_pairs_are_shown_one_by_one(run_llem, store) -> None:
    """With the beginning of both ids; these have no trials, so no interval, which is said."""
    done = run_llem("show", store.path, "--by", "dtype", "--pairs", "--metric", "energy_per_output_token_j")
    lines = [line.rstrip() for line in done.stdout.splitlines()]

    assert lines[1].split() == ["dtype", "A", "B", "B", "/", "A", "95", "%", "interval", "p", "(Holm)"]
    assert [line.split() for line in lines[3:6]] == [
        ["bfloat16", "00000000", "01000000", "0.9100"],
        ["bfloat16", "02000000", "03000000", "0.9200"],
        ["bfloat16", "04000000", "05000000", "0.9300"],
    ]
    assert lines[-1] == "no interval: fewer than two trials, or the metric has no value for each trial"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--by", "dtipe"), "error: no axis 'dtipe'\n  did you mean 'dtype'?\n"),
        (("--by", "dtype", "--reference", "x"), "error: no point has dtype = x\n  its values: float16, bfloat16\n"),
        (("--by", "dtype", "--metric", "request_rate"), "neither less nor more is better"),
        (("--pairs",), "--pairs belongs to --by AXIS"),
        (("--reference", "00"), "--reference and --metric to --by AXIS or --quality"),
        (("00", "--quality"), "--quality looks at all experiments"),
        (("--quality", "--time"), "--quality is a table of its own"),
        (("--quality",), "has a score\n  give the study a section `quality`"),
        (("00", "--by", "dtype"), "--by looks at all experiments"),
    ],
)
def test_a_mistake_ends_with_2(run_llem, store, arguments, message) -> None:
    """Saying what would be right."""
    done = run_llem("show", store.path, *arguments)

    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr


def test_few_experiments_are_a_line_each(run_llem, store) -> None:
    """As before: the table of what varies."""
    assert len([line for line in run_llem("show", store.path).stdout.splitlines() if "done" in line]) == 6


def test_many_experiments_are_summarised(run_llem, grid_store) -> None:
    """Outcomes, errors, findings, the best of each metric, and each axis; `--all` has every line."""

    def given(point):
        if point["sampling.seed"] == 50:
            return {"energy": None, "outcome": "oom", "error": "out of memory", "valid": False}
        return energy(point)

    store = grid_store({**AXES, "sampling.seed": list(range(51))}, given)
    text = run_llem("show", store.path).stdout

    assert text.startswith("306 experiments: 300 done, 6 oom\n  6 × out of memory\n")
    assert "best energy_per_output_token_j: 0.05813 ± 0.00058 J  " in text
    assert "energy_per_output_token_j, by load.batch_size: against 1, all else equal" in text
    assert "energy_per_output_token_j, by sampling.seed: against 0, all else equal" in text
    assert len(text.splitlines()) < 250
    assert sum("done" in line for line in run_llem("show", store.path, "--all").stdout.splitlines()) == 300


def test_json_of_several_is_one_list(run_llem, store) -> None:
    """Written one by one, and read as one document."""
    text = run_llem("show", store.path, "--json").stdout
    documents = json.loads(text)

    assert [one["id"][:2] for one in documents] == ["00", "01", "02", "03", "04", "05"]
    assert text == json.dumps(documents, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def test_export_as_csv(run_llem, store) -> None:
    """A header and a line for each result, in the study's order; nothing where there is no number."""
    rows = list(csv.DictReader(io.StringIO(run_llem("export", store.path, "--all").stdout)))

    assert [row["id"][:2] for row in rows] == ["05", "04", "03", "02", "01", "00"]
    assert (rows[0]["load.batch_size"], rows[0]["dtype"], rows[0]["valid"]) == ("64", "bfloat16", "true")
    assert float(rows[0]["energy_per_output_token_j"]) == pytest.approx(0.058125)
    assert (rows[0]["ttft_s"], rows[0]["findings"]) == ("", "")


def test_export_as_jsonl_to_a_file(run_llem, store, tmp_path) -> None:
    """One object a line, with null where there is no number."""
    done = run_llem("export", store.path, "--all", "--format", "jsonl", "-o", tmp_path / "table.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "table.jsonl").read_text(encoding="utf-8").splitlines()]

    assert (done.exit_code, done.stdout) == (0, "")
    assert len(rows) == 6
    assert rows[0]["ttft_s"] is None
    assert rows[0]["findings"] == []


def test_export_as_parquet(run_llem, store, tmp_path) -> None:
    """The same table, read back; to standard output it is refused."""
    polars = pytest.importorskip("polars")
    assert run_llem("export", store.path, "--format", "parquet", "-o", tmp_path / "t.parquet").exit_code == 0
    assert polars.read_parquet(tmp_path / "t.parquet").height == 6

    refused = run_llem("export", store.path, "--format", "parquet")
    assert refused.exit_code == 2
    assert "name a file with -o" in refused.stderr


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_export_writes_into_what_is_no_regular_file(run_llem, store, tmp_path, kind) -> None:
    """A FIFO, also through a link, gets the table and stays a FIFO. No device is touched here."""
    if kind == "parquet":
        pytest.importorskip("polars")
    fifo, link, plain = tmp_path / "fifo", tmp_path / "link", tmp_path / "plain"
    os.mkfifo(fifo)
    link.symlink_to(fifo)
    run_llem("export", store.path, "--format", kind, "-o", plain)
    for path in (fifo, link):
        read: list[bytes] = []
        reader = threading.Thread(target=lambda into=read: into.append(fifo.read_bytes()), daemon=True)
        reader.start()
        done = run_llem("export", store.path, "--format", kind, "-o", path)
        reader.join(10)

        assert (done.exit_code, done.stderr) == (0, "")
        assert fifo.is_fifo()
        assert link.is_symlink()
        assert read == [plain.read_bytes()]


def test_export_writes_the_target_of_a_link(run_llem, store, tmp_path) -> None:
    """The link stays, whether its target exists already or not; a missing parent folder is made."""
    link, target = tmp_path / "link.csv", tmp_path / "new" / "table.csv"
    link.symlink_to(target)
    for _ in range(2):
        assert run_llem("export", store.path, "-o", link).exit_code == 0
        assert os.readlink(link) == str(target)
        assert not target.is_symlink()
        assert target.read_text(encoding="utf-8") == run_llem("export", store.path).stdout
        target.write_text("old", encoding="utf-8")


def test_export_to_a_folder_or_a_link_to_itself_is_an_error(run_llem, store, tmp_path) -> None:
    """Both stay as they were."""
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for path, reason in ((tmp_path, "is a folder, where"), (loop, "is a link")):
        done = run_llem("export", store.path, "--format", "csv", "-o", path)

        assert done.exit_code != 0
        assert reason in done.stderr
        assert "Traceback" not in done.stderr
    assert loop.is_symlink()


@pytest.fixture
def scored(store):
    """The same results with a score of the task `spelling`; of the task `sums` there is none."""
    scores = {
        "quality.spelling": Quantity(0.75, "", 0.5, 1.0, 0.95, 12, covers="items", method="items"),
        "quality.sums": Quantity(None, "", reason="not_evaluated"),
    }
    for result in llem.load_results(store.path).values():
        store.write_result(attrs.evolve(result, metrics={**result.metrics, **scores}), replace=True)
    return store


def test_scores_are_shown_with_a_result(run_llem, scored) -> None:
    """By their task, with the number of items; a task without a score says why."""
    lines = run_llem("show", scored.path, "00").stdout.splitlines()

    assert next(line for line in lines if line.startswith("quality: spelling")).split()[2:] == [
        *("0.75", "±", "0.25", "12", "items"),
    ]
    assert any(line.startswith("quality: sums") and "– (not_evaluated)" in line for line in lines)
    told = " ".join(" ".join(lines).split())
    assert "else it was not evaluated yet. `llem run … -o DIR --resume` evaluates it" in told


def test_scores_are_exported(run_llem, scored) -> None:
    """With the interval and the number of items, or the reason."""
    row = next(csv.DictReader(io.StringIO(run_llem("export", scored.path).stdout)))

    assert [row["quality.spelling" + end] for end in ("", "_low", "_high", "_n")] == ["0.75", "0.5", "1.0", "12"]
    assert (row["quality.sums"], row["quality.sums_reason"]) == ("", "not_evaluated")


def test_a_score_that_no_result_has_is_an_error(run_llem, scored) -> None:
    """It names the scores that exist."""
    done = run_llem("show", scored.path, "--by", "dtype", "--metric", "quality.nope")

    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == (
        "error: no result has the metric 'quality.nope'\n  scores in this folder: quality.spelling, quality.sums\n"
    )
    assert run_llem("show", scored.path, "--by", "dtype", "--metric", "quality.spelling").exit_code == 0


def test_a_folder_without_scores_says_so(run_llem, store) -> None:
    """Nothing could be named instead."""
    done = run_llem("show", store.path, "--by", "dtype", "--metric", "quality.nope", "--pairs")

    assert done.exit_code == 2
    assert "no result here has any score" in done.stderr


@pytest.mark.process
def test_comparing_an_invalid_result_names_what_stands_against_it(run_llem, isolated_llem, lab) -> None:
    """The comparison is made all the same, with a warning for each result that is not valid, on standard error."""
    document = {
        "base": {**lab, "meters": ["failing"], "failing": {"reads": 5}, "trials": 2, "max_trials": 2},
        "axes": {"load.batch_size": [1, 2]},
    }
    llem.run_study(document, "out")
    done = run_llem("compare", "out", *llem.load_results("out"), "--json")

    assert done.exit_code == 0
    assert {one["metric"] for one in json.loads(done.stdout)} >= {"output_tokens_per_s"}
    assert [line.split(":")[:2] for line in done.stderr.splitlines()] == [
        ["warning", " A is not valid"],
        ["warning", " B is not valid"],
    ]
    assert "meter_failed" in done.stderr


@pytest.mark.process
def test_a_comparison_says_how_it_was_made(run_llem, isolated_llem, lab) -> None:
    """A line for each metric; below, what the interval and the ratio are of."""
    document = {"base": {**lab, "trials": 2, "max_trials": 2}, "axes": {"load.batch_size": [1, 2]}}
    llem.run_study(document, "out")
    done = run_llem("compare", "out", *llem.load_results("out"))

    lines = [line.rstrip() for line in done.stdout.splitlines()]
    assert (done.exit_code, done.stderr) == (0, "")
    assert any(line.startswith("output tokens/s ") for line in lines)
    assert lines[-2:] == [
        "P(B better) is with the default prior: differences of 0.1 % to 200 %, each order of magnitude as likely",
        "B / A is the ratio of geometric means. If trials vary widely, it differs from the ratio of the means shown.",
    ]


def test_an_experiment_is_not_compared_with_itself(run_llem, store) -> None:
    """A ratio of 1 would look like a finding."""
    done = run_llem("compare", store.path, "00", "00")

    assert done.exit_code == 2
    assert "A and B are the same experiment" in done.stderr


def ids_of(text):
    """Beginnings of the ids that a table lists, in its order."""
    return [line[:2] for line in text.splitlines() if line[:8].isalnum() and "done" in line]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--sort", "energy"), ["05", "04", "03", "02", "01", "00"]),
        (("--sort", "energy", "--top", "2"), ["05", "04"]),
        (("--sort", "batch_size", "--where", "dtype=bfloat16"), ["01", "03", "05"]),
        (("--where", "load.batch_size>=8;dtype!=bfloat16"), ["04", "02"]),
        (("--filter", "batch_size=1|64", "--where", "dtype=float16"), ["04", "00"]),
        (("--where", "energy<0.1"), ["05", "04"]),
        (("--where", "state=done;valid=true", "--top", "1"), ["05"]),
        (("--where", "batch_size=64", "--where", "dtype=BFLOAT16", "--columns", "speed"), ["05"]),
    ],
)
def test_some_experiments_in_another_order(run_llem, store, arguments, expected) -> None:
    """The best first, or by an axis; conditions on axes, facts and metrics must all hold."""
    done = run_llem("show", store.path, *arguments)
    found = json.loads(run_llem("show", store.path, *arguments, "--json").stdout)

    assert (done.exit_code, done.stderr) == (0, "")
    assert ids_of(done.stdout) == expected
    assert [one["id"][:2] for one in found] == expected


def test_what_is_left_out_is_said(run_llem, store) -> None:
    """With the conditions; where none fits, that alone."""
    text = run_llem("show", store.path, "--where", "dtype=bfloat16", "--columns", "speed").stdout

    assert "with dtype=bfloat16: 3 of 6\n" in text.replace(" \n", "\n")
    assert "output token/s" in text
    assert "J/output token" not in text
    assert run_llem("show", store.path, "--where", "dtype=int8").stdout == "with dtype=int8: 0 of 6\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--where", "dtipe=x"), "no axis, setting or metric 'dtipe' in this folder\n  did you mean 'dtype'?"),
        (("--where", "batch_sizes>1"), "did you mean 'load.batch_size'?"),
        (("--where", "dtype"), "'dtype' is no condition\n  write NAME=VALUE"),
        (("--where", "batch_size>many"), "batch_size> needs a number, and 'many' is none"),
        (("--sort", "enrgy"), "did you mean 'energy'?"),
        (("--columns", "ttft_p98_s"), "did you mean 'ttft_p99_s'?"),
        (("00", "--top", "1"), "--top belongs to the table of all experiments"),
        (("--by", "dtype", "--where", "dtype=int8"), "--where belongs to the table of all experiments"),
        (("@7",), "write @1 to @6"),
        (("dtype=float16",), "3 experiments have dtype=float16: 04000000, 02000000, 00000000"),
        (("dtype=int8",), "has dtype=int8"),
    ],
)
def test_a_choice_that_means_nothing_ends_with_2(run_llem, store, arguments, message) -> None:
    """It names what is near."""
    done = run_llem("show", store.path, *arguments)

    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr


def test_an_experiment_is_named_by_its_line_or_by_what_it_sets(run_llem, store) -> None:
    """The table's first line is @1; a condition that one experiment alone keeps is that experiment."""
    assert json.loads(run_llem("show", store.path, "@1", "--json").stdout)["id"].startswith("05")
    one = run_llem("show", store.path, "dtype=float16;batch_size=8", "--json")
    assert json.loads(one.stdout)["id"].startswith("02")


def test_many_axes_stand_in_one_column(run_llem, grid_store, monkeypatch) -> None:
    """Each by its shortest ending; a table of them fits 100 columns."""
    monkeypatch.setenv("COLUMNS", "100")
    axes = {**AXES, "pytorch.attn_implementation": ["sdpa", "eager"], "pytorch.compile": [True, False]}
    lines = run_llem("show", grid_store(axes, energy).path).stdout.splitlines()

    assert max(len(line.rstrip()) for line in lines) <= 100
    assert "configuration" in " ".join(lines[:4])
    whole = "".join(line[8:42].strip() for line in lines[-6:])
    assert "attn_implementation=" in whole


def test_experiments_that_never_began_are_counted(run_llem, store) -> None:
    """With the command that measures them."""
    document = store.study()
    store.write_study({**document, "experiments": [*document["experiments"], "f" * 16], "texts": {"my study.yaml": ""}})
    text = " ".join(run_llem("show", store.path).stdout.split())

    assert f"6 of 7 experiments began; to measure the rest: `llem run 'my study.yaml' -o {store.path} --resume`" in text


@pytest.mark.parametrize(
    ("axes", "given", "said"),
    [
        ({"dtype": ["float16"]}, lambda _: 1.0, "dtype has a single value in this study: float16"),
        (
            {"dtype": ["float16", "int8"]},
            lambda point: {"energy": 1.0, "valid": point["dtype"] != "int8"},
            "no result with dtype=int8 is valid",
        ),
        (
            {"dtype": ["float16", "int8"]},
            lambda point: 1.0 if point["dtype"] != "int8" else None,
            "no experiment with dtype=int8 has a result",
        ),
        (
            {"dtype": ["float16", "int8"]},
            lambda point: {"energy": None, "speed": None},
            "results with dtype=float16, int8 have no energy_per_output_token_j: No meter covers this quantity",
        ),
        (
            {"dtype": ["float16", "int8"], "load.batch_size": [1, 2]},
            lambda point: {"energy": 1.0, "valid": (point["dtype"] == "int8") == (point["load.batch_size"] == 2)},
            "no two valid results differ in dtype alone; the nearest, 03000000 and 00000000, differ in load.batch_size",
        ),
    ],
)
def test_why_nothing_pairs_is_said(run_llem, grid_store, axes, given, said) -> None:
    """With what to do about it."""
    store = grid_store(axes, given)
    done = run_llem("show", store.path, "--by", "dtype")
    lines = done.stdout.splitlines()

    assert (done.exit_code, done.stderr) == (0, "")
    assert lines[0].startswith(f"nothing to compare by dtype: {said}")
    assert lines[1].startswith("  ")
