"""What is stated of configurations before they are measured again. Pure.

A statement is made from draws of the posterior predictive distribution: the mean over so many new engine processes of
each configuration. Its intervals hold 95 % of such outcomes, if the model of the study is right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import attrs

from llem.analysis.decision import Estimated, Recommendation
from llem.analysis.limits import Limit
from llem.analysis.prices import Prices
from llem.analysis.sides import Side
from llem.errors import ConfigError, StoreError
from llem.metrics.catalogue import metric_of
from llem.metrics.metric import Basis
from llem.metrics.result import Place

__all__ = ["Predictive", "Statement", "in_order", "stated", "to_confirm"]

#: Ends of the interval that is stated, and its middle, as shares of the draws.
SHARES = (0.025, 0.5, 0.975)


class Predictive(Protocol):
    """What is needed of a `llem.analysis.posterior.Posterior`."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Configurations, in the order of the columns of draws."""

    def predicted(self, metric: str, processes: int) -> Any:
        """Joint draws of the logarithm of the mean over so many new engine processes: an array (count, k)."""


@attrs.frozen
class Statement:
    """What is stated before configurations are measured again.

    Attributes:
        metric: its name. unit: of it. lower_is_better: whether less of it is better.
        processes: new engine processes of each configuration.
        ids: the choice and, where there is one, the runner-up.
        expected: for each of `ids`, the median of the mean over the new processes, and its central 95 %.
        ratio: the same of the runner-up's mean over the choice's; None where there is no runner-up.
        limits: those that the recommendation keeps.
        store: folder of the results that the statement rests on.
        places: for each of `ids`, where it was measured.
        basis: of an energy, what it covers.
        software: versions by name, of what measured.
        prices: that costs and emissions are computed with.
    """

    metric: str
    unit: str
    lower_is_better: bool
    processes: int
    ids: tuple[str, ...]
    expected: tuple[Estimated, ...]
    ratio: Estimated | None = None
    limits: tuple[Limit, ...] = ()
    store: str = ""
    places: tuple[tuple[Place, ...], ...] = ()
    basis: Basis | None = None
    software: Mapping[str, str] = attrs.field(factory=dict)
    prices: Prices | None = None


def to_confirm(recommendation: Recommendation) -> tuple[str, ...]:
    """Ids of the choice and of the runner-up: the next one that may keep all limits, where there is one.

    Raises StoreError (nothing_to_confirm) where nothing is recommended.
    """
    choice = recommendation.choice
    if choice is None:
        what = "no configuration keeps all limits, so there is no choice to confirm"
        raise StoreError(what, "widen a limit, or measure other configurations", "nothing_to_confirm")
    others = (one.id for one in recommendation.contenders if one.id != choice and one.standing != "out")
    return (choice, *list(others)[:1])


def stated(
    posterior: Predictive,
    metric: str,
    ids: Sequence[str],
    processes: int,
    *,
    unit: str = "",
    lower_is_better: bool = True,
    limits: Sequence[Limit] = (),
    sides: Mapping[str, Side] | None = None,
    store: str = "",
    software: Mapping[str, str] | None = None,
    prices: Prices | None = None,
) -> Statement:
    """The intervals in which the means over new engine processes lie with 95 %.

    Args:
        ids: of the posterior; the choice and, at most, one more.
        processes: new engine processes of each.
        sides: where each was measured and what its energy covers; only these are taken from them.
        unit, lower_is_better, limits, store, software, prices: as of `Statement`.

    Raises:
        ConfigError: fewer than one process.
        StoreError: the posterior has no such configuration, or it has no such metric.
    """
    import numpy as np

    if processes < 1:
        raise ConfigError(f"{processes} engine processes confirm nothing", "give 1 at least, such as `--confirm 3`")
    missing = [name for name in ids if name not in posterior.ids]
    if missing:
        raise StoreError(f"experiment {missing[0]} is not among those that are ranked", "", "nothing_to_confirm")
    draws = posterior.predicted(metric, processes)[:, [posterior.ids.index(name) for name in ids]]
    if not np.isfinite(draws).all():
        raise StoreError(f"not every one of {', '.join(ids)} has the metric {metric!r}", "", "nothing_to_confirm")
    known = [(sides or {}).get(name) for name in ids]
    return Statement(
        metric=metric,
        unit=unit,
        lower_is_better=lower_is_better,
        processes=processes,
        ids=tuple(ids),
        expected=tuple(_central(draws[:, column]) for column in range(len(ids))),
        ratio=_central(draws[:, 1] - draws[:, 0]) if len(ids) > 1 else None,
        limits=tuple(limits),
        store=store,
        places=tuple(() if side is None else in_order(side.places) for side in known),
        basis=next((side.basis for side in known if side is not None and metric_of(metric).scoped), None),
        software=dict(software or {}),
        prices=prices,
    )


def _central(logs: Any) -> Estimated:
    """Median and central 95 % of what these are the logarithms of."""
    import numpy as np

    low, middle, high = np.exp(np.quantile(logs, SHARES))
    return Estimated(float(middle), float(low), float(high))


def in_order(places: frozenset[Place]) -> tuple[Place, ...]:
    """Places in an order that does not depend on how they were met."""
    return tuple(sorted(places, key=lambda one: (one.gpus, one.environment)))
