"""A power meter, read by the production loop and integrated, against loads whose energy is known."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llem.errors import MachineError
from llem.meters.base import CounterMeter, Domain, PowerMeter
from llem.meters.sampling import Sampling
from llem.meters.trace import TraceRow
from llem.meters.window import energy_readings, power_energy
from llem.testing.fakes import FakeClock, Load

S = 1_000_000_000


class LoadMeter(PowerMeter):
    """Shows a load's true power; a read takes 1 ms, and those in `gaps` (from, seconds) as long as the gap."""

    name = "load"

    def __init__(self, clock: FakeClock, load: Load, gaps: list[tuple[float, float]] | None = None) -> None:
        super().__init__()
        self._clock, self._load, self._gaps = clock, load, list(gaps or [])

    def open(self):
        return [Domain("node", "node", "measured", "a fake", method="power", period_s=0.1)]

    def read_power(self, domain: str) -> float:
        if self._gaps and self._clock.now_ns >= self._gaps[0][0] * S:
            self._clock.advance(round(self._gaps.pop(0)[1] * S))
        self._clock.advance(1_000_000)
        return self._load.watts(self._clock.now_ns / 1e9)


def record(load: Load, until: float, gaps: list[tuple[float, float]] | None = None):
    """Rows and domain of a load read from 1 s on."""
    clock = FakeClock(S)
    meter = LoadMeter(clock, load, gaps)
    domains = meter.open()
    sampling = Sampling([(meter, domains)], clock)
    while clock.now_ns < until * S:
        clock.advance(sampling.step() - clock.now_ns)
    rows, errors = sampling.take()
    assert errors == []
    return rows, domains[0]


def reading(load: Load, rows: list[TraceRow], domain: Domain, t0: float, t1: float):
    """The energy of a window, and the true one."""
    [found] = energy_readings(rows, [("load", domain)], round(t0 * S), round(t1 * S))
    assert found.energy_j is not None
    assert found.budget is not None
    return found, load.joules(t1) - load.joules(t0)


def wandering(seed: int, step_s: float = 0.25) -> Load:
    """Steps between 100 and 600 W."""
    rng = random.Random(seed)
    return Load([(step_s, rng.uniform(100, 600)) for _ in range(400)])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(1.6, 3.0), st.floats(0.6, 5.0), st.floats(0.04, 0.5))
def test_the_bound_covers_the_truth(seed: int, t0: float, length: float, step_s: float) -> None:
    """Integrated power is off by no more than its bound, wherever the window lies."""
    load = wandering(seed, step_s)
    rows, domain = record(load, t0 + length + 0.5)
    found, truth = reading(load, rows, domain, t0, t0 + length)

    assert abs(found.energy_j - truth) <= found.budget.bound_j + 1e-9
    assert found.budget.gap_j == 0
    assert found.updates is not None
    assert found.updates >= length / 0.15


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(1.6, 2.5), st.floats(0.5, 2.5), st.booleans())
def test_a_gap_is_covered_by_its_share_of_the_budget(seed: int, begin: float, gap: float, low: bool) -> None:
    """Power that nobody saw may have been anything between the extremes that were seen; `gap_j` says so.

    The load stands at one extreme on both sides of the gap and at the other throughout it: the worst there is.
    """
    outside, inside = (100.0, 600.0) if low else (600.0, 100.0)
    rng = random.Random(seed)
    load = Load([(1.2, outside), (0.2, inside), (begin - 1.4, outside), (gap, inside), (5.0, outside)])
    t0, t1 = 1.0 + rng.uniform(0.1, 0.15), begin + gap + rng.uniform(0.1, 0.6)
    rows, domain = record(load, begin + gap + 1.2, [(begin - 0.02, gap + 0.04)])
    found, truth = reading(load, rows, domain, t0, t1)

    assert found.budget.gap_j > 0
    assert abs(found.energy_j - truth) <= found.budget.bound_j
    assert abs(found.energy_j - truth) <= found.budget.gap_j + found.budget.tick_j


def test_a_steady_load_is_exact() -> None:
    """A flat line gives the product of power and time, with a budget of nothing."""
    load = Load([(100.0, 250.0)])
    rows, domain = record(load, 6.0)
    found, truth = reading(load, rows, domain, 2.0, 5.0)

    assert found.energy_j == pytest.approx(truth, rel=1e-9)
    assert found.budget.bound_j == pytest.approx(0, abs=1e-9)
    assert found.cross_energy_j is None


def test_fewer_than_two_samples_are_no_energy() -> None:
    """One reading is not a course of power: None with a reason, not 0."""
    domain = LoadMeter(FakeClock(), Load([(1, 1.0)])).open()[0]
    row = TraceRow("load", "node", "power_w", S, S, 40.0)

    assert power_energy([row], S, 2 * S, domain) is None
    [found] = energy_readings([row], [("load", domain)], S, 2 * S)
    assert (found.energy_j, found.reason) == (None, "meter_failed")


class Flaky(CounterMeter):
    """A counter that fails from a moment on, and that has no second instrument."""

    name = "flaky"

    def __init__(self, clock: FakeClock, fails_at: float) -> None:
        super().__init__()
        self._clock, self._fails_ns = clock, fails_at * S

    def open(self):
        return [Domain("node", "node", "measured", "a fake", period_s=0.1)]

    def read_counter(self, domain: str) -> float:
        self._clock.advance(1_000_000)
        if self._clock.now_ns > self._fails_ns:
            raise MachineError("the device is gone")
        return self._clock.now_ns // (S // 10) * 4.0


def test_an_instrument_that_fails_is_told_once_and_left_alone() -> None:
    """Its error is recorded with meter and domain, its rows stay, the others are read on."""
    clock = FakeClock(S)
    flaky, power = Flaky(clock, 3.0), LoadMeter(clock, Load([(100.0, 40.0)]))
    sampling = Sampling([(flaky, flaky.open()), (power, power.open())], clock)
    while clock.now_ns < 5 * S:
        clock.advance(sampling.step() - clock.now_ns)
    rows, errors = sampling.take()

    assert errors == [("flaky", "node", "the device is gone")]
    last = {meter: max(row.t_ns for row in rows if row.meter == meter) for meter in ("flaky", "load")}
    assert last["flaky"] < 3.01 * S
    assert last["load"] > 4.8 * S
    assert sampling.take() == ([], [])


def test_without_instruments_the_loop_waits() -> None:
    """Nothing to read is not a busy loop: the next look is a tenth of a second away."""
    clock = FakeClock(S)

    assert Sampling([], clock).step() == S + S // 10


def test_watts_are_the_latest_by_domain() -> None:
    """What the live display shows is the last power of each domain."""
    clock = FakeClock(S)
    meter = LoadMeter(clock, Load([(1.5, 100.0), (100.0, 300.0)]))
    sampling = Sampling([(meter, meter.open())], clock)
    seen = []
    for until in (1.3, 2.0):
        while clock.now_ns < until * S:
            clock.advance(sampling.step() - clock.now_ns)
        seen.append(sampling.watts())

    assert seen == [{"node": 100.0}, {"node": 300.0}]
