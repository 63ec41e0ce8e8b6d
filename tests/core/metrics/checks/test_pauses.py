"""Pauses, clock steps, windows off their plan and windows without work, from stored numbers."""

from __future__ import annotations

import attrs
import pytest

from llem.findings import Finding
from llem.metrics.checks.pauses import disturbed
from llem.metrics.setup import Setup
from llem.store.models import Beats, Gap, Trial

S = 1_000_000_000
T0 = 100 * S
STEADY = Beats(0.05, (), (), 0.0, 0.0, 0.0, 0.01)


def setup(device: str = "cpu", kind: str = "offline") -> Setup:
    """Of an experiment on this device with this load."""
    return Setup({"load": {"kind": kind}}, device, None, None, None, {})


def trial(index: int = 0, seconds: float = 5.0, **more) -> Trial:
    """An offline window of ten batches that was planned for 5 s."""
    fields = {
        "batches": 10, "requests": 10, "input_tokens": 100, "output_tokens": 100, "expected_output_tokens": 100,
        "batch_s": (seconds / 10,) * 10, "planned_s": 5.0, "beats": STEADY, **more,
    }  # fmt: skip
    return Trial(
        experiment_id="one", index=index, process=0, started_at="2026-01-01", t0_ns=T0, t1_ns=T0 + round(seconds * S),
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
