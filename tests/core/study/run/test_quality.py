"""Quality of an engine: evaluated once when all its trials are measured, and stored with every experiment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import llem
from llem.errors import ExperimentFailed
from llem.metrics.verify import verify
from llem.protocol.events import Phase, TrialEnded
from llem.store.evaluations import evaluations, read_items
from llem.store.store import Store

pytestmark = pytest.mark.process

SPELLING = {"evaluator": "spelling", "tasks": ["fruit", "colour"], "force": True}


class Ran:
    """A study's store, its results by batch size, and its events."""

    def __init__(self, out: Path, results: Any, events: list[Any]) -> None:
        self.store = Store.open(out)
        self.results = {result.config["load"]["batch_size"]: result for result in results.values()}
        self.events = events

    @property
    def phases(self) -> list[str]:
        """Loads, baselines and tasks of the workers, in order."""
        told = [event for event in self.events if isinstance(event, Phase) and not event.total]
        return [one.task or one.phase for one in told if one.phase not in ("warm-up", "trial")]

    def quality(self, size: int) -> Mapping[str, Any]:
        """Values of its scores, or reasons."""
        metrics = self.results[size].metrics
        return {
            name.removeprefix("quality."): one.reason if one.value is None else one.value
            for name, one in metrics.items()
            if name.startswith("quality.")
        }

    def findings(self, size: int) -> dict[str, str]:
        """What is told of quality, by code."""
        return {one.code: one.message for one in self.results[size].findings if one.code.startswith("quality")}


@pytest.fixture
def run(tmp_path: Path, lab):
    """Run a study of batch sizes on the plugin's backend with this section `quality`."""

    def _run(quality: Any, sizes: tuple[int, ...] = (1, 2), launcher: str = "process", **more: Any) -> Ran:
        base = {**lab, "window_s": 0.1, "quality": quality, **more.pop("base", {})}
        study = {"base": base, "axes": {"load.batch_size": list(sizes)}, "trials": 2, **more.pop("study", {})}
        events: list[Any] = []
        results = llem.run_study(study, tmp_path / "out", launcher=launcher, on_event=events.append, **more)
        return Ran(tmp_path / "out", results, events)

    return _run


def test_an_engine_is_evaluated_once_after_its_last_trial(run) -> None:
    """Scores with their interval over items, for each experiment of the engine; that weights are random is told."""
    ran = run(SPELLING)
    scores = {"fruit": 0.75, "fruit.letters": 4.0, "colour": 0.5, "colour.letters": 3.5}

    assert ran.phases == ["load", "fruit", "colour"]
    assert [ran.quality(size) for size in (1, 2)] == [scores] * 2
    fruit = ran.results[1].metrics["quality.fruit"]
    assert (fruit.low, fruit.high) == pytest.approx((0.30064, 0.95441), abs=1e-5)  # Wilson's, of 3 of 4
    assert (fruit.confidence, fruit.n, fruit.method) == (0.95, 4, "items")
    assert list(ran.findings(1)) == ["quality_random_weights"]
    assert ran.results[1].valid
    assert verify(ran.store) == []


def test_items_are_stored_with_time_and_terms(run) -> None:
    """Two configurations can be compared item by item; what was asked, and how long it took, stands beside."""
    ran = run({**SPELLING, "tasks": ["fruit"], "limit": 2}, sizes=(1,))
    [name] = ran.store.experiment_ids()
    [found] = evaluations(ran.store, name)
    exact, letters = read_items(ran.store, name, found).scores

    assert [(item.id, item.value, item.response) for item in exact.items] == [
        ("apple", 1.0, "apple."),
        ("pear", 1.0, "pear."),
    ]
    assert (letters.metric, letters.value, letters.items) == ("letters", 4.5, ())
    assert (found.evaluator, found.task, found.process, found.about) == ("spelling", "fruit", 0, {"words": 2})
    assert found.terms == {"limit": 2, "fail_in": None, "error": "runtime", "item_s": 0.0}
    assert found.duration_s > 0


def test_energy_of_the_evaluation_is_told_apart(run) -> None:
    """The meters read it too; it is in no trial."""
    ran = run({**SPELLING, "tasks": ["fruit"]}, sizes=(1,), launcher="inline", base={"meters": ["watch"]})
    [name] = ran.store.experiment_ids()
    [found] = evaluations(ran.store, name)

    [reading] = found.energies
    assert (reading.meter, reading.domain) == ("watch", "cpu:0")
    assert reading.energy_j == pytest.approx(30 * found.duration_s, rel=0.5)


