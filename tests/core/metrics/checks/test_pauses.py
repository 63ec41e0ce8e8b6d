"""Pauses, clock steps, windows off their plan and windows without work, from stored numbers."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import attrs
import pytest

from llem.experiment.calibration import Timed, batch_times
from llem.findings import Finding
from llem.metrics.checks.pauses import disturbed
from llem.metrics.setup import Setup
from llem.store.models import Beats, Gap, Trial

S = 1_000_000_000
T0 = 100 * S
STEADY = Beats(0.05, (), (), 0.0, 0.0, 0.0, 0.01)


def setup(device: str = "cpu", kind: str = "offline", window_s: float = 5.0) -> Setup:
    """Of an experiment on this device with this load, and windows of so long."""
    return Setup({"load": {"kind": kind}, "window_s": window_s}, device, None, None, None, {})


def trial(index: int = 0, seconds: float = 5.0, **more) -> Trial:
    """An offline window of ten batches that was planned for 5 s."""
    fields = {
        "batches": 10, "requests": 10, "input_tokens": 100, "output_tokens": 100, "expected_output_tokens": 100,
        "batch_s": (seconds / 10,) * 10, "planned_s": 5.0, "beats": STEADY,
        "process": 0, **more,
    }  # fmt: skip
    return Trial(
        experiment_id="one", index=index, started_at="2026-01-01T00:00:00+00:00",
        t0_ns=T0, t1_ns=T0 + round(seconds * S),
        first_index=0, energies=(), peak_memory_bytes=None, memory_covers="", memory_reason=None, output_digest="",
        health={}, **fields,
    )  # fmt: skip


def gap(begin: float, seconds: float, cpu_s: float = 0.0, waited_s: float | None = 0.0, stopped: bool = False) -> Gap:
    """From so many seconds after the window opened."""
    at = T0 + round(begin * S)
    return Gap(at, at + round(seconds * S), cpu_s, waited_s, stopped)


def with_gaps(*gaps: Gap, reader: tuple[tuple[float, float], ...] = (), **more) -> Beats:
    """`reader`: begin and end of what the process that reads the meters missed, in seconds of the window."""
    missed = tuple((T0 + round(begin * S), T0 + round(end * S)) for begin, end in reader)
    return attrs.evolve(STEADY, gaps=gaps, meter_gaps=missed, **more)


def found(trials, alike: bool = True, **of) -> dict[str, Finding]:
    """By code."""
    return {one.code: one for one in disturbed(setup(**of), trials, alike)}


def test_a_steady_trial_has_none() -> None:
    """Nor one of an earlier llem, which had no pulse and no plan."""
    assert found([trial(), trial(1, beats=None, planned_s=None)]) == {}


def test_a_stop_of_ten_seconds_in_a_window_of_five() -> None:
    """With the length of the pause, the window's, and which trial it was; it is no matter of the plan besides."""
    stopped = trial(1, 15.0, beats=with_gaps(gap(1, 10.05, stopped=True)))
    codes = found([trial(), stopped])

    assert codes.keys() == {"paused"}
    assert codes["paused"].severity == "error"
    assert codes["paused"].evidence == {
        "paused_s": pytest.approx(10.0), "window_s": 15.0, "reasons": ["stopped by a signal"], "trials": [1],
    }  # fmt: skip
    assert codes["paused"].message == (
        "llem stood still for 10.00 s of a window of 15.00 s (stopped by a signal) (trial 1)"
    )


@pytest.mark.parametrize(
    ("one", "paused"),
    [
        (gap(1, 0.09, stopped=True), False),  # 40 ms of 5 s
        (gap(1, 0.12, stopped=True), True),  # 70 ms: more than 1 %
        (gap(-3, 2.9, stopped=True), False),  # in the lead-in
        (gap(-3, 3.5, stopped=True), True),  # reaches into the window
        (gap(1, 2.0, cpu_s=1.9), False),  # something computed
        (gap(1, 2.0, waited_s=1.9), False),  # others had the processor, which `host_busy` tells
        (gap(1, 2.0), True),  # nothing ran
        (gap(1, 0.2), False),  # too short to tell
    ],
)
def test_which_gaps_are_pauses(one: Gap, paused: bool) -> None:
    """A pause has a sign besides the missing beats, and matters."""
    assert ("paused" in found([trial(beats=with_gaps(one))])) is paused


