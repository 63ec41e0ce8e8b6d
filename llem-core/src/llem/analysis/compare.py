"""Two experiments against each other: ratios with intervals, and how sure one may be which is lower. Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import attrs

from llem.errors import StoreError
from llem.metrics.catalogue import ENERGY_PER
from llem.metrics.directions import lower_is_better
from llem.metrics.energies import gross, headline
from llem.metrics.requests import requests_within
from llem.metrics.statistics import Interval, holm, mean, paired_ratio, welch_ratio
from llem.store.models import Trial

__all__ = ["COMPARED", "Comparison", "compare", "interleaved", "trial_values"]

#: Metrics that every trial has by itself, and their units.
COMPARED: Mapping[str, str] = {
    "energy_per_output_token_j": "J",
    "energy_per_request_j": "J",
    "power_w": "W",
    "output_tokens_per_s": "token/s",
    "requests_per_s": "request/s",
}

#: What is counted for each rate.
RATES: Mapping[str, Callable[[Trial], float]] = {
    "output_tokens_per_s": lambda trial: trial.output_tokens,
    "requests_per_s": requests_within,
}


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

    @property
    def probability_better(self) -> float:
        """P(b is better than a)."""
        return self.probability_lower if self.lower_is_better else 1 - self.probability_lower


def trial_values(trials: Sequence[Trial], metric: str) -> list[float] | None:
    """One value of `metric` per trial; None where a trial has none or it is not above 0 (logarithms are taken)."""
    values = _rates(trials, metric) if metric in RATES else _energies(trials, metric)
    return values if values and min(values) > 0 else None


def _rates(trials: Sequence[Trial], metric: str) -> list[float]:
    return [RATES[metric](trial) / trial.duration_s for trial in trials]


def _energies(trials: Sequence[Trial], metric: str) -> list[float] | None:
    """None where a trial has no energy, or nothing to divide it by."""
    chosen = headline(trials)
    if chosen is None:
        return None
    values = []
    for trial in trials:
        energy, count = gross(trial, chosen.of(trial)).value, ENERGY_PER[metric](trial)
        if energy is None or count == 0:
            return None
        values.append(energy / count)
    return values


def interleaved(a: Sequence[Trial], b: Sequence[Trial]) -> bool:
    """Whether the trials took turns: each pair had ended before the next began, so that drift is common to both.

    Trials of two engine processes share one monotonic clock; of two machines or boots they do not, and then the order
    of `started_at` (whole seconds) decides.
    """
    if len(a) != len(b) or len(a) < 2:
        return False
    starts = [sorted((one.started_at, other.started_at)) for one, other in zip(a, b, strict=True)]
    return all(this[1] <= later[0] for this, later in itertools.pairwise(starts))


def compare(a: Sequence[Trial], b: Sequence[Trial], metrics: Sequence[str] = tuple(COMPARED)) -> list[Comparison]:
    """Every metric that both have, b over a.

    Raises:
        StoreError: fewer than two trials on a side (no interval), or nothing in common to compare.
    """
    if min(len(a), len(b)) < 2:
        raise StoreError(
            f"a comparison needs two trials at least of each experiment; there are {len(a)} and {len(b)}",
            "measure with `preset: standard`, or set `trials`",
            "too_few_trials",
        )
    paired = interleaved(a, b)
    found: list[tuple[str, list[float], list[float], Interval, float]] = []
    for metric in metrics:
        first, second = trial_values(a, metric), trial_values(b, metric)
        if first is None or second is None:
            continue
        ratio = paired_ratio(first, second) if paired else welch_ratio(first, second)
        found.append((metric, first, second, ratio, _probability_lower(ratio)))
    if not found:
        raise StoreError("the two experiments have no metric in common", "see `llem show`", "nothing_to_compare")
    adjusted = holm([ratio.p_value or 0.0 for _, _, _, ratio, _ in found])
    return [
        Comparison(
            metric=metric,
            unit=COMPARED[metric],
            a=mean(first),
            b=mean(second),
            ratio=ratio,
            method="paired_by_block" if paired else "welch",
            p_adjusted=p_adjusted,
            probability_lower=lower,
            lower_is_better=lower_is_better(metric),
        )
        for (metric, first, second, ratio, lower), p_adjusted in zip(found, adjusted, strict=True)
    ]


def _probability_lower(ratio: Interval) -> float:
    """P(ratio < 1): half the two-sided p-value on the side where the estimate does not lie, by symmetry of t."""
    half = (ratio.p_value or 0.0) / 2
    return 1 - half if math.log(ratio.value) < 0 else half
