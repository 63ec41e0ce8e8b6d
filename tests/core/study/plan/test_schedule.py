"""Which engine process takes which trial, and in which order: every trial once, blocks complete, rows balanced."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llem.config.models import Experiment
from llem.config.study.axes import Point
from llem.config.study.order import Order
from llem.models.resolve import resolve_model
from llem.study.plan.planned import PlannedExperiment
from llem.study.plan.schedule import Job, next_job, running_order, schedule, williams_row

KINDS = ("blocks", "sequential", "reverse", "williams")


def member(name: str, engine: str, trials: int, most: int, processes: int = 1) -> PlannedExperiment:
    """An experiment that needs this engine."""
    asked = Experiment(backend="echo", trials=trials, max_trials=most, processes=processes)
    return PlannedExperiment(name, asked, {}, resolve_model("shape:tiny"), Point(0, {}, {}, {}), engine)


members_lists = st.lists(
    st.tuples(st.integers(0, 3), st.integers(1, 5), st.integers(0, 3), st.integers(1, 3)), min_size=1, max_size=12
).map(
    lambda rows: [
        member(f"e{number}", f"engine{engine}", trials, trials + more, processes)
        for number, (engine, trials, more, processes) in enumerate(rows)
    ]
)
orders = st.builds(Order, kind=st.sampled_from(KINDS), seed=st.integers(0, 5))


def group(count: int, trials: int = 3, **more) -> list[PlannedExperiment]:
    """Experiments that share one engine."""
    return [member(f"e{n}", "engine", trials, more.get("most", trials), more.get("processes", 1)) for n in range(count)]


@given(members_lists, orders)
def test_every_trial_is_taken_once_by_the_process_whose_it_is(members: list[PlannedExperiment], order: Order) -> None:
    """Trial t is in process t modulo `processes`; a process has one engine's experiments only, and at least a trial."""
    engines = {one.id: one for one in members}
    jobs = schedule(members, order)
    turns = Counter(turn for job in jobs for turn in job.turns)
    wanted = {
        (m.id, t)
        for m in members
        for t in range(max(m.experiment.max_trials, m.experiment.trials, m.experiment.processes))
    }

    assert set(turns) == wanted
    assert set(turns.values()) == {1}
    for job in jobs:
        assert {name for name, _ in job.turns} == set(job.experiments)
        assert len({engines[name].engine for name in job.experiments}) == 1
        assert all(index % engines[name].experiment.processes == job.process for name, index in job.turns)
    assert len({(job.group, job.process) for job in jobs}) == len(jobs)
    assert sorted(running_order(jobs)) == sorted(engines)


@given(members_lists, st.sampled_from(["blocks", "reverse", "williams"]), st.integers(0, 5))
def test_blocks_are_complete(members: list[PlannedExperiment], kind: str, seed: int) -> None:
    """Trials due come before those for wide intervals, and each experiment's in order, one a block."""
    least = {one.id: max(one.experiment.trials, one.experiment.processes) for one in members}
    processes = {one.id: one.experiment.processes for one in members}
    for job in schedule(members, Order(kind=kind, seed=seed)):
        due = [index < least[name] for name, index in job.turns]
        assert due == sorted(due, reverse=True)
        for part in (True, False):
            blocks = [
                index // processes[name] for (name, index), is_due in zip(job.turns, due, strict=True) if is_due is part
            ]
            assert blocks == sorted(blocks)


