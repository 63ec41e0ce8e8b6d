"""Stops of a measured command by a signal: how long each lasted at least, and none that passed between two looks."""

from __future__ import annotations

import os

import pytest

from llem.experiment import halts
from llem.experiment.halts import Halts, halted

MS = 1_000_000
STOPPED, CONTINUED = os.CLD_STOPPED, os.CLD_CONTINUED


def seen(monkeypatch, *looks):
    """The stops that looks find, every 50 ms: at each, the changes since the last one."""
    at, changes = 0, []
    monkeypatch.setattr(halts.time, "monotonic_ns", lambda: at)
    monkeypatch.setattr(Halts, "_change", lambda _: changes.pop(0) if changes else None)
    found = Halts(1)
    for look in looks:
        at += 50 * MS
        changes += look
        found.look()
    return found.until(at + 20 * MS)


@pytest.mark.parametrize(
    ("looks", "stops"),
    [
        (([], [STOPPED], [], [], [CONTINUED]), [(100, 200)]),
        (([], [CONTINUED], []), []),  # it had been stopped for a moment, nobody knows how long
        (([STOPPED], [CONTINUED]), [(50, 50)]),
        (([STOPPED], [], [STOPPED], []), [(50, 100), (150, 220)]),  # it went on, and was stopped again
        (([STOPPED], []), [(50, 120)]),  # until it ended
    ],
)
def test_a_stop_lasts_from_the_first_look_that_finds_it_to_the_last(monkeypatch, looks, stops):
    """Whatever passed between two looks is not known, and not told."""
    assert seen(monkeypatch, *looks) == tuple((begin * MS, end * MS) for begin, end in stops)


@pytest.mark.parametrize(("stopped_ms", "told"), [(0, False), (90, False), (110, True)])
def test_a_short_stop_is_no_error(stopped_ms, told):
    """More than 0.1 s of a long window."""
    found = list(halted([(0, stopped_ms * MS)], (0, 60_000 * MS)))
    assert [one.code for one in found] == (["paused"] if told else [])
