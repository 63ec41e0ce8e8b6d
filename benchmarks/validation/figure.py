"""A figure of the validation: what was done, what must hold, and what was found."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

__all__ = ["Check", "Figure", "percent", "spread"]


@attrs.frozen
class Check:
    """One thing that must hold.

    Attributes:
        what: is measured. found: the number in words. wanted: the threshold in words.
    """

    what: str
    found: str
    wanted: str
    passed: bool


@attrs.frozen(kw_only=True)
class Figure:
    """A figure.

    Attributes:
        parts: of the measurement, that it is computed from.
        done: what was done, in sentences.
        notes: what else is to be known, each a paragraph.
        table: head and rows.
        plots: SVG by what is to be seen on it.
        numbers: what the page states, unrounded.
    """

    name: str
    title: str
    parts: Sequence[str]
    done: str
    checks: Sequence[Check] = ()
    notes: Sequence[str] = ()
    table: Sequence[Sequence[str]] = ()
    plots: Mapping[str, str] = attrs.field(factory=dict)
    numbers: Mapping[str, Any] = attrs.field(factory=dict)
    missing: str = ""

    @property
    def verdict(self) -> str:
        """In one word or two."""
        if self.missing or not self.checks:
            return "not measured"
        return "pass" if all(check.passed for check in self.checks) else "fail"


def percent(share: float, digits: int = 2) -> str:
    """A share as text, such as "-0.31 %"; nan is "–"."""
    return "–" if math.isnan(share) else f"{100 * share:.{digits}f} %"


def spread(values: Sequence[float]) -> float:
    """Coefficient of variation: standard deviation over the mean; nan for fewer than two values."""
    return statistics.stdev(values) / statistics.mean(values) if len(values) > 1 else math.nan
