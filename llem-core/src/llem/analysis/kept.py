"""Limits of scores, from the stored items.

An interval of a score, or of its difference to the reference's, becomes a distribution: half a normal on each side of
the value, each with its own deviation, so that the 2.5 and 97.5 % points are the ends of the stated interval, however
lopsided, and half of the draws lie on each side of the value.

What has no interval is known exactly, or not at all:

- An experiment whose evaluation is the reference's own has changed by exactly 0.
- Rounding (`QualityDifference.is_rounding`) is a change of 0, where the whole interval is within it.
- Scores that are identical item by item: where most items have values of their own (likelihoods), engines that compute
  otherwise would differ in nearly all of them, so the change is exactly 0. Where items have few values, other items may
  differ: the interval is that of right and wrong items without a discordant one, ± c²/(n + c²) with c = 1.96 (Tango,
  Statistics in Medicine 17, 1998), times the range of the items' values.
- Else it is not known, with the reason of the difference.
"""

from __future__ import annotations

import functools
import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from llem.analysis.contrast import PAIRED_BINARY
from llem.analysis.decision import Estimated
from llem.analysis.limits import Limit, check_direction
from llem.analysis.quality import against_reference, quality_differences
from llem.analysis.quality_difference import ROUNDING, QualityDifference
from llem.errors import StoreError
from llem.evaluators.base import Score
from llem.metrics.quality import is_score, score_names, wanted
from llem.metrics.statistics import Z_95
from llem.store.evaluations import evaluations, read_items
from llem.store.store import Store

__all__ = ["QualityKept", "drawn", "quality_draws"]


class _Draws(Mapping[str, Any]):
    """Arrays by id, made when they are asked for: those of ten thousand experiments would not fit into memory."""

    def __init__(self, made: Mapping[str, Callable[[], Any] | None]) -> None:
        self._made = made

    def __getitem__(self, name: str) -> Any:
        made = self._made[name]
        return None if made is None else made()

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)


@attrs.frozen(eq=False)
class QualityKept:
    """What is known of the quantity that a limit on a score bounds, by experiment.

    Attributes:
        reference: id of the experiment that a change is against; None of an absolute limit, or where there is none.
        draws: an array of draws in the unit of the bound, the same each time it is asked for; None with a reason.
        found: its median and its central 95 %; None with a reason.
        reason: code of why it is not known; else "". why: in words.
    """

    reference: str | None
    draws: Mapping[str, Any]
    found: Mapping[str, Estimated | None]
    reason: Mapping[str, str]
    why: Mapping[str, str]


@attrs.frozen
class _Known:
    """One quantity: its estimate, or why there is none."""

    found: Estimated | None
    reason: str = ""
    why: str = ""


def quality_draws(
    store: Store, ids: Sequence[str], limits: Sequence[Limit], count: int, seed: int, reference: str | None = None
) -> dict[Limit, QualityKept]:
    """Draws of what each limit on a score bounds: the score, its difference to the reference's, or that as a share.

    Scores of one task move together from draw to draw, because all configurations answer the same items. Changes of
    different evaluations move apart; experiments that share an evaluation have the same.

    Args:
        ids: experiments to know it of. The reference need not be among them.
        limits: those on other metrics are left out.
        count: draws of each.
        reference: the beginning of an id; None takes the study's `reference` where it has the score, else the first of
            the study's file that has it, of all experiments with a result.

    Raises:
        StoreError: nobody has such a score (metric_unknown), no such id, or the reference has none of the scores
            (nothing_to_compare).
        ConfigError: a limit does not fit the score, such as an upper one where higher is better (limit_invalid).
    """
    asked = [limit for limit in limits if is_score(limit.metric)]
    if not asked:
        return {}
    changes = any(limit.against for limit in asked)
    everyone = list(dict.fromkeys([*ids, *store.result_ids()]))
    tasks = list(dict.fromkeys(limit.metric for limit in asked))
    damaged: dict[str, StoreError] = {}  # others than `ids` need not be whole
    rows = (
        against_reference(store, everyone, reference, tasks, damaged)
        if changes
        else quality_differences(store, ids, None, tasks)
    )
    for name in damaged.keys() & set(ids):
        raise damaged[name]
    return {
        limit: _of_limit(store, ids, limit, [one for one in rows if one.metric == limit.metric], count, seed)
        for limit in asked
    }


