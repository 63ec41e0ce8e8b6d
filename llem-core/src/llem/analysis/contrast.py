"""The difference of one score between two configurations: item by item on the same items, else unpaired. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import attrs

from llem.analysis.binary import mcnemar, quantiles, score_interval, shortfall, smallest_loss
from llem.analysis.jackknife import Jackknife, numbered, of_items, of_pairs
from llem.evaluators.base import Item, Score
from llem.evaluators.items import follows, right_or_wrong
from llem.metrics.statistics import two_sided

__all__ = ["PAIRED", "PAIRED_BINARY", "UNPAIRED", "Contrast", "contrast"]

#: Methods: the same items that are right or wrong; the same items of any value; different items, or none stored.
PAIRED_BINARY, PAIRED, UNPAIRED = "paired_right_wrong", "paired", "unpaired"
#: With the discordant items of fewer clusters than this nothing tells how alike items of a cluster are (simulated).
FEW_CLUSTERS = 3


@attrs.frozen
class Contrast:
    """A score less the reference's, on the score's own scale.

    Attributes:
        low, high: 95 % interval; None with a reason.
        p_value: of no difference, two-sided.
        ratio, ratio_low, ratio_high: score over reference, of a score that is e to a mean (a perplexity); else None.
        smallest_loss: the smallest loss that would be found with 80 % power at the 5 % level; None where none would.
        lost, gained: items that are right of the reference alone, and of the other one alone; None of other items.
        n: items of both, or those of the side that has fewer. clusters: how many of them are independent.
        method: "paired_right_wrong", "paired" or "unpaired".
        reason: why there is no interval: "identical", "no_scatter", "too_few_items", "no_stderr"; else "".
        why: in words, why it is unpaired, why there is no interval, or why it is wide.
    """

    value: float
    n: int
    clusters: int
    method: str
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    smallest_loss: float | None = None
    lost: int | None = None
    gained: int | None = None
    reason: str = ""
    why: str = ""


def contrast(reference: Score, other: Score) -> Contrast:
    """`other` less `reference`: two scores of one task in the same terms.

    Paired where both have the same items and these make the scores; else from both standard errors.
    """
    first, second = numbered(reference.items), numbered(other.items)
    why = _unpaired(reference, other, first, second)
    if why:
        return _of_sides(reference, other, why)
    pairs = [(one, second[name]) for name, one in first.items()]
    if reference.aggregation == "mean" and right_or_wrong((*first.values(), *second.values())):
        return _of_right_and_wrong(pairs, reference.higher_is_better)
    return _of_values(pairs, exp=reference.aggregation == "exp")


def _unpaired(
    reference: Score, other: Score, first: Mapping[tuple[str, int], Item], second: Mapping[tuple[str, int], Item]
) -> str:
    """Why two scores cannot be compared item by item; "" where they can."""
    if "other" in (reference.aggregation, other.aggregation):
        return "no item has a part of this score"
    if reference.aggregation != other.aggregation:
        return "items make the two scores in different ways"
    if not first or not second:
        return "items are not stored"
    if differ := len(first.keys() ^ second.keys()):
        return f"items in one of the two alone: {differ}, in both: {len(first.keys() & second.keys())}"
    if not (follows(reference) and follows(other)):
        return "the items do not make up the score"
    return ""


# the same items, right or wrong


def _of_right_and_wrong(pairs: Sequence[tuple[Item, Item]], higher: bool) -> Contrast:
    """McNemar's test and Tango's interval; of clusters both with counts divided by the design effect.

    With clusters the test is McNemar's statistic by the design effect (Eliasziw and Donner, Statistics in Medicine 10,
    1991), and Student's t takes the place of the normal. Where the discordant items are worth few clusters, clusters
    that are lost as a whole may be missing among those at hand: then each cluster counts as one item, as if all were.
    """
    ups, downs = (sum(two.value - one.value == sign for one, two in pairs) for sign in (1.0, -1.0))
    n, found = len(pairs), of_pairs(pairs)
    value = (ups - downs) / n
    lost, gained = (downs, ups) if higher else (ups, downs)
    plain = Contrast(value, n, found.clusters, PAIRED_BINARY, lost=lost, gained=gained)
    if found.clusters < 2:
        return attrs.evolve(plain, reason="too_few_items", why="fewer than two items are independent")
    if found.clusters == n:
        low, high = score_interval(downs, ups, n)
        loss = smallest_loss(ups + downs, n)
        return attrs.evolve(plain, low=low, high=high, p_value=mcnemar(downs, ups), smallest_loss=loss)
    differing, freedom = (ups + downs) / n * found.effective, found.freedom
    few = differing < FEW_CLUSTERS
    effect = n / found.effective if few else _design_effect(ups, downs, n, found)
    low, high = score_interval(downs / effect, ups / effect, n / effect, quantiles(freedom)[0])
    t = (ups - downs) / math.sqrt((ups + downs) * effect) if ups + downs else 0.0
    planned = effect if few else effect * shortfall(freedom) ** 2
    loss = smallest_loss((ups + downs) / planned, n / planned, freedom)
    told = attrs.evolve(plain, low=low, high=high, p_value=two_sided(t, freedom), smallest_loss=loss)
    if not few:
        return told
    worth = f"lost and gained items are worth {differing:.1f} clusters, fewer than {FEW_CLUSTERS}"
    return attrs.evolve(told, why=f"{worth}: each cluster counts as one item, and the interval is wide")


def _design_effect(ups: int, downs: int, n: int, found: Jackknife) -> float:
    """By how much clusters widen the variance, 1 at least."""
    variance = (ups + downs - (ups - downs) ** 2 / n) / n**2
    return max(1.0, found.error**2 / variance) if variance and found.error is not None else 1.0


# the same items, of any value


def _of_values(pairs: Sequence[tuple[Item, Item]], *, exp: bool) -> Contrast:
    """Student's t over clusters. The p-value of a score that is e to a mean is that of the ratio."""
    found = of_pairs(pairs, exp=exp)
    logs = of_pairs(pairs) if exp else found
    plain = Contrast(found.value, len(pairs), found.clusters, PAIRED, ratio=math.exp(logs.value) if exp else None)
    if found.error is None:
        return attrs.evolve(plain, reason="too_few_items", why="fewer than two items are independent")
    if all(one.value == two.value for one, two in pairs) and found.value == 0:
        return attrs.evolve(plain, p_value=1.0, reason="identical", why="identical item by item")
    if found.error == 0:
        return attrs.evolve(plain, reason="no_scatter", why="all items differ by the same amount")
    done = _student(plain, found.error, found.freedom)
    if not exp or not logs.error:
        return done
    half = quantiles(logs.freedom)[0] * logs.error
    low, high = math.exp(logs.value - half), math.exp(logs.value + half)
    return attrs.evolve(done, ratio_low=low, ratio_high=high, p_value=two_sided(logs.value / logs.error, logs.freedom))


