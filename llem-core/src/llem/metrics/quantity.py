"""From one value per trial to one Quantity, with its interval and what that covers. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import attrs

from llem.metrics.statistics import CONFIDENCE, clustered, joined, mean
from llem.store.models import Quantity

__all__ = [
    "ITEMS",
    "ONE_EVALUATION",
    "ONE_WINDOW",
    "OVER_PROCESSES",
    "WITHIN_PROCESS",
    "Value",
    "absent",
    "covers",
    "exact",
    "possible",
    "quantity",
    "total",
]

#: What an interval covers: how further trials of the same engine process would come out, or also how other engine
#: processes would; or of the one window alone.
WITHIN_PROCESS, OVER_PROCESSES, ONE_WINDOW = "within one process", "over processes", "one window"
#: The same of the evaluation of a task: another draw of its items, or the one reading of its energy.
ITEMS, ONE_EVALUATION = "items", "one evaluation"


def covers(processes: Collection[int]) -> str:
    """What an interval over trials of these engine processes covers."""
    return WITHIN_PROCESS if len(set(processes)) < 2 else OVER_PROCESSES


@attrs.frozen
class Value:
    """One trial's value, or None with a reason.

    Attributes:
        bound: what the instrument may be off by, in the same unit.
        shared: the part of it that all trials have alike, so that their scatter does not show it.
        within: standard error of the part that all trials of one engine process have alike, and each process has anew:
            the scatter of process means shows it, and the scatter within a process does not. Two readings of each
            process estimate it, so it has one degree of freedom.
    """

    value: float | None
    bound: float | None = None
    reason: str | None = None
    shared: float | None = None
    within: float | None = None

    def scaled(self, factor: float) -> Value:
        """Value and bounds times `factor`."""
        if self.value is None:
            return self
        parts = (self.bound, self.shared, self.within)
        bound, shared, within = (None if one is None else one * abs(factor) for one in parts)
        return Value(self.value * factor, bound, shared=shared, within=within)


def total(values: Sequence[Value]) -> Value:
    """Sum of values and of each part of their errors; the first value that is missing makes the sum missing.

    A part that one of them lacks is None, for the sum of the others would be too small. No values: `no_meter`.
    """
    missing = next((v for v in values if v.value is None), None)
    if missing is not None:
        return missing
    if not values:
        return Value(None, reason="no_meter")
    bound, shared, within = (_sum_of([getattr(v, part) for v in values]) for part in ("bound", "shared", "within"))
    return Value(math.fsum(v.value for v in values if v.value is not None), bound, shared=shared, within=within)


def _sum_of(parts: Sequence[float | None]) -> float | None:
    known = [part for part in parts if part is not None]
    return math.fsum(known) if len(known) == len(parts) else None


def absent(unit: str, reason: str, *, scope: str | None = None, kind: str | None = None) -> Quantity:
    """A quantity that was not measured, with the code of the reason."""
    return Quantity(None, unit, reason=reason, scope=scope, kind=kind)


def exact(value: float, unit: str, n: int) -> Quantity:
    """A quantity that is counted, not estimated."""
    return Quantity(value, unit, n=n, method="exact")


def possible(found: Quantity, least: float | None = 0.0, most: float | None = None) -> Quantity:
    """The interval within what the quantity can be. Student's t does not know of it: it reaches below 0, and a share's
    above 1, where few values scatter much."""
    low, high = found.low, found.high
    if low is None or high is None:
        return found
    low = low if least is None else max(low, least)
    return attrs.evolve(found, low=low, high=high if most is None else min(high, most))


def quantity(
    values: Sequence[Value],
    unit: str,
    processes: Sequence[int] | None = None,
    *,
    scope: str | None = None,
    kind: str | None = None,
) -> Quantity:
    """Mean over trials with its interval (see `clustered`); for one trial the instrument's bound, where there is one.

    What all trials share of the instrument's error is no part of their scatter: its mean and the half-width of the
    scatter are independent, and add as the root of the sum of their squares, which covers 95 % at least (Banerjee,
    Sankhya 22 (1960) 247). What the trials of one process share joins their scatter: see `joined`.

    A trial without a value makes the whole quantity None with that trial's reason: a mean over the trials that
    happened to be readable would be another quantity under the same name.

    Args:
        processes: the engine process of each value; None where each value is of a process of its own.
    """
    numbers = list(range(len(values))) if processes is None else processes
    if not values:
        return absent(unit, "no_trials", scope=scope, kind=kind)
    found = [v.value for v in values if v.value is not None]
    if len(found) < len(values):
        missing = next(v for v in values if v.value is None)
        return absent(unit, missing.reason or "not_supported", scope=scope, kind=kind)
    if len(values) > 1:
        interval = clustered(found, numbers)
        shared = mean([value.shared or 0.0 for value in values])
        within = mean([value.within or 0.0 for value in values])
        alone = within > 0 and len(set(numbers)) < 2
        half = math.hypot(joined(interval, within) if alone else interval.half_width, shared)
        return Quantity(
            interval.value, unit, interval.value - half, interval.value + half, CONFIDENCE, len(found),
            len(set(numbers)), covers(numbers), "student_t", scope=scope, kind=kind,
        )  # fmt: skip
    only, bound = found[0], values[0].bound
    if bound is None:
        return Quantity(only, unit, n=1, processes=1, method="single_trial", scope=scope, kind=kind)
    return Quantity(
        only, unit, only - bound, only + bound, CONFIDENCE, 1, 1, ONE_WINDOW, "instrument", scope=scope, kind=kind
    )
