"""Numbers with units, as a user writes them in an option: "500ms", "80GiB", "50/s", "1%". Pure.

Decimal numbers are multiplied exactly, so that 99.9 % is the same number as 0.999.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal

from llem.config.scalars import Faults
from llem.errors import ConfigError, Problem, nearest

__all__ = ["LIMIT_INVALID", "alone", "amount", "fault", "parse_duration", "parse_rate"]

#: Code of the error about a limit, or another number with a unit, that cannot be read.
LIMIT_INVALID = "limit_invalid"

_TIMES = {"s": 1, "min": 60, "h": 3600, "day": 86400}


def _rates(*nouns: str) -> dict[str, Decimal]:
    return {f"{noun}/{time}": 1 / Decimal(seconds) for noun in ("", *nouns) for time, seconds in _TIMES.items()}


def _table(text: str) -> dict[str, Decimal]:
    return {name: Decimal(factor) for name, factor in (pair.split("=") for pair in text.split())}


#: By the unit of a metric: what a user may write, and how much of that unit it is.
UNITS: Mapping[str, Mapping[str, Decimal]] = {
    "s": _table("us=1e-6 µs=1e-6 μs=1e-6 ms=1e-3 s=1 min=60 h=3600 day=86400"),
    "J": _table("uJ=1e-6 µJ=1e-6 μJ=1e-6 mJ=1e-3 J=1 kJ=1e3 MJ=1e6 Wh=3600 kWh=3.6e6"),
    "W": _table("mW=1e-3 W=1 kW=1e3 MW=1e6"),
    "B": _table(f"B=1 kB=1e3 MB=1e6 GB=1e9 TB=1e12 KiB={2**10} MiB={2**20} GiB={2**30} TiB={2**40}"),
    "FLOP": _table("FLOP=1 kFLOP=1e3 MFLOP=1e6 GFLOP=1e9 TFLOP=1e12 PFLOP=1e15"),
    "token/s": _rates("token", "tokens"),
    "request/s": _rates("request", "requests"),
    "": _table("%=1e-2"),
}
#: The unit that an example has.
EXAMPLE = {"s": "ms", "B": "GiB", "FLOP": "GFLOP", "token/s": "/s", "request/s": "/s", "": "%"}
_AMOUNT = re.compile(r"((?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)\s*(.*)", re.S)


def parse_rate(text: str) -> float:
    """Requests per second from `50/s`, `3000/min` or `1e6/day`. Raises ConfigError (limit_invalid)."""
    return alone("rate", text, "request/s")


def parse_duration(text: str) -> float:
    """Seconds from `90s`, `15min` or `2h`. Raises ConfigError (limit_invalid)."""
    return alone("duration", text, "s")


def alone(option: str, text: str, unit: str) -> float:
    """The one number of an option, above 0. Raises ConfigError (limit_invalid)."""
    try:
        value = amount(str(text), unit)
    except Faults as found:
        [problem] = found.problems
        raise ConfigError(f"invalid {option}: {problem.message}", problem.hint, LIMIT_INVALID) from None
    if value == 0:
        raise ConfigError(f"invalid {option}: {text!r} is 0", "give a number above 0", LIMIT_INVALID)
    return value


def fault(message: str, hint: str = "") -> Faults:
    """What is wrong with a part of a text, and what would be right."""
    return Faults(Problem("", message, hint))


def amount(text: str, unit: str, *, bare: bool = False) -> float:
    """A number of `unit`, 0 or more, from a text such as "500ms".

    Args:
        unit: that of a metric. One that has no table is written as it is.
        bare: whether the number may stand without its unit.

    Raises Faults: no number, no unit where one is needed, or another unit.
    """
    example = EXAMPLE.get(unit, unit)
    found = _AMOUNT.fullmatch(text.strip())
    if found is None:
        raise fault(
            f"{text.strip()!r} is not a number" if text.strip() else "there is no number", f"such as 5{example}"
        )
    digits, name = found[1], found[2].strip()
    if name.startswith(","):
        raise fault(f"{text.strip()!r} has a comma", "write 1000 without a separator, and 0.5 with a point")
    if not name and not bare:
        raise fault(f"{digits} has no unit", f"write it with one, such as {digits}{example}")
    known = UNITS.get(unit, {unit: Decimal(1)})
    if name and name not in known:
        raise fault(f"{name!r} is not a unit of {_measured(unit)}", _meant(digits, name, known))
    value = float(Decimal(digits) * (known[name] if name else 1)) if math.isfinite(float(digits)) else math.inf
    if not math.isfinite(value):
        raise fault(f"{digits} is too large a number", f"such as 5{example}")
    return value


def _measured(unit: str) -> str:
    """What a unit is of, in words."""
    words = {"s": "time", "J": "energy", "W": "power", "B": "memory", "FLOP": "operations", "": "a share"}
    rates = {"token/s": "tokens per second", "request/s": "requests per second"}
    return words.get(unit) or rates.get(unit) or f"a metric in {unit}"


def _meant(digits: str, name: str, known: Mapping[str, Decimal]) -> str:
    """The unit that was probably meant, and all that there are."""
    alike = [one for one in known if one.lower() == name.lower()]
    near = alike[0] if alike else nearest(name, known) if len(name) > 1 else None
    first: dict[Decimal, str] = {}
    for one, factor in known.items():
        first.setdefault(factor, one)  # of several spellings
    listed = f"units: {', '.join(first.values())}"
    return f"did you mean {digits}{near}? {listed}" if near else listed