@pytest.mark.parametrize(("stops", "paused"), [(1, False), (2, True), (20, True)])
def test_stops_too_short_to_be_timed_are_a_pause(stops: int, paused: bool) -> None:
    """Several of up to 80 ms may be more than 1 % of a window; one SIGCONT may come to what was not stopped."""
    told = found([trial(beats=attrs.evolve(STEADY, unseen_stops=stops))])

    assert ("paused" in told) is paused
    if paused:
        said = f"llem stood still for at least 0.00 s of a window of 5.00 s (stopped by a signal {stops} times"
        assert said in told["paused"].message


def test_in_a_long_window_a_tenth_of_a_second_is_a_pause() -> None:
    """Although it is a small share."""
    long = trial(seconds=60.0, planned_s=60.0, beats=with_gaps(gap(1, 0.2, stopped=True)))

    assert "paused" in found([long])


@pytest.mark.parametrize(("reader", "paused"), [((), False), (((1.0, 3.0),), True), (((3.5, 4.5),), False)])
def test_beside_a_gpu_the_reader_of_the_meters_is_the_witness(reader, paused: bool) -> None:
    """A library may wait for the GPU with the interpreter's lock held: nothing of the worker runs then, by right."""
    beats = with_gaps(gap(1, 2.0), reader=reader)

    assert ("paused" in found([trial(beats=beats)], device="cuda")) is paused


def test_a_suspended_machine_is_a_pause() -> None:
    """Its monotonic clock stood, so that no beat is missing."""
    codes = found([trial(beats=attrs.evolve(STEADY, suspended_s=30.0))])

    assert codes["paused"].evidence["reasons"] == ["suspended with the whole machine"]


def test_a_reader_that_stood_alone_is_a_gap_of_the_meters() -> None:
    """The work went on, and the window is what it says."""
    codes = found([trial(beats=with_gaps(reader=((1.0, 2.0),)))])

    assert codes.keys() == {"sample_gap"}
    assert codes["sample_gap"].severity == "warning"


@pytest.mark.parametrize(
    ("change", "said"), [({"clock_step_s": -3.5}, "set by -3.500 s"), ({"slew": 0.05}, "ran 5.00% too fast")]
)
def test_clocks_that_were_set_are_told(change, said: str) -> None:
    """With the size; a step of less than 10 ms, and a slew as time services have, is none."""
    small = {name: value / 1000 for name, value in change.items()}
    codes = found([trial(beats=attrs.evolve(STEADY, **change))])

    assert codes.keys() == {"clock_step"}
    assert said in codes["clock_step"].message
    assert found([trial(beats=attrs.evolve(STEADY, **small))]) == {}


@pytest.mark.parametrize(
    ("seconds", "alike", "told"), [(6.0, True, False), (8.0, True, True), (8.0, False, False), (16.0, False, True)]
)
def test_an_offline_window_is_held_to_its_plan(seconds: float, alike: bool, told: bool) -> None:
    """Batches that differ in their work are given more."""
    codes = found([trial(seconds=seconds)], alike)

    assert ("window_off_plan" in codes) is told
    if told:
        assert codes["window_off_plan"].evidence == {"window_s": seconds, "planned_s": 5.0, "trials": [0]}


@pytest.mark.parametrize(
    ("seconds", "alike", "told"), [(2.6, True, False), (2.4, True, True), (2.4, False, False), (0.4, False, True)]
)
def test_offline_windows_far_shorter_than_asked_for_are_told(seconds: float, alike: bool, told: bool) -> None:
    """The warm-up took its batches for longer than they are; what is told is the mean of a process' windows."""
    codes = found([trial(seconds=seconds), trial(1, seconds)], alike)

    assert ("window_off_plan" in codes) is told
    if told:
        evidence = {"window_s": pytest.approx(seconds), "planned_s": 5.0, "asked_s": 5.0, "trials": [0, 1]}
        assert codes["window_off_plan"].evidence == evidence
        assert f"{seconds:g} s on average, where 5 s were asked for" in codes["window_off_plan"].message


