"""Which result is the best in a metric, and which others cannot be told from it. Pure.

Fakes, results that are not valid, and energies of different kinds or scopes are never ranked.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import attrs

from llem.analysis.overview import Overview, basis_of
from llem.analysis.sides import is_fake
from llem.analysis.variance import ASSUMED_SD
from llem.errors import StoreError
from llem.findings import REASONS
from llem.metrics.catalogue import lower_is_better, metric_of
from llem.metrics.quantity import OVER_PROCESSES
from llem.metrics.statistics import Z_95
from llem.store.models import Quantity

__all__ = ["SURE", "Best", "best_of", "deviation", "only_fakes", "rank_intervals", "rankable"]

#: One result counts as separated from another if it is better with this probability at least.
SURE = 0.95


@attrs.frozen
class Best:
    """The best of several results, and the ids of those that are not separated from it, best first."""

    row: Overview
    ties: tuple[str, ...]


def only_fakes(rows: Sequence[Overview]) -> bool:
    """Whether there are results, and all are of a fake."""
    return bool(rows) and all(is_fake(row.backend) for row in rows)


#: What to do where a metric cannot be ranked.
ANOTHER = "rank another metric, such as `output_tokens_per_s` (`llem recommend DIR --maximise output_tokens_per_s`)"


def rankable(rows: Iterable[Overview], metrics: Sequence[str]) -> list[Overview]:
    """The valid results that are no fakes and have all these metrics.

    Raises:
        StoreError: there is none (nothing_to_compare), or their energies cover different things (energies_differ).
    """
    valid = [row for row in rows if row.valid]
    if only_fakes(valid):
        hint = "measure with another backend: `llem plugins` lists them"
        raise StoreError("all results are of echo, a fake, whose figures mean nothing", hint, "nothing_to_compare")
    real = [row for row in valid if not is_fake(row.backend)]
    found = [row for row in real if all(row.value(metric) is not None for metric in metrics)]
    if not found:
        absent = (row.metrics.get(metric) for row in real for metric in metrics)
        reasons = dict.fromkeys(one.reason for one in absent if one is not None and one.reason)
        why = " ".join(REASONS.get(reason, reason) for reason in reasons) or "See `llem show`."
        uncounted = list(reasons) == ["no_request_file"]  # then there is no speed either
        hint = why if uncounted else f"{why} Or {ANOTHER}."
        raise StoreError(f"no valid result has {' and '.join(metrics)}", hint, "nothing_to_compare")
    for metric in metrics:
        bases = sorted({str(basis) for row in found if (basis := basis_of(row.metrics[metric]))})
        if metric_of(metric).scoped and len(bases) > 1:
            what = f"{metric} is not ranked: the results' energies differ in what they cover ({'; '.join(bases)})"
            raise StoreError(what, ANOTHER, "energies_differ")
    return found


def deviation(one: Quantity) -> float:
    """Standard deviation of the normal distribution with the quantity's 95 % interval.

    Where the interval does not cover differences between engine processes, a deviation of 1 % between these is added by
    assumption. What is counted has none.
    """
    assert one.value is not None
    own = (one.half_width or 0.0) / Z_95
    if one.covers == OVER_PROCESSES or one.method in ("exact", "items"):
        return own
    return math.hypot(own, ASSUMED_SD * one.value)


def best_of(rows: Iterable[Overview], metric: str) -> Best:
    """The best value, and those that are better than it with a probability above 5 %.

    Raises:
        StoreError: nothing can be ranked (see `rankable`), nothing is better than else, or results hold different
            scores under this name.
    """
    ranked = rankable(rows, [metric])
    sign = 1 if lower_is_better(metric, [row.metrics[metric] for row in ranked]) else -1
    found = [(sign * float(row.metrics[metric].value or 0.0), row.id, row) for row in ranked]
    ordered = [row for *_, row in sorted(found, key=lambda one: one[:2])]
    first, *others = ordered
    ties = [row.id for row in others if _chance(first.metrics[metric], row.metrics[metric], sign) > 1 - SURE]
    return Best(first, tuple(ties))


def _chance(best: Quantity, other: Quantity, sign: int) -> float:
    """P(the other one is better)."""
    from scipy.special import ndtr

    assert best.value is not None
    assert other.value is not None
    error = math.hypot(deviation(best), deviation(other))
    behind = sign * (other.value - best.value)
    if error == 0:
        return 0.5 if behind == 0 else 0.0
    return float(ndtr(-behind / error))


def rank_intervals(found: Sequence[Quantity], lower: bool) -> list[tuple[int, int]]:
    """Of each the best and the worst rank that it may have: 1 + those surely better, and all less those surely worse.

    Pair by pair, "surely" is with a probability of `SURE`, so equal values share their ranks.

    Args:
        found: with values, of one kind and scope.
        lower: whether less is better.
    """
    import numpy as np
    from scipy.special import ndtr

    values = np.array([one.value for one in found], dtype=float)
    errors = np.array([deviation(one) for one in found])
    behind = (values[None, :] - values[:, None]) * (1 if lower else -1)  # how far each of a column is behind the row
    spread = np.hypot(errors[:, None], errors[None, :])
    with np.errstate(divide="ignore", invalid="ignore"):
        sure = np.where(spread > 0, ndtr(behind / spread) >= SURE, behind > 0)
    best = 1 + sure.sum(axis=0)
    worst = len(found) - sure.sum(axis=1)
    return [(int(one), int(other)) for one, other in zip(best, worst, strict=True)]
