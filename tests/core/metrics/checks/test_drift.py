"""Steps, bends and bumps within windows, and lines through the trials: told where they are, and not of other work."""

from __future__ import annotations

import math
import random

import attrs
import pytest

from llem.meters.base import EnergyReading
from llem.meters.trace import TraceRow
from llem.metrics.checks.between import drift_between, hochberg
from llem.metrics.checks.drift import steady_state
from llem.metrics.metric import Measured
from llem.metrics.setup import Setup
from llem.store.models import RequestRow

S = 10**9
GPU = "gpu:GPU-a"


def flat(_):
    return 0.0


class Windows:
    """Windows of 10 s of equal batches: times by `time`, power by `power`, both a function of trial and place."""

    def __init__(self, make, trials=5, batches=40, *, processes=1, time=None, power=None, level=None, outputs=None):
        self.make, self.trials, self.traces, self.rows = make, [], {}, {}
        self.noise = random.Random(5)
        outputs = outputs or (lambda index, k: 64)
        for index in range(trials):
            at, rows = (100 + 20 * index) * S, []
            for k in range(batches):
                share = (time or (lambda *_: 0))(index, (k + 0.5) / batches) + self.noise.gauss(0, 0.01)
                tokens = outputs(index, k)
                length = 10 / batches * tokens / 64 * (1 + (level or (lambda _: 0))(index)) * (1 + share)
                rows.append(RequestRow(k, k, 32, tokens, at, at + round(length * S)))
                at = rows[-1].end_ns
            self._add(index, index * processes // trials, rows, power or (lambda *_: 0))

    def _add(self, index, process, rows, power):
        begin, end = rows[0].start_ns, rows[-1].end_ns
        at = range(begin + S // 20, end, S // 10)
        watts = [600 * (1 + power(index, (t - begin) / (end - begin)) + self.noise.gauss(0, 0.015)) for t in at]
        self.traces[index] = [TraceRow("nvml", GPU, "power_w", t, t, w) for t, w in zip(at, watts, strict=True)]
        self.rows[index] = rows
        joules = math.fsum(watts) / len(watts) * (end - begin) / S
        energy = EnergyReading("nvml", GPU, "gpu", "measured", "made", joules)
        made = self.make.make_trial(index, (), rows, begin, end, process=process, domains=(), extra=(energy,))
        self.trials.append(made)

    @property
    def measured(self):
        return Measured(Setup({}, "cuda", None, None, None, {}), self.trials, (), lambda index: self.rows[index])

    def within(self):
        return steady_state(self.measured, self.traces)

    def between(self):
        return drift_between(self.measured)


def half(size, *, trials=range(10)):
    return lambda index, place: size * (place >= 0.5) if index in trials else 0.0


def test_steady_windows_and_trials(make):
    """Noise alone is nothing."""
    windows = Windows(make, level=[0.001, -0.002, 0.004, -0.001, 0.0].__getitem__)
    assert windows.within() == []
    assert windows.between() == []


@pytest.mark.parametrize(
    ("shape", "name", "words"),
    [
        (half(0.03), "step", "at 5"),
        (lambda _, x: 0.05 * abs(2 * x - 1), "bend", "turns at"),
        (lambda _, x: 0.1 * (0.4 <= x < 0.55), "bump", "between 40% and 55% of a window"),
        (lambda _, x: 0.03 * x, "line", "within a window"),
    ],
)
@pytest.mark.parametrize("of", ["time", "power"])
def test_a_change_in_every_window(make, shape, name, words, of):
    """A step of 3 %, a V of 5 %, a bump of 10 % and a line of 3 % are each told as what they are."""
    [found] = Windows(make, **{of: shape}).within()
    assert (found.code, found.evidence["shape"]) == ("no_steady_state", name)
    assert found.evidence["what"] == ("time per batch" if of == "time" else f"power of {GPU}")
    assert found.evidence["trials"] == [0, 1, 2, 3, 4]
    assert words in found.message
    assert found.message.endswith(", on average over 5 windows")


def test_a_step_in_one_window(make):
    """Told of the trial that has it."""
    [found] = Windows(make, time=half(0.04, trials={3})).within()
    assert found.evidence["trials"] == [3]
    assert found.evidence["share"] == pytest.approx(0.04, rel=0.2)
    assert "(trial 3; 1 window drifts)" in found.message


def test_a_step_of_power_in_one_window_of_odd_length(make):
    """Windows of 101 samples and more are sought through as well as those of 100."""
    [found] = Windows(make, level=lambda _: 0.02, power=half(0.04, trials={1})).within()
    assert (found.evidence["what"], found.evidence["trials"]) == (f"power of {GPU}", [1])


def test_what_matters_not_is_not_told(make):
    """A sure step of 0.3 % is below what matters."""
    windows = Windows(make, batches=100)
    for index, trial in enumerate(windows.trials):
        times = tuple(0.1 * (1 + 0.003 * (k >= 50)) for k in range(100))
        windows.trials[index] = attrs.evolve(trial, batch_s=times)
    assert [one for one in windows.within() if one.evidence["what"] == "time per batch"] == []


@pytest.mark.parametrize("order", ["drawn", "ascending", "ascending in each window"])
def test_other_work_is_no_drift(make, order):
    """Batches of 64 to 192 tokens, in any order: their times follow their work, and so do trials' energies."""
    lengths = random.Random(1)
    outputs = {
        "drawn": lambda index, k: lengths.randint(64, 192),
        "ascending": lambda index, k: 64 + (index * 40 + k) * 128 // 200,
        "ascending in each window": lambda index, k: 64 + k * 128 // 40,
    }[order]
    windows = Windows(make, outputs=outputs)
    assert windows.within() == []
    assert windows.between() == []


def test_a_step_beside_other_work(make):
    """Lengths that are drawn do not hide it."""
    lengths = random.Random(1)
    [found] = Windows(make, time=half(0.03), outputs=lambda index, k: lengths.randint(64, 192)).within()
    assert (found.evidence["shape"], found.evidence["trials"]) == ("step", [0, 1, 2, 3, 4])


def test_the_course_of_long_batches_is_no_drift(make):
    """Five batches with a prompt phase at a third more power: the pattern is theirs; a step beside it is found."""

    def course(index, place):
        return 0.3 * (place * 5 % 1 < 0.2)

    assert Windows(make, batches=5, power=course).within() == []
    [found] = Windows(make, batches=5, power=lambda i, x: course(i, x) + half(0.03)(i, x)).within()
    assert found.evidence["shape"] == "step"


def test_power_within_few_batches_is_not_judged(make):
    """Of two batches nobody knows what is their course: nothing is told."""
    assert Windows(make, batches=2, power=lambda _, x: 0.1 * x).within() == []


def test_few_batches_are_held_together(make):
    """Eight batches a window that slow down by 5 % in every one of five; in one alone that is scatter."""
    [found] = Windows(make, batches=8, time=lambda _, x: 0.08 * x).within()
    assert (found.evidence["what"], found.evidence["shape"]) == ("time per batch", "line")
    assert Windows(make, batches=8, time=lambda index, x: 0.05 * x * (index == 1)).within() == []


def test_trials_that_get_slower(make):
    """1.5 % from the first trial to the last: both the energy per token and the speed, with the figures."""
    found = Windows(make, 10, level=lambda index: 0.015 * index / 9).between()
    told = {one.evidence["what"]: one for one in found}
    assert set(told) == {"energy per output token", "output tokens per second"}
    energy = told["energy per output token"]
    assert (energy.code, energy.severity) == ("drift_between_trials", "warning")
    assert energy.evidence["share"] == pytest.approx(0.015, rel=0.4)
    assert "from the first trial to the last (10 trials)" in energy.message
    assert energy.evidence["trials"] == list(range(10))


def test_a_drift_of_every_process(make):
    """Two processes that begin apart and rise alike; a difference between processes alone is none."""
    rise = Windows(make, 10, processes=2, level=lambda index: 0.05 * (index // 5) + 0.02 * (index % 5) / 4)
    assert {one.evidence["what"] for one in rise.between()} == {"energy per output token", "output tokens per second"}
    assert "2 processes" in rise.between()[0].message
    assert Windows(make, 10, processes=2, level=lambda index: 0.05 * (index // 5)).between() == []


def test_a_drift_over_processes_of_one_trial(make):
    """With one trial per process the line runs through the processes."""
    found = Windows(make, 6, processes=6, level=lambda index: 0.03 * index / 5).between()
    assert "from the first engine process to the last (6 processes)" in found[0].message


def test_three_trials_are_too_few(make):
    """A line through three values leaves one degree of freedom: nothing is said."""
    assert Windows(make, 3, level=lambda index: 0.05 * index).between() == []


def test_hochberg():
    """The greatest as it is, the next times two; never above a greater one's."""
    assert hochberg([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.04, 0.04])
    assert hochberg([0.03, 0.03]) == [0.03, 0.03]
    assert hochberg([]) == []