def _of_limit(
    store: Store, ids: Sequence[str], limit: Limit, rows: Sequence[QualityDifference], count: int, seed: int
) -> QualityKept:
    fitting = [row for row in rows if row.higher_is_better != limit.upper]
    binary = any(row.difference is not None and row.difference.method == PAIRED_BINARY for row in rows)
    check_direction(limit, (fitting or rows)[0].higher_is_better, 1.0 if binary else None)
    base = next((row.value for row in rows if row.reason == "is_reference"), None)
    least, greatest = _range(limit, rows, base, binary)
    known: dict[str, _Known] = {}
    made: dict[str, Callable[[], Any] | None] = dict.fromkeys(ids)
    for row in rows:
        one = (
            _estimate(store, limit, row, base)
            if row.higher_is_better != limit.upper
            else _Known(None, "other_direction", row.why)
        )
        moves = limit.metric if not limit.against else f"{limit.metric} {row.experiments[0]}"
        known |= dict.fromkeys(row.experiments, one)
        if one.found is not None:
            draw = functools.partial(drawn, one.found, least, greatest, count, (seed, zlib.crc32(moves.encode())))
            made |= {name: draw for name in row.experiments if name in made}
    nothing = _Known(None, "not_evaluated", f"there is no score of {limit.metric.partition('.')[2]}")
    told = {name: known.get(name, nothing) for name in ids}
    return QualityKept(
        reference=rows[0].reference if limit.against else None,
        draws=_Draws(made),
        found={name: one.found for name, one in told.items()},
        reason={name: one.reason for name, one in told.items()},
        why={name: one.why for name, one in told.items()},
    )


def _range(limit: Limit, rows: Sequence[QualityDifference], base: float | None, binary: bool) -> tuple[float, float]:
    """Between what the quantity can lie: shares of right items between 0 and 1, scores of the kind "exp" above 0."""
    above = binary or any(row.difference is not None and row.difference.ratio is not None for row in rows)
    ends = (0.0 if above else -math.inf), (1.0 if binary else math.inf)
    if not limit.against or base is None:
        return ends
    scale = base if limit.against == "share" and base > 0 else 1.0
    return (ends[0] - base) / scale, (ends[1] - base) / scale


@functools.lru_cache(maxsize=8)
def drawn(one: Estimated, least: float, greatest: float, count: int, seed: tuple[int, int]) -> Any:
    """From half a normal on each side of the value. Kept for the experiments that come next and have the same."""
    import numpy as np

    z = np.random.default_rng(seed).standard_normal(count)
    halves = np.where(z < 0, one.value - one.low, one.high - one.value)
    found = np.clip(one.value + z * halves / Z_95, least, greatest)
    found.flags.writeable = False
    return found


def _estimate(store: Store, limit: Limit, row: QualityDifference, base: float | None) -> _Known:
    if limit.against:
        return _change(store, row, base, share=limit.against == "share")
    if row.low is None or row.high is None:
        return _Known(
            None, *(("too_few_items", "it has one item") if row.n < 2 else ("no_stderr", "no standard error"))
        )
    return _Known(Estimated(row.value, row.low, row.high))


def _change(store: Store, row: QualityDifference, base: float | None, *, share: bool) -> _Known:
    found, nothing = row.difference, _Known(Estimated(0.0, 0.0, 0.0))
    if row.reason == "is_reference":
        return nothing
    if found is None or base is None:
        return _Known(None, row.reason, row.why)
    if share and base <= 0:
        return _Known(None, "no_share", f"the reference's score is {base:g}")
    low, high = found.low, found.high
    if found.reason == "identical":
        high = _unseen(_score(store, row), found.clusters)
        low = 0.0 - high
    if low is None or high is None:
        return _Known(None, found.reason, found.why)
    if row.is_rounding and max(abs(low), abs(high)) < ROUNDING * abs(row.value):
        return nothing
    if share and found.ratio is not None and found.ratio_low is not None and found.ratio_high is not None:
        return _Known(Estimated(found.ratio - 1, found.ratio_low - 1, found.ratio_high - 1))
    scale = base if share else 1.0
    return _Known(Estimated(found.value / scale, low / scale, high / scale))


def _unseen(score: Score, clusters: int) -> float:
    """By how much other items may change a score of which every item was identical."""
    values = [item.value for item in score.items]
    own = sum(times == 1 for times in Counter(values).values())
    if 2 * own > len(values):
        return 0.0
    per_unit = score.value if score.aggregation == "exp" else 1.0
    return per_unit * (max(values) - min(values)) * Z_95**2 / (clusters + Z_95**2)


def _score(store: Store, row: QualityDifference) -> Score:
    """The score of a row, with its items."""
    name = row.experiments[0]
    found = wanted(store.read_experiment(name)["config"], evaluations(store, name))
    one = next(one for one in found if row.metric in score_names(one))
    return read_items(store, name, one).scores[score_names(one)[row.metric]]
