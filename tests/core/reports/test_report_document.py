"""The document of a report: the verdict of `recommend`, what is damaged or missing, and traces that keep peaks."""

from __future__ import annotations

import json

import numpy as np
import pytest

import llem
from llem.errors import ConfigError, StoreError
from llem.evaluators.base import Item, Score
from llem.metrics.catalogue import shown
from llem.reports.page.document import report_of
from llem.reports.page.gather import gather
from llem.reports.page.trace import POINTS, thinned
from llem.store.files import to_text
from llem.store.store import Store

ENERGY, SPEED = "energy_per_output_token_j", "output_tokens_per_s"
#: By id: dtype and power as a multiple of 600 W.
POINTS_OF = {"a1": ("bfloat16", 1.0), "b2": ("float16", 0.9), "c3": ("float32", 1.5)}


@pytest.fixture
def folder(tmp_path, make):
    """Three configurations that differ in dtype and power, of five trials each."""
    points = {name: {"number": n, "values": {"dtype": POINTS_OF[name][0]}} for n, name in enumerate(POINTS_OF)}
    study = {"name": "by <b>hand</b>", "experiments": list(points), "axes": ["dtype"], "points": points}
    store = Store.create(tmp_path / "study", study)
    store.write_environment({"machine": "test"})
    for name, (dtype, power) in POINTS_OF.items():
        make.fill(store, name, power=power, dtype=dtype)
    return store.path


def made(folder, **asked):
    """The head, and the details by id, as JSON gives them back."""
    report = report_of(llem.load_results(folder), **asked)
    return json.loads(to_text(report.head)), json.loads(to_text(dict(report.details())))


def only(rows, name):
    return next(row for row in rows if row["id"] == name)


def test_the_verdict_is_that_of_recommend(folder):
    """Choice, probability, ties, limits and what it rests on, with limits and without."""
    for asked in ({}, {"power": "560W"}, {"maximise": "speed"}):
        told = llem.load_results(folder).recommend(**asked)
        verdict = made(folder, **asked)[0]["verdict"]

        assert (verdict["choice"], verdict["ties"]) == (told.choice, list(told.ties))
        assert verdict["probability"] == told.probability
        assert verdict["restsOn"] == list(told.rests_on)
        assert verdict["warnings"] == list(told.warnings)
        assert verdict["objective"] == told.objective
        assert [one["text"] for one in verdict["limits"]] == [one.text for one in told.limits]
        assert {name: one["standing"] for name, one in verdict["contenders"].items()} == {
            one.id: one.standing for one in told.contenders
        }


def test_the_sentences_are_those_of_the_command(run_llem, folder, monkeypatch):
    """Word for word, but for how deep they stand."""
    monkeypatch.chdir(folder.parent)
    shown_lines = [line.strip() for line in run_llem("recommend", folder.name).stdout.splitlines()]
    sentences = made(folder)[0]["verdict"]["sentences"]

    assert sentences[0].startswith("Take b2")
    assert shown_lines[: len(sentences)] == sentences


def test_the_headline_says_in_words_what_to_take_and_how_sure_that_is(folder):
    """Settings and the probability, and no id; why the others are out names them by what they set."""
    verdict = made(folder, power="560W")[0]["verdict"]

    assert verdict["headline"] == "Take dtype float16: 99 % likely to be the best that keeps the limits"
    assert verdict["lead"][0].startswith("Energy per output token: ")
    assert "It keeps power<=560W with a probability of 99 %." in verdict["lead"]
    assert verdict["others"][0].endswith("(dtype bfloat16)")
    assert made(folder, power="10W")[0]["verdict"]["headline"] == ""


def test_a_tie_is_in_the_headline(tmp_path, make):
    """What cannot be told from the choice is named beside it, with its own probability."""
    values = {"a1": {"dtype": "bfloat16"}, "b2": {"dtype": "float16"}}
    points = {name: {"number": n, "values": one} for n, (name, one) in enumerate(values.items())}
    study = {"name": "tie", "experiments": list(points), "axes": ["dtype"], "points": points}
    store = Store.create(tmp_path / "study", study)
    store.write_environment({"machine": "test"})
    for name, one in values.items():
        make.fill(store, name, power=1.0, dtype=one["dtype"])
    verdict = made(store.path)[0]["verdict"]

    assert verdict["outcome"] == "tie"
    assert ", tied with dtype " in verdict["headline"]
    assert any(line.startswith("As good, as far as these trials can tell: dtype ") for line in verdict["lead"])


def test_where_no_configuration_keeps_the_limits(folder):
    """There is no choice, and the nearest is named."""
    verdict = made(folder, power="10W")[0]["verdict"]

    assert (verdict["outcome"], verdict["choice"], verdict["probability"]) == ("none_feasible", None, None)
    assert any(line.startswith("nearest: b2") for line in verdict["sentences"])
    assert verdict["limits"] == [
        {"metric": "power_w", "text": "power<=10W", "bound": 10.0, "sense": "below", "against": ""}
    ]


