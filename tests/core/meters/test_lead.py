"""How long a sensor takes to settle is stated by its meter, and lead-in, lead-out and thinning follow it."""

from __future__ import annotations

import attrs
import pytest

from llem.meters.base import LEAD_S, Domain, lead_s
from llem.meters.tracker import EDGE_TICKS, CounterTracker

DOMAIN = Domain("node", "node", "measured", "a fake", method="power", period_s=0.1)


@pytest.mark.parametrize(("average_s", "expected"), [(0.0, 0.52), (1.0, 1.52)])
def test_a_lead_outlasts_the_slowest_sensor(average_s: float, expected: float) -> None:
    """A sensor that averages over 1 s gets a lead of more than its delay and that second; none gets less than 0.5 s."""
    slow = attrs.evolve(DOMAIN, average_s=average_s)

    assert lead_s([DOMAIN, slow]) == pytest.approx(expected)
    assert lead_s([attrs.evolve(DOMAIN, delay_s=0.0)]) == LEAD_S
    assert lead_s([]) == LEAD_S


def test_every_tick_is_looked_for_until_a_slow_sensor_has_settled() -> None:
    """After a window's beginning, ticks are dense for as long as it takes to show what was true at the edge."""
    fast, slow = (CounterTracker("m", "d", 0.1, settle) for settle in (0.0, 1.32))
    for tracker in (fast, slow):
        tracker.thin()

    assert (fast._thin_in, slow._thin_in) == (EDGE_TICKS, 15)
