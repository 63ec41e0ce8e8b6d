"""The raw rows: picking one reading, and what a GPU's health was within a window."""

from __future__ import annotations

import pytest

from llem.meters.sampling import Sampling
from llem.meters.trace import TraceRow, series
from llem.meters.window import health_summary
from llem.testing.fakes import FakeClock


def row(reading: str, t: int, value: float, domain: str = "gpu:A", meter: str = "health") -> TraceRow:
    """A row that is known to the nanosecond."""
    return TraceRow(meter, domain, reading, t, t, value)  # type: ignore[arg-type]


def test_series_picks_one_reading_of_one_domain_by_one_meter() -> None:
    """Nothing of another meter, domain or reading is in it, and the order stays."""
    rows = [
        row("power_w", 1, 10.0, meter="nvml"),
        row("power_w", 2, 20.0, meter="other"),
        row("power_w", 3, 30.0, "gpu:B", "nvml"),
        row("counter_j", 4, 40.0, meter="nvml"),
        row("power_w", 5, 50.0, meter="nvml"),
    ]

    assert [r.value for r in series(rows, "nvml", "gpu:A", "power_w")] == [10.0, 50.0]


def test_health_is_of_the_window_alone() -> None:
    """First, last, extremes, means and the share of each throttle reason, edges included, the rest left out."""
    rows = [
        row("temperature_c", 99, 90.0),
        row("temperature_c", 100, 50.0),
        row("temperature_c", 150, 61.0),
        row("temperature_c", 200, 58.0),
        row("temperature_c", 201, 95.0),
        row("sm_clock_mhz", 110, 1980.0),
        row("sm_clock_mhz", 120, 1410.0),
        row("utilisation_percent", 110, 100.0),
        row("utilisation_percent", 120, 90.0),
        row("throttle_bits", 99, 0x40),
        row("throttle_bits", 110, 0x4),
        row("throttle_bits", 120, 0x8 | 0x1),
        row("throttle_bits", 130, 0x8 | 0x4),
        row("throttle_bits", 140, 0x8),
        row("throttle_bits", 150, 0),
    ]

    assert health_summary(rows, 100, 200) == {
        "gpu:A": {
            "temperature_c": {"first": 50.0, "last": 58.0, "max": 61.0},
            "sm_clock_mhz": {"mean": 1695.0, "min": 1410.0},
            "utilisation_percent": {"mean": 95.0},
            "throttle": {"sw_power_cap": 0.4, "hw_slowdown": 0.6},
            "throttle_readings": 5,
        }
    }


@pytest.mark.parametrize("rows", [[], [row("power_w", 150, 40.0, meter="nvml")]])
def test_without_health_readings_there_is_no_summary(rows: list[TraceRow]) -> None:
    """Energy rows are no health; no reading is no entry, and no zero."""
    assert health_summary(rows, 100, 200) == {}


def test_what_a_gpu_does_not_report_is_left_out() -> None:
    """A GPU with a temperature alone has no clock of 0, and is not said not to have been throttled."""
    assert health_summary([row("temperature_c", 150, 50.0)], 100, 200) == {
        "gpu:A": {"temperature_c": {"first": 50.0, "last": 50.0, "max": 50.0}}
    }


def test_a_gpu_that_was_never_throttled_says_so() -> None:
    """No reason, of so many readings."""
    found = health_summary([row("throttle_bits", t, 0) for t in (120, 140)], 100, 200)
    assert found == {"gpu:A": {"throttle": {}, "throttle_readings": 2}}


class Capped:
    """A GPU that is at its power limit in its third second alone, and tells nothing else; reads take 1 to 5 ms."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock, self.reads = clock, 0

    def throttle_bits(self, uuid: str) -> int:
        self.reads += 1
        at_s = self.clock.now_ns / 1e9
        self.clock.advance((1 + self.reads % 2 * 4) * 1_000_000)
        return 0x4 if 3.0 <= at_s < 4.0 else 0

    def nothing(self, uuid: str) -> None:
        return None

    temperature_c = utilisation_percent = sm_clock_mhz = nothing


def test_a_share_is_of_all_readings() -> None:
    """A reading that says what the one before said counts as well: a second at the limit is a sixth of six."""
    clock = FakeClock()
    sampling = Sampling([], clock)
    sampling.add_health(Capped(clock), "A")  # type: ignore[arg-type]
    while clock.now_ns < 7_000_000_000:
        clock.advance(sampling.step() - clock.now_ns)
    rows, _ = sampling.take()

    found = health_summary(rows, 1_000_000_000, 7_000_000_000)["gpu:A"]
    assert (found["throttle"], found["throttle_readings"]) == ({"sw_power_cap": 1 / 6}, 6)
