"""`llem run` and `llem show` on a study of several experiments: one store, one table, one exit code."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import llem
from llem.metrics.verify import verify
from llem.store.store import Store

STUDY = """
name: mixed
base:
  backend: lab
  device: cpu
  preset: quick
  window_s: 0.1
  warmup: {seconds: 0}
  baseline: {seconds: 0}
  workload: {input_tokens: 8, output_tokens: 8}
axes:
  load.batch_size: [1, 2, 0]
  lab.fail_in: [null]
order: {kind: sequential}
"""
FAILING = STUDY.replace("lab.fail_in: [null]", "lab.fail_in: [load, null]")


@pytest.fixture
def study(isolated_llem, lab) -> Path:
    """A study of two experiments that end well, and of two points that are invalid."""
    path = isolated_llem.folder / "study.yaml"
    path.write_text(STUDY)
    return path


def table(text: str) -> list[list[str]]:
    """The rows of a printed table below its heading, as words; a blank line ends it."""
    lines = text.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("──"))
    return [line.split() for line in itertools.takewhile(str.strip, lines[first + 1 :])]


@pytest.mark.process
def test_every_experiment_of_a_study_is_measured_into_one_store(run_llem, study) -> None:
    """A table of what varies on standard output, the rest on standard error; what was left out is in the store."""
    done = run_llem("run", study, "-o", "out")
    store = Store.open("out")
    document = store.study()

    assert done.exit_code == 0
    assert done.stderr.splitlines()[0] == "mixed: 2 experiments (3 declared, 1 invalid; `llem plan` lists them)"
    assert done.stderr.splitlines()[-1] == "stored in out"
    assert re.search(r"^0 of 2 done, 2 to go( · load)? · about 0:0[0-9] left$", done.stderr, re.M)
    assert done.stdout.splitlines()[2].split()[:2] == ["id", "batch_size"]
    assert [(row[1], row[-1]) for row in table(done.stdout)] == [("1", "done"), ("2", "done")]
    assert document["name"] == "mixed"
    assert set(document["experiments"]) == set(store.experiment_ids())
    assert [store.read_experiment(name)["config"]["load"]["batch_size"] for name in document["experiments"]] == [1, 2]
    assert document["invalid"][0]["reasons"] == ["study.yaml: axes.load.batch_size[2]: must be at least 1, got 0"]
    assert document["texts"] == {"study.yaml": STUDY}
    assert sorted(path.name for path in (store.path / "workers").iterdir()) == ["0"]
    assert verify(store) == []


@pytest.mark.process
def test_json_is_the_list_of_results_alone(run_llem, study) -> None:
    """In running order."""
    done = run_llem("run", study, "-o", "out", "--json")
    results = json.loads(done.stdout)

    assert (done.exit_code, done.stderr) == (0, "")
    assert [result["id"] for result in results] == Store.open("out").study()["experiments"]
    assert [result["config"]["load"]["batch_size"] for result in results] == [1, 2]


@pytest.mark.process
def test_the_study_goes_on_after_a_failure_and_ends_with_1(run_llem, study) -> None:
    """The failure has its line and its outcome; the others are measured."""
    study.write_text(FAILING)
    done = run_llem("run", study, "-o", "out", "-q")
    outcomes = [Store.open("out").read_result(name).outcome for name in Store.open("out").study()["experiments"]]

    assert done.exit_code == 1
    assert outcomes == ["crash", "crash", "done", "done"]
    assert "RuntimeError: device lost" in " ".join(done.stdout.split())
    assert [row[2] for row in table(done.stdout) if len(row) > 3 and row[0].isalnum()][:1] == ["load"]
    assert done.stderr.splitlines() == [
        "stored in out",
        "2 of 4 experiments done, 2 failed, 0 to go",
        "go on with:",
        f"  llem run {shlex.quote(str(study))} -q -o out --resume",
    ]


@pytest.mark.process
def test_a_worker_that_dies_without_a_word_does_not_end_the_study(run_llem, study) -> None:
    """Its status is in the result."""
    study.write_text(FAILING.replace("fail_in: [load, null]", "error: [kill, runtime]\n  lab.fail_in: [load]"))
    done = run_llem("run", study, "-o", "out", "--json")
    results = json.loads(done.stdout)

    assert done.exit_code == 1
    assert [result["outcome"] for result in results] == ["crash"] * 4
    assert [result["error"] for result in results[::2]] == [
        "the worker ended with status -9 and no outcome",
        "RuntimeError: device lost, in the plugin llem-lab 1.2",
    ]


@pytest.mark.process
def test_an_invalid_result_ends_with_1(run_llem, study) -> None:
    """As with one experiment."""
    study.write_text(STUDY.replace("  preset:", "  meters: [failing]\n  failing: {reads: 5}\n  preset:"))
    done = run_llem("run", study, "-o", "out", "-q")

    assert done.exit_code == 1
    assert "done (not valid)" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        (STUDY.replace("[1, 2, 0]", "[0]"), 2, "error: invalid study 'mixed'\n  study.yaml: axes.load.batch_size[0]"),
        (STUDY.replace("backend: lab", "backend: lab\n  meters: [absent]"), 3, "error: no power meter answers"),
        (STUDY.replace("device: cpu", "device: cpu\n  gpus: [0]"), 3, "error: "),
    ],
    ids=["config", "meter", "gpu"],
)
def test_a_study_that_cannot_run_is_told_before_anything_is_written(
    run_llem, study, text: str, code: int, message: str
) -> None:
    """The user's mistake is 2, the machine's state 3."""
    study.write_text(text)
    done = run_llem("run", study, "-o", "out")

    assert (done.exit_code, done.stdout) == (code, "")
    assert done.stderr.startswith(message)
    assert not Path("out").exists()


@pytest.mark.process
def test_flags_lie_over_every_point(run_llem, study) -> None:
    """And what they make the same is run once."""
    done = run_llem("run", study, "-o", "out", "--set", "load.batch_size=3", "--json")

    assert [result["config"]["load"]["batch_size"] for result in json.loads(done.stdout)] == [3]
    assert Store.open("out").study()["overrides"] == [{"source": "flag --set", "values": {"load.batch_size": 3}}]


@pytest.mark.process
def test_show_prints_the_same_table(run_llem, study) -> None:
    """In the order in which they ran, with what varies as columns; one of them by the beginning of its id."""
    printed = run_llem("run", study, "-o", "out", "-q").stdout
    shown = run_llem("show", "out")
    row = table(shown.stdout)[0]

    assert (shown.exit_code, shown.stdout) == (0, printed)
    assert "batch 1" in run_llem("show", "out", row[0]).stdout


def test_columns_are_named_by_the_shortest_ending_that_is_clear() -> None:
    """Two settings of the same name are told apart."""
    from llem.reports.tables import headings

    assert headings(["load.batch_size", "sampling.seed", "workload.seed", "dtype"]) == [
        "batch_size",
        "sampling.seed",
        "workload.seed",
        "dtype",
    ]
    assert headings(["seed", "load.seed"]) == ["seed", "load.seed"]


def test_config_check_knows_studies(run_llem, study) -> None:
    """How many experiments they hold, or what is wrong with them."""
    bad = study.with_name("bad.yaml")
    bad.write_text(STUDY.replace("load.batch_size", "load.batch_sise"))
    done = run_llem("config", "check", study.name, bad.name)

    assert done.exit_code == 2
    assert done.stdout == "study.yaml: valid (2 experiments, 1 of 3 points left out: see `llem plan`)\n"
    assert "bad.yaml: axes.load.batch_sise: unknown field (did you mean 'batch_size'?)\n" in done.stderr


def test_config_show_is_for_one_experiment(run_llem, study) -> None:
    """A study has no single resolved form."""
    done = run_llem("config", "show", study.name)

    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "error: study.yaml is a study of 2 experiments\n  list them with `llem plan`\n"


@pytest.mark.process
def test_python_measures_a_study(study, short, isolated_llem) -> None:
    """From a file or a mapping; results by id in running order, as `load_results` gives them."""
    loaded = llem.load_study(study, window_s=0.2)
    results = llem.run_study(loaded, "out", launcher="inline")

    assert list(results) == [one.id for one in loaded.experiments]
    assert [result.config["window_s"] for result in results.values()] == [0.2, 0.2]
    assert llem.load_results("out") == results

    by_mapping = llem.run_study({"base": short, "axes": {"load.batch_size": [1, 2]}}, launcher="inline")
    assert [result.outcome for result in by_mapping.values()] == ["done", "done"]


def test_run_refuses_a_study_of_several(study) -> None:
    """It returns one Result."""
    with pytest.raises(llem.ConfigError, match="is a study of 2 experiments"):
        llem.run(study, out="out")


@pytest.mark.process
def test_an_interrupt_ends_the_study_after_the_trial(study, lab) -> None:
    """What was measured is shown and kept, how much began is told, and the exit code is 130."""
    study.write_text(STUDY.replace("window_s: 0.1", "window_s: 1.5"))
    command = [sys.executable, "-m", "llem", "run", study.name, "-o", "out", "-q"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    events = Path("out", "workers", "0", "events.jsonl")
    until = time.monotonic() + 60
    while time.monotonic() < until and not (events.exists() and '"phase": "trial"' in events.read_text()):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert len(table(out)) == 1
    assert err.splitlines()[-5:] == [
        "stored in out",
        "1 of 2 experiments done, 1 to go",
        "error: interrupted",
        "go on with:",
        "  llem run study.yaml -q -o out --resume",
    ]
    store = Store.open("out")
    assert [len(store.trials(name)) for name in store.study()["experiments"]] == [1, 0]
    assert verify(store) == []


@pytest.mark.process
def test_nothing_is_gone_on_with_where_nothing_was_measured(run_llem, study) -> None:
    """An error that must come again has no command that goes on; neither as a study nor alone."""
    alone = STUDY.replace("axes:", "").replace("  load.batch_size: [1, 2, 0]\n", "").replace("order:", "# order:")
    for text in (STUDY.replace("[null]", "[load]"), alone.replace("  lab.fail_in: [null]", "  lab.fail_in: load")):
        study.write_text(text)
        done = run_llem("run", study, "-o", f"out-{len(text)}", "-q")
        assert done.exit_code == 1, done.stderr
        assert "--resume" not in done.stderr
