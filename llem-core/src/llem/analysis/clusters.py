"""The prior of a study's configurations, which the study itself gives: one cluster of them, or two. Pure.

True values are normal around the centre of their cluster. The deviation of a cluster is one of a grid, as in adaptive
shrinkage (Stephens 2017), and its centre lies anywhere. Two clusters divide the values in order: those below a cut and
those above it, so that configurations near the best may be alike while others are far away. Before anything is seen,
one cluster is as likely as two; of two, each size of the lower one is as likely, and so is each choice of its members.
"""

from __future__ import annotations

from typing import Any

import attrs

from llem.analysis.shrinkage import SCALES
from llem.analysis.variance import LEAST_ERROR

__all__ = ["shrunk"]

#: Before anything is seen, the deviation of a cluster has a density proportional to this power of it, over its
#: logarithm. Chosen by simulation (benchmarks/simulate_recommend.py): less is too cautious where configurations differ
#: by more than the noise, more is too sure where they differ by less.
LARGER = 0.75
#: Probability of two clusters before anything is seen.
TWO = 0.5


def shrunk(values: Any, variances: Any, innovations: Any, centres: Any, rng: Any) -> Any:
    """Draws of k true values whose estimates have independent normal errors: (count, k).

    Args:
        values: the estimates (k,).
        variances: of their errors (sets, k), each set as likely before the values are seen.
        innovations: standard normal, (count, k). centres: the same for the centres of two clusters, (count, 2).
        rng: for what all configurations share.
    """
    import numpy as np

    count, k = innovations.shape
    variances = np.maximum(variances, LEAST_ERROR**2 / 2)
    if k == 1:
        return values + np.sqrt(variances[rng.integers(len(variances), size=count)]) * innovations
    order = np.argsort(values, kind="stable")
    found = np.empty((count, k))
    found[:, order] = _drawn(values[order], variances[:, order], innovations[:, order], centres, rng)
    return found


def _drawn(values: Any, variances: Any, innovations: Any, centres: Any, rng: Any) -> Any:
    """As `shrunk`, of ascending values."""
    import numpy as np

    (count, k), middle = innovations.shape, values.mean()
    # without a cut, the lower cluster has all
    lower, upper = _clusters(values - middle, variances)
    chances = np.concatenate([_cuts(lower, upper), np.log(1 - TWO) + _summed(lower.evidence[..., -1:], 1)], axis=1)
    chances = np.exp(chances - chances.max())
    sets, cuts = np.divmod(_systematic(chances.ravel() / chances.sum(), count, rng), k)
    below = np.arange(k) <= cuts[:, None]
    drawn = [one.draw(sets, cuts, noise, rng) for one, noise in zip((lower, upper), centres.T, strict=True)]
    centre, scale = (np.where(below, one[:, None], other[:, None]) for one, other in zip(*drawn, strict=True))
    errors = variances[sets]
    share = scale / (scale + errors)
    found = values - middle - centre  # in place from here on: each array is large
    found *= share
    found += np.add(centre, middle, out=centre)
    share *= errors
    found += np.multiply(np.sqrt(share, out=share), innovations, out=share)
    return found


@attrs.frozen(eq=False)
class _Clusters:
    """The clusters on one side of each cut, for each set of variances and each deviation: (sets, scales, k).

    Attributes:
        weight: sum of the precisions. mean: of the values by these. evidence: logarithm of the probability of the
            values, times that of the deviation.
    """

    weight: Any
    mean: Any
    evidence: Any

    def draw(self, sets: Any, cuts: Any, noise: Any, rng: Any) -> tuple[Any, Any]:
        """Centre and squared deviation of a cluster of each set of variances and each cut; `noise`: standard normal."""
        import numpy as np

        chances = self.evidence[sets, :, cuts]
        chances = np.cumsum(np.exp(chances - chances.max(axis=1, keepdims=True)), axis=1)
        scale = (rng.random((len(sets), 1)) * chances[:, -1:] > chances).sum(axis=1)
        weight, mean = self.weight[sets, scale, cuts], self.mean[sets, scale, cuts]
        return mean + noise / np.sqrt(weight), np.asarray(SCALES)[scale] ** 2


def _clusters(values: Any, variances: Any) -> tuple[_Clusters, _Clusters]:
    """Those up to each cut, and those beyond it; beyond the last there is none."""
    import numpy as np

    scales = np.asarray(SCALES)
    prior = LARGER * np.log(scales)
    prior = (prior - np.logaddexp.reduce(prior))[:, None]
    # centres have one density over the range of the values
    span = values[-1] - values[0] + 2 * np.sqrt(variances.mean())
    precision = 1 / (variances[:, None, :] + scales[:, None] ** 2)
    terms = precision, precision * values, precision * values**2, np.log(precision)
    sums = [np.cumsum(one, axis=-1) for one in terms]

    def made(weight: Any, first: Any, second: Any, logs: Any) -> _Clusters:
        mean = first / weight
        evidence = (logs - np.log(weight) - second + mean * first) / 2 + np.log(2 * np.pi) / 2 - np.log(span)
        return _Clusters(weight, mean, evidence + prior)

    rest = [one[..., -1:] - one for one in sums]
    rest[0][..., -1] = 1.0
    return made(*sums), made(*rest)


def _cuts(lower: _Clusters, upper: _Clusters) -> Any:
    """Logarithm of the probability of the values with each cut: (sets, k - 1)."""
    import numpy as np
    from scipy.special import gammaln

    k = lower.evidence.shape[-1]
    below = np.arange(1, k)
    choices = gammaln(k + 1) - gammaln(below + 1) - gammaln(k - below + 1)
    return np.log(TWO / (k - 1)) - choices + _summed(lower.evidence[..., :-1], 1) + _summed(upper.evidence[..., :-1], 1)


def _summed(logs: Any, axis: int) -> Any:
    """Logarithm of the sum."""
    import numpy as np

    most = logs.max(axis=axis, keepdims=True)
    return np.squeeze(most, axis) + np.log(np.exp(logs - most).sum(axis=axis))


def _systematic(chances: Any, count: int, rng: Any) -> Any:
    """Numbers drawn with these chances, each as often as its chance says to one, in random order."""
    import numpy as np

    points = (np.arange(count) + rng.random()) / count
    return rng.permutation(np.searchsorted(np.cumsum(chances)[:-1], points, side="right"))
