"""A counter that moves faster than it is read (RAPL), through the production loop, against a load of known energy."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llem.meters.rapl import RaplMeter
from llem.meters.sampling import Sampling
from llem.meters.window import energy_readings
from llem.testing.fakes import FakeClock, Load

S = 1_000_000_000
RANGE_UJ = 500_000_000  # 500 J: wraps several times within a test


@pytest.fixture(scope="module")
def zone(tmp_path_factory) -> Path:
    """One package whose counter each read writes anew."""
    path = tmp_path_factory.mktemp("powercap") / "intel-rapl:0"
    path.mkdir()
    (path / "name").write_text("package-0\n")
    (path / "energy_uj").write_text("0\n")
    (path / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
    return path


class Rapl(RaplMeter):
    """The production meter on a package that follows a load by a fake clock, updated every millisecond."""

    def __init__(self, zone: Path, clock: FakeClock, load: Load) -> None:
        super().__init__(root=zone.parent)
        self._file, self._clock, self._load = zone / "energy_uj", clock, load
        self.reads = 0

    def read_counter(self, domain: str) -> float:
        self.reads += 1
        updated_s = self._clock.now_ns // 1_000_000 / 1000
        self._file.write_text(str(round(self._load.joules(updated_s) * 1e6) % RANGE_UJ))
        self._clock.advance(50_000)
        return super().read_counter(domain)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.floats(1.6, 2.5), st.floats(0.5, 3.0), st.floats(0.05, 0.5))
def test_energy_is_within_its_bound_through_wraps(zone, seed: int, t0: float, length: float, step_s: float) -> None:
    """A load between 60 and 350 W, a counter that wraps every few seconds: off by no more than the bound, and 1 %."""
    rng = random.Random(seed)
    load = Load([(step_s, rng.uniform(60, 350)) for _ in range(200)])
    clock = FakeClock(S)
    meter = Rapl(zone, clock, load)
    domains = [("rapl", domain) for domain in meter.open()]
    sampling = Sampling([(meter, [domain for _, domain in domains])], clock)
    while clock.now_ns < (t0 + length + 0.5) * S:
        clock.advance(sampling.step() - clock.now_ns)
    rows, errors = sampling.take()
    [found] = energy_readings(rows, domains, round(t0 * S), round((t0 + length) * S))
    truth = load.joules(t0 + length) - load.joules(t0)

    assert errors == []
    assert found.energy_j is not None
    assert found.budget is not None
    assert abs(found.energy_j - truth) <= found.budget.bound_j
    assert found.energy_j == pytest.approx(truth, rel=0.02)
    assert all(b.value >= a.value for a, b in itertools.pairwise(rows))
    assert {row.reading for row in rows} == {"counter_j"}
    assert meter.reads <= (t0 + length) * 50 + 2  # one read per 20 ms