@given(st.integers(2, 9), st.integers(0, 3))
def test_a_williams_design_balances_what_comes_before(count: int, seed: int) -> None:
    """Over all rows each experiment stands at each place equally often and follows each other one equally often."""
    rows = count if count % 2 == 0 else 2 * count
    [job] = schedule(group(count, rows), Order(kind="williams", seed=seed))
    blocks = [[name for name, _ in job.turns[n * count : (n + 1) * count]] for n in range(rows)]
    follows = Counter(pair for block in blocks for pair in pairwise(block))
    places = Counter((place, name) for block in blocks for place, name in enumerate(block))

    assert set(follows.values()) == {rows // count}
    assert len(follows) == count * (count - 1)
    assert set(places.values()) == {rows // count}


def test_a_williams_row_by_hand() -> None:
    """The square of four letters as it stands in textbooks."""
    assert [williams_row(4, row) for row in range(4)] == [[0, 1, 3, 2], [1, 2, 0, 3], [2, 3, 1, 0], [3, 0, 2, 1]]


def test_reverse_goes_there_and_back() -> None:
    """So that a linear drift falls on all alike."""
    [job] = schedule(group(3, 2), Order(kind="reverse"))

    assert [name for name, _ in job.turns] == ["e0", "e1", "e2", "e2", "e1", "e0"]


def test_sequential_takes_all_trials_of_one_after_the_other() -> None:
    """Also those for wide intervals, in the file's order, engine process after engine process."""
    jobs = schedule(group(2, 2, most=3, processes=2), Order(kind="sequential"))

    assert [(job.process, job.turns) for job in jobs] == [
        (0, (("e0", 0), ("e0", 2), ("e1", 0), ("e1", 2))),
        (1, (("e0", 1), ("e1", 1))),
    ]


def test_the_random_order_is_the_seeds() -> None:
    """The same with the same seed, another with another; blocks and groups each in an order of their own."""
    members = [member(f"e{n}", f"engine{n % 3}", 4, 4) for n in range(18)]
    once, again, other = (schedule(members, Order(seed=seed)) for seed in (1, 1, 2))
    blocks = [[name for name, index in once[0].turns if index == block] for block in range(4)]

    assert once == again != other
    assert len({tuple(block) for block in blocks}) == 4
    assert once != schedule(members, Order(kind="reverse"))


def test_a_further_experiment_leaves_the_order_of_the_others() -> None:
    """As does a further trial: a study that is topped up goes on as it would have gone."""
    few, more = (schedule(group(count, trials), Order(seed=3))[0].turns for count, trials in ((5, 2), (6, 3)))

    assert [turn for turn in more if turn[0] != "e5" and turn[1] < 2] == list(few)


@pytest.mark.parametrize("kind", ["blocks", "williams"])
def test_processes_of_a_group_have_orders_of_their_own(kind: str) -> None:
    """And all groups run once before any is loaded again."""
    members = [member(f"e{n}", f"engine{n % 2}", 4, 4, 2) for n in range(12)]
    jobs = schedule(members, Order(kind=kind))
    first, second = ([name for name, index in job.turns if index // 2 == 0] for job in jobs if job.group == 0)

    assert [job.process for job in jobs] == [0, 0, 1, 1]
    assert sorted(first) == sorted(second)
    assert first != second


def waiting(*pairs: tuple[int, int]) -> list[Job]:
    """Jobs of these groups and processes."""
    return [Job(group, process, (f"e{group}",), ((f"e{group}", process),)) for group, process in pairs]


@pytest.mark.parametrize(
    ("left", "ran_on", "at_work", "taken"),
    [
        ([(2, 0), (0, 0)], {}, {}, (2, 0)),  # nothing is known: in order
        ([(1, 1), (0, 1)], {0: {"A"}, 1: {"B"}}, {(2, 0): {"B"}}, (0, 1)),  # A is free
        ([(2, 0), (0, 1)], {0: {"A"}}, {(1, 0): {"B"}}, (2, 0)),  # the first round is not over
        ([(0, 1), (2, 1)], {0: {"A"}}, {(1, 1): {"A"}}, (2, 1)),  # to B goes who has been nowhere
        ([(0, 1), (1, 1)], {0: {"A"}, 1: {"A"}}, {(2, 1): {"A"}}, (0, 1)),  # B is not left idle
        ([(0, 1), (1, 0)], {}, {(0, 0): set()}, (1, 0)),  # no rounds: groups one after the other
        ([(0, 1), (1, 1)], {}, {(0, 0): set()}, (1, 1)),  # group 0 is about to have a board
        ([(0, 1), (1, 1)], {0: {"A", "B"}, 1: {"C"}}, {(2, 0): {"A"}, (3, 0): {"C"}}, (0, 1)),
    ],
)
def test_a_free_worker_takes_what_ran_on_a_board_that_is_free(left, ran_on, at_work, taken) -> None:
    """Within the round that is due; and where there is none, it takes another rather than wait."""
    found = next_job(waiting(*left), ran_on, at_work)

    assert (found.group, found.process) == taken


def test_a_board_that_another_study_has_is_not_free() -> None:
    """What ran on a board that is free comes first; with none free it is the first, which then goes to any."""
    left, ran_on = waiting((0, 1), (1, 1)), {0: {"A"}, 1: {"B"}}

    assert next_job(left, ran_on, {}, {"A"}).group == 1
    assert next_job(left, ran_on, {}, {"A", "B"}).group == 0
    assert next_job(left, ran_on, {(2, 0): {"B"}}, {"A"}).group == 0
