"""The arithmetic of a window against a counter whose true energy is known."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llem.errors import MachineError
from llem.meters.nvml import NvmlMeter
from llem.meters.sampling import Sampling
from llem.meters.ticks import Ticks
from llem.meters.trace import TraceRow, series
from llem.meters.window import energy_readings
from llem.testing.fakes import FakeClock, FakeGpu, FakeNvml, Load

S = 1_000_000_000


def record(gpu: FakeGpu, seconds: float, start_s: float = 1.0):
    """Read a fake GPU with the production meter and loop; the rows and the meter's domain."""
    clock = FakeClock(round(start_s * S))
    meter = NvmlMeter(None, [gpu.uuid], library=FakeNvml(clock, [gpu]))
    domains = list(meter.open())
    sampling = Sampling([(meter, domains)], clock)
    while clock.now_ns < (start_s + seconds) * S:
        clock.advance(sampling.step() - clock.now_ns)
    rows, errors = sampling.take()
    return rows, domains[0], errors


def reading(gpu: FakeGpu, rows: list[TraceRow], domain, t0: float, t1: float):
    """Energy of [t0, t1] and the truth, in joules."""
    [found] = energy_readings(rows, [("nvml", domain)], round(t0 * S), round(t1 * S))
    return found, gpu.load.joules(t1) - gpu.load.joules(t0)


def noisy(seed: int, mean: float = 600.0, share: float = 0.04) -> Load:
    """A steady load whose power changes every 20 ms around a mean, as the steps of a decode do."""
    rng = random.Random(seed)
    return Load([(0.02, mean * (1 + share * rng.uniform(-1, 1))) for _ in range(1000)])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(2.0, 4.0), st.floats(0.6, 4.0), st.floats(100, 650))
def test_bound_covers_truth_of_a_steady_load(seed: int, t0: float, length: float, mean: float) -> None:
    """Under a steady load the stated bound covers the true energy, wherever the edges fall."""
    gpu = FakeGpu(noisy(seed, mean))
    rows, domain, _ = record(gpu, 9.0)
    found, truth = reading(gpu, rows, domain, t0, t0 + length)
    assert found.energy_j is not None
    assert found.budget is not None

    assert abs(found.energy_j - truth) <= found.budget.bound_j


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.0, 0.3), st.floats(2.0, 3.0))
def test_sensor_delay_cancels_under_a_steady_load(seed: int, delay: float, t0: float) -> None:
    """A sensor that lags by up to 0.3 s does not move a 5 s window of a steady load by 0.5 %."""
    gpu = FakeGpu(noisy(seed), delay_s=delay)
    rows, domain, _ = record(gpu, 10.0)
    found, truth = reading(gpu, rows, domain, t0, t0 + 5.0)

    assert found.energy_j == pytest.approx(truth, rel=0.005)


@settings(max_examples=30, deadline=None)
@given(st.floats(2.0, 3.0), st.floats(0.3, 3.0), st.floats(50, 250), st.floats(300, 700), st.floats(0.0, 0.3))
def test_bound_covers_a_window_from_idle_to_load_to_idle(
    t0: float, length: float, idle: float, busy: float, delay: float
) -> None:
    """Where power steps at the edges and the sensor lags, the bound says how wrong the reading may be.

    To 10 %: the times of ticks enter the bound as two standard deviations, and this looks for the worst.
    """
    gpu = FakeGpu(Load([(t0, idle), (length, busy), (10.0, idle)]), delay_s=delay)
    rows, domain, _ = record(gpu, t0 + length)  # from 1 s on, so until 1 s after the window
    found, truth = reading(gpu, rows, domain, t0, t0 + length)
    assert found.energy_j is not None
    assert found.budget is not None

    assert abs(found.energy_j - truth) <= 1.1 * found.budget.bound_j


def test_a_bare_counter_read_misses_what_the_window_gets_right() -> None:
    """At 0.65 s two bare reads are wrong by more than the stated bound most of the time; the window never is."""
    misses = 0
    for i in range(40):
        gpu = FakeGpu(noisy(i))
        rows, domain, _ = record(gpu, 4.0)
        t0 = 2.0 + random.Random(i).uniform(0, 0.1)
        found, truth = reading(gpu, rows, domain, t0, t0 + 0.65)
        bare = (gpu.counter_mj(t0 + 0.65) - gpu.counter_mj(t0)) / 1000
        assert found.energy_j is not None
        assert found.budget is not None
        assert abs(found.energy_j - truth) <= found.budget.bound_j
        misses += abs(bare - truth) > found.budget.bound_j
    assert misses >= 10


def test_counter_reads_are_few() -> None:
    """Once the rhythm is known, ticks are found with fewer than eight reads each, not by reading flat out."""
    gpu = FakeGpu(noisy(3))
    clock = FakeClock()
    library = FakeNvml(clock, [gpu])
    calls = 0

    class Counting(NvmlMeter):
        def read_counter(self, domain: str) -> float:
            nonlocal calls
            calls += 1
            return super().read_counter(domain)

    meter = Counting(None, [gpu.uuid], library=library)
    sampling = Sampling([(meter, meter.open())], clock)
    while clock.now_ns < 11 * S:
        clock.advance(sampling.step() - clock.now_ns)
    ticks = series(sampling.rows, "nvml", f"gpu:{gpu.uuid}", "counter_j")

    assert len(ticks) > 95
    assert calls / len(ticks) < 8