def _student(plain: Contrast, error: float, freedom: float) -> Contrast:
    level, power = quantiles(freedom)
    return attrs.evolve(
        plain,
        low=plain.value - level * error,
        high=plain.value + level * error,
        p_value=two_sided(plain.value / error, freedom),
        smallest_loss=(level + power) * error * shortfall(freedom),
    )


# different items


def _of_sides(reference: Score, other: Score, why: str) -> Contrast:
    """From both standard errors, as of independent scores; with Welch's degrees of freedom."""
    sides = [_side(one) for one in (reference, other)]
    n, clusters = min(reference.n, other.n), min(one.clusters for one in sides)
    plain = Contrast(other.value - reference.value, n, clusters, UNPAIRED, why=why)
    errors = [one.error for one in sides if one.error is not None]
    if len(errors) < 2:
        return attrs.evolve(plain, reason="no_stderr", why=f"{why}, and a score has no standard error")
    if clusters < 2:
        return attrs.evolve(plain, reason="too_few_items", why=f"{why}, and fewer than two items are independent")
    if min(errors) == 0:
        return attrs.evolve(plain, reason="no_scatter", why=f"{why}, and all items of a score have the same value")
    parts = [error**2 for error in errors]
    freedom = sum(parts) ** 2 / sum(part**2 / one.freedom for part, one in zip(parts, sides, strict=True))
    return _student(plain, math.sqrt(sum(parts)), freedom)


def _side(score: Score) -> Jackknife:
    """A score by its items, or by the standard error that the evaluator states."""
    if score.items and score.aggregation != "other" and follows(score):
        return of_items(score.items, exp=score.aggregation == "exp")
    return Jackknife(score.value, score.stderr, score.n, score.n)
