"""Values of an axis by rule: evenly spaced, evenly spaced by ratio, powers of two. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from llem.config.words import got

__all__ = ["MOST_VALUES", "RANGES", "range_values"]

#: An axis of more is a slip of the finger, and would fill the memory before anybody could say so.
MOST_VALUES = 100_000
#: Whole numbers beyond this are no setting's, and not what computing with fractions gives back.
_LARGEST = 2**53
#: Digits kept: enough for any setting, few enough that 0.1 + 0.2 is 0.3.
_DIGITS = 12


def range_values(name: str, raw: Any) -> list[Any]:
    """The values of a range, in its order. Raises ValueError with what is wrong."""
    return RANGES[name](raw)


def _linear(raw: Any) -> list[Any]:
    """[start, stop, count]: both ends included. Whole numbers where the ends and every value are whole."""
    start, stop, count = _three(raw)
    inner = [_tidy(value) for value in _spaced(float(start), float(stop), count)[1:-1]]
    values = _between(start, stop, count, inner)
    whole = isinstance(start, int) and isinstance(stop, int) and all(value.is_integer() for value in values)
    return [int(value) for value in values] if whole else values


def _log(raw: Any) -> list[Any]:
    """[start, stop, count], each the same multiple of the last. With whole ends, rounded to whole numbers, each once:
    what is swept over orders of magnitude is a number of things."""
    start, stop, count = _three(raw)
    if start <= 0 or stop <= 0:
        raise ValueError(f"start and stop must be above 0, got {start} and {stop}")
    inner = [_tidy(math.exp(value)) for value in _spaced(math.log(start), math.log(stop), count)[1:-1]]
    values = _between(start, stop, count, inner)
    if isinstance(start, int) and isinstance(stop, int):
        return list(dict.fromkeys(round(value) for value in values))
    return values


def _powers_of_two(raw: Any) -> list[Any]:
    """[low, high]: every power of two between them, both included."""
    if not _list_of_numbers(raw, 2) or not all(isinstance(end, int) for end in raw):
        raise ValueError(f"must be [low, high], two whole numbers, got {_shown(raw)}")
    low, high = raw
    if not 1 <= low <= high:
        raise ValueError(f"must be [low, high] with 1 <= low <= high, got {_shown(raw)}")
    values = [2**power for power in range(high.bit_length()) if low <= 2**power <= high]
    if not values:
        raise ValueError(f"there is no power of two between {low} and {high}")
    return values


RANGES: Mapping[str, Callable[[Any], list[Any]]] = {
    "linear": _linear,
    "log": _log,
    "powers_of_two": _powers_of_two,
}


def _three(raw: Any) -> tuple[Any, Any, int]:
    if not _list_of_numbers(raw, 3):
        raise ValueError(f"must be [start, stop, count], three numbers, got {_shown(raw)}")
    start, stop, count = raw
    if not isinstance(count, int) or count < 1:
        raise ValueError(f"count must be a whole number, at least 1, got {count}")
    if count > MOST_VALUES:
        raise ValueError(f"count must be at most {MOST_VALUES:,}, got {count:,}")
    if count == 1 and start != stop:
        raise ValueError(f"count must be at least 2 from {start} to {stop}, got 1")
    return start, stop, count


def _list_of_numbers(raw: Any, length: int) -> bool:
    if not isinstance(raw, (list, tuple)) or len(raw) != length:
        return False
    if not all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in raw):
        return False
    if any(isinstance(one, int) and abs(one) > _LARGEST for one in raw):
        raise ValueError(f"holds a whole number beyond {_LARGEST:,}")
    return all(math.isfinite(one) for one in raw)


def _spaced(start: float, stop: float, count: int) -> list[float]:
    return [start + (stop - start) * step / max(count - 1, 1) for step in range(count)]


def _between(start: float, stop: float, count: int, inner: list[float]) -> list[float]:
    """The ends exactly, and what lies between them."""
    return [float(start), *inner, *([float(stop)] if count > 1 else [])]


def _tidy(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _shown(raw: Any) -> str:
    return str(list(raw)) if isinstance(raw, (list, tuple)) else got(raw)