def test_ticks_are_known_to_two_reads() -> None:
    """Nearly every tick's time is known to within two reads of the counter, true tick included."""
    gpu = FakeGpu(noisy(5))
    rows, domain, _ = record(gpu, 10.0)
    ticks = series(rows, "nvml", domain.name, "counter_j")
    holding = [row.t_from_ns <= gpu.tick_before(row.t_ns / S) * S <= row.t_ns for row in ticks]
    narrow = [row.t_ns - row.t_from_ns <= 12_000_000 for row in ticks]

    assert all(holding)
    assert sum(narrow) / len(narrow) > 0.9


def test_counter_and_integrated_power_agree_under_a_steady_load() -> None:
    """The second instrument is integrated over the same window and agrees to 2 %."""
    gpu = FakeGpu(noisy(7))
    rows, domain, _ = record(gpu, 13.0)
    found, _ = reading(gpu, rows, domain, 2.0, 12.0)

    assert found.cross_energy_j == pytest.approx(found.energy_j, rel=0.02)
    assert found.period_s == pytest.approx(0.1, rel=0.05)
    assert found.updates is not None
    assert found.updates >= 98


def test_a_stuck_counter_is_no_energy() -> None:
    """A counter that stands still from the beginning gives None with a reason, not 0."""
    gpu = FakeGpu(noisy(1), stuck_from_s=0.5)
    rows, domain, _ = record(gpu, 5.0)
    found, _ = reading(gpu, rows, domain, 2.0, 4.0)

    assert found.energy_j is None
    assert found.reason == "counter_stuck"


def test_a_counter_that_stops_within_the_window_is_no_energy() -> None:
    """Half a window of ticks is not a window."""
    gpu = FakeGpu(noisy(1), stuck_from_s=3.0)
    rows, domain, _ = record(gpu, 6.0)
    found, _ = reading(gpu, rows, domain, 2.0, 5.0)

    assert found.reason == "counter_stuck"


def test_a_reset_within_the_window_is_no_energy() -> None:
    """A counter that went backwards (driver reloaded) gives None with its own reason."""
    gpu = FakeGpu(noisy(1), reset_at_s=3.0)
    rows, domain, _ = record(gpu, 5.0)
    found, _ = reading(gpu, rows, domain, 2.0, 4.5)

    assert found.energy_j is None
    assert found.reason == "counter_reset"


@pytest.mark.parametrize(
    ("gpu", "code"),
    [
        (FakeGpu(noisy(1), mig=True), "mig"),
        (FakeGpu(noisy(1), has_counter=False), "counter_missing"),
    ],
)
def test_a_gpu_that_cannot_be_measured_says_why(gpu: FakeGpu, code: str) -> None:
    """MIG and a missing counter are refused on opening, each with its code and a hint."""
    meter = NvmlMeter(None, [gpu.uuid], library=FakeNvml(FakeClock(), [gpu]))
    with pytest.raises(MachineError) as caught:
        meter.open()

    assert caught.value.code == code
    assert caught.value.hint


@given(
    st.lists(st.floats(0, 700), min_size=8, max_size=30),
    st.floats(0.0, 0.99),
)
def test_edge_bound_is_a_bound_for_any_power_in_range(watts: list[float], share: float) -> None:
    """Whatever power did between ticks within [0, 700] W, the line is not further off than the bound."""
    load = Load([(0.05, value) for value in watts])
    times = tuple(0.1 * i for i in range(len(watts) // 2 + 1))
    ticks = Ticks(times, (0.0,) * len(times), tuple(load.joules(t) for t in times), 0)
    t = share * times[-1]

    assert abs(ticks.at(t) - load.joules(t)) <= ticks.shape_bound(t, 0.0, 700.0) + 1e-6


def record_thinned(gpu: FakeGpu, t0: float, length: float):
    """As a trial reads: every tick around the edges, every tenth within; recorded from 1 s before to 1 s after."""
    clock = FakeClock(round((t0 - 1) * S))
    meter = NvmlMeter(None, [gpu.uuid], library=FakeNvml(clock, [gpu]))
    domains = list(meter.open())
    sampling = Sampling([(meter, domains)], clock)
    for until, then in ((t0, sampling.thin), (t0 + length, sampling.dense), (t0 + length + 1, lambda: None)):
        while clock.now_ns < round(until * S):
            clock.advance(min(sampling.step(), round(until * S)) - clock.now_ns)
        then()
    return sampling.take()[0], domains[0]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(2.0, 3.0), st.floats(0.6, 14.0), st.floats(0.0, 0.3))
def test_a_thinned_window_is_as_good(seed: int, t0: float, length: float, delay: float) -> None:
    """Looking for every tenth tick within the window leaves the bound true and a 5 s window within 0.5 %."""
    gpu = FakeGpu(noisy(seed), delay_s=delay)
    rows, domain = record_thinned(gpu, t0, length)
    found, truth = reading(gpu, rows, domain, t0, t0 + length)
    assert found.energy_j is not None
    assert found.budget is not None

    assert abs(found.energy_j - truth) <= found.budget.bound_j
    assert found.period_s == pytest.approx(0.1, rel=0.05)
    if length >= 5:
        assert found.energy_j == pytest.approx(truth, rel=0.005)


def test_thinning_spares_reads_within_the_window() -> None:
    """In a 12 s window the counter's ticks seen are a fifth or less of those that came."""
    gpu = FakeGpu(noisy(11))
    rows, domain = record_thinned(gpu, 3.0, 12.0)
    inside = [row for row in series(rows, "nvml", domain.name, "counter_j") if 3 * S <= row.t_ns <= 15 * S]

    assert 12 <= len(inside) <= 24
