"""The stored class of a part of a trial."""

from __future__ import annotations

from typing import Any

import attrs

from llem.devices.pulse import Beats
from llem.meters.base import EnergyReading

__all__ = ["Part", "after_t0"]


def after_t0(measured: Any, _: Any, t1_ns: int) -> None:
    """Rates divide by a window's length: a stored one of no length, or less, was damaged."""
    if t1_ns <= measured.t0_ns:
        raise ValueError(f"t1_ns {t1_ns} is not after t0_ns {measured.t0_ns}")


@attrs.frozen
class Part:
    """A further window of a trial, in which the batches of the whole window run for one phase (`llem.metrics.phases`).

    Its trace is in that of the trial.

    Attributes:
        name: what runs, as `llem.metrics.designs.DESIGNS` has it. "prefill": every batch with one output token for each
            request. "both": every batch so, and then whole. "decode": every batch without the first token of each
            answer, from prompts that were computed before the window. "half_prefill", "half_output", "half_input" and
            "halves": half of each prompt with one output token, and half of the answers, of the prompts, and of both.
        rounds: how often all batches of the whole window ran in it.
        t0_ns, t1_ns: the window on the monotonic clock, in nanoseconds.
        batches, requests, input_tokens, output_tokens, batch_s, energies, beats: as of a trial.
    """

    name: str
    rounds: int
    t0_ns: int
    t1_ns: int = attrs.field(validator=after_t0)
    batches: int
    requests: int
    input_tokens: int | None
    output_tokens: int
    batch_s: tuple[float, ...]
    energies: tuple[EnergyReading, ...]
    beats: Beats | None = None

    @property
    def duration_s(self) -> float:
        return (self.t1_ns - self.t0_ns) / 1e9
