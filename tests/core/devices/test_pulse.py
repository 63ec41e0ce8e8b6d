"""The pulse of a process: which gaps are noted, whose SIGCONT it was, and what the clocks did."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time

import attrs
import pytest

from llem.devices.pulse import BEAT_S, Clocks, Gap, Pulse, _ended_by

S = 1_000_000_000


def clocks(monotonic: float, wall: float = 0.0, boot: float = 0.0, raw: float = 0.0) -> Clocks:
    """Readings in seconds; the others are so much ahead of the monotonic clock."""
    return Clocks(*(round((monotonic + ahead) * S) for ahead in (0.0, wall, boot, raw)))


def window(pulse: Pulse) -> None:
    """An empty window."""
    pulse.begin()
    pulse.window_begin()
    pulse.window_end()
    pulse.end()


@pytest.mark.parametrize(
    ("first", "last", "found"),
    [
        (clocks(10, 1e9), clocks(15, 1e9), (0.0, 0.0, 0.0)),
        (clocks(10, 1e9), clocks(15, 1e9 + 2.5), (0.0, 2.5, 0.0)),
        (clocks(10, 1e9), clocks(15, 1e9 - 0.25), (0.0, -0.25, 0.0)),
        (clocks(10, 0, 3), clocks(15, 0, 63), (60.0, 0.0, 0.0)),
        (clocks(10), clocks(15, 0, 0, -0.05), (0.0, 0.0, 0.01)),  # it ran 1 % fast: the hardware's clock made less
        (attrs.evolve(clocks(10), boot=None, raw=None), clocks(15, 4), (None, 4.0, None)),
    ],
)
def test_what_the_clocks_did_between_the_edges(first: Clocks, last: Clocks, found: tuple) -> None:
    """A step of the wall clock, a suspension, and a clock that runs fast."""
    readings = iter([first, last])
    pulse = Pulse(lambda: next(readings))
    window(pulse)
    beats = pulse.beats(10 * S, 15 * S)

    assert (beats.suspended_s, beats.clock_step_s) == pytest.approx(found[:2])
    assert beats.slew == (None if found[2] is None else pytest.approx(found[2], abs=1e-9))


def test_without_edges_nothing_is_said_of_clocks() -> None:
    """A window that was not ended, or a system without these clocks."""
    pulse = Pulse()
    pulse.begin()
    pulse.end()

    beats = pulse.beats(0, S)
    assert (beats.suspended_s, beats.clock_step_s, beats.slew) == (None, None, None)


def test_the_clocks_of_this_machine_run_together() -> None:
    """Two readings a moment apart; nobody sets the clock within a test."""
    pulse = Pulse()
    window(pulse)
    beats = pulse.beats(0, time.monotonic_ns())

    assert beats.clock_step_s == pytest.approx(0.0, abs=0.005)
    assert beats.suspended_s == pytest.approx(0.0, abs=0.005)


def gap(begin: float, end: float, cpu_s: float = 0.0, waited_s: float | None = 0.0) -> Gap:
    """In seconds."""
    return Gap(round(begin * S), round(end * S), cpu_s, waited_s)


@pytest.mark.parametrize(
    ("one", "still"),
    [
        (gap(0, 1), True),
        (gap(0, 1, cpu_s=0.95), False),  # something computed, and held the interpreter's lock
        (gap(0, 1, waited_s=0.9), False),  # others had the processor
        (gap(0, 1, waited_s=None), True),  # the system does not tell
    ],
)
def test_what_a_gap_says(one: Gap, still: bool) -> None:
    """Computing and waiting for a processor are no pause."""
    assert one.still is still


@pytest.mark.parametrize(
    ("heard", "ended"),
    [
        (1.5, 0),  # the main thread was first
        (2.01, 0),  # the pulse was first
        (5.0, 0),  # the main thread was in a long call; in the second gap something computed
        (0.5, None),  # nothing was stopped
    ],
)
def test_whose_signal_it_was(heard: float, ended: int | None) -> None:
    """Python hears SIGCONT between two steps of the main thread: it may be later than the gap that it ended."""
    assert _ended_by([gap(1, 2), gap(3, 4, cpu_s=1.0)], round(heard * S)) == ended


def test_a_thread_that_computes_is_no_pause() -> None:
    """What C code does with the interpreter's lock held for long is noted, with the processor time that it took."""
    pulse = Pulse()
    pulse.begin()
    time.sleep(2 * BEAT_S)
    t0 = time.monotonic_ns()
    sum(range(40_000_000))
    time.sleep(3 * BEAT_S)
    pulse.end()
    [longest, *_] = sorted(pulse.beats(t0, time.monotonic_ns()).gaps, key=lambda one: -one.seconds)

    assert not longest.stopped
    assert longest.cpu_s > 0.05
    assert not longest.still


@pytest.mark.process
def test_a_process_that_is_stopped_notes_it() -> None:
    """The gap is as long as the stop, nothing ran in it, and the signal was heard."""
    pulse = Pulse()
    pulse.begin()
    t0 = time.monotonic_ns()
    program = f"sleep 0.2; kill -STOP {os.getpid()}; sleep 0.5; kill -CONT {os.getpid()}"
    with subprocess.Popen(["sh", "-c", program], start_new_session=True):
        time.sleep(1.0)
    pulse.end()
    [longest, *_] = sorted(pulse.beats(t0, time.monotonic_ns()).gaps, key=lambda one: -one.seconds)

    assert longest.stopped
    assert longest.still
    assert longest.seconds > 0.45


@pytest.mark.process
def test_stops_that_are_too_short_for_a_gap_are_counted() -> None:
    """Ten of 5 ms each: no beat is missing, and each signal was heard within the window."""
    pulse = Pulse()
    pulse.begin()
    t0 = time.monotonic_ns()
    program = "for i in 0 1 2 3 4 5 6 7 8 9; do kill -STOP $0; sleep 0.005; kill -CONT $0; sleep 0.04; done"
    with subprocess.Popen(["sh", "-c", program, str(os.getpid())], start_new_session=True) as stops:
        while stops.poll() is None:
            time.sleep(0.01)
    t1 = time.monotonic_ns()
    pulse.end()
    beats = pulse.beats(t0, t1)

    assert beats.unseen_stops + sum(gap.stopped for gap in beats.gaps) >= 8  # a signal that waits is heard once
    assert pulse.beats(t1, t1 + S).unseen_stops == 0


def test_it_leaves_the_signal_and_the_threads_as_they_were() -> None:
    """Also where it is ended twice, and begun in a thread that cannot hear signals."""
    before, threads = signal.getsignal(signal.SIGCONT), threading.active_count()
    pulse = Pulse()
    window(pulse)
    pulse.end()
    other = threading.Thread(target=window, args=(pulse,))
    other.start()
    other.join()

    assert signal.getsignal(signal.SIGCONT) == before
    assert threading.active_count() == threads
