"""How precise the headline is, and so whether there are trials enough."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from llem.metrics.energies import output_energy
from llem.metrics.statistics import relative_half_width
from llem.store.models import Trial

__all__ = ["Precision", "is_narrow", "precision"]


@attrs.frozen
class Precision:
    """Half of the 95 % interval over its mean, of the quantity that is `of`; None for fewer than two trials."""

    of: str
    half_width: float | None


def precision(trials: Sequence[Trial]) -> Precision:
    """Of energy per output token, or of output tokens per second where no energy is read."""
    if energies := output_energy(trials):
        return Precision("energy per output token", relative_half_width(energies))
    rates = [trial.output_tokens / trial.duration_s for trial in trials]
    return Precision("output tokens per second", relative_half_width(rates))


def is_narrow(trials: Sequence[Trial], target: float) -> bool:
    """Whether the interval is at most ± `target`, so that no further trial is needed."""
    width = precision(trials).half_width
    return width is not None and width <= target
