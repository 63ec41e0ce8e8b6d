"""The sampling process as it is: a real child, real time, and a counter whose true energy is known."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from llem.meters.sampler import Sampler, SamplerError
from llem.meters.window import energy_readings
from llem.protocol.events import Power
from llem.protocol.lines import from_json

pytestmark = pytest.mark.process

STEADY = {
    "name": "steady",
    "target": "llem.testing.fakes:SteadyMeter",
    "config": "llem.testing.fakes:SteadyOptions",
    "options": {"watts": 50.0},
}
FAILING = {**STEADY, "name": "failing", "target": "llem.testing.fakes:FailingMeter", "options": {"reads": 10}}
RAPL_NOWHERE = {"name": "absent", "target": "llem_lab:AbsentMeter", "config": None, "options": None}
BROKEN = {"name": "broken", "target": "llem_lab:BrokenMeter", "config": None, "options": None}
TORN = {"name": "torn", "target": "llem_lab:TornMeter", "config": None, "options": None}
NOISY = {"name": "noisy", "target": "llem_lab:NoisyMeter", "config": None, "options": None}


@pytest.fixture
def start() -> Iterator[Callable[..., Sampler]]:
    """Start a sampler that is closed whatever happens."""
    made: list[Sampler] = []

    def begin(*meters: dict, **more) -> Sampler:
        made.append(Sampler(meters, (), **more))
        return made[-1]

    yield begin
    for sampler in made:
        sampler.close()


def measure(sampler: Sampler, seconds: float = 0.7):
    """A window in the middle of a trace, by the monotonic clock that parent and child share."""
    sampler.begin()
    time.sleep(0.3)
    sampler.thin()
    t0 = time.monotonic_ns()
    time.sleep(seconds)
    t1 = time.monotonic_ns()
    sampler.dense()
    time.sleep(0.3)
    rows, errors = sampler.end()
    return energy_readings(rows, sampler.domains, t0, t1), errors, (t1 - t0) / 1e9


def gone(pid: int) -> bool:
    """Whether a process has ended and was collected."""
    return not psutil.pid_exists(pid)


def test_energies_are_within_their_bound_of_the_truth_window_after_window(start) -> None:
    """Two windows by one child: each gives watts times seconds within its stated bound, and no more than 5 % off."""
    sampler = start(STEADY)
    for _ in range(2):
        [reading], errors, seconds = measure(sampler)

        assert errors == []
        assert (reading.meter, reading.domain, reading.kind) == ("steady", "node", "measured")
        assert reading.budget is not None
        # ticks are known to a read or two; what a busy host adds to that is in the bound
        assert abs(reading.energy_j - 50.0 * seconds) <= reading.budget.bound_j
        assert reading.energy_j == pytest.approx(50.0 * seconds, rel=0.05)
        assert reading.cross_energy_j == pytest.approx(50.0 * seconds, rel=1e-6)
        assert reading.period_s == pytest.approx(0.05, rel=0.2)


def test_begin_forgets_what_was_read_before(start) -> None:
    """The rows of a window begin with its `begin`."""
    sampler = start(STEADY)
    sampler.begin()
    time.sleep(0.1)
    sampler.end()
    before = time.monotonic_ns()
    sampler.begin()
    time.sleep(0.2)
    rows, _ = sampler.end()

    assert rows
    assert min(row.t_ns for row in rows) > before


def test_a_meter_that_does_not_open_is_reported_and_the_others_read(start, lab) -> None:
    """The error of each meter comes back with its message, hint and code."""
    sampler = start(RAPL_NOWHERE, STEADY)

    assert {name: (e.message, e.hint, e.code) for name, e in sampler.failed.items()} == {
        "absent": ("no power meter answers on the serial line", "plug it in", "counter_missing")
    }
    assert [(meter, domain.name) for meter, domain in sampler.domains] == [("steady", "node")]
    [reading], errors, _ = measure(sampler, 0.2)
    assert reading.energy_j is not None
    assert errors == []


@pytest.mark.usefixtures("lab")
def test_what_a_library_raises_names_the_meter(start) -> None:
    """When it opens and when it reads: the process that reads goes on with the other meters."""
    sampler = start(BROKEN, TORN, STEADY)

    assert {name: (e.message, e.code) for name, e in sampler.failed.items()} == {
        "broken": (
            "the meter broken cannot be opened: FileNotFoundError: [Errno 2] No such file or directory: '/dev/ttyUSB0'",
            "meter_failed",
        )
    }
    _, errors, _ = measure(sampler, 0.2)
    assert errors == [("torn", "node", "ValueError: could not convert string to float: 'many'")]


def test_a_meter_that_fails_while_reading_is_reported(start) -> None:
    """Its error has meter, domain and message; its energy is None with a reason; the other one's is there."""
    sampler = start(FAILING, STEADY)
    readings, errors, _ = measure(sampler, 0.5)

    assert errors == [("failing", "node", "node gives no more readings")]
    by_meter = {reading.meter: reading for reading in readings}
    assert by_meter["failing"].energy_j is None
    assert by_meter["failing"].reason == "counter_stuck"
    assert by_meter["steady"].energy_j is not None


