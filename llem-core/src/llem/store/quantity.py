"""A number with all that it is of: unit, interval, what that rests on and covers, scope and kind."""

from __future__ import annotations

from typing import Literal, NoReturn

import attrs

from llem.display import Displayed
from llem.errors import UnknownName, nearest

__all__ = ["Metrics", "Quantity"]

#: What `n` counts by method, where it does not count trials.
_COUNTED = {
    "batch_means": "runs of requests",
    "items": "items",
    "search": "windows of a search",
}


def _digits(value: float, count: int) -> str:
    """So many significant digits, without powers of ten below 1e9."""
    text = f"{value:.{count}g}"
    return f"{float(text):,.0f}" if "e+" in text and abs(value) < 1e9 else text


@attrs.frozen(repr=False)
class Quantity(Displayed):
    """A number with its unit and interval, or None with the code of the reason.

    `float(quantity)` is the value; of a None it raises TypeError with the reason.

    Attributes:
        low, high: the interval at `confidence`; None if there is no interval, as with one trial.
        n: how many values the quantity is computed from: trials, or what `method` says.
        processes: number of engine processes that the values are from; 0 where that does not matter.
        covers: what the interval covers: "within one process" (how further trials of the same engine process would
            come out), "over processes" (also how other engine processes would), "one window" (what the instrument may
            be off by, or how the parts of that window scatter), "one evaluation" (what it may be off by while a task
            was evaluated), "items" (another draw of a task's items), or "" without an interval.
        method: "student_t" over trials (with several engine processes, over their means), "batch_means" over runs of
            consecutive requests, "search" (windows at several rates), "instrument" (the error bound of one window),
            "items" (standard error over a task's items), "evaluation" (of the one evaluation of a task), "observed"
            (over n values of requests, without an interval), "added" (of a cost: the limits of what its time and its
            energy cost, added), "single_trial", or "exact".
        reason: code of the reason why the value is None.
        scope, kind: of an energy: what it covers, and whether it is "measured" or "modelled".
        better: of an evaluator's score, which way is better: "lower" or "higher". Empty: the catalogue of metrics says.
        score: of an evaluator's score, its name, such as `acc_norm`.
    """

    value: float | None
    unit: str
    low: float | None = None
    high: float | None = None
    confidence: float | None = None
    n: int = 0
    processes: int = 0
    covers: str = ""
    method: str = ""
    reason: str | None = None
    scope: str | None = None
    kind: str | None = None
    better: Literal["", "lower", "higher"] = attrs.field(default="", metadata={"spare": True})
    score: str = attrs.field(default="", metadata={"spare": True})

    @property
    def half_width(self) -> float | None:
        """Half of the interval; where it ends at what is possible, the side that does not. None without an interval."""
        if self.value is None or self.low is None or self.high is None:
            return None
        sides = self.value - self.low, self.high - self.value
        cut = self.low == 0 or (self.high == 1 and not self.unit)
        return max(sides) if cut else sum(sides) / 2

    @property
    def lopsided(self) -> bool:
        """Whether one side of the interval is longer than the other by more than a quarter; "±" would then mislead."""
        if self.value is None or self.low is None or self.high is None:
            return False
        below, above = self.value - self.low, self.high - self.value
        return max(below, above) > 1.25 * min(below, above)

    @property
    def rests_on(self) -> str:
        """What value and interval rest on: `n = 5, one process`, `n = 10, over 5 processes`, `20 batches, one process`.

        "exact" for what is counted; "" without a value.
        """
        if self.value is None or self.method == "exact":
            return "" if self.value is None else "exact"
        if self.method == "instrument":
            return "one window, instrument's bound"
        if self.method == "evaluation":
            about = {"items": f"{self.n} items, one evaluation", "": "one evaluation"}
            return about.get(self.covers, "one evaluation, instrument's bound")
        if self.method == "observed":
            return f"{self.n} value{'' if self.n == 1 else 's'}, too few for an interval"
        counted = f"{self.n} {_COUNTED[self.method]}" if self.method in _COUNTED else f"n = {self.n}" if self.n else ""
        over = {
            "within one process": "one process",
            "over processes": f"over {self.processes} processes",
            "one window": "one window",
        }
        apart = "" if self.low is not None or self.processes < 2 else f"{self.processes} processes"
        return ", ".join(filter(None, (counted, over.get(self.covers, apart))))

    @property
    def basis_text(self) -> str:
        """Of an energy what it covers and its kind: `cpu+dram, modelled`; else ""."""
        return ", ".join(filter(None, (self.scope, self.kind)))

    def __str__(self) -> str:
        of = f", {self.basis_text}" if self.basis_text else ""
        if self.value is None:
            return f"none ({self.reason}){of}"
        text = f"{_digits(self.value, 4)} {self.unit}".rstrip()
        if self.low is None or self.high is None or self.confidence is None:
            return f"{text} ({self.rests_on}){of}" if self.rests_on else text + of
        ends = f"{_digits(self.low, 4)} to {_digits(self.high, 4)}"
        half = ends if self.lopsided else f"± {_digits((self.high - self.low) / 2, 2)}"
        return f"{text} {half} ({self.confidence * 100:g} %, {self.rests_on}){of}"

    def __repr__(self) -> str:
        return f"<Quantity {self}>"

    def __float__(self) -> float:
        if self.value is None:
            raise TypeError(f"there is no number: the value is None ({self.reason})")
        return float(self.value)


class Metrics(dict[str, Quantity]):
    """Quantities by the names of the catalogue. A name that is not there is answered with the nearest one."""

    def __missing__(self, name: object) -> NoReturn:
        near = nearest(str(name), self)
        hint = f"did you mean {near}?" if near else f"there are {', '.join(sorted(self)) or 'none'}"
        raise UnknownName(f"the result has no metric {name!r}", hint, "metric_unknown")
