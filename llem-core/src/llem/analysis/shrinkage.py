"""The prior of differences between configurations, and P(one is better) with it. Pure.

Adaptive shrinkage (Stephens 2017, "False discovery rates: a new deal"): a mixture of normal distributions around 0 with
a grid of standard deviations, whose weights are estimated from all differences of a study by EM, with pseudo-counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from llem.analysis.variance import Estimate

__all__ = ["DEFAULT", "Prior", "fit"]

#: Standard deviations of the parts, on the log scale: 0.05 % to 205 %. The least stands for "no difference".
SCALES: tuple[float, ...] = tuple(0.0005 * 2.0**step for step in range(13))
#: What the prior is worth before anything is seen, in differences.
PSEUDO_COUNT = 2.0
STEPS = 200


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
            return "the default prior: differences of 0.05 % to 200 %, each order of magnitude as likely"
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

    All pairs of C configurations hold no more than C - 1 independent differences, so that each pair counts as its part
    of those. Fewer than three configurations give the default.
    """
    import numpy as np

    known = [one for one in differences if one.error > 0]
    if configurations < 3 or not known:
        return DEFAULT
    logs = _log_density(np.asarray([one.value for one in known]), _normal_errors(known))
    likelihood = np.exp(logs - logs.max(axis=1, keepdims=True))
    share = (configurations - 1) / len(known)
    pseudo = PSEUDO_COUNT / len(SCALES)
    weights = np.full(len(SCALES), 1 / len(SCALES))
    for _ in range(STEPS):
        parts = likelihood * weights
        counts = share * (parts / parts.sum(axis=1, keepdims=True)).sum(axis=0) + pseudo
        weights = counts / counts.sum()
    return Prior(tuple(float(weight) for weight in weights), configurations)


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
