"""From one value per trial to one Quantity with its interval."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from llem.metrics.statistics import CONFIDENCE, mean_interval
from llem.store.models import Quantity

__all__ = ["Value", "absent", "exact", "quantity"]


@attrs.frozen
class Value:
    """One trial's value, or None with a reason; `bound` is what the instrument may be off by, in the same unit."""

    value: float | None
    bound: float | None = None
    reason: str | None = None

    def scaled(self, factor: float) -> Value:
        """Value and bound times `factor`."""
        if self.value is None:
            return self
        return Value(self.value * factor, None if self.bound is None else self.bound * abs(factor))


def absent(unit: str, reason: str, *, scope: str | None = None, kind: str | None = None) -> Quantity:
    """A quantity that was not measured, with the code of the reason."""
    return Quantity(None, unit, reason=reason, scope=scope, kind=kind)


def exact(value: float, unit: str, n: int) -> Quantity:
    """A quantity that is counted, not estimated."""
    return Quantity(value, unit, n=n, method="exact")


def quantity(values: Sequence[Value], unit: str, *, scope: str | None = None, kind: str | None = None) -> Quantity:
    """Mean over trials with its Student-t interval; for one trial the instrument's bound, where there is one.

    A trial without a value makes the whole quantity None with that trial's reason: a mean over the trials that
    happened to be readable would be another quantity under the same name.
    """
    if not values:
        return absent(unit, "no_trials", scope=scope, kind=kind)
    found = [v.value for v in values if v.value is not None]
    if len(found) < len(values):
        missing = next(v for v in values if v.value is None)
        return absent(unit, missing.reason or "not_supported", scope=scope, kind=kind)
    if len(values) > 1:
        interval = mean_interval(found)
        return Quantity(
            interval.value, unit, interval.low, interval.high, CONFIDENCE, len(found), "student_t",
            scope=scope, kind=kind,
        )  # fmt: skip
    only, bound = found[0], values[0].bound
    if bound is None:
        return Quantity(only, unit, n=1, method="single_trial", scope=scope, kind=kind)
    return Quantity(only, unit, only - bound, only + bound, CONFIDENCE, 1, "instrument", scope=scope, kind=kind)
