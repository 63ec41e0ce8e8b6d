"""From which load, or which output length, one configuration is cheaper than another. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from llem.analysis.capacity import Configuration, capacity_of, interpolated
from llem.analysis.decision import Estimated, estimated
from llem.analysis.demand import DAY_S
from llem.analysis.fleet import (
    KWH_J,
    NO_ENERGY,
    NO_PRICES,
    ROUNDING,
    DailyPrices,
    cost_of,
    counts_energy,
    power_curve,
    quantity_of,
)
from llem.analysis.limits import Limit
from llem.metrics.metric import Basis

__all__ = ["BreakEven", "LengthCurve", "break_even", "break_even_length", "crossing"]

#: Points of a curve over load, beside those at which it bends.
POINTS = 200
#: Draws of a curve over load at most: shares are then within 2 points.
DRAWS = 2_000
#: An answer that fewer draws give is not stated.
MOST = 0.5
#: An answer that fewer draws give is not told beside another one.
LEAST = 0.005


@attrs.frozen
class BreakEven:
    """Where two curves cross: the cost of two configurations over the load or the output length.

    Attributes:
        a, b: ids of the configurations.
        quantity: what is compared: "kwh_a_day", "money_a_day", "energy_per_request_j" or "money_per_request".
        over: what it is a function of: "requests/s" or "output tokens".
        low, high: the range that is measured of both.
        above: the one that is cheaper above the crossing; "" where most draws have none.
        at: where that one becomes cheaper for the rest of the range, over the draws in which it does; None where most
            draws have no such crossing.
        share: share of draws in which `above` becomes cheaper; without `above`, in which either does.
        throughout: by id, share of draws in which it is cheaper over the whole range.
    """

    a: str
    b: str
    quantity: str
    over: str
    low: float
    high: float
    above: str
    at: Estimated | None
    share: float
    throughout: Mapping[str, float]

    @property
    def words(self) -> str:
        """One sentence."""
        if self.at is not None:
            at = f"{self.at.value:.4g} {self.over} ({self.at.low:.4g} to {self.at.high:.4g})"
            always = [
                f"{one} throughout in {_rounded(share)}" for one, share in self.throughout.items() if share >= LEAST
            ]
            return "; ".join([f"{self.above} is cheaper from {at} on in {_rounded(self.share)} of draws", *always])
        measured = f"no crossing within what is measured, {self.low:.4g} to {self.high:.4g} {self.over}"
        name, share = max(self.throughout.items(), key=lambda one: one[1])
        return f"{measured}: {name} is cheaper throughout in {_rounded(share)} of draws" if share >= MOST else measured


def _rounded(share: float) -> str:
    return f"{100 * share:.0f} %"


def crossing(x: Any, a: Any, b: Any) -> tuple[Any, Any, Any]:
    """Where the lower of two curves changes for the last time, draw by draw; both are straight between grid points.

    Args:
        x: grid, ascending, shape (m,). a, b: draws on it, shape (count, m).

    Returns:
        Of each draw, shape (count,): the crossing, NaN without one; whether B is the lower one at the end of the
        grid; and whether A is. Where both are equal at the end, neither is, and there is no crossing. Curves that touch
        and do not change places have none either.
    """
    import numpy as np

    found = np.full(len(a), np.nan)
    ahead = b - a
    b_ends, a_ends = ahead[:, -1] < 0, ahead[:, -1] > 0
    for ends, sign in ((b_ends, 1.0), (a_ends, -1.0)):
        behind = sign * ahead >= 0  # at these points the one that ends lower is not lower
        rows = np.flatnonzero(ends & (sign * ahead > 0).any(axis=1))
        place = behind.shape[1] - 1 - behind[rows, ::-1].argmax(axis=1)
        before, after = ahead[rows, place], ahead[rows, place + 1]
        found[rows] = x[place] + (x[place + 1] - x[place]) * before / (before - after)
    return found, b_ends, a_ends


def _told(names: tuple[str, str], quantity: str, over: str, x: Any, a: Any, b: Any) -> BreakEven:
    """What the crossings of all draws say together: of the two directions, the one that more draws have."""
    import numpy as np

    at, b_ends, a_ends = crossing(x, a, b)
    crosses = ~np.isnan(at)
    to_b, to_a = crosses & b_ends, crosses & a_ends
    direction, above = (to_b, names[1]) if to_b.sum() >= to_a.sum() else (to_a, names[0])
    stated = direction.mean() >= MOST
    return BreakEven(
        a=names[0],
        b=names[1],
        quantity=quantity,
        over=over,
        low=float(x[0]),
        high=float(x[-1]),
        above=above if stated else "",
        at=estimated(at[direction]) if stated else None,
        share=float(direction.mean() if stated else crosses.mean()),
        throughout={names[0]: float((a_ends & ~crosses).mean()), names[1]: float((b_ends & ~crosses).mean())},
    )


def break_even(
    a: Configuration,
    b: Configuration,
    quantity: str,
    limits: Sequence[Limit] = (),
    prices: DailyPrices | None = None,
) -> BreakEven | str:
    """From which load on one of two configurations is cheaper; or why that is not known, in words.

    The curves are what fleets cost a day, each of as many replicas as it needs with 95 % (see `llem.analysis.fleet`).
    They reach up to what one replica of the larger capacity serves, and down to no load, or without idle power to the
    least measured load.

    Args:
        quantity: "kwh_a_day" or "money_a_day".
    """
    import numpy as np

    if counts_energy(quantity, prices) and a.basis != b.basis:
        return f"energies cover different things ({a.basis}; {b.basis})"
    sure = [capacity_of(one, limits).sure for one in (a, b)]
    if min(sure) <= 0:
        return f"{(a, b)[sure.index(min(sure))].id} keeps the limits at no measured load with 95 %"
    low = max(0.0 if one.idle is not None else float(np.max(one.loads[0].rate)) for one in (a, b))
    if low >= max(sure):
        return "no load is measured of both"
    x = _grid(low, max(sure), sure, (a, b))
    both = (a.thinned(DRAWS), b.thinned(DRAWS))
    curves = [_day(one, x, capacity, quantity, prices) for one, capacity in zip(both, sure, strict=True)]
    for one in curves:
        if isinstance(one, str):
            return one
    return _told((a.id, b.id), quantity, "requests/s", x, *curves)


def _grid(low: float, high: float, capacities: Sequence[float], both: Sequence[Configuration]) -> Any:
    """Even points, and those at which the curves bend or jump: measured loads, and where a further replica comes."""
    import numpy as np

    points: list[Any] = [np.linspace(low, high, POINTS + 1)]
    for one, capacity in zip(both, capacities, strict=True):
        steps = capacity * np.arange(1, int(high / capacity) + 2)
        bends = np.array([float(np.median(load.rate)) for load in one.loads])
        points += [steps, steps * (1 + 1e-6), *(number * bends for number in range(1, len(steps) + 1))]
    found = np.unique(np.concatenate(points))
    return found[(found >= low) & (found <= high)]


def _day(one: Configuration, x: Any, capacity: float, quantity: str, prices: DailyPrices | None) -> Any:
    """Draws (count, m) of what a fleet costs a day at each load; or why they are not known."""
    import numpy as np

    replicas = np.maximum(1, np.ceil(x / capacity - ROUNDING))
    rates = x / replicas
    curve = power_curve(one, rates.min())
    kwh = None if isinstance(curve, str) else interpolated(rates[None], *curve) * replicas * DAY_S / KWH_J
    found = quantity_of(quantity, kwh, one.gpus, replicas, prices)
    if isinstance(found, str):
        return curve if found == NO_ENERGY else found
    return np.broadcast_to(found, (one.count, len(x)))


@attrs.frozen(eq=False)
class LengthCurve:
    """One configuration at one load, measured with several output lengths. Arrays have the shape (count, lengths).

    Attributes:
        id: equal where everything but the output length is.
        at: equal where the load, and the workload but for the output length, are.
        lengths: output tokens of a request, ascending, two at least.
        energy: joules of a request. rate: requests per second of one replica.
        gpus, basis: as of a `Configuration`.
    """

    id: str
    at: str
    lengths: tuple[int, ...]
    energy: Any
    rate: Any
    gpus: int
    basis: Basis | None = None


def break_even_length(
    a: LengthCurve, b: LengthCurve, quantity: str, prices: DailyPrices | None = None
) -> BreakEven | str:
    """From which output length on one of two configurations is cheaper; or why that is not known, in words.

    Args:
        quantity: "energy_per_request_j" or "money_per_request" (of one replica, busy with this load all the time).
    """
    import numpy as np

    if counts_energy(quantity, prices) and a.basis != b.basis:
        return f"energies cover different things ({a.basis}; {b.basis})"
    low, high = max(a.lengths[0], b.lengths[0]), min(a.lengths[-1], b.lengths[-1])
    if low >= high:
        return "no range of output lengths is measured of both"
    x = np.array([length for length in sorted({*a.lengths, *b.lengths}) if low <= length <= high], dtype=float)
    curves = []
    for one in (a, b):
        costs = one.energy if quantity == "energy_per_request_j" else _per_request(one, prices)
        if isinstance(costs, str):
            return costs
        curves.append(interpolated(x[None], np.array([one.lengths], dtype=float), costs))
    return _told((a.id, b.id), quantity, "output tokens", x, *curves)


def _per_request(one: LengthCurve, prices: DailyPrices | None) -> Any:
    if prices is None:
        return NO_PRICES
    return cost_of(prices, 1 / (3600 * one.rate), one.gpus, 1, one.energy / KWH_J)
