"""What the engine configurations of a study take to serve a load, and from where on another one is cheaper. Pure: the
results and the draws are the caller's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from llem.analysis.breakeven import BreakEven, LengthCurve, break_even, break_even_length
from llem.analysis.capacity import Configuration
from llem.analysis.demand import Demand, read_load
from llem.analysis.fleet import DailyPrices, Served, serve
from llem.analysis.limits import Limit
from llem.analysis.measured_loads import (
    RATE,
    Bounded,
    Columns,
    Draws,
    MeasuredExperiment,
    configurations_of,
    length_curves,
    needed_metrics,
)
from llem.analysis.overview import Overview, state_of
from llem.analysis.ranked import Objective, gather
from llem.analysis.sides import Side, is_fake
from llem.store.files import digest
from llem.store.models import Result

if TYPE_CHECKING:
    from llem.analysis.collection import Results

__all__ = ["Serving", "serve_load", "served"]


@attrs.frozen
class Serving:
    """What each engine configuration of a study takes to serve a load.

    Attributes:
        demand: the load. limits: that each replica keeps.
        rows: by workload, in the order of the study; within one, those that can serve the load first, by cost.
        break_evens: over load: the cheapest of a workload against each other one.
        by_length: over output length: where experiments differ in it alone.
        excluded: by id of an experiment, why it is not used.
        notes: why a comparison is not made, and what the figures rest on.
    """

    demand: Demand
    limits: tuple[Limit, ...]
    rows: tuple[Served, ...]
    break_evens: tuple[BreakEven, ...] = ()
    by_length: tuple[BreakEven, ...] = ()
    excluded: Mapping[str, str] = attrs.field(factory=dict)
    notes: tuple[str, ...] = ()


def serve_load(
    results: Results,
    load: str,
    limits: Sequence[Limit] = (),
    prices: DailyPrices | None = None,
    reference: str | None = None,
    seed: int = 0,
) -> Serving:
    """What each engine configuration of a folder takes to serve a load; see `served`.

    Args:
        load: such as `50/s`, or the path of a trace of rates (see `llem.analysis.demand.read_load`).
        reference: the experiment whose score a limit of a change is against.

    Raises:
        ConfigError: the load cannot be read.
        StoreError: no result has a rate, or a score that is limited does not exist.
    """
    demand = read_load(load)
    metrics = needed_metrics(limits)
    rows = list(results.overviews((*metrics, "request_rate", *(limit.metric for limit in limits))))
    sides = results.sides(metrics)
    ranked = results.without_damaged(
        rows,
        lambda whole: gather(
            results.store,
            whole,
            Objective(RATE, lower=False),
            limits,
            sides,
            lambda names: results.background(sides, names),
            reference=None if reference is None else results.store.find(reference),
            seed=seed,
        ),
    )
    rows = [row for row in rows if row.id not in results.damaged]

    def bounded(name: str, limit: Limit) -> Any:
        import numpy as np

        if name not in ranked.ids:
            return None
        column = ranked.kept[list(limits).index(limit)].draws[:, ranked.ids.index(name)]
        return None if np.isnan(column).any() else column

    points = results.study.get("points", {})
    values = {name: point["values"] for name, point in points.items()}
    return served(results, rows, ranked.sides, ranked.posterior, demand, limits, prices, bounded=bounded, values=values)


def served(
    results: Mapping[str, Result],
    rows: Iterable[Overview],
    sides: Mapping[str, Side],
    draws: Draws,
    demand: Demand,
    limits: Sequence[Limit] = (),
    prices: DailyPrices | None = None,
    *,
    bounded: Bounded | None = None,
    values: Mapping[str, Mapping[str, Any]] | None = None,
) -> Serving:
    """What each engine configuration takes to serve a load, and from which load and output length another is cheaper.

    Args:
        results: by id. rows: their overviews with `request_rate`. sides: by id.
        draws: of `needed_metrics(limits)`, of the experiments in `sides`.
        bounded: of limits that `draws` does not have, such as scores; it is asked first.
        values: of the study's axes, by id.
    """
    used, excluded = _used(rows, sides, draws)
    experiments = [MeasuredExperiment.of(row, results[row.id], sides[row.id]) for row in used]
    found = configurations_of(experiments, draws, limits, bounded=bounded, values=values or {})
    by_work: dict[str, list[Configuration]] = {}
    for one in found:
        by_work.setdefault(digest(one.work), []).append(one)
    served_rows: list[Served] = []
    over_load: list[BreakEven | str] = []
    for alike in by_work.values():
        there = serve(alike, demand, limits, prices)
        served_rows += there
        over_load += _against_the_first(there, alike, limits, prices)
    by_length = _over_length(length_curves(experiments, draws), prices)
    notes = [f"{len(by_work)} workloads: configurations are compared within one"] if len(by_work) > 1 else []
    notes += [one for one in (*over_load, *by_length) if isinstance(one, str)]
    return Serving(
        demand,
        tuple(limits),
        tuple(served_rows),
        tuple(one for one in over_load if isinstance(one, BreakEven)),
        tuple(one for one in by_length if isinstance(one, BreakEven)),
        excluded,
        tuple(dict.fromkeys(notes)),
    )


def _used(rows: Iterable[Overview], sides: Mapping[str, Side], draws: Draws) -> tuple[list[Overview], dict[str, str]]:
    """The experiments that can be used, and why others cannot."""
    used, excluded = [], {}
    rates = Columns(draws)
    for row in rows:
        if is_fake(row.backend):
            excluded[row.id] = f"{row.backend} only plays at inference"
        elif not row.valid:
            excluded[row.id] = ", ".join(row.errors) or state_of(row)
        elif row.id not in sides or rates.of(row.id, RATE) is None:
            excluded[row.id] = f"{RATE} is not measured in every trial"
        else:
            used.append(row)
    return used, excluded


def _against_the_first(
    there: Sequence[Served], alike: Sequence[Configuration], limits: Sequence[Limit], prices: DailyPrices | None
) -> Iterator[BreakEven | str]:
    """The cheapest that can serve the load against each other one that can, by energy and with prices by money."""
    by_id = {one.id: one for one in alike}
    able = [by_id[row.id] for row in there if row.replicas is not None]
    for other in able[1:]:
        for quantity in ("kwh_a_day", *(() if prices is None else ("money_a_day",))):
            one = break_even(able[0], other, quantity, limits, prices)
            names = f"{able[0].loads[0].id}, {other.loads[0].id}"  # of experiments, which `llem show` knows
            yield f"{names}: no break-even: {one}" if isinstance(one, str) else one


def _over_length(curves: Sequence[LengthCurve], prices: DailyPrices | None) -> list[BreakEven | str]:
    """Of curves at one load of one workload, the first against each other one."""
    found: list[BreakEven | str] = []
    first: dict[str, LengthCurve] = {}
    for curve in curves:
        a = first.setdefault(curve.at, curve)
        for quantity in ("energy_per_request_j", *(() if prices is None else ("money_per_request",))):
            if a is not curve:
                one = break_even_length(a, curve, quantity, prices)
                found.append(f"{a.id}, {curve.id}: no break-even: {one}" if isinstance(one, str) else one)
    return found
