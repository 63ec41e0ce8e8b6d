"""`llem show --quality` and the quality of `llem compare`: energy beside quality, and what the figures are of."""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import pytest

import llem
from llem.evaluators.base import Item, Score
from llem.store.models import Quantity

AXES = {"dtype": ["bfloat16", "float8"], "load.batch_size": [1, 32]}
GPU = {"scope": "gpu", "kind": "measured"}


def score(values, task="sums", **more):
    items = tuple(Item(str(number), float(value)) for number, value in enumerate(values))
    value = sum(item.value for item in items) / len(items)
    return Score(task, more.pop("metric", "acc"), value, more.pop("stderr", 0.05), len(items), items=items, **more)


def scores(point):
    """Float8 loses 12 of 100 items; a task of few items is the same. One evaluation for both batch sizes."""
    low = point["dtype"] == "float8"
    sums = [1] * (58 if low else 70) + [0] * (42 if low else 30)
    nats = [1.0 + number / 50 + (0.1 + number / 1000 if low else 0) for number in range(40)]
    bits = score(nats, "text", metric="bits_per_byte", higher_is_better=False)
    return {"scores": [score(sums), bits], "lasted": 2.0 if low else 1.0}


def energy(point):
    return {"energy": {"bfloat16": 4.0, "float8": 3.0}[point["dtype"]] / point["load.batch_size"], "basis": GPU}


@pytest.fixture
def store(quality_store):
    """Two dtypes and two batch sizes, with the energy of the evaluation of `sums`."""
    store = quality_store(AXES, scores, energy)
    joules = {"energy_per_right_answer_j.sums": Quantity(12.0, "J", n=1, **GPU)}
    for result in llem.load_results(store.path).values():
        store.write_result(attrs.evolve(result, metrics={**result.metrics, **joules}), replace=True)
    return store


@pytest.fixture(autouse=True)
def _wide(isolated_llem, monkeypatch):
    """No heading is broken."""
    monkeypatch.setenv("COLUMNS", "240")


def lines(text):
    return [" ".join(line.split()) for line in text.splitlines()]


def test_energy_and_quality_stand_side_by_side(run_llem, store):
    """A row for the experiments that share an evaluation, the range of their energies, and notes below."""
    done = run_llem("show", store.path, "--quality", "--metric", "sums")

    assert (done.exit_code, done.stderr) == (0, "")
    found = lines(done.stdout)
    assert found[0] == "quality.sums (acc), more is better"
    assert found[1] == (
        "id dtype batch_size acc difference, 95 % p (Holm) lost/gained smallest loss items "
        "J/output token (gpu, measured) J/right answer (gpu, measured)"
    )
    assert found[3:5] == [
        "00000000 +1 bfloat16 1, 32 0.700 ± 0.088 – 100 0.1250 to 4.000 12.00 reference",
        "02000000 +1 float8 1, 32 0.580 ± 0.095 -0.120 [-0.198, -0.070] 0.00049 12/0 0.096 100 0.09375 to 3.000 12.00 "
        "worse",
    ]
    assert found[6:] == [
        "differences are to 0000000000000000; p is corrected for their number (Holm)",
        "paired item by item: McNemar's exact test and Tango's interval, by the items lost and gained; they are two "
        "methods, and only p is corrected: an interval may leave out 0 where p is above 0.05",
        "±: 95 % interval over the items; another engine process, seeds of sampled answers and numerics that depend on "
        "the batch are not in it",
        "smallest loss: found with 80 % power at the 5 % level, before the correction; a loss below it (0.096) may be "
        "there unseen",
        "J/right answer: of the evaluation and its own batches, not of the measured load; made once, without warm-up, "
        "so nothing says how sure it is",
    ]


def test_the_table_of_a_study_says_where_scores_are(run_llem, store, grid_store):
    """It has no room for them."""
    assert "scores of quality, item by item: `llem show DIR --quality`" in lines(run_llem("show", store.path).stdout)


def test_every_task_has_a_table(run_llem, store):
    """Of a score that is lower the better, more is worse."""
    found = lines(run_llem("show", store.path, "--quality").stdout)

    assert [line for line in found if line.startswith("quality.")] == [
        "quality.sums (acc), more is better",
        "quality.text (bits_per_byte), less is better",
    ]
    assert any(line.startswith("02000000") and "bits" not in line and line.endswith("worse") for line in found[10:])
    assert "paired item by item: Student's t over items, or over their clusters where they have some" in found


