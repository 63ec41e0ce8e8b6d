"""The share of requests that keep limits of any kind, from the stored requests, and what it may be off by."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import attrs

from llem.metrics.goodput import Judged, judge, slo_of
from llem.metrics.metric import Measured
from llem.metrics.statistics import Z_95, mean, process_means, t_quantile
from llem.store.store import Store

__all__ = ["Attained", "attained"]


@attrs.frozen
class Attained:
    """The requests of one experiment against limits.

    Attributes:
        judged: of each trial, of how many requests it was decided within its window whether they keep the limits, and
            how many of these kept every one.
        processes: the engine process of each trial.
        reason: why there are none: "offline_load", "no_trials", "not_requested", "no_completions" or "tokens_together";
            else "".
    """

    judged: tuple[Judged, ...] = ()
    processes: tuple[int, ...] = ()
    reason: str = ""

    @property
    def shares(self) -> list[float]:
        """One share for each trial."""
        return [one.good / one.judged for one in self.judged]

    @property
    def requests(self) -> float:
        """How many independent requests the share is worth.

        Requests in flight together are late together: the scatter of trials (of several engine processes that of
        their means) over the one of independent requests is the design effect, 1 at least, with Student's t for the
        few trials that give it.
        """
        count, good = sum(one.judged for one in self.judged), sum(one.good for one in self.judged)
        means = process_means(self.shares, self.processes) if len(set(self.processes)) > 1 else self.shares
        if len(means) < 2:
            return float(count)
        centre, share = mean(means), (good + 0.5) / (count + 1)
        variance = sum((one - centre) ** 2 for one in means) / (len(means) - 1) / len(means)
        wide = (t_quantile(len(means) - 1.0) / Z_95) ** 2
        return count / max(1.0, wide * variance / (share * (1 - share) / count))

    def draws(self, name: str, count: int, seed: int) -> Any:
        """Of the posterior of the share, a beta distribution with Jeffreys' prior (count,).

        So all requests of a window in time do not make it certain that 99 of 100 are.

        Args:
            name: of the experiment, for a seed of its own.
        """
        import numpy as np

        worth, share = self.requests, mean(self.shares)
        rng = np.random.default_rng((seed, zlib.crc32(name.encode())))
        return rng.beta(share * worth + 0.5, (1 - share) * worth + 0.5, count)


def attained(store: Store, experiment_id: str, each: Mapping[str, float]) -> Attained:
    """How the stored requests of an experiment keep limits.

    Args:
        each: limits in seconds by latency: `ttft_s`, `tpot_s`, `e2el_s`. Empty: those of the experiment's `slo`.
    """
    measured = Measured.read(store, experiment_id)
    slo = slo_of(measured.setup.config)
    limits = each or (slo.limits() if slo else {})
    if measured.unserved or not limits:
        return Attained(reason=measured.unserved or "not_requested")
    found = [judge(flow, limits) for flow in measured.flows if flow is not None]
    reasons = [one.reason for one in found if one.reason]
    if len(found) < len(measured.trials) or reasons:
        return Attained(reason=next(iter(reasons), "no_completions"))
    return Attained(tuple(found), tuple(measured.processes))
