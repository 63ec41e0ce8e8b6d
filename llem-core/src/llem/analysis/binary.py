"""Two configurations on the same items that are right or wrong: the test, the interval, and the loss that it could see.

Only discordant items tell them apart: `lost` are right of the reference alone, `gained` of the other one alone. Counts
may be fractions, where items of one cluster count for less than one each. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from llem.metrics.statistics import Z_95, t_quantile

__all__ = ["POWER", "mcnemar", "quantiles", "score_interval", "shortfall", "smallest_loss"]

#: With this probability the smallest loss is found, at the 5 % level without correction for several comparisons.
POWER = 0.8
#: Halvings of the range of a root: [-1, 1] ends in less than 1e-15.
STEPS = 52


def quantiles(freedom: float = math.inf) -> tuple[float, float]:
    """Of Student's t: what the two-sided 5 % level needs, and what 80 % power adds. Infinite freedom: normal."""
    from scipy.special import ndtri, stdtrit

    if math.isinf(freedom):
        return Z_95, float(ndtri(POWER))
    return t_quantile(freedom), float(stdtrit(freedom, POWER))


def shortfall(freedom: float) -> float:
    """By what to multiply an observed standard error, so that the loss that is planned from it is found often enough.

    A variance that few clusters show is too small more often than not. This is the true one by its median: the degrees
    of freedom by the median of χ². The root of it is due to the standard error; the other root is for sizes of clusters
    that differ from study to study. Simulated: 77 to 82 % power with 3 to 100 clusters, without it 56 to 79 %.
    """
    from scipy.special import chdtri

    return freedom / float(chdtri(freedom, 0.5))


def mcnemar(lost: int, gained: int) -> float:
    """Two-sided p-value of "as many lost as gained": McNemar's test (Psychometrika 12, 1947), exact by the binomial."""
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(lost, gained), lost + gained, 0.5))) if lost + gained else 1.0


def score_interval(lost: float, gained: float, n: float, critical: float = Z_95) -> tuple[float, float]:
    """Interval of (gained - lost) / n: Tango's score interval (Statistics in Medicine 17, 1998).

    It holds the differences that the score test does not reject. Agresti and Min (Statistics in Medicine 24, 2005)
    compare it with others. Without discordant items it is ± c²/(n + c²), with c the critical value.
    """
    observed = (gained - lost) / n

    def distance(difference: float) -> float:
        b = -lost - gained + (2 * n - gained + lost) * difference
        c = -lost * difference * (1 - difference)
        least = (math.sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)  # most likely share of lost items
        variance = n * (2 * least + difference * (1 - difference))
        shift = gained - lost - n * difference
        return shift / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, shift) if shift else 0.0

    low = _root(lambda d: distance(d) - critical, -1.0, observed)
    return low, _root(lambda d: distance(d) + critical, observed, 1.0)


def _root(falling: Callable[[float], float], low: float, high: float) -> float:
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return (low + high) / 2


def smallest_loss(discordant: float, n: float, freedom: float = math.inf) -> float | None:
    """The smallest share of items lost on balance that the test finds with 80 % power at the 5 % level.

    Connor (Biometrics 43, 1987): the d for which z √ψ + z' √(ψ - d²) = d √n, with ψ the share of discordant items as it
    was observed, or d where fewer were: a loss of d makes as many. Without discordant items it is about 7.85 / n.

    Returns:
        None where not even the loss of every item would be found.
    """
    level, power = quantiles(freedom)

    def lacking(loss: float) -> float:
        share = max(discordant / n, loss)
        return level * math.sqrt(share) + power * math.sqrt(max(0.0, share - loss * loss)) - loss * math.sqrt(n)

    return None if lacking(1.0) > 0 else _root(lacking, 0.0, 1.0)
