"""How long a study takes, from what its experiments ask for. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from llem.config.models import Experiment

__all__ = ["Estimate", "estimate"]

#: What the estimate is made of, for whoever reads it.
BASIS = (
    "idle baselines, warm-up and trials × window of every experiment, with the least and the most trials; "
    "loading models, compilation and batches longer than a window come on top"
)


@attrs.frozen
class Estimate:
    """Seconds, with as few trials as asked for and with as many as allowed."""

    least_s: float
    most_s: float


def estimate(experiments: Iterable[Experiment]) -> Estimate:
    """The time that the experiments ask for, one after the other. Knows nothing of the machine; see `BASIS`."""
    least = most = 0.0
    for experiment in experiments:
        around = experiment.restarts * (_baselines(experiment) + experiment.warmup.seconds)
        least += around + max(experiment.trials, experiment.restarts) * experiment.window_s
        most += around + max(experiment.max_trials, experiment.restarts) * experiment.window_s
    return Estimate(least, most)


def _baselines(experiment: Experiment) -> float:
    """Before the trials, and half as long after them; each begins with a part that is left out."""
    wanted = experiment.baseline
    if wanted.seconds == 0:
        return 0.0
    kept = max(wanted.seconds - wanted.discard_seconds, 1.0)
    return 2 * wanted.discard_seconds + 1.5 * kept
