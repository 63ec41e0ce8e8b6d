"""What a study says of all its differences together: the prior of their size, and the scatter of their pairs. Pure.

The prior is a mixture of normal distributions around 0 with a grid of standard deviations, as in adaptive shrinkage
(Stephens 2017, "False discovery rates: a new deal"). Of the differences 97 % are of one common scale, whose
probability follows from all differences of the study; 3 % may be of any scale. The variances of pairs are moderated
(Smyth 2004, "Linear models and empirical Bayes methods"): each is drawn to the common one as far as they are alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs

from llem.analysis.variance import Estimate

__all__ = ["DEFAULT", "Prior", "fit", "moderated"]

#: Standard deviations of the parts, on the log scale: 0.1 % to 205 %. The least stands for "no difference".
SCALES: tuple[float, ...] = tuple(0.001 * 2.0 ** (step / 2) for step in range(23))
#: Share of the differences of a study that may be of any other scale than the rest.
OTHERS = 0.03
#: Before anything is seen, the common scale has a density proportional to this power of it, over its logarithm: 0 says
#: that each order of magnitude is as likely, 1 that each scale is.
LARGER = 0.5


@attrs.frozen
class Prior:
    """Weights of normal distributions around 0 with the deviations `SCALES`.

    Attributes:
        weights: sum to 1.
        configurations: how many a study had to estimate them from; 0 for the default.
    """

    weights: tuple[float, ...]
    configurations: int = 0

    def __str__(self) -> str:
        if not self.configurations:
            return "the default prior: differences of 0.1 % to 200 %, each order of magnitude as likely"
        return f"a prior estimated from the differences of {self.configurations} configurations"

    def below_zero(self, one: Estimate) -> float:
        """P(difference < 0) given its estimate.

        Student's t enters as the normal distribution that has the same P under a flat prior.
        """
        import numpy as np
        from scipy.special import ndtr

        if one.error == 0:
            return 0.5 if one.value == 0 else float(one.value < 0)
        error = float(_normal_errors([one])[0])
        scales = np.asarray(SCALES)
        logs = _log_density(np.asarray([one.value]), np.asarray([error]))[0] + np.log(np.asarray(self.weights))
        weights = np.exp(logs - logs.max())
        chances = ndtr(-one.value / error * scales / np.hypot(scales, error))
        return float((weights * chances).sum() / weights.sum())


#: For two experiments alone.
DEFAULT = Prior(tuple(1 / len(SCALES) for _ in SCALES))


def fit(differences: Sequence[Estimate], configurations: int) -> Prior:
    """The prior of a study from differences between its configurations.

    All pairs of C configurations hold no more than C - 1 independent differences, so that each pair counts as its share
    of those. Fewer than three configurations give the default.
    """
    import numpy as np

    known = [one for one in differences if one.error > 0]
    if configurations < 3 or not known:
        return DEFAULT
    logs = _log_density(np.asarray([one.value for one in known]), _normal_errors(known))
    density = np.exp(logs - logs.max(axis=1, keepdims=True))
    mixed = (1 - OTHERS) * density + OTHERS * density.mean(axis=1, keepdims=True)
    likelihood = np.log(mixed).sum(axis=0) * (configurations - 1) / len(known)
    likelihood += LARGER * np.log(SCALES)
    chances = np.exp(likelihood - likelihood.max())
    weights = (1 - OTHERS) * chances / chances.sum() + OTHERS / len(SCALES)
    return Prior(tuple(float(weight) for weight in weights), configurations)


def moderated(found: Sequence[Estimate], most: float) -> Callable[[Estimate], Estimate]:
    """What gives an estimate the variance that is drawn to the common one of all that were `found`.

    Args:
        most: degrees of freedom that the common variance has at most: that many independent residuals there are.
    """
    import numpy as np
    from scipy.special import digamma, polygamma

    known = [one for one in found if one.error > 0]
    if len(known) < 3 or most <= 0:
        return lambda one: one
    freedom = np.asarray([one.freedom for one in known])
    logs = 2 * np.log([one.error for one in known]) - digamma(freedom / 2) + np.log(freedom / 2)
    excess = float(logs.var(ddof=1) - polygamma(1, freedom / 2).mean())
    prior = most if excess <= 0 else min(most, 2 * _inverse_trigamma(excess))
    common = float(np.exp(logs.mean() + digamma(prior / 2) - np.log(prior / 2)))

    def draw(one: Estimate) -> Estimate:
        whole = prior + one.freedom
        return Estimate(one.value, float(np.sqrt((prior * common + one.freedom * one.error**2) / whole)), whole)

    return draw


def _inverse_trigamma(value: float) -> float:
    """Newton's method on 1 / trigamma, which is convex and nearly linear (Smyth 2004)."""
    from scipy.special import polygamma

    y = 0.5 + 1 / value
    for _ in range(30):
        now = float(polygamma(1, y))
        y += now * (1 - now / value) / float(polygamma(2, y))
    return y


def _normal_errors(found: Sequence[Estimate]) -> Any:
    """Standard errors of the normal distributions with the same one-sided P as each Student's t."""
    import numpy as np
    from scipy.special import gammaln, ndtri, stdtr

    error, freedom = (np.asarray([getattr(one, name) for one in found]) for name in ("error", "freedom"))
    t = np.abs(np.asarray([one.value for one in found])) / error
    # near 0 the quotient is that of the two densities there
    flat = np.exp(gammaln(freedom / 2) - gammaln((freedom + 1) / 2)) * np.sqrt(freedom / 2)
    z = -ndtri(np.maximum(stdtr(freedom, -t), 1e-300))
    return error * np.where(t > 1e-3, t / np.where(z > 0, z, 1.0), flat)


def _log_density(values: Any, errors: Any) -> Any:
    """Of each value under each part of the mixture, its own error included: (values, SCALES)."""
    import numpy as np

    variances = np.asarray(SCALES)[None, :] ** 2 + errors[:, None] ** 2
    return -0.5 * (values[:, None] ** 2 / variances + np.log(variances))
