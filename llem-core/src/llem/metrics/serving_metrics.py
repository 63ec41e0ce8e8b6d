"""Metrics that only a serving load has: rates, load, goodput and the energy of requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from llem.metrics.aggregate import Value, absent, exact, quantity
from llem.metrics.allocation import whole_requests_energy
from llem.metrics.energies import gross, headline
from llem.metrics.flow import Flow
from llem.metrics.goodput import judge, slo_of
from llem.metrics.latency import PERCENTILES
from llem.metrics.requests import edge_factor
from llem.metrics.setup import Setup
from llem.metrics.statistics import quantile
from llem.store.models import Quantity, ServingFacts, Trial

__all__ = ["absent_serving_metrics", "serving_metrics"]

LOAD: Mapping[str, str] = {"request_rate": "request/s", "in_flight_mean": "request", "lag_p99_s": "s"}
CAPACITY: Mapping[str, str] = {"capacity_requests_per_s": "request/s", "capacity_share": ""}
GOODPUT: Mapping[str, str] = {
    "goodput_requests_per_s": "request/s",
    "slo_attainment": "",
    "energy_per_good_request_j": "J",
}
ALLOCATED: Mapping[str, float] = {"energy_per_request_p50_j": 0.5, "energy_per_request_p99_j": 0.99}
QUEUED = ("queued_s", *(f"queued_p{round(q * 100)}_s" for q in PERCENTILES[-1:]))


def absent_serving_metrics(reason: str) -> dict[str, Quantity]:
    """Every name of this module without a value."""
    units = {**LOAD, **CAPACITY, **GOODPUT, **dict.fromkeys(ALLOCATED, "J"), **dict.fromkeys(QUEUED, "s")}
    return {name: absent(unit, reason) for name, unit in units.items()}


def serving_metrics(setup: Setup, trials: Sequence[Trial], flows: Sequence[Flow]) -> dict[str, Quantity]:
    """Rates, load, goodput and allocated energies. `flows` per trial, in the order of `trials`."""
    facts = [trial.serving for trial in trials if trial.serving is not None]
    found = _load(facts) | _capacity(setup, facts)
    return found | _goodput(setup, trials, flows) | _allocated(trials, flows)


def _load(facts: Sequence[ServingFacts]) -> dict[str, Quantity]:
    takes: Mapping[str, Callable[[ServingFacts], float | None]] = {
        "request_rate": lambda one: one.request_rate,
        "in_flight_mean": lambda one: one.in_flight_mean,
        "lag_p99_s": lambda one: one.lag_p99_s,
    }
    found = {}
    for name, unit in LOAD.items():
        values = [takes[name](one) for one in facts]
        if name == "request_rate" and len(set(values)) == 1 and values[0] is not None:
            found[name] = exact(values[0], unit, len(values))  # asked for, not estimated
        else:
            found[name] = quantity([Value(value, reason="closed_load") for value in values], unit)
    return found


def _capacity(setup: Setup, facts: Sequence[ServingFacts]) -> dict[str, Quantity]:
    """What the probe found that the engine can bear, and the share of it that was asked for."""
    closed = any(one.kind == "closed" for one in facts)
    if closed or not setup.probes:
        return {name: absent(unit, "closed_load" if closed else "not_requested") for name, unit in CAPACITY.items()}
    capacity = quantity(
        [Value(float(probe["requests_per_s"])) for probe in setup.probes], CAPACITY["capacity_requests_per_s"]
    )
    rates = [one.request_rate for one in facts if one.request_rate is not None]
    share = [Value(rate / capacity.value if capacity.value else None, reason="not_supported") for rate in rates]
    return {"capacity_requests_per_s": capacity, "capacity_share": quantity(share, "")}


def _goodput(setup: Setup, trials: Sequence[Trial], flows: Sequence[Flow]) -> dict[str, Quantity]:
    slo = slo_of(setup.config)
    if slo is None:
        return {name: absent(unit, "not_requested") for name, unit in GOODPUT.items()}
    judged = [judge(flow, slo.limits()) for flow in flows]
    chosen = headline(trials)
    energies = [gross(trial, chosen.of(trial)) if chosen else Value(None, reason="no_meter") for trial in trials]
    counts = [one.good * edge_factor(trial) for one, trial in zip(judged, trials, strict=True)]
    per_good = [
        energy.scaled(1 / good) if good else Value(None, reason=energy.reason or "none_good")
        for energy, good in zip(energies, counts, strict=True)
    ]
    rates = [Value(good / flow.seconds) for good, flow in zip(counts, flows, strict=True)]
    label = {"scope": chosen.scope, "kind": chosen.kind} if chosen else {}
    return {
        "goodput_requests_per_s": quantity(rates, GOODPUT["goodput_requests_per_s"]),
        "slo_attainment": quantity([Value(one.attainment, reason="no_completions") for one in judged], ""),
        "energy_per_good_request_j": quantity(per_good, "J", **label),
    }


def _allocated(trials: Sequence[Trial], flows: Sequence[Flow]) -> dict[str, Quantity]:
    """Percentiles of the energy allocated to requests wholly within a window, one value per trial.

    Requests that share one counter are no sample of it: only trials are repeated, so only they give an interval.
    """
    chosen = headline(trials)
    if chosen is None:
        return {name: absent("J", "no_meter") for name in ALLOCATED}
    values: dict[str, list[Value]] = {name: [] for name in ALLOCATED}
    for trial, flow in zip(trials, flows, strict=True):
        energy = gross(trial, chosen.of(trial))
        ordered = whole_requests_energy(flow, energy.value) if energy.value is not None else []
        for name, q in ALLOCATED.items():
            if not ordered or not energy.value:
                values[name].append(Value(None, reason=energy.reason or "no_completions"))
            else:
                share = quantile(ordered, q) / energy.value
                values[name].append(energy.scaled(share))
    return {name: quantity(found, "J", scope=chosen.scope, kind=chosen.kind) for name, found in values.items()}
