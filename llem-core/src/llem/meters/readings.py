"""An energy of one window in one domain, with what may be wrong with it."""

from __future__ import annotations

from typing import Any, Literal

import attrs

from llem.meters.base import Domain

__all__ = ["EnergyReading", "ErrorBudget"]


@attrs.frozen
class ErrorBudget:
    """What may be wrong with one energy, in joules, each a bound or a 95 % half-width.

    Attributes:
        tick_j: the window's two edges fall between updates of the reading (interpolation, read time, sensor delay).
        gap_j: updates that did not come.
        repeat_j: scatter of the reading itself: within the window for one trial, between trials for a mean.
        sensor_j: the sensor's stated calibration uncertainty; common to all windows of one board, so it does not
            enter comparisons on that board. None when nobody states one.
    """

    tick_j: float
    gap_j: float
    repeat_j: float
    sensor_j: float | None = None

    @property
    def bound_j(self) -> float:
        """Sum of what may differ from window to window: tick, gap and repeat."""
        return self.tick_j + self.gap_j + self.repeat_j


@attrs.frozen
class EnergyReading:
    """Energy of one window in one domain by one meter.

    Attributes:
        meter, domain, scope, kind, instrument: as in `llem.meters.base.Domain`.
        energy_j: gross joules, or None with a `reason`.
        budget: error budget; None where the meter is a library that states none.
        period_s: update period seen in this window (median), counter and power meters only.
        updates: updates of the reading that were seen within the window (of a slow counter every tenth is looked for).
        cross_energy_j: the same window by the second instrument (integrated instantaneous power).
        reason: a code of `llem.findings.REASONS` when energy_j is None.
    """

    meter: str
    domain: str
    scope: str
    kind: Literal["measured", "modelled"]
    instrument: str
    energy_j: float | None
    budget: ErrorBudget | None = None
    period_s: float | None = None
    updates: int | None = None
    cross_energy_j: float | None = None
    reason: str | None = None

    @classmethod
    def of(cls, meter: str, domain: Domain, energy_j: float | None, **rest: Any) -> EnergyReading:
        """A reading of this domain by this meter; `rest` are the fields from `budget` on."""
        return cls(meter, domain.name, domain.scope, domain.kind, domain.instrument, energy_j, **rest)
