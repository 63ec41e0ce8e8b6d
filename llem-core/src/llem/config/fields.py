"""The one way to declare a documented setting; the schema and the reference pages read what it stores."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import attrs

__all__ = ["DAY_S", "YEAR_S", "Bounds", "Gpus", "HowMany", "at_least", "between", "how_many", "option"]

#: The longest that one step of a measurement may take, and that a study waits for anything, in seconds. Above them are
#: slips of the keyboard, and numbers that the operating system cannot wait for.
DAY_S = 86_400
YEAR_S = 365 * DAY_S


def option(
    default: Any = attrs.NOTHING,
    *,
    help: str,
    unit: str = "",
    factory: Callable[[], Any] | None = None,
    validator: Any = None,
    file: bool | Literal["or id"] = False,
) -> Any:
    """An attrs field with its help text and unit. `None` as default means: the engine's own default.

    Args:
        file: the value names a local file or folder ("or id": or the name of something
            that is no file). What it contains, not its name, belongs to an experiment's
            identity; see `llem.config.identity`.
    """
    metadata = {"help": help, "unit": unit, "file": file}
    if factory is not None:
        return attrs.field(factory=factory, metadata=metadata, validator=validator)
    return attrs.field(default=default, metadata=metadata, validator=validator)


@attrs.frozen
class Bounds:
    """Validator: a finite number within [low, high], None for an open end; None as value passes.

    An object rather than a closure, because the schema reads the bounds off it.
    """

    low: float | None = None
    high: float | None = None

    def __call__(self, _: Any, attribute: Any, value: Any) -> None:
        """Raise ValueError when the value is outside. Written so that NaN, which compares false, is outside."""
        if value is None:
            return
        if value in (math.inf, -math.inf):
            raise ValueError(f"must be a finite number, got {value}")
        inside = (self.low is None or value >= self.low) and (self.high is None or value <= self.high)
        if not inside:
            raise ValueError(f"must be {self}, got {value}")

    def __str__(self) -> str:
        if self.high is None:
            return f"at least {self.low}"
        return f"at most {self.high}" if self.low is None else f"between {self.low} and {self.high}"


def at_least(low: float) -> Bounds:
    """Validator: a finite number not below `low`; None passes."""
    return Bounds(low=low)


def between(low: float, high: float) -> Bounds:
    """Validator: a number within [low, high]; None passes."""
    return Bounds(low, high)


#: A number of GPUs, whichever there are to be had; or each by index or UUID; None leaves it open.
Gpus = int | tuple[int | str, ...] | None


@attrs.frozen
class HowMany(Bounds):
    """Validator: a number is at least 1. A list passes: whether its GPUs are there, only their machine knows."""

    low: float | None = 1

    def __call__(self, _: Any, attribute: Any, value: Any) -> None:
        """Raise ValueError for a number below 1, which was probably meant as an index."""
        if isinstance(value, int) and value < 1:
            meant = f"a number says how many GPUs; `[{value}]` says which, and `device: cpu` uses none"
            raise ValueError(f"must be {self}, got {value}: {meant}")


def how_many(gpus: Gpus) -> int | None:
    """How many GPUs the setting asks for; None where it leaves that open."""
    return len(gpus) if isinstance(gpus, tuple) else gpus