def test_a_task_that_fails_takes_no_other_with_it(run) -> None:
    """It has no score and a finding says why; trials and the other task stand."""
    ran = run({**SPELLING, "tasks": ["colour", "fruit"], "fail_in": "colour"})

    assert [ran.quality(size)["fruit"] for size in (1, 2)] == [0.75] * 2
    assert ran.quality(1)["colour"] == "not_evaluated"
    assert (
        ran.findings(2)["quality_failed"]
        == "the evaluation of quality failed: colour: RuntimeError: device lost, in the plugin llem-lab 1.2"
    )
    assert {result.outcome for result in ran.results.values()} == {"done"}
    assert all(result.valid and not result.publishable for result in ran.results.values())


def test_a_score_without_an_item_is_none(run) -> None:
    """An average of nothing is no 0; the other task has its score."""
    ran = run({**SPELLING, "tasks": ["colour", "fruit"], "fail_in": "colour", "error": "empty"}, sizes=(1,))

    assert ran.quality(1)["fruit"] == 0.75
    assert ran.quality(1)["colour"] == "not_evaluated"
    assert ran.findings(1)["quality_failed"].endswith("colour: no item of colour is behind the score exact")


@pytest.mark.parametrize(
    ("error", "why"),
    [
        ("kill", "the worker ended with status -9; this is how the system ends a process when memory runs out"),
        ("abort", "the worker ended with status -6"),
        ("hang", "the worker told nothing for more than 3 s (`limits.silence_s`)"),
    ],
)
def test_a_worker_that_dies_at_a_task_leaves_the_others_to_another(run, error: str, why: str) -> None:
    """No trial is measured again, and no second worker tries what ended the first."""
    quality = {**SPELLING, "tasks": ["colour", "fruit"], "fail_in": "colour", "error": error}
    ran = run(quality, study={"limits": {"silence_s": 3}})

    assert ran.phases == ["load", "colour", "load", "fruit"]
    assert [ran.quality(size)["fruit"] for size in (1, 2)] == [0.75] * 2
    assert [ran.quality(size)["colour"] for size in (1, 2)] == ["not_evaluated"] * 2
    assert ran.findings(1)["quality_failed"] == f"the evaluation of quality failed: colour: {why}"
    assert {(result.outcome, result.trials, result.valid) for result in ran.results.values()} == {("done", 2, True)}
    assert sum(isinstance(event, TrialEnded) for event in ran.events) == 4
    assert verify(ran.store) == []


@pytest.mark.parametrize(
    ("error", "why"),
    [("memory", "MemoryError"), ("full", "OSError: [Errno 28] No space left on device, in the plugin llem-lab 1.2")],
)
def test_what_an_evaluator_raises_ends_its_task_alone(run, error: str, why: str) -> None:
    """The engine goes on to the next task."""
    ran = run({**SPELLING, "tasks": ["colour", "fruit"], "fail_in": "colour", "error": error}, sizes=(1,))

    assert ran.phases == ["load", "colour", "fruit"]
    assert ran.quality(1)["fruit"] == 0.75
    assert ran.findings(1)["quality_failed"] == f"the evaluation of quality failed: colour: {why}"


def test_a_full_disk_is_told_and_costs_no_trial(run, monkeypatch) -> None:
    """What could not be written is evaluated when the study goes on."""
    from llem.errors import MachineError
    from llem.experiment import quality

    def full(store, experiment_id, evaluation) -> None:
        raise MachineError("the disk is full", "make room", "disk_full")

    with monkeypatch.context() as patch:
        patch.setattr(quality, "write_evaluation", full)
        ran = run({**SPELLING, "tasks": ["fruit"]}, sizes=(1,), launcher="inline")
    again = run({**SPELLING, "tasks": ["fruit"]}, sizes=(1,), resume=True)

    assert (ran.results[1].outcome, ran.results[1].valid, ran.quality(1)["fruit"]) == ("done", True, "not_evaluated")
    assert ran.findings(1)["quality_failed"] == "the evaluation of quality failed: fruit: the disk is full"
    assert again.phases == ["load", "fruit"]
    assert (again.quality(1)["fruit"], list(again.findings(1))) == (0.75, ["quality_random_weights"])


@pytest.mark.parametrize("kind", ["blocks", "sequential", "reverse", "williams"])
def test_of_several_engine_processes_the_last_is_evaluated(run, kind: str) -> None:
    """After the engine's last trial, once for all its experiments, whatever the order of trials."""
    ran = run(SPELLING, base={"processes": 2}, study={"order": {"kind": kind}})

    assert ran.phases == ["load", "load", "fruit", "colour"]
    found = [evaluations(ran.store, name) for name in ran.store.experiment_ids()]
    assert [{one.process for one in each} for each in found] == [{1}, {1}]
    assert [ran.quality(size)["colour"] for size in (1, 2)] == [0.5] * 2