def test_each_process_has_a_plan_of_its_own() -> None:
    """One paused warm-up of three is told, with its trials; one short window among long ones is not."""
    plans = [trial(index, 1.0 if index % 3 == 1 else 5.0, process=index % 3) for index in range(6)]

    assert found(plans)["window_off_plan"].evidence["trials"] == [1, 4]
    assert found([trial(0, 1.0), trial(1, 5.0), trial(2, 5.0)]) == {}


def test_one_batch_in_all_does_not_tell_whether_batches_differ() -> None:
    """So its window may be short by the lengths that were drawn."""
    assert found([trial(seconds=1.0, batches=1)]) == {}
    assert "window_off_plan" in found([trial(seconds=0.041, batches=1, planned_s=3.04)])


@pytest.mark.parametrize("trials", [1, 5])
@pytest.mark.parametrize(
    ("alike", "draw", "most"),
    [
        (True, lambda number, dice: dice.gauss(1.0, 0.04), 0.0),
        (True, lambda number, dice: (3.0 if number < 10 else 1.0) * dice.gauss(1.0, 0.04), 0.0),
        (True, lambda number, dice: dice.lognormvariate(0.0, 0.3), 0.0),
        (False, lambda number, dice: dice.lognormvariate(0.0, 1.0), 0.01),
        (False, lambda number, dice: max(dice.lognormvariate(0.0, 1.0) for _ in range(8)) / 4, 0.01),
    ],
    ids=["steady", "slow at first", "speculative", "lengths drawn, one", "lengths drawn, eight"],
)
def test_steady_runs_whose_batches_vary_are_not_told(alike: bool, draw, most: float, trials: int) -> None:
    """Simulated warm-ups of 30 s and windows of 10 s, with batches of 0.2 to 4 s."""
    studies = [(mean, seed) for mean in (0.2, 1.0, 4.0) for seed in range(40)]
    told = [study for study in studies if _off_plan(draw, *study, trials, alike)]

    assert len(told) <= most * len(studies)


def _off_plan(
    draw: Callable[[int, random.Random], float], mean: float, seed: int, trials: int, alike: bool
) -> Finding | None:
    """Of one simulated study: the finding that a window is too short."""
    dice, number, warm = random.Random(f"{mean}/{seed}"), 1, list[Timed]()
    while sum(one.seconds for one in warm) < 30.0:
        warm.append(Timed(mean * draw(number, dice)))
        number += 1
    least, usual = batch_times(warm)
    batches = math.ceil(10.0 / least)
    made = []
    for index in range(trials):
        seconds = sum(mean * draw(number + at, dice) for at in range(batches))
        number += batches
        made.append(trial(index, seconds, batches=batches, batch_s=(), planned_s=batches * usual))
    told = found(made, alike, window_s=10.0).get("window_off_plan")
    return told if told and "asked_s" in told.evidence else None


@pytest.mark.parametrize(("seconds", "told"), [(5.04, False), (5.06, True), (4.9, True)])
def test_a_serving_window_is_as_long_as_asked_for(seconds: float, told: bool, served_facts) -> None:
    """It ends by the clock of the load generator, which may be late."""
    codes = found([trial(seconds=seconds, serving=served_facts)], kind="closed")

    assert ("window_off_plan" in codes) is told


@pytest.mark.parametrize("work", [{"requests": 0}, {"output_tokens": 0}])
def test_a_window_without_work_is_not_valid(work) -> None:
    """No request, or none of its tokens; of what a command does, its file tells."""
    codes = found([trial(**work)])

    assert codes["no_work"].severity == "error"
    assert found([trial(**work)], kind="command") == {}


@pytest.fixture
def served_facts():
    """Of a closed load."""
    from llem.store.models import ServingFacts

    return ServingFacts("closed", 1, None, 0, 1, 1, 0, 0, None, None, None, 1.0, 1.0, 1.0, 1, 1)
