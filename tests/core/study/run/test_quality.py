"""Quality of an engine: evaluated once when all its trials are measured, and stored with every experiment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import llem
from llem.metrics.verify import verify
from llem.protocol.events import Phase
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
    assert (fruit.low, fruit.high) == pytest.approx((0.75 - 1.96 * 0.21651, 0.75 + 1.96 * 0.21651), abs=1e-4)
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
    assert found.terms == {"limit": 2, "fail_in": None, "error": "runtime"}
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
    assert ran.findings(2)["quality_failed"] == "the evaluation of quality failed: colour: RuntimeError: device lost"
    assert {result.outcome for result in ran.results.values()} == {"done"}
    assert all(result.valid and not result.publishable for result in ran.results.values())


def test_a_worker_that_dies_in_an_evaluation_is_told_of(run) -> None:
    """The trials are done; no second worker tries what killed the first."""
    ran = run({**SPELLING, "tasks": ["fruit", "colour"], "fail_in": "colour", "error": "kill"})

    assert ran.phases.count("load") == 1
    assert [ran.quality(size)["fruit"] for size in (1, 2)] == [0.75] * 2
    assert ran.findings(1)["quality_failed"] == "the evaluation of quality failed: the worker ended with status -9"
    assert {result.outcome for result in ran.results.values()} == {"done"}


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
        ran = run(SPELLING, sizes=(1,), launcher="inline")

    assert ran.quality(1)["fruit"] == 0.75
    assert ran.quality(1)["colour"] == "not_evaluated"
    assert "quality_failed" not in ran.findings(1)
    again = run(SPELLING, sizes=(1,), resume=True)
    assert again.quality(1)["colour"] == 0.5


def test_a_damaged_item_is_found(run) -> None:
    """`llem verify` counts the items behind each score."""
    import gzip

    ran = run({**SPELLING, "tasks": ["fruit"]}, sizes=(1,))
    [path] = ran.store.path.glob("experiments/*/quality-*.items.jsonl.gz")
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    path.write_bytes(gzip.compress(b"".join(lines[:-1])))

    [found] = verify(ran.store)
    assert (found.path, found.stored, found.recomputed) == ("scores.0", 4, 3)