def test_an_engine_is_evaluated_when_the_first_of_its_experiments_is_complete(run) -> None:
    """The reference has engine processes until the study's end; the others' scores do not wait for it."""
    ran = run(SPELLING, study={"reference": {"load.batch_size": 2}, "trials": 3})

    assert ran.phases == ["load", "load", "fruit", "colour", "load"]
    assert [ran.quality(size)["fruit"] for size in (1, 2)] == [0.75] * 2


def test_further_trials_and_tasks_need_one_engine(run) -> None:
    """What is added to a finished study is measured and evaluated by one worker; what is scored is not asked again."""
    run({**SPELLING, "tasks": ["fruit"]})
    more = run(SPELLING, study={"trials": 3}, resume=True)
    further = run(SPELLING, study={"trials": 4}, resume=True)

    assert more.phases == ["load", "colour"]
    assert further.phases == ["load"]
    assert {(result.trials, result.outcome) for result in further.results.values()} == {(4, "done")}
    assert further.quality(2) == {"fruit": 0.75, "fruit.letters": 4.0, "colour": 0.5, "colour.letters": 3.5}


def test_experiments_of_an_engine_may_ask_for_different_things(run) -> None:
    """Each has the scores that it asks for; what two ask alike is evaluated once."""
    points = [
        {"load.batch_size": 1, "quality": {**SPELLING, "tasks": ["fruit"]}},
        {"load.batch_size": 2, "quality": {**SPELLING, "tasks": ["fruit", "colour"]}},
        {"load.batch_size": 3, "quality": {**SPELLING, "tasks": ["fruit"], "limit": 1}},
        {"load.batch_size": 4, "quality": None},
    ]
    ran = run(None, study={"experiments": points, "axes": {}})

    assert sorted(ran.phases) == ["colour", "fruit", "fruit", "load"]
    assert ran.quality(1) == {"fruit": 0.75, "fruit.letters": 4.0}
    assert ran.quality(2) == {"fruit": 0.75, "fruit.letters": 4.0, "colour": 0.5, "colour.letters": 3.5}
    assert ran.quality(3) == {"fruit": 1.0, "fruit.letters": 5.0}
    assert ran.quality(4) == {}


def test_what_failed_at_first_takes_the_scores_of_its_engine(run, monkeypatch) -> None:
    """An experiment that is measured later is not evaluated again: its engine is."""
    import llem_lab

    generate = llem_lab.LabEngine.generate

    def small(self, requests, sampling, **more):
        if len(requests) > 1:
            raise ExperimentFailed("the batch does not fit into memory", "use a smaller batch", "oom")
        return generate(self, requests, sampling, **more)

    with monkeypatch.context() as patch:
        patch.setattr(llem_lab.LabEngine, "generate", small)
        first = run(SPELLING, launcher="inline")
    ran = run(SPELLING, resume=True)

    assert {size: result.outcome for size, result in first.results.items()} == {1: "done", 2: "oom"}
    assert ran.phases == ["load"]
    assert {size: result.outcome for size, result in ran.results.items()} == {1: "done", 2: "done"}
    assert (
        ran.quality(2) == ran.quality(1) == {"fruit": 0.75, "fruit.letters": 4.0, "colour": 0.5, "colour.letters": 3.5}
    )


def test_what_the_loaded_engine_lacks_is_told_before_any_trial(run, monkeypatch) -> None:
    """The experiment that asks for it fails; one that does not is measured with the same engine."""
    import llem_lab

    def lacks(self, capability: str) -> str | None:
        return "the server gives no `logprobs`" if capability == "stop" else None

    monkeypatch.setattr(llem_lab.LabEngine, "lacks", lacks)
    points = [{"load.batch_size": 1, "quality": SPELLING}, {"load.batch_size": 2, "quality": None}]
    ran = run(None, launcher="inline", study={"experiments": points, "axes": {}})

    assert {size: (one.outcome, one.trials) for size, one in ran.results.items()} == {1: ("invalid", 0), 2: ("done", 2)}
    assert "these tasks need stop, which is not to be had: the server gives no `logprobs`" in str(ran.results[1].error)
    assert ran.phases == ["load"]


def test_an_engine_that_lacks_something_keeps_its_trials(run, monkeypatch) -> None:
    """Asked for later, quality is not to be had, and that is a finding."""
    import llem_lab

    run(None, launcher="inline")
    monkeypatch.setattr(llem_lab.LabEngine, "lacks", lambda self, capability: "no `logprobs`")
    ran = run(SPELLING, launcher="inline", resume=True)

    assert ran.phases == ["load"]
    assert {(one.outcome, one.trials, one.valid) for one in ran.results.values()} == {("done", 2, True)}
    assert ran.findings(1)["quality_failed"].count("no `logprobs`") == 1


