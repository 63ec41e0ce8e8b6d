"""How long a run will still take: parts by parts, and against how long studies really took."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llem.progress.time_left import TimeLeft
from llem.protocol.events import Calibrated, Event, Outcome, Phase, TrialEnded
from llem.protocol.study_events import ExperimentPlan, JobPlan, StudyBegan, Waited, Waiting, WorkerEnded, WorkerLaunched


def job(
    number: int, trials: dict[str, int], *, process: int = 0, trial_s: float = 10.0, warm_up_s: float = 5.0
) -> JobPlan:
    """The plan of an engine process: baselines of 6 s and 4 s around trials of so many experiments."""
    experiments = {name: ExperimentPlan(count, trial_s, warm_up_s) for name, count in trials.items()}
    return JobPlan((number, process), experiments, before_s=6.0, after_s=4.0)


def study(*jobs: JobPlan, parallel: int = 1, gap_s: float = 0.0) -> StudyBegan:
    """The event with which a study begins."""
    return StudyBegan(experiments=1, done=0, processes=1, parallel=parallel, gap_s=gap_s, points={}, jobs=jobs)


def begins(number: int = 0, worker: int = 0, process: int = 0) -> Event:
    """A worker begins with a job."""
    job = (number, process)
    return WorkerLaunched(worker=worker, job=job, process=0, experiments=(), gpus=(), log="log.txt")


def phase(name: str, of: str | None = None, worker: int = 0) -> Event:
    """A phase begins."""
    return Phase(phase=name, worker=worker, id=of)


def calibrated(of: str, trial_s: float, worker: int = 0, settle_s: float = 0.0) -> Event:
    """The warm-up is over."""
    return Calibrated(id=of, worker=worker, trial_s=trial_s, settle_s=settle_s, after_s=4.0)


def trial(of: str, worker: int = 0) -> Event:
    """A trial ended."""
    return TrialEnded(id=of, worker=worker, trial=0, t0_ns=0, t1_ns=1, duration_s=1e-9, output_tokens_per_s=1.0)


def ended(of: str, outcome: str, worker: int = 0) -> Event:
    """An experiment ended."""
    return Outcome(id=of, outcome=outcome, worker=worker)


def test_a_load_is_a_guess_until_the_first_was_timed() -> None:
    """From the launch of its worker: to start a process and to import an engine's library may take longer than all."""
    plans = [attrs.evolve(job(number, {"a": 1}), load_s=5.0) for number in (0, 1)]
    left = TimeLeft(study(*plans))
    rest = 6 + 5 + 10 + 4
    assert left.seconds(0.0) == 2 * (5 + rest)
    left.update(begins(0), 0.0)
    left.update(phase("load"), 20.0)
    assert left.seconds(20.0) == rest + 5 + rest
    left.update(phase("baseline before"), 30.0)
    assert left.seconds(30.0) == rest + 30 + rest


def test_a_wait_in_a_queue_is_no_load() -> None:
    """A load begins when the wait is over."""
    left = TimeLeft(study(*(attrs.evolve(job(number, {"a": 1}), load_s=5.0) for number in (0, 1))))
    left.update(begins(0), 0.0)
    left.update(Waiting(what="Slurm, job 7: Priority", worker=0), 1.0)
    left.update(Waited(worker=0), 1000.0)
    left.update(phase("baseline before"), 1008.0)
    assert left.seconds(1008.0) == 2 * 25 + 8


