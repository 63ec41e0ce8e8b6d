"""Every domain by itself: its energies over the trials that ran where it is, and the error budget of their mean."""

from __future__ import annotations

from collections.abc import Sequence

from llem.metrics.aggregate import Value, quantity
from llem.metrics.energies import distinct, expected_readings, gross, idle_power, key_of, net, reading_of
from llem.metrics.statistics import mean, mean_interval
from llem.store.models import BaselineReading, DomainMetrics, EnergyReading, ErrorBudget, Trial

__all__ = ["domain_metrics"]


def domain_metrics(trials: Sequence[Trial], baselines: Sequence[BaselineReading]) -> tuple[DomainMetrics, ...]:
    """Every domain by every meter, by itself, over the trials that ran where it is: `n` says how many those are."""
    expected = {process: {key_of(one) for one in readings} for process, readings in expected_readings(trials).items()}
    return tuple(
        _domain(first, [trial for trial in trials if key_of(first) in expected[trial.process]], baselines)
        for first in distinct(trials)
    )


def _domain(first: EnergyReading, trials: Sequence[Trial], baselines: Sequence[BaselineReading]) -> DomainMetrics:
    key = key_of(first)
    label = {"scope": first.scope, "kind": first.kind}
    readings = [reading_of(trial.energies, key) for trial in trials]
    energies = [gross(trial, (key,)) for trial in trials]
    powers = [energy.scaled(1 / trial.duration_s) for energy, trial in zip(energies, trials, strict=True)]
    idle = [idle_power(baselines, process, key) for process in sorted({trial.process for trial in trials})]
    return DomainMetrics(
        meter=first.meter,
        domain=first.domain,
        scope=first.scope,
        kind=first.kind,
        instrument=first.instrument,
        energy_j=quantity(energies, "J", **label),
        energy_net_j=quantity([net(trial, baselines, (key,)) for trial in trials], "J", **label),
        power_w=quantity(powers, "W", **label),
        idle_power_w=quantity(idle, "W", **label),
        budget=_mean_budget([one for one in readings if one is not None]) if None not in readings else None,
        cross_ratio=quantity([_cross(reading) for reading in readings], ""),
    )


def _mean_budget(readings: Sequence[EnergyReading]) -> ErrorBudget | None:
    """Error budget of the mean over trials: edges and gaps as in a typical trial, scatter as seen between trials."""
    budgets = [reading.budget for reading in readings if reading.budget is not None]
    energies = [reading.energy_j for reading in readings if reading.energy_j is not None]
    if not readings or len(budgets) < len(readings) or len(energies) < len(readings):
        return None
    sensors = [budget.sensor_j for budget in budgets if budget.sensor_j is not None]
    return ErrorBudget(
        tick_j=mean([budget.tick_j for budget in budgets]),
        gap_j=mean([budget.gap_j for budget in budgets]),
        repeat_j=mean_interval(energies).half_width if len(energies) > 1 else budgets[0].repeat_j,
        sensor_j=mean(sensors) if len(sensors) == len(budgets) else None,
    )


def _cross(reading: EnergyReading | None) -> Value:
    if reading is None or reading.energy_j is None or not reading.cross_energy_j:
        return Value(None, reason="no_meter")
    return Value(reading.energy_j / reading.cross_energy_j)