def test_what_is_missing_is_evaluated_when_a_study_goes_on(run) -> None:
    """No trial is measured again for other tasks or terms, and what is scored in these terms is not asked again."""
    before = run({**SPELLING, "tasks": ["fruit"]})
    more = run(SPELLING, resume=True)
    same = run(SPELLING, resume=True)
    fewer = run({**SPELLING, "tasks": ["fruit"], "limit": 1}, resume=True)

    assert more.phases == ["load", "colour"]
    assert more.quality(2) == {"fruit": 0.75, "fruit.letters": 4.0, "colour": 0.5, "colour.letters": 3.5}
    assert same.phases == []
    assert fewer.quality(1) == {"fruit": 1.0, "fruit.letters": 5.0}
    assert [result.id for result in before.results.values()] == [result.id for result in fewer.results.values()]
    assert {result.trials for result in fewer.results.values()} == {2}
    assert {result.outcome for result in fewer.results.values()} == {"done"}
    assert verify(fewer.store) == []


def test_quality_may_be_left_out_again(run) -> None:
    """What is stored stays, and the result no longer speaks of it."""
    run(SPELLING)
    ran = run(None, resume=True)

    assert ran.phases == []
    assert (ran.quality(1), ran.findings(1)) == ({}, {})


def test_what_failed_is_forgotten_once_it_is_scored(run, monkeypatch) -> None:
    """A failure of an earlier run is no finding of a result that has every score."""
    import llem_lab

    with monkeypatch.context() as patch:
        patch.delitem(llem_lab.Spelling.WORDS, "colour")
        patch.setattr(llem_lab.Spelling, "check", lambda self, experiment, model: None)
        failed = run(SPELLING, launcher="inline")
    ran = run(SPELLING, resume=True)

    assert "quality_failed" in failed.findings(1)
    assert list(ran.findings(1)) == ["quality_random_weights"]
    assert ran.quality(2)["colour"] == 0.5


def test_an_engine_that_does_not_load_again_leaves_the_trials_as_they_are(run, monkeypatch) -> None:
    """Loaded for quality alone it fails: the result is as it was, without a score."""
    import llem_lab

    run(None, launcher="inline")

    def load(self, experiment, model, placement):
        raise RuntimeError("no such device")

    monkeypatch.setattr(llem_lab.LabBackend, "load", load)
    ran = run(SPELLING, launcher="inline", resume=True)

    assert {(result.outcome, result.trials) for result in ran.results.values()} == {("done", 2)}
    assert ran.quality(1) == {"fruit": "not_evaluated", "colour": "not_evaluated"}
    assert ran.findings(1)["quality_failed"].endswith("RuntimeError: no such device")


def test_the_user_may_stop_an_evaluation(run, monkeypatch) -> None:
    """What is scored by then is stored; the rest is for `--resume`."""
    import llem_lab

    from llem.experiment.session import EngineProcess

    check = EngineProcess.check_stop
    scored: list[str] = []
    evaluate = llem_lab.Spelling.evaluate

    def counted(self, engine, tokenizer, context):
        scored.append(context.task)
        return evaluate(self, engine, tokenizer, context)

    def stopping(self) -> None:
        if scored == ["fruit", "colour"]:
            self.stop.set()
        check(self)

    with monkeypatch.context() as patch:
        patch.setattr(llem_lab.Spelling, "evaluate", counted)
        patch.setattr(EngineProcess, "check_stop", stopping)
        with pytest.raises(ExperimentFailed, match="stopped by the user") as caught:
            run(SPELLING, sizes=(1,), launcher="inline")

    assert caught.value.code == "interrupted"
    again = run(SPELLING, sizes=(1,), resume=True)
    assert again.phases == ["load", "colour"]
    assert (again.quality(1)["fruit"], again.quality(1)["colour"]) == (0.75, 0.5)
    assert "quality_failed" not in again.findings(1)


def test_a_damaged_item_is_found(run) -> None:
    """`llem verify` counts the items behind each score, and knows the hash of their rows."""
    import gzip

    ran = run({**SPELLING, "tasks": ["fruit"]}, sizes=(1,))
    [path] = ran.store.path.glob("experiments/*/quality-*.items.jsonl.gz")
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    path.write_bytes(gzip.compress(b"".join(lines[:-1])))

    found = {one.path: (one.stored, one.recomputed) for one in verify(ran.store)}
    assert found["scores[0].n"] == (4, 3)
    assert "items_sha256" in found