def test_each_part_is_counted_once_and_by_itself() -> None:
    """Baselines, warm-ups and trials of the plan; then a load that took a minute is not taken for a trial's time."""
    left = TimeLeft(study(job(0, {"a": 2, "b": 2})))
    steps = [
        (0.0, None, 6 + 2 * 5 + 4 * 10 + 4),
        (0.0, begins(), 60),
        (0.0, phase("load"), 60),
        (50.0, None, 60),  # nobody knows how long a load takes
        (60.0, phase("baseline before"), 60),
        (63.0, None, 57),
        (66.0, phase("warm-up", "a"), 54),
        (70.0, None, 50),
        (74.0, calibrated("a", 14.0), 2 * 14 + (5 + 3) + 2 * 14 + 4),  # b takes as much longer as a did
        (75.0, phase("trial", "a"), 67),
        (88.0, trial("a"), 14 + 8 + 28 + 4),
        (90.0, phase("warm-up", "b"), 54 - 2),
        (104.0, None, 14 + 28 + 4),  # it takes longer than it should: nothing is taken off anything else
        (108.0, calibrated("b", 4.0), 14 + 2 * 4 + 4),
        (109.0, phase("trial", "b"), 25),
        (114.0, trial("b"), 14 + 6 + 4),  # with what comes around its window it was 6 s, not 4
        (114.0, phase("trial", "b"), 24),
        (124.0, trial("b"), 14 + 4),  # there were others to do between: 8 s on average
        (125.0, phase("trial", "a"), 17),
        (138.0, trial("a"), 4),
        (138.0, ended("b", "done"), 4),
        (139.0, phase("baseline after"), 4),
        (141.0, None, 2),
        (150.0, WorkerEnded(worker=0), 0),
    ]
    for now, event, seconds in steps:
        if event is not None:
            left.update(event, now)
        assert left.seconds(now) == pytest.approx(seconds), (now, event)


def test_what_failed_takes_no_more_time() -> None:
    """Neither its trials nor its warm-up, in any engine process; and a failure's time is no trial's."""
    left = TimeLeft(study(job(0, {"a": 1, "b": 1}), job(0, {"a": 1, "b": 1}, process=1)))
    assert left.seconds(0.0) == 2 * (6 + 2 * 15 + 4)
    for now, event in ((0, begins()), (0, phase("load")), (0, phase("warm-up", "a")), (100, ended("a", "oom"))):
        left.update(event, now)
    assert left.seconds(100.0) == (15 + 4) + (6 + 15 + 4)

    left.update(phase("warm-up", "b"), 100.0)
    left.update(calibrated("b", 10.0), 105.0)
    assert left.seconds(105.0) == (10 + 4) + (6 + 15 + 4)


def test_a_worker_that_dies_begins_anew() -> None:
    """What it had measured is kept; the engine is loaded again, as long as it took, and the rest warmed up again."""
    left = TimeLeft(study(job(0, {"a": 2, "b": 1})))
    for now, event in (
        (0, begins()), (0, phase("load")), (20, phase("baseline before")), (26, phase("warm-up", "a")),
        (31, calibrated("a", 10.0)), (41, trial("a")), (41, ended("b", "crash")), (41, WorkerEnded()),
    ):  # fmt: skip
        left.update(event, now)
    assert left.seconds(41.0) == 20 + 6 + 5 + 10 + 4

    left.update(begins(worker=1), 42.0)
    left.update(phase("load", worker=1), 42.0)
    assert left.seconds(52.0) == 35


def test_settling_comes_before_every_trial_but_the_first() -> None:
    """Which would seem shorter than those to come; an experiment alone has its engine all the time."""
    left = TimeLeft(study(job(0, {"a": 2, "b": 0})))
    for now, event in ((0, begins()), (0, phase("warm-up", "a")), (5, calibrated("a", 10.0, settle_s=3.0))):
        left.update(event, now)
    assert left.seconds(5.0) == 2 * 13 + 4
    left.update(trial("a"), 16.0)
    assert left.seconds(16.0) == (11 + 3) + 4

    left = TimeLeft(study(job(0, {"a": 2})))
    for now, event in ((0, begins()), (0, phase("warm-up", "a")), (5, calibrated("a", 10.0, settle_s=3.0))):
        left.update(event, now)
    assert left.seconds(5.0) == 2 * 10 + 4


def test_without_a_meter_there_are_no_baselines() -> None:
    """The plan cannot know that; the first calibration does, for all engines to come."""
    left = TimeLeft(study(job(0, {"a": 1}), job(1, {"b": 1})))
    unread = attrs.evolve(calibrated("a", 10.0), after_s=0.0)
    for now, event in ((0, begins()), (0, phase("warm-up", "a")), (5, unread)):
        left.update(event, now)

    assert left.seconds(5.0) == 10 + (5 + 10)