def test_the_reference_may_be_chosen(run_llem, store):
    """By the beginning of an id; the difference turns."""
    found = lines(run_llem("show", store.path, "--quality", "--reference", "03", "--metric", "quality.sums").stdout)

    assert found[3].startswith("00000000 +1 bfloat16 1, 32 0.700 ± 0.088 +0.120 [")
    assert found[3].endswith("better")
    assert found[4].endswith("reference")
    assert found[6].startswith("differences are to 0300000000000000")


def test_json_has_all_rows(run_llem, store):
    """As `Results.quality` in Python."""
    found = json.loads(run_llem("show", store.path, "--quality", "--json").stdout)

    energies = [row.pop("energies") for row in found]
    assert found == [json.loads(json.dumps(attrs.asdict(one))) for one in llem.load_results(store.path).quality()]
    joules = energies[0][found[0]["experiments"][0]]
    assert {name: (one["value"], one["scope"], one["kind"]) for name, one in joules.items()} == {
        "energy_per_output_token_j": (4.0, "gpu", "measured"),
        "energy_per_right_answer_j.sums": (12.0, "gpu", "measured"),
    }
    assert [row["reason"] for row in found] == ["is_reference", ""] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--quality", "--metric", "sum"), "no experiment has the score 'sum'"),
        (("--quality", "--reference", "7"), "no experiment '7'"),
        (("--quality", "--by", "dtype"), "--quality is a table of its own"),
    ],
)
def test_a_mistake_ends_with_2(run_llem, store, arguments, message):
    """Saying what would be right."""
    done = run_llem("show", store.path, *arguments)

    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr


def test_what_is_not_compared_says_why(run_llem, quality_store):
    """Other items are unpaired, other terms have no difference, and no interval has its reason."""

    def own(point):
        values = {"a": [1, 0, 1, 1], "b": [1, 0, 1], "c": [1, 0, 1, 0]}[point["way"]]
        return {"scores": [score(values)], "terms": {"limit": 9 if point["way"] == "c" else None}}

    found = lines(run_llem("show", quality_store({"way": ["a", "b", "c"]}, own).path, "--quality").stdout)

    assert "01000000: unpaired: items in one of the two alone: 1, in both: 3" in found
    assert "02000000: not compared: not in the same terms: limit 9, of the reference None" in found
    assert found[5].endswith("not compared")


def test_energies_that_cover_different_things_are_told(run_llem, quality_store):
    """Measured on the GPU, modelled without one."""

    def energy(point):
        return {"energy": 1.0, "basis": GPU if point["way"] == "a" else {"scope": "cpu", "kind": "modelled"}}

    store = quality_store({"way": ["a", "b"]}, lambda point: [score([1, 0, 1])], energy)
    found = lines(run_llem("show", store.path, "--quality").stdout)

    assert "J/output token" in found[1]
    assert "(gpu" not in found[1]
    told = "energies differ in what they cover (gpu, measured, cpu, modelled) and are not to be compared"
    assert f"J/output token: {told}" in found


def test_random_weights_are_told(run_llem, store):
    """Their scores say nothing of any model."""
    from llem.findings import finding

    for result in llem.load_results(store.path).values():
        store.write_result(attrs.evolve(result, findings=(finding("quality_random_weights", "random"),)), replace=True)

    assert (
        "weights are random: these scores say nothing about any model"
        in run_llem("show", store.path, "--quality").stdout
    )


def test_two_experiments_have_their_quality_below(run_llem, isolated_llem, store):
    """Named alone, without the trials that a comparison of energies needs; p is corrected over the tasks."""
    done = run_llem("compare", store.path, "00", "02", "--metric", "quality.sums", "--metric", "quality.text")

    found = lines(done.stdout)
    assert (done.exit_code, done.stderr) == (0, "")
    assert found[0] == "quality A B B - A, 95 % p (Holm) lost/gained smallest loss items B is"
    assert found[2] == "sums (acc) 0.7000 0.5800 -0.120 [-0.198, -0.070] 0.00049 12/0 0.096 100 worse"
    assert found[3].startswith("text (bits_per_byte) 1.390 1.510 +0.1195 [")
    assert found[3].endswith("worse")
    assert not any(line.startswith("differences are to") for line in found)


def test_two_experiments_of_one_engine_share_their_evaluation(run_llem, store):
    """There is no difference to test."""
    found = lines(run_llem("compare", store.path, "00", "01", "--metric", "quality.sums").stdout)

    assert found[2] == "sums (acc) 0.7000 0.7000 same evaluation 100"
    assert found[-1] == "A and B ran on one engine configuration, which was evaluated once"