def test_what_cannot_be_ranked_is_told(tmp_path, make):
    """The fake has no decision and says why; its experiments are there."""
    store = Store.create(tmp_path / "fakes", {"name": "fakes"})
    store.write_environment({"machine": "test"})
    make.fill(store, "e1", backend="echo")
    head, details = made(store.path)

    assert head["verdict"]["outcome"] == "no_decision"
    assert "echo" in head["verdict"]["sentences"][0]
    assert head["experiments"][0]["m"][ENERGY][0] > 0
    assert details["e1"]["traces"]


@pytest.mark.parametrize("asked", [{"slo": "ttft:p99<1"}, {"minimise": "energy", "maximise": "speed"}])
def test_an_option_that_cannot_be_read_is_refused(folder, asked):
    with pytest.raises(ConfigError):
        report_of(llem.load_results(folder), **asked)


@pytest.mark.parametrize(
    "asked", [{"minimise": "nothing"}, {"reference": "zz", "quality": "task>=-0.01"}, {"minimise": "cost"}]
)
def test_an_option_that_names_what_is_not_there_is_refused(folder, asked):
    with pytest.raises(StoreError):
        report_of(llem.load_results(folder), **asked)


def test_effects_are_those_of_by_axis(folder):
    """Of every metric that effects show by default, with the corrected p-value."""
    found = llem.load_results(folder).by_axis("dtype")
    effects = made(folder)[0]["effects"]

    assert {one["metric"] for one in effects} == {metric.name for metric in shown("effects")}
    assert [(one["value"], one["metric"]) for one in effects] == [(one.value, one.metric) for one in found]
    assert [one["ratio"] for one in effects] == pytest.approx([one.ratio for one in found], rel=1e-5)
    assert [one["p"] for one in effects] == pytest.approx([one.p_adjusted for one in found], rel=1e-5)


def test_effects_that_nothing_tells_say_why(tmp_path, make):
    """Experiments that set different settings, each against the engine's default, pair with nothing."""
    values = {"a1": {"dtype": "float16"}, "b2": {"device": "cuda"}, "c3": {}}
    points = {name: {"number": n, "values": one} for n, (name, one) in enumerate(values.items())}
    study = {"name": "listed", "experiments": list(points), "axes": ["dtype", "device"], "points": points}
    store = Store.create(tmp_path / "listed", study)
    store.write_environment({"machine": "test"})
    for name in points:
        make.fill(store, name)
    head, _ = made(store.path)

    assert head["effects"] == []
    assert head["effectsNote"].startswith("Not told of dtype, device: the valid experiments set one value only of each")


def test_quality_is_against_the_reference(quality_store):
    """Changes of scores with their intervals, as `Results.quality` has them."""

    def scores(point):
        wrong = 10 if point["dtype"] == "float32" else 30
        items = tuple(Item(f"i{n}", float(n >= wrong)) for n in range(200))
        return [Score("words", "acc", sum(one.value for one in items) / 200, 0.02, 200, True, items)]

    store = quality_store({"dtype": ["float32", "float16"]}, scores)
    found = llem.load_results(store.path).quality()
    rows = made(store.path)[0]["quality"]

    assert [row["reference"] for row in rows] == [one.reference for one in found]
    changed = next(row for row in rows if row["change"])
    assert changed["change"][0] == pytest.approx(-0.1)
    assert changed["change"][1] < changed["change"][0] < changed["change"][2]
    assert next(row for row in rows if not row["change"])["reason"] == "is_reference"


def test_a_damaged_result_is_in_the_report_with_its_error(folder):
    """The others have their figures, and the decision is that of `recommend`, which leaves it out too."""
    (folder / "experiments" / "b2" / "result.json").write_text("{ no JSON")
    head, details = made(folder)

    assert only(head["experiments"], "b2")["state"] == "damaged"
    assert "result.json" in only(head["experiments"], "b2")["error"]
    assert only(head["experiments"], "a1")["m"][ENERGY][0] > 0
    assert head["verdict"]["choice"] == llem.load_results(folder).recommend().choice == "a1"
    assert any("1 of 3 experiments are damaged" in note for note in head["notes"])
    assert details["b2"]["damaged"]
    assert details["b2"]["config"]


@pytest.mark.parametrize(
    ("file", "lost"),
    [("trial-1.power.csv.gz", "traces"), ("trial-1.requests.csv.gz", "latencies"), ("experiment.json", "config")],
)
def test_a_damaged_file_takes_no_other_part_with_it(folder, file, lost):
    """It is told, and what else is stored of the experiment is shown."""
    whole = made(folder)[1]["a1"]
    (folder / "experiments" / "a1" / file).write_bytes(b"\x00 no such thing")
    details = made(folder)[1]["a1"]

    assert any(file in line for line in details["damaged"])
    assert len(json.dumps(details[lost])) < len(json.dumps(whole[lost]))
    assert details["figures"] == whole["figures"]


