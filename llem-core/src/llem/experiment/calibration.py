"""How long a batch takes: by those of the warm-up over which the worker did not stand still. Pure.

A pause (`llem.metrics.checks.pauses`) makes a batch longer than it is, and a window of so few batches too short. Beside
an engine on a GPU nothing but the missing beats may tell of one. Such a batch is doubtful: it is left out if it is one
of a few, and believed if most are so, for then it is the engine's own way.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

import attrs

from llem.devices.pulse import Beats
from llem.findings import Finding, finding
from llem.metrics.checks.pauses import stood_still, too_long, unexplained

__all__ = ["AGAIN", "Timed", "batch_times", "enough", "lost_s", "untold", "usable"]

#: So many times the warm-up goes on to make up for a pause.
AGAIN = 3
#: The last batches of the warm-up that count.
LAST = 20


@attrs.frozen
class Timed:
    """A batch of the warm-up.

    Attributes:
        seconds: that it took.
        stood_s: of these, how many the worker stood still. reasons: what says so.
        doubtful: nothing of the worker ran for long, and nothing else says that it was paused.
    """

    seconds: float
    stood_s: float = 0.0
    reasons: tuple[str, ...] = ()
    doubtful: bool = False

    @classmethod
    def of(cls, device: str | None, beats: Beats, start_ns: int, end_ns: int) -> Timed:
        """By the beats that touch it."""
        stood_s, reasons = stood_still(device, beats, start_ns, end_ns)
        return cls((end_ns - start_ns) / 1e9, stood_s, reasons, not reasons and unexplained(beats))

    @property
    def paused(self) -> bool:
        return too_long(self.stood_s, self.seconds)


def usable(batches: Sequence[Timed]) -> list[Timed]:
    """Those that tell how long a batch takes, in order."""
    whole = [one for one in batches if not one.paused]
    clear = [one for one in whole if not one.doubtful]
    return clear if 2 * len(clear) >= len(whole) else whole


def batch_times(batches: Sequence[Timed]) -> tuple[float, float]:
    """Seconds of a batch, by the last ones: the least, lest a window comes out shorter than asked for, and the mean."""
    last = [one.seconds for one in usable(batches) or batches][-LAST:]
    return min(last), statistics.fmean(last)


def enough(batches: Sequence[Timed]) -> bool:
    """Whether they tell it: a doubtful one does not, unless another one agrees."""
    found = usable(batches)
    return len(found) > 1 or any(not one.doubtful for one in found)


def lost_s(batches: Iterable[Timed]) -> float:
    """Seconds in which the worker stood still."""
    return sum(one.stood_s for one in batches if one.paused)


def untold(batches: Sequence[Timed]) -> list[Finding]:
    """The finding on a warm-up whose batches do not tell it; mostly none."""
    if usable(batches):
        return []
    worst = max(batches, key=lambda one: one.stood_s)
    message = (
        f"llem stood still in every batch of the warm-up that was to tell how many fill a window, for up to "
        f"{worst.stood_s:.2f} s ({', '.join(worst.reasons)})"
    )
    evidence = {"stood_s": worst.stood_s, "batches": len(batches), "reasons": list(worst.reasons)}
    return [finding("window_off_plan", message, **evidence)]
