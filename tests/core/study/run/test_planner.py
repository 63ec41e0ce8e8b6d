"""Planners: asked for jobs and told of results while no worker runs; what the store holds is all that they need."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from llem.launchers.inline import InlineLauncher
from llem.metrics.verify import verify
from llem.plugins.registry import registry
from llem.protocol.events import Event
from llem.protocol.study_events import ResultComputed
from llem.store.models import Result
from llem.store.store import Store
from llem.study.plan.expand import load
from llem.study.plan.planner import FixedList, Planner
from llem.study.plan.schedule import Job
from llem.study.plan.study import Study
from llem.study.run.ran import Ran
from llem.study.run.study_run import run_all

pytestmark = pytest.mark.process


class BestAgain(Planner):
    """Every experiment once; then the fastest one again, with a further engine process, until it has two trials."""

    def __init__(self, study: Study) -> None:
        self._study, self._list = study, FixedList(study)
        self.asked: list[list[str]] = []
        self.seen: list[tuple[str, int]] = []

    def next(self, store: Store) -> Sequence[Job]:
        jobs = self._list.next(store) or self._again(store)
        self.asked.append([name for job in jobs for name in job.experiments])
        return jobs

    def _again(self, store: Store) -> Sequence[Job]:
        speeds = {one.id: self._speed(store, one.id) for one in self._study.experiments}
        best = max(speeds, key=lambda name: speeds[name])
        measured = store.trial_indices(best)
        if len(measured) > 1:
            return ()
        [before] = [job for job in self._study.jobs if best in job.experiments]
        return [Job(before.group, before.process + 1, (best,), ((best, len(measured)),))]

    def _speed(self, store: Store, name: str) -> float:
        result = store.read_result(name)
        return 0.0 if result is None else result.metrics["output_tokens_per_s"].value or 0.0

    def told(self, result: Result) -> None:
        self.seen.append((result.id, result.trials))


@pytest.fixture
def study(short: dict[str, Any]) -> Study:
    """Three experiments, each with an engine and one trial; the second is the fastest by far."""
    return load({"base": short, "axes": {"echo.token_seconds": [0.004, 0.001, 0.006]}}, (), registry())


def run(study: Study, out: Path, planner: Planner, events: list[Any], resume: bool = False) -> Ran:
    """The study, by this planner."""
    stop = threading.Event()
    return run_all(
        study, out, InlineLauncher, registry(), emit=events.append, stop=stop, resume=resume, planner=planner
    )


def fastest(study: Study) -> str:
    """Its id."""
    [name] = [one.id for one in study.experiments if one.experiment.options.token_seconds == 0.001]
    return name


def test_a_planner_adds_jobs_when_it_has_seen_results(study: Study, tmp_path: Path) -> None:
    """The best one is measured again in an engine process of its own, and its result is of both trials."""
    planner, events = BestAgain(study), list[Event]()
    ran = run(study, tmp_path / "out", planner, events)
    best, all_of_them = fastest(study), [one.id for one in study.experiments]

    assert planner.asked == [all_of_them, [best], []]
    assert planner.seen == [*((name, 1) for name in all_of_them), (best, 2)]
    assert {result.id: result.trials for result in ran.results} == {**dict.fromkeys(all_of_them, 1), best: 2}
    assert [trial.process for trial in Store.open(tmp_path / "out").trials(best)] == [0, 1]
    assert ran.stopped is None
    assert verify(Store.open(tmp_path / "out")) == []


def test_no_worker_runs_when_a_planner_is_asked_or_told(study: Study, tmp_path: Path) -> None:
    """Between the end of one worker and the beginning of the next."""
    seen: list[Any] = []

    class Watched(BestAgain):
        def next(self, store: Store) -> Sequence[Job]:
            seen.append("asked")
            return super().next(store)

        def told(self, result: Result) -> None:
            seen.append("told")

    run(study, tmp_path / "out", Watched(study), seen)
    kinds = [one if isinstance(one, str) else one.kind for one in seen]
    running = 0
    for kind in kinds:
        running += {"worker": 1, "worker ended": -1}.get(kind, 0)
        assert running == 0 or kind not in ("asked", "told", "result")

    assert (kinds.count("asked"), kinds.count("told"), kinds.count("worker")) == (3, 4, 4)


def test_a_study_that_is_resumed_asks_the_planner_again(study: Study, tmp_path: Path) -> None:
    """What was interrupted goes on where it was: the store is all that a planner needs."""
    first, second, third = (BestAgain(study) for _ in range(3))
    out, stop = tmp_path / "out", threading.Event()

    def emit(event) -> None:
        if isinstance(event, ResultComputed) and len(first.seen) == 2:  # the third result is there
            stop.set()

    interrupted = run_all(study, out, InlineLauncher, registry(), emit=emit, stop=stop, planner=first)
    ran = run(study, out, second, [], resume=True)
    again = run(study, out, third, [], resume=True)

    assert [result.trials for result in interrupted.results] == [1, 1, 1]
    assert second.asked == [[fastest(study)], []]
    assert third.asked == [[]]
    assert sum(result.trials for result in ran.results) == sum(result.trials for result in again.results) == 4


def test_the_fixed_list_is_what_is_not_measured(study: Study, tmp_path: Path) -> None:
    """All jobs of the study at once, without what is stored; and nothing when it is asked again."""
    planner, store = FixedList(study), Store.create(tmp_path / "empty", {"name": "test"})
    assert list(planner.next(store)) == list(study.jobs)
    assert list(planner.next(store)) == []

    run(study, tmp_path / "out", FixedList(study), [])
    assert list(FixedList(study).next(Store.open(tmp_path / "out"))) == []
