"""What a decision rests on: which experiments are ranked, and joint draws of what each costs and of each limit."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import attrs

from llem.analysis.attainment import attained
from llem.analysis.background import Background
from llem.analysis.kept import quality_draws
from llem.analysis.limits import ATTAINMENT, Limit, keeps
from llem.analysis.overview import Overview
from llem.analysis.posterior import Posterior
from llem.analysis.ranking import deviation, rankable
from llem.analysis.sides import Side, is_fake
from llem.metrics.catalogue import metric_of
from llem.metrics.quality import is_score
from llem.store.store import Store

__all__ = ["DRAWS", "MOST_RANKED", "Kept", "Objective", "Ranked", "drawn_of", "gather", "is_exact", "real_ids"]

#: So many draws make P exact to 0.01 (two standard errors).
DRAWS = 10_000
#: Experiments whose trials are read at most. Of more, those are ranked whose value could be the best.
MOST_RANKED = 200
#: An experiment that is this many standard deviations from a limit, or from the best, is not looked at more closely.
FAR = 5.0
#: A value below this share of the greatest one counts as this share: of 0 there is no logarithm.
LEAST_SHARE = 1e-9


@attrs.frozen
class Objective:
    """The metric that decides, and whether less of it is better."""

    metric: str
    lower: bool


@attrs.frozen(eq=False)
class Kept:
    """Draws of one limit.

    Attributes:
        draws: of what the limit bounds, in its unit; NaN where an experiment does not have it (draws, k).
        kept: whether it is kept; never where it is not measured (draws, k).
        reasons: by id, the code of why it is not measured.
    """

    limit: Limit
    draws: Any
    kept: Any
    reasons: Mapping[str, str]


@attrs.frozen(eq=False)
class Ranked:
    """The experiments that are ranked, in one order everywhere, and draws of them.

    Attributes:
        rows: of the k experiments whose trials were read.
        behind: of those that are valid and too far from the best or from a limit to be looked at more closely.
        excluded: by id, why an experiment is not ranked.
        kept: for each limit its draws.
    """

    objective: Objective
    limits: tuple[Limit, ...]
    rows: tuple[Overview, ...]
    behind: tuple[Overview, ...]
    excluded: Mapping[str, str]
    sides: Mapping[str, Side]
    background: Background
    posterior: Posterior
    kept: tuple[Kept, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(row.id for row in self.rows)

    @functools.cached_property
    def costs(self) -> Any:
        """Draws of the logarithm of the objective, turned so that less is better (draws, k).

        A value of 0, or draws below it, count as `LEAST_SHARE` of the greatest value.
        """
        import numpy as np

        greatest = float(np.nanmax(self.drawn, initial=0.0))
        logs = np.log(np.maximum(self.drawn, LEAST_SHARE * greatest if greatest > 0 else 1.0))
        return logs if self.objective.lower else -logs

    @functools.cached_property
    def drawn(self) -> Any:
        """Draws of the objective in its unit (draws, k)."""
        return drawn_of(self.objective.metric, self.rows, self.posterior)[0]


def real_ids(rows: Iterable[Overview]) -> list[str]:
    """Ids of those that are valid and no fakes."""
    return [row.id for row in rows if row.valid and not is_fake(row.backend)]


def gather(
    store: Store,
    rows: Sequence[Overview],
    objective: Objective,
    limits: Sequence[Limit],
    sides: Callable[[str], Side],
    background: Callable[[Sequence[str]], Background],
    *,
    reference: str | None = None,
    count: int = DRAWS,
    seed: int = 0,
) -> Ranked:
    """Read the trials of what can be the best, and draw.

    Args:
        rows: overviews of all results, with the objective and the metrics of the limits.
        sides: reads the side of an experiment, with these metrics.
        background: of the study, with these experiments in it.
        reference: the experiment whose score a limit of a change is against.
        count, seed: of the draws.

    Raises:
        StoreError: nothing can be ranked, or energies cover different things (see `llem.analysis.ranking.rankable`);
            nobody has a score that is limited.
    """
    able = rankable(rows, [objective.metric])
    excluded = _excluded(rows, objective.metric, {row.id for row in able})
    near = _near(able, objective, limits)
    ids = tuple(row.id for row in near)
    read = {name: sides(name) for name in ids}
    study = background(ids)
    posterior = Posterior(read, study, count=count, seed=seed)
    kept = {**_measured(limits, near, posterior), **_of_requests(store, limits, ids, count, seed)}
    kept |= _of_scores(store, limits, ids, reference, count, seed)
    left = set(ids)
    return Ranked(
        objective=objective,
        limits=tuple(limits),
        rows=tuple(near),
        behind=tuple(row for row in able if row.id not in left),
        excluded=excluded,
        sides=read,
        background=study,
        posterior=posterior,
        kept=tuple(kept[number] for number in range(len(limits))),
    )


def _excluded(rows: Iterable[Overview], metric: str, ranked: Collection[str]) -> dict[str, str]:
    """By id, why a result is not ranked."""
    found = {}
    for row in rows:
        if row.id in ranked:
            continue
        one = row.metrics.get(metric)
        if is_fake(row.backend):
            found[row.id] = "echo is a fake, whose figures mean nothing"
        elif not row.valid:
            found[row.id] = f"not valid: {', '.join(row.errors) or row.outcome}"
        else:
            found[row.id] = f"{metric} is not measured: {'' if one is None else one.reason}".rstrip(": ")
    return found


# what is near enough to the best


def _near(rows: Sequence[Overview], objective: Objective, limits: Sequence[Limit]) -> list[Overview]:
    """Those whose value could be the best and that could keep every limit; if none could, those that come nearest.

    By the interval of each result alone. At most `MOST_RANKED`, in the order of `rows`.
    """
    sign = 1 if objective.lower else -1
    short = {row.id: max((_shortfall(row, limit) for limit in limits), default=0.0) for row in rows}

    def least(row: Overview) -> float:
        one = row.metrics[objective.metric]
        return sign * float(one.value or 0.0) - FAR * deviation(one)

    able = [row for row in rows if short[row.id] <= FAR] or list(rows)
    if len(rows) <= MOST_RANKED:
        return list(rows)
    first = sorted(able, key=lambda row: (short[row.id] > FAR, least(row), row.id))[:MOST_RANKED]
    names = {row.id for row in first}
    return [row for row in rows if row.id in names]


def _shortfall(row: Overview, limit: Limit) -> float:
    """By how many standard deviations a result misses a limit; 0 where it keeps it, or a Result does not say."""
    one = row.metrics.get(limit.metric)
    if limit.against or limit.each or one is None or one.value is None:
        return 0.0
    missed = (one.value - limit.bound) * (1 if limit.upper else -1)
    error = deviation(one)
    if missed <= 0:
        return 0.0
    return missed / error if error else float("inf")


# limits


def _measured(limits: Sequence[Limit], rows: Sequence[Overview], posterior: Posterior) -> dict[int, Kept]:
    """Limits of what trials have."""
    found = {}
    for place, limit in enumerate(limits):
        if not is_score(limit.metric) and limit.metric != ATTAINMENT:
            drawn, reasons = drawn_of(limit.metric, rows, posterior)
            found[place] = Kept(limit, drawn, keeps(limit, drawn), reasons)
    return found


def is_exact(row: Overview, metric: str) -> bool:
    """Whether a result has this metric exactly, as of what is counted."""
    one = row.metrics.get(metric)
    return one is not None and one.value is not None and one.method == "exact"


def drawn_of(metric: str, rows: Sequence[Overview], posterior: Posterior) -> tuple[Any, dict[str, str]]:
    """Draws of a metric in its unit, NaN where an experiment does not have it; and by id the code of why.

    From the posterior where trials have the metric, all of them above 0; else from the interval of the result. What is
    exact is what the result says, such as the greatest memory of all trials: nothing is drawn. Nothing but a score lies
    below 0, and no share above 1.

    Args:
        rows: of the posterior's experiments, in its order.
    """
    import numpy as np

    having = set(posterior.having(metric)) - {row.id for row in rows if is_exact(row, metric)}
    drawn, reasons = np.full((posterior.count, len(rows)), np.nan), {}
    if having:
        there = [row.id in having for row in rows]
        drawn[:, there] = np.exp(posterior.logs(metric)[:, there])
    rng = np.random.default_rng(zlib.crc32(metric.encode()))
    for number, row in enumerate(rows):
        one = row.metrics.get(metric)
        if row.id in having:
            continue
        if one is None or one.value is None:
            reasons[row.id] = "not_supported" if one is None or one.reason is None else one.reason
        elif is_exact(row, metric):
            drawn[:, number] = one.value
        else:
            drawn[:, number] = one.value + deviation(one) * rng.standard_normal(posterior.count)
    return (drawn if is_score(metric) else np.clip(drawn, 0.0, 1.0 if not metric_of(metric).unit else None)), reasons


def _of_requests(store: Store, limits: Sequence[Limit], ids: Sequence[str], count: int, seed: int) -> dict[int, Kept]:
    """Limits of the share of requests that keep theirs, from the stored requests."""
    import numpy as np

    found = {}
    for place, limit in enumerate(limits):
        if limit.metric != ATTAINMENT:
            continue
        drawn, reasons = np.full((count, len(ids)), np.nan), {}
        for number, name in enumerate(ids):
            one = attained(store, name, limit.each)
            if one.reason:
                reasons[name] = one.reason
            else:
                drawn[:, number] = one.draws(name, count, seed)
        found[place] = Kept(limit, drawn, keeps(limit, drawn), reasons)
    return found


def _of_scores(
    store: Store, limits: Sequence[Limit], ids: Sequence[str], reference: str | None, count: int, seed: int
) -> dict[int, Kept]:
    """Limits of scores, from the items."""
    import numpy as np

    found = {}
    for limit, one in quality_draws(store, ids, limits, count, seed, reference).items():
        drawn = np.full((count, len(ids)), np.nan)
        for number, name in enumerate(ids):
            if (column := one.draws[name]) is not None:
                drawn[:, number] = column
        reasons = {name: reason for name, reason in one.reason.items() if reason}
        found[list(limits).index(limit)] = Kept(limit, drawn, keeps(limit, drawn), reasons)
    return found
