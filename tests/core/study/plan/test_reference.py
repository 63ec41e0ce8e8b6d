"""The reference of a study: which experiment it is, how many engine processes it gets, and where they come."""

from __future__ import annotations

from itertools import pairwise

import pytest

from llem.errors import ConfigError
from llem.reports.plan import plan_lines
from llem.study.plan.schedule import Job, next_job
from llem.study.plan.study import study_document

AXES = {"load.batch_size": [1, 8, 32], "dtype": ["bfloat16", "float16"]}
REFERENCE = {"load.batch_size": 8, "dtype": "bfloat16"}


def problems(study, **parts) -> list[str]:
    """What is said of a study that is refused."""
    with pytest.raises(ConfigError) as caught:
        study(**parts)
    return [str(one) for one in caught.value.problems]


def referenced(study, **parts):
    """The study and its reference."""
    found = study(**{"axes": AXES, "reference": REFERENCE, **parts})
    [one] = [one for one in found.experiments if one.id == found.reference]
    return found, one


def test_the_reference_has_three_processes_and_keeps_its_id(study) -> None:
    """All others have one. `study.json` and the plan name it, and its setting says where it came from."""
    found, one = referenced(study)
    plain = study(axes=AXES)

    assert {each.id for each in found.experiments} == {each.id for each in plain.experiments}
    assert dict(one.point.values) == REFERENCE
    assert [each.experiment.processes for each in found.experiments if each is not one] == [1] * 5
    assert (one.experiment.processes, one.sources["processes"]) == (3, "reference of the study")
    assert (study_document(found)["reference"], study_document(plain)["reference"]) == (one.id, None)
    assert f"reference: {one.id}, 3 engine processes at the beginning, in the middle and at the end" in plan_lines(
        found
    )


@pytest.mark.parametrize(
    ("base", "entry", "processes"),
    [({}, {}, 3), ({"processes": 2}, {}, 3), ({"processes": 4}, {}, 4), ({"processes": 4}, {"processes": 5}, 5)],
)
def test_how_many_processes_it_has(study, base, entry, processes) -> None:
    """Three at least, as many as all others have, or as many as it says."""
    settings = {"backend": "echo", "device": "cpu", **base}
    _, one = referenced(study, base=settings, reference={**REFERENCE, **entry})

    assert one.experiment.processes == processes


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ({"reference": {"load.batch_size": 8}}, "python: reference: matches 2 experiments (name also dtype)"),
        ({"reference": {"load.batch_size": 9}},
         "python: reference: matches no point (give values as `axes` and `base` have them)"),
        ({"reference": {"load.batchsize": 8}},
         "python: reference.load.batchsize: unknown setting (did you mean 'batch_size'?)"),
        ({"exclude": [{"load.batch_size": 8}]}, "python: reference: matches only points that `exclude` leaves out"),
        ({"axes": {**AXES, "load.batch_size": [1, 0]}, "reference": {"load.batch_size": 0}},
         "python: reference: matches only points that cannot run (`llem plan` without `reference` says why)"),
        ({"axes": {}}, "python: reference: this is one experiment (set `processes: 3` instead)"),
    ],
)  # fmt: skip
def test_a_reference_that_is_none_is_refused(study, parts, problem) -> None:
    """With its place, and what would be right."""
    assert problems(study, **{"axes": AXES, "reference": REFERENCE, **parts}) == [problem]


def test_points_that_are_one_experiment_are_one_reference(study) -> None:
    """What they differ in changes nothing that is executed."""
    found, one = referenced(study, axes={**AXES, "trials": [2, 3]})

    assert len(found.merged) == 6
    assert one.experiment.processes == 3


def order_of(found) -> str:
    """Jobs in running order: R of the reference alone, M of the reference among others, . of others."""
    kinds = {(True, True): "R", (True, False): "M", (False, False): "."}
    return "".join(
        kinds[found.reference in job.experiments, job.experiments == (found.reference,)] for job in found.jobs
    )


#: Seven engines, one for each experiment.
ALONE = {"weights_seed": [1, 2, 3, 4, 5, 6, 7]}


@pytest.mark.parametrize("kind", ["blocks", "sequential", "reverse", "williams"])
def test_it_comes_at_the_beginning_in_the_middle_and_at_the_end(study, kind) -> None:
    """In each order, with an engine for each experiment, with one for all, and with one for some."""
    order = {"kind": kind}
    alone, _ = referenced(study, axes=ALONE, order=order, reference={"weights_seed": 4})
    shared, _ = referenced(study, axes={"load.batch_size": [1, 8]}, order=order, reference={"load.batch_size": 8})
    some, _ = referenced(study, order=order)

    assert order_of(alone) == "R...R...R"
    assert order_of(shared) == "RMR"
    assert order_of(some) in ("R.MR", "RM.R")


def test_more_processes_are_spread_evenly(study) -> None:
    """Four among six others: two between each."""
    found, _ = referenced(study, axes=ALONE, reference={"weights_seed": 2, "processes": 4})

    assert order_of(found) == "R..R..R..R"


def test_all_trials_are_in_the_schedule_once(study) -> None:
    """As without a reference, but for its own; the numbers of groups follow the order in which they begin."""
    found, one = referenced(study, base={"backend": "echo", "device": "cpu", "processes": 2})
    turns = [turn for job in found.jobs for turn in job.turns]

    assert len(turns) == len(set(turns)) == sum(each.experiment.most_trials for each in found.experiments)
    assert sorted({job.process for job in found.jobs if one.id in job.experiments}) == [0, 1, 2]
    assert all(index % 3 == job.process for job in found.jobs for name, index in job.turns if name == one.id)
    groups = list(dict.fromkeys(job.group for job in found.jobs))
    assert groups == list(range(len(groups)))
    assert found.experiments[0].id == found.jobs[0].experiments[0]


@pytest.mark.parametrize("kind", ["blocks", "sequential"])
def test_a_worker_never_takes_the_reference_before_its_time(study, kind) -> None:
    """Though the board that its group ran on is free, for which a job else goes ahead."""
    found, _ = referenced(study, axes=ALONE, reference={"weights_seed": 4}, order={"kind": kind})
    waiting, taken, ran_on = list(found.jobs), [], {}
    while waiting:
        job = next_job(waiting, ran_on, {})
        waiting.remove(job)
        taken.append(job)
        ran_on[job.group] = {"A"}

    assert taken == list(found.jobs)
    assert all(one.round <= other.round for one, other in pairwise(found.jobs))


def test_jobs_without_a_round_are_of_the_round_of_their_process() -> None:
    """What planners give needs none."""
    assert Job(0, 2, ("a",), (("a", 2),)).round == 2
