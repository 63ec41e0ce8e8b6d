"""When an instrument is read next, and what of its readings is kept."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llem.meters.trace import TraceRow
from llem.meters.tracker import CounterTracker, SampleTracker

MS = 1_000_000
S = 1000 * MS


def follow(tracker: CounterTracker, ticks: list[int], until: int, cost: int = 3 * MS) -> tuple[list[TraceRow], int]:
    """Read a counter that steps at `ticks` whenever the tracker asks for it; the rows, and how many reads it took."""
    now, reads, rows = S, 0, []
    while now < until:
        due = tracker.due_ns(now)
        if due > now:
            now = due
            continue
        before, seen = now, now + cost // 2
        now += cost
        reads += 1
        row = tracker.update(before, now, float(sum(tick <= seen for tick in ticks)))
        if row is not None:
            rows.append(row)
    return rows, reads


def rhythm(seed: int, period: int, jitter: float, until: int) -> list[int]:
    """Ticks of a period, each early or late by up to `jitter` of it."""
    rng = random.Random(seed)
    return [round(S + (k + 1 + jitter * rng.uniform(-1, 1)) * period) for k in range((until - S) // period)]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(40, 250), st.floats(0.0, 0.03), st.integers(1, 4))
def test_every_tick_is_found_and_lies_in_its_row(seed: int, period_ms: int, jitter: float, cost_ms: int) -> None:
    """Whatever the period, each tick gives one row that spans it, nearly always sharply, for reads around it alone."""
    until = S + 30 * period_ms * MS
    ticks = rhythm(seed, period_ms * MS, jitter, until)
    tracker = CounterTracker("m", "node", 0.1)
    rows, reads = follow(tracker, ticks, until, cost_ms * MS)
    found = [tick for tick in ticks if tick <= rows[-1].t_ns]

    assert len(rows) >= len(ticks) - 1
    assert all(row.t_from_ns <= tick <= row.t_ns for row, tick in zip(rows, found, strict=False))
    narrow = [row.t_ns - row.t_from_ns <= (2 * cost_ms + 2) * MS for row in rows]
    assert sum(narrow) / len(narrow) > 0.8
    assert tracker.period_ns == pytest.approx(period_ms * MS, rel=0.08)
    pace_ms = cost_ms + 1
    assert reads < 4 * period_ms / pace_ms + len(ticks) * (0.15 * period_ms / pace_ms + 3)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.1, 0.4))
def test_heavy_jitter_loses_no_tick(seed: int, jitter: float) -> None:
    """Ticks far off the rhythm are known less well, and none is lost or merged with another."""
    until = 5 * S
    ticks = rhythm(seed, 100 * MS, jitter, until)
    rows, _ = follow(CounterTracker("m", "node", 0.1), ticks, until)
    spans = [sum(row.t_from_ns <= tick <= row.t_ns for row in rows) for tick in ticks if tick <= rows[-1].t_ns]

    assert min(spans) >= 1
    assert rows[-1].value == len(spans)


def test_a_lost_rhythm_is_searched_gently_and_found_again() -> None:
    """While ticks stay out, reads are a twentieth of a period apart or more; afterwards ticks are sharp again."""
    early = [S + k * 100 * MS for k in range(1, 11)]
    late = [S + 1730 * MS + k * 100 * MS for k in range(20)]
    tracker = CounterTracker("m", "node", 0.1)
    follow(tracker, early, S + 1310 * MS)  # three periods are waited for at full pace
    reads = []
    now = S + 1310 * MS
    while now < late[0]:
        due = tracker.due_ns(now)
        if due > now:
            now = due
            continue
        reads.append(now)
        tracker.update(now, now + 3 * MS, 10.0)
        now += 3 * MS
    rows, _ = follow_from(tracker, now, late, late[-1] + 50 * MS, 10)

    assert min(b - a for a, b in itertools.pairwise(reads)) >= 5 * MS
    assert [row.value for row in rows] == [float(11 + k) for k in range(20)]
    assert all(row.t_ns - row.t_from_ns <= 12 * MS for row in rows[-8:])


def follow_from(tracker: CounterTracker, now: int, ticks: list[int], until: int, base: int):
    """As `follow`, from a later moment and with a counter that stands at `base`."""
    rows, reads = [], 0
    while now < until:
        due = tracker.due_ns(now)
        if due > now:
            now = due
            continue
        before, now = now, now + 3 * MS
        reads += 1
        row = tracker.update(before, now, float(base + sum(tick <= before + MS for tick in ticks)))
        if row is not None:
            rows.append(row)
    return rows, reads


def test_the_first_value_of_a_ticking_counter_is_no_tick() -> None:
    """A row needs a change: when the first value came about is not known."""
    tracker = CounterTracker("m", "node", 0.1)

    assert tracker.update(0, 10, 5.0) is None
    assert tracker.update(20, 30, 5.0) is None
    assert tracker.update(40, 50, 6.0) == TraceRow("m", "node", "counter_j", 20, 50, 6.0)


def test_a_fast_counter_is_read_at_a_steady_pace() -> None:
    """A counter faster than its reading gives a row per new value, known to one update, and is read every 20 ms."""
    tracker = CounterTracker("rapl", "cpu:0", 0.001)

    assert tracker.fast
    assert tracker.update(100 * MS, 101 * MS, 5.0) == TraceRow("rapl", "cpu:0", "counter_j", 99 * MS, 101 * MS, 5.0)
    assert tracker.due_ns(102 * MS) == 120 * MS
    assert tracker.update(120 * MS, 121 * MS, 5.0) is None
    assert tracker.update(140 * MS, 141 * MS, 6.5) == TraceRow("rapl", "cpu:0", "counter_j", 139 * MS, 141 * MS, 6.5)
    assert tracker.period_ns is None


@pytest.mark.parametrize(("period_s", "fast"), [(0.001, True), (0.02, True), (0.021, False), (0.1, False)])
def test_fast_is_what_updates_within_the_pace(period_s: float, fast: bool) -> None:
    """The border is the pace of 20 ms itself."""
    assert CounterTracker("m", "node", period_s).fast is fast


def test_a_flat_line_is_kept_once_a_period() -> None:
    """Reads of the same value leave a row at least every `keep_s`, so that a flat line is not taken for a gap."""
    tracker = SampleTracker("m", "node", "power_w", 0.02, 0.1)
    rows = [tracker.update(t * MS, t * MS + 1, 40.0) for t in range(1000, 2000, 20)]
    kept = [row.t_ns for row in rows if row]

    assert 9 <= len(kept) <= 11
    assert max(b - a for a, b in itertools.pairwise(kept)) <= 120 * MS


def test_a_change_is_kept_at_once_and_dated_from_the_read_before() -> None:
    """A new value became current after the previous read began."""
    tracker = SampleTracker("m", "node", "power_w", 0.02, 0.1)
    tracker.update(1000, 1001, 40.0)
    assert tracker.update(2000, 2001, 40.0) is None

    assert tracker.update(3000, 3001, 41.0) == TraceRow("m", "node", "power_w", 2000, 3001, 41.0)
    assert tracker.due_ns(3001) == 3000 + 20 * MS


def test_a_thinned_counter_is_looked_at_around_every_tenth_tick() -> None:
    """After the window's first ticks one of ten is looked for, no less sharply; afterwards every one again."""
    ticks = rhythm(3, 100 * MS, 0.02, 9 * S)
    tracker = CounterTracker("m", "node", 0.1)
    follow(tracker, ticks, 2 * S)
    tracker.thin()
    inside, reads = follow_from(tracker, 2 * S, ticks, 7 * S, 0)
    tracker.dense()
    after, _ = follow_from(tracker, 7 * S, ticks, 9 * S, 0)

    assert [row.value for row in inside] == [10.0, 11.0, 12.0, 13.0, 14.0, 24.0, 34.0, 44.0, 54.0]
    assert all(row.t_ns - row.t_from_ns <= 12 * MS for row in inside)
    assert reads < 8 * len(inside)
    assert len(after) >= 15
    assert all(b.value == a.value + 1 for a, b in itertools.pairwise(after))
