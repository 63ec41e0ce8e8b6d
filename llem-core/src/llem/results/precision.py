"""When there are trials enough: the headline's interval against the width that was asked for."""

from __future__ import annotations

from collections.abc import Sequence

from llem.results.energies import output_energy
from llem.results.models import Trial
from llem.results.statistics import relative_half_width

__all__ = ["is_narrow"]


def is_narrow(trials: Sequence[Trial], target: float) -> bool:
    """Whether the interval of energy per output token, or of time where no energy is read, is at most ± `target`."""
    values = output_energy(trials) or [trial.duration_s / max(trial.output_tokens, 1) for trial in trials]
    width = relative_half_width(values)
    return width is not None and width <= target
