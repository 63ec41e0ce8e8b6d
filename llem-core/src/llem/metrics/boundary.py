"""The greatest rate of arrivals at which a share of the requests keeps the limits: windows at several rates, what they
say, and how well they say it. Pure.

A window at a rate breaks the SLO where the share of its requests that kept every limit is below the asked one, where
its load is not steady, or where the client could not send on time. The greatest rate is the greatest one that was kept
below the least one that was broken. How far it may be off is estimated from all windows together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from llem.metrics.statistics import wilson

__all__ = ["Boundary", "RateSearched", "RateWindow", "boundary", "boundary_interval", "doubtful", "falling", "is_kept"]

#: Draws of the interval, and their seed.
DRAWS, SEED = 2000, 0
#: Up to this share of the lowest rate at which a request was late, requests count as independent.
ALONE = 0.5


@attrs.frozen(kw_only=True)
class RateWindow:
    """What one window at one rate found.

    Attributes:
        rate: arrivals per second, as scheduled on average.
        seed: of the schedule. seconds: length of the window.
        arrived: requests that were due within the window.
        judged: requests whose fate was decided within it: they ended, failed, or were late for certain.
        kept: those of them that kept every limit.
        runs: the same two numbers of three runs of them, in the order in which they were decided.
        late: how many of them exceeded each limit.
        reached_s: by limit, the latency that the asked share of them did not exceed; at least, where a request was
            aborted.
        in_flight_first, in_flight_last: requests in flight, on average, in the first and in the last tenth.
        lag_p99_s: how late requests were sent; None where none was due.
        steady: requests in flight do not pile up, by the two signs of the finding `over_saturated`.
        on_time: the client sent on time.
    """

    rate: float
    seed: int
    seconds: float
    arrived: int
    judged: int
    kept: int
    runs: tuple[tuple[int, int], ...]
    late: Mapping[str, int]
    reached_s: Mapping[str, float]
    in_flight_first: float
    in_flight_last: float
    lag_p99_s: float | None
    steady: bool
    on_time: bool


@attrs.frozen(kw_only=True)
class RateSearched:
    """A search for the greatest rate, as `engine-<process>.json` stores it.

    Attributes:
        rate: the greatest rate that kept the SLO; None where the lowest one broke it.
        attainment: the share that was asked for. limits: in seconds, by latency.
        windows: in the order in which they were measured.
    """

    rate: float | None
    attainment: float
    limits: Mapping[str, float]
    windows: tuple[RateWindow, ...]

    @classmethod
    def stored(cls, document: Mapping[str, Any]) -> RateSearched:
        """From the `rate_search` of an engine's document."""
        names = [field.name for field in attrs.fields(RateWindow)]
        windows = [{name: one[name] for name in names} for one in document["windows"]]
        read = [RateWindow(**{**one, "runs": tuple((n, k) for n, k in one["runs"])}) for one in windows]
        return cls(
            rate=document["rate"],
            attainment=document["attainment"],
            limits=document["limits"],
            windows=tuple(read),
        )


@attrs.frozen
class Boundary:
    """The greatest rate that was kept, and the least one above it that was broken; None where there is none.

    `by_client`: the client never sent on time at the broken one, so the engine's boundary may lie above it.
    """

    kept: float | None
    broken: float | None
    by_client: bool = False

    @property
    def is_closed(self) -> bool:
        """Whether the engine's boundary lies between the two."""
        return self.kept is not None and self.broken is not None and not self.by_client


def _by_rate(windows: Iterable[RateWindow]) -> dict[float, list[RateWindow]]:
    found: dict[float, list[RateWindow]] = {}
    for one in windows:
        found.setdefault(one.rate, []).append(one)
    return {rate: found[rate] for rate in sorted(found)}


def _keeps_share(windows: Sequence[RateWindow], share: float) -> bool:
    judged = sum(one.judged for one in windows)
    return judged > 0 and sum(one.kept for one in windows) >= share * judged


def is_kept(windows: Sequence[RateWindow], share: float) -> bool:
    """Whether windows at one rate keep the SLO together, and one of them had a steady load that was sent on time."""
    return _keeps_share(windows, share) and any(one.steady and one.on_time for one in windows)


def doubtful(window: RateWindow, share: float) -> bool:
    """Whether a broken window may be broken by chance: Wilson's interval reaches the asked share of requests."""
    return window.judged > 0 and wilson(window.kept / window.judged, window.judged)[1] >= share


def boundary(windows: Iterable[RateWindow], share: float) -> Boundary:
    """Where the SLO breaks, by windows at several rates; `share` of the requests is to keep every limit."""
    rates = _by_rate(windows)
    broken = next((rate for rate, found in rates.items() if not is_kept(found, share)), None)
    kept = max((rate for rate in rates if broken is None or rate < broken), default=None)
    late = broken is not None and not any(one.on_time for one in rates[broken])
    return Boundary(kept, broken, late)


