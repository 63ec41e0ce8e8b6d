"""Two experiments against each other: ratios with intervals, and how sure one may be which is lower. Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import attrs

from llem.errors import StoreError
from llem.metrics.catalogue import lower_is_better, metric_of, shown
from llem.metrics.metric import Basis, Measured
from llem.metrics.statistics import Interval, holm, mean, paired_ratio, welch_ratio

__all__ = ["Comparison", "Side", "compare", "interleaved", "side_of", "trial_values"]


@attrs.frozen
class Side:
    """What a comparison needs of one experiment.

    Attributes:
        trials: when each began, `started_at`.
        values: of each metric that it has, one per trial.
        basis: what its energies cover; None without a meter.
    """

    trials: tuple[str, ...]
    values: Mapping[str, Sequence[float]]
    basis: Basis | None


@attrs.frozen
class Comparison:
    """One metric of two experiments.

    Attributes:
        a, b: means over trials.
        ratio: b / a with its interval and two-sided p-value of "no difference".
        method: "paired_by_block" where the trials took turns, else "welch": two independent means of logarithms.
        p_adjusted: the p-value after Holm's correction over all metrics compared.
        probability_lower: P(b < a), the posterior of Student's t under a flat prior.
        lower_is_better: what "better" means for this metric.
        basis_a, basis_b: of an energy, what it covers and whether it is measured or modelled; else None.
        same_basis: false where these differ, so that the ratio is one of two different things.
    """

    metric: str
    unit: str
    a: float
    b: float
    ratio: Interval
    method: str
    p_adjusted: float
    probability_lower: float
    lower_is_better: bool
    basis_a: Basis | None = None
    basis_b: Basis | None = None
    same_basis: bool = True

    @property
    def probability_better(self) -> float:
        """P(b is better than a)."""
        return self.probability_lower if self.lower_is_better else 1 - self.probability_lower


def trial_values(measured: Measured, metric: str) -> list[float] | None:
    """One value of `metric` per trial; None where a trial has none or it is not above 0 (logarithms are taken)."""
    values = metric_of(metric).per_trial(measured)
    return values if values and min(values) > 0 else None


def side_of(measured: Measured, metrics: Sequence[str] | None = None) -> Side:
    """One side of a comparison; the metrics that are compared by default where none are named."""
    names = [metric.name for metric in shown("compare")] if metrics is None else metrics
    found = {name: trial_values(measured, name) for name in names}
    values = {name: one for name, one in found.items() if one is not None}
    return Side(tuple(trial.started_at for trial in measured.trials), values, measured.basis)


def interleaved(a: Side, b: Side) -> bool:
    """Whether the trials took turns: each pair had ended before the next began, so that drift is common to both.

    Trials of two engine processes share one monotonic clock; of two machines or boots they do not, and then the order
    of `started_at` (whole seconds) decides.
    """
    if len(a.trials) != len(b.trials) or len(a.trials) < 2:
        return False
    starts = [sorted(pair) for pair in zip(a.trials, b.trials, strict=True)]
    return all(this[1] <= later[0] for this, later in itertools.pairwise(starts))


def compare(a: Side, b: Side, metrics: Sequence[str] | None = None) -> list[Comparison]:
    """Every metric that both have, or those of them that are named; b over a.

    Raises:
        StoreError: fewer than two trials on a side (no interval), or nothing in common to compare.
    """
    if min(len(a.trials), len(b.trials)) < 2:
        raise StoreError(
            f"a comparison needs two trials at least of each experiment; there are {len(a.trials)} and {len(b.trials)}",
            "measure with `preset: standard`, or set `trials`",
            "too_few_trials",
        )
    common = [name for name in (a.values if metrics is None else metrics) if name in a.values and name in b.values]
    if not common:
        raise StoreError("the two experiments have no metric in common", "see `llem show`", "nothing_to_compare")
    paired = interleaved(a, b)
    ratio_of = paired_ratio if paired else welch_ratio
    ratios = [ratio_of(a.values[name], b.values[name]) for name in common]
    adjusted = holm([ratio.p_value or 0.0 for ratio in ratios])
    return [
        _comparison(name, a, b, ratio, "paired_by_block" if paired else "welch", p_adjusted)
        for name, ratio, p_adjusted in zip(common, ratios, adjusted, strict=True)
    ]


def _comparison(name: str, a: Side, b: Side, ratio: Interval, method: str, p_adjusted: float) -> Comparison:
    metric = metric_of(name)
    bases = (a.basis, b.basis) if metric.scoped else (None, None)
    return Comparison(
        metric=name,
        unit=metric.unit,
        a=mean(a.values[name]),
        b=mean(b.values[name]),
        ratio=ratio,
        method=method,
        p_adjusted=p_adjusted,
        probability_lower=_probability_lower(ratio),
        lower_is_better=lower_is_better(name),
        basis_a=bases[0],
        basis_b=bases[1],
        same_basis=bases[0] == bases[1],
    )


def _probability_lower(ratio: Interval) -> float:
    """P(ratio < 1): half the two-sided p-value on the side where the estimate does not lie, by symmetry of t."""
    half = (ratio.p_value or 0.0) / 2
    return 1 - half if math.log(ratio.value) < 0 else half
