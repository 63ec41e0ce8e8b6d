"""Quality in a plan: what is evaluated and how often, points that differ in it alone, what an evaluator is asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from llem.errors import ConfigError
from llem.reports.plan import plan_document, plan_lines
from llem.study.plan.schedule import job_plan

SPELLING = {"evaluator": "spelling", "tasks": ["fruit"], "force": True}


@pytest.fixture
def made(lab, study):
    """`made(axes, quality)`: a study of the plugin's backend that evaluates this."""

    def _made(axes: Mapping[str, Any], quality: Any = SPELLING, **more: Any):
        return study({**lab, "quality": quality, **more.pop("base", {})}, axes=axes, **more)

    return _made


def tasks_of(planned) -> dict[int, tuple[str, ...]]:
    """Tasks of each experiment, by its batch size."""
    quality = {one.experiment.load.batch_size: one.experiment.quality for one in planned.experiments}
    return {size: () if one is None else one.tasks for size, one in quality.items()}


def test_points_that_differ_in_tasks_alone_have_the_tasks_of_all(made) -> None:
    """Quality is no part of what is executed: they are one experiment, and none of its tasks is lost."""
    planned = made({"quality.tasks": [["fruit"], ["colour"], ["colour", "fruit"]], "load.batch_size": [1, 2]})

    assert tasks_of(planned) == {1: ("fruit", "colour"), 2: ("fruit", "colour")}
    assert len(planned.merged) == 4
    text = "\n".join(plan_lines(planned))
    assert "the same experiment as" in text
    assert ", evaluated for the tasks of both" in text


@pytest.mark.parametrize("values", [[None, SPELLING], [SPELLING, None]])
def test_a_point_without_quality_takes_that_of_the_same_experiment(made, values: list[Any]) -> None:
    """In either order, with where it came from."""
    planned = made({"quality": values}, quality=None)
    [one] = planned.experiments

    assert tasks_of(planned) == {1: ("fruit",)}
    assert one.document()["config"]["quality"]["tasks"] == ["fruit"]
    assert (one.sources["quality.tasks"], one.sources.get("quality")) == ("point of the study", None)


def test_the_reference_keeps_the_tasks_of_all_its_points(made) -> None:
    """It is resolved once more, for its engine processes."""
    axes = {"quality.tasks": [["fruit"], ["colour"]], "load.batch_size": [1, 2]}
    planned = made(axes, reference={"load.batch_size": 2}, trials=3)

    assert tasks_of(planned) == {1: ("fruit", "colour"), 2: ("fruit", "colour")}


def test_points_that_differ_in_how_a_task_is_evaluated_are_refused(made) -> None:
    """A result has one score of a task: the place of the second value is told, and what to do."""
    with pytest.raises(ConfigError) as caught:
        made({"quality.limit": [1, 2], "load.batch_size": [1, 2]})

    [problem] = caught.value.problems
    assert problem.path.endswith("axes.quality.limit[1]")
    assert problem.message.startswith("is 2 here and 1 in a point that is the same experiment (")
    assert "`--resume`" in problem.hint


def test_one_engine_process_of_a_group_has_the_tasks(made) -> None:
    """The one that takes the last trial of the first experiment to be complete, for all experiments of the engine."""
    planned = made({"load.batch_size": [1, 2], "lab.token_seconds": [0.001, 0.002]}, base={"processes": 2})
    ids = {one.id for one in planned.experiments}

    assert {job.process for job in planned.jobs if job.tasks} == {1}
    assert sorted(name for job in planned.jobs for name, _ in job.tasks) == sorted(ids)
    experiments = {one.id: one.experiment for one in planned.experiments}
    assert {job_plan(job, experiments).tasks for job in planned.jobs} == {(), ("fruit",)}


def test_a_plan_says_what_is_evaluated_and_how_often(made) -> None:
    """By evaluator and task; the time is not known."""
    axes = {"load.batch_size": [1, 2], "lab.token_seconds": [0.001, 0.002]}
    once = made(axes, {**SPELLING, "tasks": ["fruit", "colour"]})
    some = made({"lab.token_seconds": [0.001, 0.002]}, None, experiments=[{"load.batch_size": 3, "quality": SPELLING}])

    assert "quality by spelling: colour, fruit; once for each engine, after its last trial" in list(plan_lines(once))
    assert plan_document(once)["evaluations"] == 4
    assert "quality by spelling: fruit; 1 in all, after its last trial" in list(plan_lines(some))
    assert not any("quality" in line for line in plan_lines(made(axes, None)))


def test_an_evaluator_is_asked_once_for_an_engine(made, monkeypatch) -> None:
    """Not for each of its loads."""
    import llem_lab

    asked: list[Any] = []
    check = llem_lab.Spelling.check
    monkeypatch.setattr(llem_lab.Spelling, "check", lambda *given: (asked.append(given), check(*given))[1])
    made({"load.batch_size": {"linear": [1, 50, 50]}, "lab.token_seconds": [0.001, 0.002]})

    assert len(asked) == 2


def test_a_task_that_no_evaluator_knows_is_refused_wherever_it_is_used(made) -> None:
    """Also where the answer is remembered."""
    with pytest.raises(ConfigError) as caught:
        made({"load.batch_size": [1, 2, 3]}, {**SPELLING, "tasks": ["fruits"]})

    assert [problem.message for problem in caught.value.problems] == ["no task 'fruits' [3 points]"]


def test_a_plan_without_what_the_evaluator_needs_says_so(made, monkeypatch) -> None:
    """On a laptop: its tasks are not checked there."""
    from llem.plugins.reference import Reference

    monkeypatch.setattr(Reference, "missing", lambda self: ("lm_eval",) if self.name == "spelling" else ())
    planned = made({"load.batch_size": [1]}, {**SPELLING, "tasks": ["fruits"]})

    assert "evaluator 'spelling' needs lm_eval, which is not installed here; its tasks are unchecked" in planned.notes