def boundary_interval(windows: Sequence[RateWindow], share: float) -> tuple[float, float]:
    """Within which rates the boundary lies, with 95 % confidence; for windows that have one (`Boundary.is_closed`).

    The true share of each rate is drawn from its posterior (beta, Jeffreys' prior), made to fall with the rate
    (`falling`), and where it crosses the asked one is read off, straight between two rates on a logarithmic scale. The
    interval has 95 % of the crossings, and the rates between which the search ended in any case.

    Requests in flight together wait for one another, so above half the lowest rate at which any was late their number
    is divided by phi, how many times as much the runs of a window vary as those of independent requests
    (quasi-likelihood: McCullagh and Nelder, Generalized Linear Models, 1989, section 4.5). phi is known by few runs: it
    is drawn too. A rate that kept the share, but never with a steady load that was sent on time, has no share: it is
    left out. Where every request must keep the limits, no number of them shows that, and the interval is the two rates
    alone.

    Raises ValueError where the windows have no boundary.
    """
    import numpy as np

    found = boundary(windows, share)
    if found.kept is None or found.broken is None:
        raise ValueError("the windows have no boundary")
    rates = [(rate, there) for rate, there in _by_rate(windows).items() if not _without_share(there, share)]
    if not 0 < share < 1 or not rates:
        return found.kept, found.broken
    judged, kept = (np.array([float(sum(getattr(o, n) for o in there)) for _, there in rates]) for n in _COUNTS)
    rng = np.random.default_rng(SEED)
    spread, freedom = _dispersion(windows)
    phi = np.maximum(spread * freedom / rng.chisquare(freedom, DRAWS), 1.0) if freedom else np.ones(DRAWS)
    first = next((rate for (rate, _), late in zip(rates, judged > kept, strict=True) if late), math.inf)
    clustered = np.array([rate > first * ALONE for rate, _ in rates])
    size = np.where(clustered, phi[:, None], 1.0)
    shares = rng.beta(kept / size + 0.5, (judged - kept) / size + 0.5)
    crossings = [
        _crossing([rate for rate, _ in rates], falling(draw, weights), share)
        for draw, weights in zip(shares.tolist(), (judged / size + 1).tolist(), strict=True)
    ]
    low, high = np.quantile(crossings, (0.025, 0.975))
    return min(float(low), found.kept), max(float(high), found.broken)


_COUNTS = ("judged", "kept")


def _without_share(windows: Sequence[RateWindow], share: float) -> bool:
    """Whether windows at one rate kept the share only because they ended before requests had piled up."""
    return _keeps_share(windows, share) and not is_kept(windows, share)


def _dispersion(windows: Iterable[RateWindow]) -> tuple[float, int]:
    """How many times as much the shares of runs vary as those of independent requests, 1 at least; and its degrees of
    freedom.

    Pearson's statistic over its degrees of freedom, of the steady windows in which some requests kept the limits and
    some did not.
    """
    chi, freedom = 0.0, 0
    for one in windows:
        share = one.kept / one.judged if one.judged else 0.0
        runs = [(n, k) for n, k in one.runs if n]
        if one.steady and 0 < share < 1 and len(runs) > 1:
            chi += math.fsum((k - n * share) ** 2 / (n * share * (1 - share)) for n, k in runs)
            freedom += len(runs) - 1
    return (max(chi / freedom, 1.0), freedom) if freedom else (1.0, 0)


def falling(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The values that never rise and are nearest to these by weighted least squares: neighbours that rise are pooled
    (Ayer, Brunk, Ewing, Reid and Silverman, Annals of Mathematical Statistics 26 (1955) 641).
    """
    pools: list[tuple[float, float, int]] = []  # mean, weight, how many
    for value, weight in zip(values, weights, strict=True):
        pool = (value, weight, 1)
        while pools and pools[-1][0] < pool[0]:
            mean, heavy, count = pools.pop()
            both = heavy + pool[1]
            pool = ((mean * heavy + pool[0] * pool[1]) / both, both, count + pool[2])
        pools.append(pool)
    return [mean for mean, _, count in pools for _ in range(count)]


def _crossing(rates: Sequence[float], shares: Sequence[float], share: float) -> float:
    """The rate at which falling shares cross one; the first or the last rate where they do not."""
    last = sum(one >= share for one in shares) - 1
    if last < 0 or last == len(rates) - 1:
        return rates[max(last, 0)]
    (low, high), (above, below) = rates[last : last + 2], shares[last : last + 2]
    return low * math.exp(math.log(high / low) * (above - share) / (above - below))
