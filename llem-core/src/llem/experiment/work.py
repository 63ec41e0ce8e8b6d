"""What warm-up, calibration and a trial are with one kind of load."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from llem.meters.trace import TraceRow
from llem.store.models import RequestRow, Trial

__all__ = ["Measured", "Work"]

#: A trial, the trace of its meters, and its requests.
Measured: TypeAlias = tuple[Trial, Sequence[TraceRow], Sequence[RequestRow]]


class Work(ABC):
    """Runs the requests of one experiment in one engine process, from the warm-up to the last trial."""

    @abstractmethod
    def warm_up(self) -> None:
        """A fixed amount of work, so that two configurations are warmed alike; what calibration needs is timed."""

    @abstractmethod
    def calibrate(self) -> Mapping[str, Any]:
        """Settle what a trial is, the same for all of them; figures for the event `calibrated`."""

    def settle(self) -> None:
        """Before a trial, after another experiment had the engine: bring it back to this one's work. Does nothing where
        a trial begins with more than enough of the work before its window."""
        return None

    @property
    def settle_s(self) -> float:
        """How long that should take, in seconds."""
        return 0.0

    @abstractmethod
    def trial(self, index: int) -> Measured:
        """Measure one window. Everything that can be made ready is ready before it opens."""

    @property
    @abstractmethod
    def trial_s(self) -> float:
        """How long a trial should take, in seconds."""

    def facts(self) -> Mapping[str, Any]:
        """What was found out on the way and belongs to the engine's document; JSON values only."""
        return {}
