"""What it takes to serve a load: replicas, GPUs, energy, money and carbon a day, of each engine configuration. Pure.

Replicas that share a load get equal parts of it. The power of one lies on straight lines between its measured loads,
and idle power at no load; nothing is extrapolated. docs/explanation/serving-a-load.md has the formulas.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import attrs

from llem.analysis.capacity import Capacity, Configuration, averaged, capacity_of
from llem.analysis.decision import Estimated, estimated
from llem.analysis.demand import DAY_S, Demand
from llem.analysis.limits import Limit
from llem.metrics.metric import Basis

__all__ = [
    "KWH_J",
    "NO_ENERGY",
    "NO_PRICES",
    "ROUNDING",
    "DailyPrices",
    "Served",
    "cost_of",
    "counts_energy",
    "draws_a_day",
    "power_curve",
    "quantity_of",
    "replicas_for",
    "serve",
]

#: Joules of a kilowatt-hour.
KWH_J = 3.6e6
DAY_H = 24.0
#: Part of a replica by which a fleet may fall short: what rounding of a division leaves.
ROUNDING = 1e-9
#: Why there is no money or carbon where nobody gave prices.
NO_PRICES = "no prices are given"
#: Why there is no money or carbon, where there is no energy.
NO_ENERGY = "energy is not known"
#: What a configuration is ranked by, best first: the first that is known of all.
QUANTITIES = ("money_a_day", "kwh_a_day")


class DailyPrices(Protocol):
    """What is needed of prices; see `llem.analysis.prices.Prices`."""

    @property
    def currency(self) -> str: ...
    @property
    def gpu_hour(self) -> float | None: ...
    @property
    def machine_hour(self) -> float | None: ...
    @property
    def kwh(self) -> float | None: ...
    @property
    def grid_g_per_kwh(self) -> float | None: ...
    @property
    def pue(self) -> float: ...
    @property
    def electricity_included(self) -> bool: ...


@attrs.frozen
class Served:
    """One engine configuration as a fleet that serves a load.

    Attributes:
        id: of the configuration. experiments: its measured loads, by rate. values: of the study's axes.
        kind: how requests arrived: "offline", "closed", "open" or "replay".
        capacity: requests per second of one replica within the limits. at_least: share of draws in which the greatest
            measured load keeps all limits, so that the capacity may be above what is said.
        blocking: the limit that ends the capacity. blocked_by: the same in words.
        replicas: the least number that serves the peak of the load with 95 %; None where no number does.
        replicas_median: the least number that serves it with 50 %; None where no number does.
        gpus: of all replicas.
        rate: requests per second of each replica at the peak.
        kwh_a_day: at the meters of `basis`, without the losses that a PUE stands for.
        money_a_day: in `currency`. gco2e_a_day: grams.
        lacking: by the name of a field that is None, why, in words.
        cheapest: probability that it costs least of those that serve the load, by `money_a_day` or else `kwh_a_day`;
            None where these are not comparable.
        notes: what the figures rest on, in sentences.
    """

    id: str
    experiments: tuple[str, ...]
    values: Mapping[str, Any]
    kind: str
    capacity: Estimated
    at_least: float
    blocking: Limit | None
    blocked_by: str
    replicas: int | None
    replicas_median: int | None
    gpus: int | None = None
    rate: float | None = None
    kwh_a_day: Estimated | None = None
    money_a_day: Estimated | None = None
    gco2e_a_day: Estimated | None = None
    currency: str = ""
    basis: Basis | None = None
    lacking: Mapping[str, str] = attrs.field(factory=dict)
    cheapest: float | None = None
    notes: tuple[str, ...] = ()


def serve(
    configurations: Iterable[Configuration],
    demand: Demand,
    limits: Sequence[Limit] = (),
    prices: DailyPrices | None = None,
) -> list[Served]:
    """What each configuration takes to serve a load: those that can, cheapest first; then those that cannot.

    A fleet is static: it has as many replicas as the peak takes, the whole day. Cheapest is by money a day where every
    one that can serve has it, else by energy, else by GPUs and replicas. What energy is in, as in money with a price of
    a kWh, ranks only those whose energies cover the same.

    Args:
        configurations: with joint draws, all of one number.
        limits: in the order of each `MeasuredLoad.values`.
    """
    found = [_served(one, demand, limits, prices) for one in configurations]
    able = [(row, draws) for row, draws in found if row.replicas is not None]
    by = next((name for name in QUANTITIES if able and all(name in draws for _, draws in able)), None)
    if by is not None and counts_energy(by, prices) and len({row.basis for row, _ in able}) > 1:
        by = None
    rows = _with_chances(able, by) if by else [row for row, _ in able]
    unable = sorted((row for row, _ in found if row.replicas is None), key=lambda row: (-row.capacity.value, row.id))
    return [*sorted(rows, key=lambda row: (_cost(row, by), row.gpus, row.replicas, row.id)), *unable]


def counts_energy(quantity: str, prices: DailyPrices | None) -> bool:
    """Whether energy is in a quantity: not in money where electricity is in the price of the hours, or free."""
    return not quantity.startswith("money") or bool(prices and prices.kwh)


def _cost(row: Served, by: str | None) -> float:
    one = None if by is None else getattr(row, by)
    return 0.0 if one is None else float(one.value)


def _with_chances(able: Sequence[tuple[Served, Mapping[str, Any]]], by: str) -> list[Served]:
    import numpy as np

    costs = np.stack([draws[by] for _, draws in able], axis=1)
    least = costs == costs.min(axis=1, keepdims=True)  # those that cost the same share a draw
    chances = (least / least.sum(axis=1, keepdims=True)).mean(axis=0)
    return [attrs.evolve(row, cheapest=float(chance)) for (row, _), chance in zip(able, chances, strict=True)]


def _served(
    one: Configuration, demand: Demand, limits: Sequence[Limit], prices: DailyPrices | None
) -> tuple[Served, dict[str, Any]]:
    """The row of a configuration, and the draws of what it costs."""
    capacity = capacity_of(one, limits)
    replicas = replicas_for(demand.peak, capacity.sure)
    row = Served(
        id=one.id,
        experiments=tuple(load.id for load in one.loads),
        values=one.values,
        kind=one.kind,
        capacity=capacity.estimate,
        at_least=capacity.at_least,
        blocking=capacity.blocking,
        blocked_by=capacity.blocked_by,
        replicas=replicas,
        replicas_median=replicas_for(demand.peak, capacity.estimate.value),
        basis=one.basis,
        currency="" if prices is None else prices.currency,
    )
    if replicas is None:
        why = "no measured load keeps all limits with 95 %" + (f": {row.blocked_by}" if row.blocked_by else "")
        return attrs.evolve(row, lacking={"replicas": why}), {}
    draws, lacking = draws_a_day(one, demand, replicas, prices)
    figures: dict[str, Any] = {name: estimated(values) for name, values in draws.items()}
    row = attrs.evolve(row, gpus=replicas * one.gpus, rate=demand.peak / replicas, lacking=lacking, **figures)
    return attrs.evolve(row, notes=tuple(_notes(one, capacity, demand, replicas))), draws


def replicas_for(rate: float, capacity: float) -> int | None:
    """The least number of replicas of this capacity that serves a rate; None where the capacity is 0."""
    return max(1, math.ceil(rate / capacity - ROUNDING)) if capacity > 0 else None


def draws_a_day(
    one: Configuration, demand: Demand, replicas: int, prices: DailyPrices | None
) -> tuple[dict[str, Any], dict[str, str]]:
    """Draws (count,) of `kwh_a_day`, `money_a_day` and `gco2e_a_day` of so many replicas; and what is lacking, with
    why."""
    import numpy as np

    draws: dict[str, Any] = {}
    lacking: dict[str, str] = {}
    rates = np.array([rate for _, rate in demand.pieces]) / replicas
    curve = power_curve(one, rates.min())
    if isinstance(curve, str):
        lacking["kwh_a_day"] = curve
    else:
        shares = np.array([seconds for seconds, _ in demand.pieces]) / demand.period_s
        draws["kwh_a_day"] = replicas * averaged(rates, shares, *curve) * DAY_S / KWH_J
    for name in ("money_a_day", "gco2e_a_day"):
        found = quantity_of(name, draws.get("kwh_a_day"), one.gpus, replicas, prices)
        if isinstance(found, str):
            lacking[name] = lacking["kwh_a_day"] if found == NO_ENERGY else found
        else:
            draws[name] = np.broadcast_to(found, one.count)
    return draws, lacking


def power_curve(one: Configuration, least: float) -> tuple[Any, Any] | str:
    """Rates of one replica, ascending in each draw, and its watts at them, both (count, k); or why it is not known, in
    words.

    Between two rates power lies on the straight line; the first is 0, with idle power, if that is known. Beyond the
    last one its power holds, which no replica gets with more than the 5 % that the number of replicas allows.

    Args:
        least: the least rate at which power is asked for, requests per second.
    """
    import numpy as np

    powers = [load.power for load in one.loads if load.power is not None]
    if len(powers) < len(one.loads):
        return "power is not measured at every load"
    knots = np.stack([load.rate for load in one.loads], axis=1)
    order = np.argsort(knots, axis=1, kind="stable")
    knots = np.take_along_axis(knots, order, axis=1)
    watts = np.take_along_axis(np.stack(powers, axis=1), order, axis=1)
    if one.idle is not None:
        knots = np.concatenate([np.zeros((one.count, 1)), knots], axis=1)
        watts = np.concatenate([one.idle[:, None], watts], axis=1)
    elif least < knots[:, 0].max():
        return f"a replica gets less than its least measured load, and idle power is not known ({one.idle_reason})"
    return knots, watts


def quantity_of(name: str, kwh: Any, gpus_each: int, replicas: Any, prices: DailyPrices | None) -> Any:
    """Energy, money (see `cost_of`) or carbon a day of a fleet; or why it is not known, in words.

    carbon = kWh * PUE * grams per kWh.

    Args:
        name: "kwh_a_day", "money_a_day" or "gco2e_a_day". kwh: a day, of any shape; None where it is not known.
    """
    if name == "kwh_a_day":
        return NO_ENERGY if kwh is None else kwh
    if prices is None:
        return NO_PRICES
    if name == "gco2e_a_day":
        if prices.grid_g_per_kwh is None:
            return "the prices have no grid_g_per_kwh"
        return NO_ENERGY if kwh is None else kwh * prices.pue * prices.grid_g_per_kwh
    return cost_of(prices, DAY_H, gpus_each, replicas, kwh)


def cost_of(prices: DailyPrices, hours: Any, gpus_each: int, replicas: Any, kwh: Any) -> Any:
    """Money for hours of replicas that take so many kilowatt-hours in them; or why it is not known, in words.

    money = hours * replicas * (GPUs of each * price of a GPU-hour + price of a machine-hour) + kWh * PUE * price of a
    kWh. The last part is left out where electricity is in the price of the hours.

    Args:
        gpus_each: GPUs of a replica. 0: it runs on a CPU, and the price of the machine must be known.
    """
    price = prices.machine_hour if gpus_each == 0 else prices.gpu_hour
    if price is None:
        return f"the prices have no {'gpu_hour' if gpus_each else 'machine_hour'}"
    if prices.kwh is None and not prices.electricity_included:
        return "the prices have no kwh, and do not say electricity_included"
    rent = hours * replicas * (gpus_each * (prices.gpu_hour or 0.0) + (prices.machine_hour or 0.0))
    if not prices.kwh:
        return rent
    return NO_ENERGY if kwh is None else rent + kwh * prices.pue * prices.kwh


def _notes(one: Configuration, capacity: Capacity, demand: Demand, replicas: int) -> Iterable[str]:
    import numpy as np

    if capacity.at_least >= 0.05:
        share = "" if capacity.at_least > 0.995 else f" in {capacity.at_least:.0%} of draws"
        yield f"the greatest measured load keeps all limits{share}: the capacity is at least this"
    if one.kind in ("offline", "closed"):
        batches = "batches, then idle" if one.kind == "offline" else "so many clients, then idle"
        yield f"the engine was always busy in every measurement; a part of its rate is served in turns: {batches}"
    least = min(rate for _, rate in demand.pieces) / replicas
    lowest = float(np.median(one.loads[0].rate))
    if one.kind in ("open", "replay") and least < lowest and one.idle is not None:
        yield f"below {lowest:.4g} requests/s, the least measured load, power is on the line from idle"
    if len(one.loads) == 1:
        yield "measured at one load"