def test_nothing_measured(tmp_path, make):
    """An experiment that only began, in a study of several, makes a report without a figure."""
    store = Store.create(tmp_path / "begun", {"name": "begun", "experiments": ["a1", "b2"]})
    store.write_experiment("a1", make.experiment_document("a1"))
    head, details = made(store.path)

    assert [row["state"] for row in head["experiments"]] == ["interrupted"]
    assert head["metrics"] == {}
    assert head["plot"] == {"x": None, "y": None}
    assert head["method"][0].startswith("1 experiment of 2 planned")
    assert details["a1"]["method"][-1] == "No trial ended, so nothing was measured."


def test_nothing_begun(tmp_path):
    """A folder without an experiment makes a report too."""
    store = Store.create(tmp_path / "empty", {"name": "empty", "experiments": ["a1"]})
    head, details = made(store.path)

    assert (head["experiments"], details) == ([], {})
    assert head["verdict"]["outcome"] == "no_decision"


def test_configuration_is_a_difference_to_the_choice(folder):
    """What differs from the choice is marked; the choice differs in nothing from itself."""
    _, details = made(folder)

    assert [row[:2] for row in details["a1"]["config"] if row[3]] == [["dtype", "bfloat16"]]
    assert details["a1"]["reference"] == "b2"
    assert not any(row[3] for row in details["b2"]["config"])


def test_figures_keep_what_they_are_of(folder):
    """An energy says what it covers, that it was measured or modelled, and what its interval rests on."""
    head, details = made(folder)
    energies = {(row["meter"], row["kind"]) for row in details["a1"]["energies"]}

    assert head["metrics"][ENERGY]["basis"] == "gpu, measured"
    assert only(head["experiments"], "a1")["basis"] == "gpu, measured"
    assert details["a1"]["figures"][0][2] == "gpu, measured · n = 5, one process"
    assert energies == {("nvml", "measured"), ("codecarbon", "modelled")}


def test_the_method_is_of_stored_facts(folder):
    """Trials, processes, window, meter and weights stand in it, each as stored."""
    head, details = made(folder)
    text = " ".join(details["a1"]["method"])

    assert "with random weights ran on" in text
    assert "5 trials in 1 engine process" in text
    assert "NVML total energy counter (nvml, measured" in text
    assert "CodeCarbon (codecarbon, modelled" in text
    assert "Student's t over trials" in text
    assert any(line.startswith("Energy was read from gpu: NVML") for line in head["method"])


def test_traces_are_of_the_window_in_seconds(folder):
    """Times count from the window's beginning, with what was recorded before and after, and power is that of the
    experiment."""
    _, details = made(folder)
    counter = next(one for one in details["a1"]["traces"] if one["reading"] == "counter")
    store = Store(folder)
    trial = store.trials("a1")[0]

    assert counter["window"] == [0, pytest.approx(trial.duration_s)]
    assert counter["lead"][0] < 0 < counter["after"][1]
    assert counter["ticks"][0] < 0
    assert len(counter["ticks"]) == len(counter["t"]) + 1
    assert np.mean(counter["w"]) == pytest.approx(600, rel=0.1)
    assert {one["trial"] for one in details["a1"]["traces"]} == {0, 1, 2, 3, 4}


def test_thinning_keeps_every_peak():
    """Of many points few remain, the least and the greatest of each part among them, in order."""
    values = np.full(100_000, 300.0)
    values[[31_234, 77_001]] = 900, 10
    kept = thinned(values)

    assert len(kept) <= POINTS
    assert {0, 31_234, 77_001, 99_999} <= set(kept.tolist())
    assert (np.diff(kept) > 0).all()
    assert thinned(values[:POINTS]).tolist() == list(range(POINTS))


def test_many_experiments_have_less_each(tmp_path, make, monkeypatch):
    """Beyond the number of experiments that are shown whole, each has one trace of its first trial, and the report
    says so."""
    from llem.reports.page import details, document, experiments

    for module in (details, document, experiments):
        monkeypatch.setattr(module, "MANY", 1)
    store = Store.create(tmp_path / "many", {"name": "many"})
    store.write_environment({"machine": "test"})
    for name in ("a1", "b2"):
        make.fill(store, name)
    head, told = made(store.path)

    assert [(one["trial"], one["reading"]) for one in told["a1"]["traces"]] == [(0, "counter")]
    assert told["a1"]["tracesLeftOut"] == 4
    assert all(one["quantiles"] == [] for one in told["a1"]["latencies"])
    assert any("more than 1 experiments" in note for note in head["notes"])


def test_folders_and_hosts_stay_private(folder):
    """The path of the store on this machine is nowhere in the report."""
    (folder / "experiments" / "a1" / "trial-1.power.csv.gz").write_bytes(b"")
    (folder / "experiments" / "c3" / "result.json").write_text("{")
    text = "".join(map(json.dumps, made(folder)))

    assert "experiments/c3/result.json" in text
    assert str(folder.parent) not in text
    assert gather(llem.load_results(folder)).folder == "study"
