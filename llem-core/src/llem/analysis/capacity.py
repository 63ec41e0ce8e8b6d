"""What one replica of an engine configuration can serve under limits, from measurements at several loads. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from llem.analysis.decision import Estimated, estimated
from llem.analysis.limits import Limit, keeps
from llem.metrics.metric import Basis

__all__ = ["Capacity", "Configuration", "MeasuredLoad", "averaged", "capacity_of", "interpolated"]


@attrs.frozen(eq=False)
class MeasuredLoad:
    """One engine configuration at one load: an experiment. All arrays are joint posterior draws of shape (count,).

    Attributes:
        id: of the experiment.
        rate: requests per second of one replica.
        power: watts of one replica; None where it is not measured.
        values: for each limit the value that it bounds, in the unit of its bound; None where it is not measured.
        saturated: whether more requests came than the engine could serve (`over_saturated`).
    """

    id: str
    rate: Any
    power: Any | None
    values: tuple[Any | None, ...] = ()
    saturated: bool = False


@attrs.frozen(eq=False)
class Configuration:
    """One engine configuration, measured at one or more loads that differ in nothing but how many requests come.

    Attributes:
        id: of the configuration: equal where everything but the load and the length of the measurement is.
        kind: how requests arrive: "offline", "closed", "open" or "replay".
        loads: by their median rate, ascending; one at least.
        gpus: of one replica. 0: it runs on a CPU.
        idle: watts of one replica at rest with its model loaded, draws of shape (count,); None with `idle_reason`.
        idle_reason: code of the reason.
        basis: what the powers cover; None without any.
        work: the workload, without its seed.
        values: of the study's axes, as far as all its loads share them.
    """

    id: str
    kind: str
    loads: tuple[MeasuredLoad, ...]
    gpus: int
    idle: Any | None = None
    idle_reason: str = "no_baseline"
    basis: Basis | None = None
    work: Mapping[str, Any] = attrs.field(factory=dict)
    values: Mapping[str, Any] = attrs.field(factory=dict)

    @property
    def count(self) -> int:
        """Number of draws."""
        return len(self.loads[0].rate)

    def thinned(self, count: int) -> Configuration:
        """The same with so many of its draws, at most."""

        def first(draws: Any) -> Any:
            return None if draws is None else draws[:count]

        loads = tuple(
            attrs.evolve(
                load, rate=first(load.rate), power=first(load.power), values=tuple(first(one) for one in load.values)
            )
            for load in self.loads
        )
        return attrs.evolve(self, loads=loads, idle=first(self.idle))


@attrs.frozen(eq=False)
class Capacity:
    """The greatest rate of one replica at which all limits are kept.

    Attributes:
        draws: requests per second, shape (count,); 0 where no measured load keeps all limits.
        estimate: of these draws.
        sure: the rate that the capacity reaches with 95 %; 0 where a replica may not keep the limits at any load.
        at_least: share of draws in which the greatest measured load keeps all limits, so that the capacity is not below
            that load, and may be above it.
        blocking: the limit that ends the rate in most draws; None where none does.
        blocked_by: what ends the rate in most draws, in words; "" where nothing does.
    """

    draws: Any
    estimate: Estimated
    sure: float
    at_least: float
    blocking: Limit | None
    blocked_by: str


def capacity_of(configuration: Configuration, limits: Sequence[Limit] = ()) -> Capacity:
    """The capacity of one replica, draw by draw.

    In each draw the loads stand by their rate. Up to the first load that breaks a limit, all are kept. Between the last
    of these and the one that breaks it, the logarithm of the limited metric is taken to be linear in the rate; where a
    value or the bound is not above 0, the metric itself. The capacity is where the first limit is reached. It is never
    above the greatest measured rate, and 0 where the least measured load breaks a limit.

    A limit whose metric is not measured at a load is not kept there, and neither is any load at which the engine could
    not keep up: its latencies grow with the length of the window. Toward such a load nothing is interpolated, unless a
    measured limit is broken there as well.

    Args:
        limits: in the order of `MeasuredLoad.values`.
    """
    import numpy as np

    rates = np.stack([load.rate for load in configuration.loads], axis=1)
    order = np.argsort(rates, axis=1, kind="stable")
    rates = np.take_along_axis(rates, order, axis=1)
    values = [np.take_along_axis(_column(configuration, number), order, axis=1) for number in range(len(limits))]
    kept_at = [keeps(limit, one) for one, limit in zip(values, limits, strict=True)]
    steady = ~np.array([load.saturated for load in configuration.loads])[order]
    kept = np.logical_and.accumulate(np.logical_and.reduce([steady, *kept_at]), axis=1).sum(axis=1)
    rows, last = np.arange(len(rates)), rates.shape[1] - 1
    low, high = np.clip(kept - 1, 0, last), np.clip(kept, 0, last)
    parts = np.full((len(limits) + 1, len(rates)), np.inf)
    for number, (one, keep, limit) in enumerate(zip(values, kept_at, limits, strict=True)):
        broken = ~keep[rows, high] & (kept <= last)
        parts[number, broken] = _part(one[rows, low][broken], one[rows, high][broken], limit.bound)
    parts[-1, ~steady[rows, high] & (kept <= last) & ~np.isfinite(parts[:-1]).any(axis=0)] = 0.0
    part = np.where(kept <= last, parts.min(axis=0), 0.0)
    found = np.where(kept > 0, rates[rows, low] + part * (rates[rows, high] - rates[rows, low]), 0.0)
    blocking, words = _blocking(parts, kept <= last, limits, configuration)
    sure = float(np.quantile(found, 0.05, method="lower"))
    return Capacity(found, estimated(found), sure, float(np.mean(kept > last)), blocking, words)


def _column(configuration: Configuration, number: int) -> Any:
    """Draws of one limited value at every load (count, loads); NaN where it is not measured."""
    import numpy as np

    missing = np.full(configuration.count, np.nan)
    found = [load.values[number] for load in configuration.loads]
    return np.stack([missing if one is None else one for one in found], axis=1)


def _part(low: Any, high: Any, bound: float) -> Any:
    """How far from the kept value to the broken one the bound lies, 0 … 1; 0 where the broken one is not measured."""
    import numpy as np

    with np.errstate(divide="ignore", invalid="ignore"):
        plain = (bound - low) / (high - low)
        logs = (math.log(bound) - np.log(low)) / (np.log(high) - np.log(low)) if bound > 0 else plain
    found = np.where((low > 0) & (high > 0), logs, plain)
    return np.clip(np.nan_to_num(found, nan=0.0, posinf=1.0, neginf=0.0), 0.0, 1.0)


def _blocking(
    parts: Any, ended: Any, limits: Sequence[Limit], configuration: Configuration
) -> tuple[Limit | None, str]:
    """The limit that ends the rate in most of the draws in which any does."""
    import numpy as np

    if not ended.any():
        return None, ""
    first = np.bincount(parts[:, ended].argmin(axis=0), minlength=len(limits) + 1)
    number = int(first.argmax())
    if number == len(limits):
        return None, "requests pile up (over_saturated)"
    missing = sum(load.values[number] is None for load in configuration.loads)
    lacking = f" ({limits[number].metric} is not measured at {missing} of {len(configuration.loads)} loads)"
    return limits[number], limits[number].text + (lacking if missing else "")


def interpolated(at: Any, knots: Any, values: Any) -> Any:
    """Straight lines through points, draw by draw; before the first and after the last point their values.

    y = v_1 + the sum over segments of slope * (the part of `at` that lies within the segment).

    Args:
        at: where, shape (count or 1, m).
        knots: ascending in each draw, shape (count or 1, k). values: at the knots, same shape or (count, k).

    Returns:
        Shape (count, m).
    """
    import numpy as np

    found = values[:, :1] + np.zeros_like(at)
    for number in range(knots.shape[1] - 1):
        begin, width = knots[:, number, None], np.diff(knots[:, number : number + 2], axis=1)
        rise = np.diff(values[:, number : number + 2], axis=1)
        slope = np.divide(rise, width, out=np.zeros(np.broadcast(rise, width).shape), where=width > 0)
        found = found + slope * np.clip(at - begin, 0.0, width)
    return found


def averaged(at: Any, weights: Any, knots: Any, values: Any) -> Any:
    """The weighted mean of `interpolated` over `at`, without an array of all draws by all places.

    The part of x within a segment from c to d is max(0, x - c) - max(0, x - d), and the weighted sum of max(0, x - c)
    over sorted x is a sum over those above c alone.

    Args:
        at, weights: shape (m,); the weights add up to 1. knots, values: shape (count, k).

    Returns:
        Shape (count,).
    """
    import numpy as np

    order = np.argsort(at)
    places, shares = at[order], weights[order]
    above = np.concatenate([np.cumsum((places * shares)[::-1])[::-1], [0.0]])
    share = np.concatenate([np.cumsum(shares[::-1])[::-1], [0.0]])
    first = np.searchsorted(places, knots)
    beyond = above[first] - knots * share[first]
    widths, rises = np.diff(knots, axis=1), np.diff(values, axis=1)
    slopes = np.divide(rises, widths, out=np.zeros(rises.shape), where=widths > 0)
    return values[:, 0] - (slopes * np.diff(beyond, axis=1)).sum(axis=1)