def test_a_meter_may_print(start, lab) -> None:
    """What a meter's library prints goes to standard error and does not garble the answers."""
    sampler = start(NOISY)
    [reading], errors, _ = measure(sampler, 0.2)

    assert reading.energy_j is not None
    assert errors == []


@pytest.mark.parametrize("moment", ["idle", "reading"])
def test_a_killed_child_is_an_error_and_no_hang(start, moment: str) -> None:
    """The next call says that the process has ended; closing is still safe."""
    sampler = start(STEADY)
    if moment == "reading":
        sampler.begin()
    os.kill(sampler.pid, signal.SIGKILL)

    if moment == "idle":
        with contextlib.suppress(SamplerError):  # the pipe may take a line before the system notices
            sampler.begin()
    with pytest.raises(SamplerError, match="the process that reads the meters has ended"):
        sampler.end()
    sampler.close()
    assert gone(sampler.pid)


def test_a_child_that_cannot_start_is_an_error(start, capfd) -> None:
    """A target that cannot be imported ends the child, which is told at once; its traceback is in the log."""
    with pytest.raises(SamplerError):
        start({**STEADY, "target": "no_such_module:Meter"})

    assert "no_such_module" in capfd.readouterr().err


def test_close_ends_the_child_and_may_be_called_twice(start) -> None:
    """After `close` there is no process, also when it was reading."""
    sampler = start(STEADY)
    sampler.begin()
    assert not gone(sampler.pid)

    sampler.close()
    sampler.close()
    assert gone(sampler.pid)


def test_an_interrupt_does_not_end_the_child(start) -> None:
    """Ctrl-C reaches every process of a terminal; the sampler reads on until its parent says otherwise."""
    sampler = start(STEADY)
    sampler.begin()
    os.kill(sampler.pid, signal.SIGINT)
    time.sleep(0.2)
    rows, errors = sampler.end()

    assert rows
    assert errors == []


def test_watts_are_told_each_second(start) -> None:
    """With a descriptor to write to, a line with the watts by domain comes each second, whole."""
    reader, writer = os.pipe()
    try:
        sampler = start(STEADY, events_fd=writer, power_line="llem.protocol.lines:power_line")
        before = time.monotonic_ns()
        sampler.begin()
        line = os.read(reader, 4096)  # waits for it
        sampler.end()
    finally:
        os.close(reader)
        os.close(writer)

    told = from_json(line, Path("log.txt"))
    assert told == Power(watts={"node": 50.0})
    assert before < told.at.monotonic_ns < time.monotonic_ns()
    assert line.endswith(b"}\n")


def test_modules_of_the_current_folder_do_not_reach_the_child(start, tmp_path: Path, monkeypatch) -> None:
    """A user's `queue.py` is not the standard library's."""
    (tmp_path / "queue.py").write_text("raise SystemExit('the wrong queue')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])

    assert start(STEADY).domains