def test_an_experiment_without_a_baseline_says_nothing_of_others() -> None:
    """It asked for none: the engines to come are still measured idle, before and after their trials."""
    without, *others = [job(number, {name: 1}) for number, name in enumerate("abc")]
    left = TimeLeft(study(attrs.evolve(without, before_s=0.0, after_s=0.0), *others))
    unread = attrs.evolve(calibrated("a", 10.0), after_s=0.0)
    for now, event in ((0, begins()), (0, phase("warm-up", "a")), (5, unread)):
        left.update(event, now)

    assert left.seconds(5.0) == 10 + 2 * (6 + 5 + 10 + 4)


def test_a_job_that_was_not_planned_takes_no_known_time() -> None:
    """A planner adds jobs when it has seen results; the time of those that are known is told as before."""
    left = TimeLeft(study(job(0, {"a": 1})))
    for now, event in ((0, begins(worker=7, number=9)), (0, phase("load", worker=7))):
        left.update(event, now)

    assert left.seconds(0.0) == 6 + 5 + 10 + 4


def test_trials_beyond_the_least_leave_the_end_to_come() -> None:
    """While an interval is too wide nobody knows how many more there will be; the last baseline is still due."""
    left = TimeLeft(study(job(0, {"a": 1})))
    for now, event in ((0, begins()), (0, phase("warm-up", "a")), (5, calibrated("a", 10.0)), (15, trial("a"))):
        left.update(event, now)
    left.update(phase("trial", "a"), 15.0)
    assert (left.seconds(15.0), left.seconds(20.0)) == (4.0, 4.0)

    left.update(trial("a"), 25.0)
    assert left.seconds(25.0) == 4.0


def test_workers_side_by_side_share_what_is_left() -> None:
    """No sooner than the longest of them is through."""
    left = TimeLeft(study(*(job(n, {f"{n}a": 1}) for n in range(4)), parallel=2))
    assert left.seconds(0.0) == 4 * 25 / 2
    left = TimeLeft(study(job(0, {"a": 9}), job(1, {"b": 1}), parallel=2))
    assert left.seconds(0.0) == 6 + 5 + 90 + 4
    for worker, name in enumerate("ab"):
        left.update(begins(worker, worker), 0.0)
        left.update(phase("warm-up", name, worker), 0.0)
        left.update(calibrated(name, 20.0, worker), 5.0)
    assert left.seconds(5.0) == 9 * 20 + 4


def test_of_other_engines_what_is_known_here_is_taken() -> None:
    """What comes on top of a window, and how long a load takes; of this engine's own experiments before all others."""
    left = TimeLeft(study(job(0, {"a": 1}), job(1, {"b": 1, "c": 1}, trial_s=20.0), gap_s=1.0))
    for now, event in (
        (0, begins()), (0, phase("load")), (30, phase("warm-up", "a")), (35, calibrated("a", 15.0)), (55, trial("a")),
        (55, WorkerEnded(worker=0)),
    ):  # fmt: skip
        left.update(event, now)
    assert left.seconds(55.0) == 30 + 6 + 2 * (5 + 20 + 10) + 4

    for now, event in ((55, begins(1)), (55, phase("warm-up", "b")), (60, calibrated("b", 21.0))):
        left.update(event, now)
    assert left.seconds(60.0) == (21 + 1) + (5 + 20 + 2) + 4


