"""Scalars, strictly, and the exception by which a fault travels to whoever collects all of them."""

from __future__ import annotations

import math
import typing
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from llem.config.words import describe, got
from llem.errors import Problem, nearest

__all__ = ["SCALARS", "Faults", "closest", "join", "structure_float", "structure_literal", "wrong"]


class Faults(Exception):
    """The problems of one value; containers catch it and go on, so that all are found."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__(*problems)
        self.problems = problems

    def below(self, step: str) -> list[Problem]:
        """The problems as they are seen from one step further out."""
        return [attrs.evolve(problem, path=join(step, problem.path)) for problem in self.problems]


def join(parent: str, child: str) -> str:
    """`a` and `b` make `a.b`; `a` and `[0]` make `a[0]`."""
    return f"{parent}.{child}" if parent and child and not child.startswith("[") else parent + child


def wrong(kind: Any, raw: Any, hint: str = "") -> Faults:
    """The fault that a value is not of a type."""
    return Faults(Problem("", f"must be {describe(kind)}, got {got(raw)}", hint))


def _bool(raw: Any, kind: Any) -> bool:
    if isinstance(raw, bool):
        return raw
    raise wrong(kind, raw, "write true or false, without quotes" if isinstance(raw, str) else "")


def _int(raw: Any, kind: Any) -> int:
    if isinstance(raw, int) and not isinstance(raw, bool):
        return raw
    raise wrong(kind, raw, f"write {raw} without quotes" if isinstance(raw, str) and raw.isdecimal() else "")


def structure_float(raw: Any, kind: Any) -> float:
    """A finite number; whole numbers become floats."""
    if isinstance(raw, bool) or not isinstance(raw, (int, float)):
        raise wrong(kind, raw, "write the number without quotes" if isinstance(raw, str) else "")
    try:
        value = float(raw)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise Faults(Problem("", f"must be a finite number, got {raw}"))
    return value


def _str(raw: Any, kind: Any) -> str:
    if isinstance(raw, str):
        return raw
    raise wrong(kind, raw, f'write it in quotes: "{raw}"' if isinstance(raw, int) else "")


def structure_literal(raw: Any, kind: Any) -> Any:
    """One of the choices of a Literal."""
    allowed = typing.get_args(kind)
    for choice in allowed:
        if type(choice) is type(raw) and choice == raw:  # 1 == True, so equality alone will not do
            return choice
    raise wrong(kind, raw, closest(raw, allowed))


def closest(raw: Any, known: Sequence[Any]) -> str:
    """The hint that asks whether the most similar of the known names was meant; empty when none is similar."""
    near = nearest(raw, [name for name in known if isinstance(name, str)]) if isinstance(raw, str) else None
    return f"did you mean {near!r}?" if near else ""


#: What cattrs calls for each type; each takes the raw value and the type.
SCALARS: Sequence[tuple[type, Callable[[Any, Any], Any]]] = (
    (bool, _bool),
    (int, _int),
    (float, structure_float),
    (str, _str),
)
