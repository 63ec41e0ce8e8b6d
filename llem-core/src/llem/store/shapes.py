"""What the readers of a document take for granted: of which type each value is that they use.

Shapes of settings and of models are read off their classes, so that they cannot say anything else.
"""

from __future__ import annotations

import functools
import operator
import types
import typing
from collections.abc import Mapping
from types import EllipsisType, UnionType
from typing import Any, Literal, TypeAlias

import attrs

from llem.config.converter import settings
from llem.config.models import Experiment
from llem.config.words import describe, got
from llem.models.spec import Architecture
from llem.store.quantity import Quantity

__all__ = ["ENGINE", "ENVIRONMENT", "EXPERIMENT", "LISTED", "OUTCOME", "RESULT", "STUDY", "Maybe", "Shape", "fault"]

#: A class (or several, `int | float`), keys with their shapes (`...` for all keys), or a list of what has one shape.
Shape: TypeAlias = "type | UnionType | Maybe | dict[str | EllipsisType, Any] | list[Any]"


@attrs.frozen
class Maybe:
    """What may be left out; and, unless `null` says otherwise, null."""

    shape: Shape
    null: bool = True


def _of(kind: Any) -> Any:
    """The shape of a type as a model has it. Keys may be left out: an older llem may have written none."""
    origin, members = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return object
    if attrs.has(kind):
        return {field.name: _field(field.type) for field in settings(kind)}
    if origin in (typing.Union, types.UnionType):
        return _any_of([_of(member) for member in members if member is not type(None)])
    if origin is Literal:
        return _any_of(list(dict.fromkeys(type(member) for member in members)))
    if origin is tuple:
        return [_of(members[0])]
    if origin is not None and issubclass(origin, Mapping):
        return {...: _of(members[1])}
    return int | float if kind is float else kind


def _field(kind: Any) -> Maybe:
    return Maybe(_of(kind), null=kind is Any or type(None) in typing.get_args(kind))


def _any_of(shapes: list[Any]) -> Any:
    """One shape for several: sections together have the keys of all."""
    if all(isinstance(shape, dict) for shape in shapes):
        return {key: inner for shape in shapes for key, inner in shape.items()}
    if len(shapes) == 1:
        return shapes[0]
    return functools.reduce(operator.or_, (type(one) if isinstance(one, (dict, list)) else one for one in shapes))


_TEXT = str | None
_TOLD = [{"code": str, "severity": str, "message": str, "evidence": Maybe(dict)}]
_FINDINGS = Maybe(_TOLD)
_DOMAIN = {"meter": str, "name": str, "scope": str, "kind": str, "instrument": str}
_ARCHITECTURE: dict[Any, Any] = {
    **{field.name: int | float for field in attrs.fields(Architecture) if field.default is attrs.NOTHING},
    "windows": Maybe([[int]]),
    "output_parameters": Maybe(int),
    "read_bytes": Maybe(int),
    "experts": Maybe(int),
    "other_products": Maybe(bool),
    "unfit": Maybe(str),
}
_RATE_WINDOW = {
    **dict.fromkeys(("rate", "seconds", "in_flight_first", "in_flight_last"), int | float),
    **dict.fromkeys(("seed", "arrived", "judged", "kept"), int),
    "late": {...: int},
    "reached_s": {...: int | float},
    "runs": [[int]],
    "lag_p99_s": Maybe(int | float),
    "steady": bool,
    "on_time": bool,
}
#: Settings as they are stored: sections of plugins are theirs.
_CONFIG = {
    **_of(Experiment),
    **dict.fromkeys(("workload", "options"), Maybe(dict)),
    "quality": Maybe({"evaluator": str, "tasks": [str]}),
    **dict.fromkeys(("backend", "model", "dtype", "device", "preset"), Maybe(str)),
}
#: What a listing shows of them.
_CONFIG_LISTED = {name: _CONFIG[name] for name in ("backend", "model", "dtype", "load")}

STUDY: Shape = {
    "experiments": Maybe([str]),
    "axes": Maybe([str]),
    "points": Maybe({...: {"number": int, "values": dict}}),
    "texts": Maybe(dict),
    "overrides": Maybe([{"values": dict}]),
    "order": Maybe({"kind": Maybe(str)}),
    "limits": Maybe(dict),
    **dict.fromkeys(("name", "llem", "started_at"), Maybe(str)),
}
ENVIRONMENT: Shape = {
    "host": {"cpu": _TEXT, "threads": int, "memory_bytes": int | float},
    "gpus": Maybe([dict]),
    "packages": Maybe(dict),
}
EXPERIMENT: Shape = {"id": str, "config": _CONFIG, "sources": Maybe(dict), "model": {"weights": str}}
ENGINE: Shape = {
    "process": int,
    "effective": Maybe(dict),
    "environment": Maybe(str),
    "architecture": Maybe(_ARCHITECTURE),
    "device": Maybe({"device": Maybe(str), "gpus": Maybe([str]), "names": Maybe([_TEXT])}),
    "domains": Maybe([_DOMAIN]),
    "probe": Maybe({"requests_per_s": int | float}),
    "rate_search": Maybe(
        {
            "rate": Maybe(int | float),
            "attainment": int | float,
            "limits": {...: int | float},
            "windows": [_RATE_WINDOW],
        }
    ),
    "findings": _FINDINGS,
}
OUTCOME: Shape = {"process": int, "outcome": str, "error": Maybe(str), "findings": _FINDINGS}
#: What a listing reads of a result.
LISTED: Shape = {
    **dict.fromkeys(("id", "outcome"), str),
    **dict.fromkeys(("valid", "publishable"), bool),
    "error": Maybe(str),
    "trials": int,
    "metrics": {...: {**_of(Quantity), "value": int | float | None, "unit": str}},
    "findings": _TOLD,
    "config": _CONFIG_LISTED,
}
#: What the class of a result does not say of it.
RESULT: Shape = {"config": _CONFIG}


def fault(value: Any, shape: Shape) -> str | None:
    """The first thing that is not of its shape, in words: "`model.weights` is missing"; None where all is."""
    found = _fault(value, shape)
    return None if found is None else f"`{found[0].removeprefix('.')}` {found[1]}"


def _fault(value: Any, shape: Any) -> tuple[str, str] | None:
    """The way to it from here, which is made only where there is one, and what is wrong with it."""
    while type(shape) is Maybe:
        if value is None and shape.null:
            return None
        shape = shape.shape
    kind: Any = type(shape) if isinstance(shape, (list, dict)) else shape
    if not _is(value, kind):
        return "", f"must be {describe(kind)}, got {got(value)}"
    if isinstance(shape, list):
        for n, item in enumerate(value):
            if (found := _fault(item, shape[0])) is not None:
                return f"[{n}]{found[0]}", found[1]
    return _fault_below(value, shape) if isinstance(shape, dict) else None


def _is(value: Any, kind: Any) -> bool:
    """Whether a value is of a type; true and false are no numbers."""
    return isinstance(value, kind) and (
        not isinstance(value, bool) or any(one in (bool, object) for one in typing.get_args(kind) or (kind,))
    )


def _fault_below(value: Mapping[str, Any], shape: Mapping[Any, Any]) -> tuple[str, str] | None:
    for key in value if ... in shape else shape:
        inner = shape[key] if key in shape else shape[...]
        if key not in value:
            if not isinstance(inner, Maybe):
                return f".{key}", "is missing"
        elif (found := _fault(value[key], inner)) is not None:
            return f".{key}{found[0]}", found[1]
    return None