# Two studies on an H200, as they were: of each trial its experiment, when its window began, how long it was, and the
# lead batch before and after it. The last three of the second engine are as those before.
OFFLINE = [
    [("a64", 103.0, 4.8, 1.0), ("a8", 114.3, 4.1, 0.7), ("a512", 135.4, 4.0, 4.0), ("a768", 168.1, 6.4, 6.4),
     ("a768", 187.4, 6.0, 6.0), ("a64", 201.9, 4.8, 1.0), ("a512", 215.8, 4.0, 4.0), ("a8", 225.2, 4.0, 0.7),
     ("a64", 231.9, 4.8, 1.0), ("a512", 245.9, 4.0, 4.0), ("a8", 255.3, 4.0, 0.7), ("a768", 274.9, 6.0, 6.0),
     ("a8", 289.1, 4.1, 0.7), ("a768", 308.9, 7.0, 7.0), ("a512", 330.4, 4.0, 4.0), ("a64", 340.4, 4.8, 1.0)],
    [("b8", 402.4, 7.3, 3.6), ("b64", 433.6, 7.4, 3.6), ("b512", 475.3, 6.5, 5.7), ("b512", 493.7, 6.2, 5.7),
     ("b64", 512.3, 6.1, 3.0), ("b8", 528.2, 6.0, 3.2), ("b64", 543.1, 6.1, 2.9), ("b8", 559.0, 6.0, 3.2),
     ("b512", 577.3, 6.2, 5.7), ("b64", 595.9, 6.1, 3.0), ("b8", 611.8, 6.0, 3.2), ("b512", 630.1, 6.2, 5.7)],
]  # fmt: skip
SERVING = [
    [("50", 123.9, 20.0, 1.0), ("25", 153.3, 20.0, 1.0), ("90", 185.2, 20.0, 1.5), ("75", 219.6, 20.0, 1.5),
     ("50", 244.0, 20.0, 1.0), ("90", 269.3, 20.0, 1.5), ("75", 295.5, 20.0, 1.5), ("25", 319.2, 20.0, 1.0)],
]  # fmt: skip


def as_it_was(engines: list[list[tuple[str, float, float, float]]]) -> Iterator[tuple[float, Event]]:
    """The events of such a study and their times: an engine's load, baselines, and warm-ups where they fit between."""
    now = 0.0
    for number, trials in enumerate(engines):
        first, _, _, lead = trials[0]
        start = trials[0][1] - lead - 0.1
        yield now, begins(number)
        yield now, phase("load")
        yield start - 12.0, phase("baseline before")
        now, known = start - 6.0, set()
        for name, t0, window, lead in trials:
            start = t0 - lead - 0.1
            if name not in known:
                yield (now if name == first else now + 0.2), phase("warm-up", name)
                yield start, calibrated(name, window + 2 * lead, settle_s=lead if window < 10 else 0.0)
                known.add(name)
            yield start, phase("trial", name)
            now = t0 + window + lead + 0.2
            yield now, trial(name)
        yield now, phase("baseline after")
        now += 4.5
        yield now, WorkerEnded(worker=0)


@pytest.mark.parametrize(
    ("engines", "window_s", "warm_up_s"), [(OFFLINE, 4.0, 3.0), (OFFLINE[:1], 4.0, 3.0), (SERVING, 20.0, 5.0)]
)
def test_real_studies_are_foreseen_within_a_factor_of_two(engines, window_s: float, warm_up_s: float) -> None:
    """From the first trial's end on, at every event, and however different the experiments' batches are."""
    jobs = []
    for number, trials in enumerate(engines):
        names = [name for name, *_ in trials]
        planned = {name: names.count(name) for name in names}
        jobs.append(attrs.evolve(job(number, planned, trial_s=window_s, warm_up_s=warm_up_s), after_s=4.5))
    left, events = TimeLeft(study(*jobs)), list(as_it_was(engines))
    end, measured = events[-1][0], 0
    assert [now for now, _ in events] == sorted(now for now, _ in events)

    for now, event in events:
        left.update(event, now)
        measured += isinstance(event, TrialEnded)
        if measured:
            assert (end - now) / 2 <= left.seconds(now) <= (end - now) * 2, (now, event)
    assert left.seconds(end) == 0.0


@given(
    st.lists(
        st.tuples(st.sampled_from(["load", "baseline before", "warm-up", "calibrated", "trial", "end", "oom"]),
                  st.sampled_from("abc"), st.floats(0, 100)),
        max_size=30,
    )
)  # fmt: skip
def test_whatever_comes_it_is_a_time(steps: list[tuple[str, str, float]]) -> None:
    """Never negative, and never more for waiting."""
    left, now = TimeLeft(study(job(0, {"a": 2, "b": 1}), job(1, {"c": 1}), parallel=2)), 0.0
    left.update(begins(), now)
    for what, name, took in steps:
        now += took
        if what == "calibrated":
            event = calibrated(name, took)
        elif what in ("end", "oom"):
            event = trial(name) if what == "end" else ended(name, "oom")
        else:
            event = phase(what, name if what in ("warm-up", "trial") else None)
        left.update(event, now)
        assert 0 <= left.seconds(now + took) <= left.seconds(now) + 1e-9