def test_json_of_two_experiments(run_llem, store):
    """A row for each score of B."""
    [row] = json.loads(run_llem("compare", store.path, "00", "02", "--metric", "quality.sums", "--json").stdout)

    assert (row["metric"], row["verdict"], row["difference"]["lost"]) == ("quality.sums", "worse", 12)


@pytest.mark.parametrize("as_json", [False, True])
def test_scores_need_no_trials(run_llem, store, as_json):
    """Without ratios there are the scores, and why there is nothing else; JSON has the rows of scores alone."""
    done = run_llem("compare", store.path, "00", "02", *(["--json"] if as_json else []))
    why = "no ratios: a comparison needs two trials at least of each experiment; there are 0 and 0 ("

    assert done.exit_code == 0
    assert (done.stderr if as_json else done.stdout).startswith(why)
    if as_json:
        assert [one["metric"] for one in json.loads(done.stdout)] == ["quality.sums", "quality.text"]
    else:
        assert done.stderr == ""
        assert [line.split()[0].strip("─") for line in lines(done.stdout)[2:6]] == ["quality", "", "sums", "text"]


def test_ratios_without_trials_are_refused_where_they_are_asked_for_or_nothing_else_is(run_llem, store):
    """A named metric is not passed over, and without scores there is nothing to print."""
    named = run_llem("compare", store.path, "00", "02", "--metric", "power_w", "--metric", "quality.sums")
    for path in store.path.glob("experiments/*/quality-*.json"):
        path.unlink()

    for done in (named, run_llem("compare", store.path, "00", "02")):
        assert (done.exit_code, done.stdout) == (2, "")
        assert "two trials at least" in done.stderr


@pytest.mark.parametrize("pairs", [False, True])
def test_by_axis_a_score_has_another_command(run_llem, quality_store, pairs):
    """More trials give a score no interval; pairs of items do."""
    quantity = Quantity(0.7, "", n=1, better="higher")
    store = quality_store({"dtype": ["bfloat16", "float8"]}, scores)
    for result in llem.load_results(store.path).values():
        metrics = {**result.metrics, "quality.sums": quantity}
        store.write_result(attrs.evolve(result, metrics=metrics), replace=True)
    told = ("show", store.path, "--by", "dtype", *(["--pairs"] if pairs else []), "--metric", "quality.sums")
    found = run_llem(*told).stdout

    assert "quality is evaluated once, whatever the trials: `llem show DIR --quality` pairs items" in found
    assert "trials it does" not in found
    assert "fewer than two trials" not in found


def test_a_score_that_one_of_two_lacks_is_an_error(run_llem, quality_store):
    """Its name is right, and there is nothing to compare."""

    def own(point):
        return [score([1, 0, 1]), *([score([1, 0], "more")] if point["way"] == "a" else [])]

    done = run_llem("compare", quality_store({"way": ["a", "b"]}, own).path, "00", "01", "--metric", "quality.more")

    assert done.exit_code == 2
    assert "A and B do not both have the score 'quality.more'" in done.stderr


@pytest.mark.process
def test_a_study_that_was_run_compares_energy_and_quality(run_llem, isolated_llem, lab) -> None:
    """Two engines of the tests, evaluated after their trials: the comparison has both, and JSON both."""
    quality = {"evaluator": "spelling", "tasks": ["fruit"], "force": True}
    base = {**lab, "window_s": 0.1, "trials": 2, "max_trials": 2, "quality": quality}
    Path("study.yaml").write_text(json.dumps({"base": base, "axes": {"lab.token_seconds": [0.001, 0.002]}}))
    ran = run_llem("run", "study.yaml", "-o", "out")
    names = list(llem.load_results("out"))
    shown = lines(run_llem("show", "out", "--quality").stdout)
    found = lines(run_llem("compare", "out", *names).stdout)
    metrics = [one["metric"] for one in json.loads(run_llem("compare", "out", *names, "--json").stdout)]

    assert "scores of quality, item by item: `llem show DIR --quality`" in lines(ran.stdout)
    assert shown[0] == "quality.fruit (exact), more is better"
    assert "weights are random: these scores say nothing about any model" in shown
    assert any(line.startswith("output tokens/s") for line in found)
    assert any(line.startswith("fruit (exact) 0.7500 0.7500 0 [") for line in found)
    assert metrics[-1] == "quality.fruit"
    assert "output_tokens_per_s" in metrics
