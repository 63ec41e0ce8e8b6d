"""How many trials are enough.

The first trials of an engine process say how much its trials scatter, and so how many are needed for the target in all
(C. Stein, A two-sample test for a linear hypothesis whose power is independent of the variance, Annals of Mathematical
Statistics 16 (1945) 243). The trials beyond those first ones are measured without another look at their scatter. A rule
that looks after each trial ends where the scatter happens to be small, so its intervals cover less than they say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from llem.config.models import Experiment
from llem.metrics.energies import output_energy
from llem.metrics.statistics import relative_half_width
from llem.store.models import Trial

__all__ = ["enough", "is_wanted"]

#: Trials of an engine process whose scatter decides. Those after them decide nothing, so their scatter is no lucky one.
FIRST = 3


def enough(values: Sequence[float], target: float) -> float:
    """Trials after which the 95 % interval's half-width is `target` times the mean, by the scatter of these first ones.

    Stein's formula: n = (t s / target)^2, with t for the scatter's degrees of freedom. Infinite where the scatter of
    fewer than two values, or a mean of 0, says nothing.
    """
    width = relative_half_width(values)  # t s / sqrt(number of values)
    if width is None:
        return math.inf
    if width == 0:
        return 0
    return math.ceil(len(values) * (width / target) ** 2) if target > 0 else math.inf


def is_wanted(experiment: Experiment, trials: Sequence[Trial], index: int) -> bool:
    """Whether a trial is to be measured, by the stored trials of the experiment: before and after a resume alike.

    The least number of trials is. A further one is if the first trials of its own engine process scatter so much that
    it is needed. What differs from process to process does not decide, since further trials of the same processes do
    not narrow it. Of several processes, one with fewer than three of the least trials takes no more: two say little of
    its scatter, and what differs between the processes weighs more.
    """
    processes = experiment.processes
    least = max(experiment.least_trials, 2)  # one alone has no scatter
    if index < least:
        return True
    first = range(index % processes, least, processes)[:FIRST]
    if processes > 1 and len(first) < FIRST:
        return False
    measured = [trial for trial in trials if trial.index in first]
    if len(measured) < len(first):
        return True  # not known yet
    return index < enough(_decisive(measured), experiment.target_half_width)


def _decisive(trials: Sequence[Trial]) -> list[float]:
    """Energy per output token, or output tokens per second where no energy is read."""
    return output_energy(trials) or [trial.output_tokens / trial.duration_s for trial in trials]
