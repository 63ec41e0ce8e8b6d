"""From plain values to attrs objects and back: strictly, and with every fault found.

No value is coerced except a whole number to a float: `"false"` is not false, 2.9 and `"3"` are not integers, true is
not 1, NaN and infinity are not numbers. Stock cattrs hooks coerce, so every type a setting may have is given its own
hook here, and any other type is refused.
"""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import attrs
import cattrs

from llem.config.objects import default_of, made, settings
from llem.config.scalars import SCALARS, Faults, closest, structure_float, structure_literal, wrong
from llem.config.words import choices, got
from llem.errors import ConfigError, Problem

__all__ = [
    "default_kind",
    "default_of",
    "kinds_of",
    "read_field",
    "settings",
    "structure",
    "structure_all",
    "unstructure",
]

T = TypeVar("T")


def structure(cls: type[T], raw: Any, path: str = "", *, source: str = "") -> T:
    """The object that `raw` describes.

    Args:
        cls: an attrs class.
        path: what stands before the path of every problem.
        source: where the values stand, for the message: "the user configuration FILE".

    Raises:
        ConfigError: with every problem, not only the first.
    """
    value, problems = structure_all(cls, raw, path)
    if problems or value is None:
        raise ConfigError("invalid settings" + (f" in {source}" if source else ""), problems=problems)
    return value


def structure_all(cls: type[T], raw: Any, path: str = "") -> tuple[T | None, tuple[Problem, ...]]:
    """As `structure`, but the problems are returned, for callers that gather them from several places."""
    try:
        return _converter.structure(raw, cls), ()
    except Faults as faults:
        return None, tuple(faults.below(path))


def read_field(field: attrs.Attribute[Any], raw: Any) -> Any:
    """The value of one field. Raises Faults."""
    return _converter.structure(_with_kind(raw, field), Any if field.type is None else field.type)


def unstructure(value: Any) -> Any:
    """JSON values: objects and mappings to dicts, tuples to lists. Nothing is dropped, not even None."""
    return _converter.unstructure(value)


def default_kind(field: attrs.Attribute[Any]) -> str | None:
    """The `kind` of a field's default where the field takes sections of several kinds; else None."""
    default = default_of(field)
    several = sum(attrs.has(member) for member in typing.get_args(field.type)) > 1
    return str(default.kind) if several and attrs.has(type(default)) else None


@functools.cache
def kinds_of(cls: Any) -> tuple[str, ...]:
    """What `kind` may be for a class, read off its field `kind: Literal[…]`; empty when there is none."""
    return next((typing.get_args(field.type) for field in settings(cls) if field.name == "kind"), ())


def _any(raw: Any, _: Any) -> Any:
    """A value handed on to an engine as it is. It is stored and hashed, so it must be made of JSON values."""
    if raw is None or isinstance(raw, (bool, int, str)):
        return raw
    if isinstance(raw, float):
        return structure_float(raw, float)
    if isinstance(raw, Mapping):
        return _mapping(raw, Mapping[str, Any])
    if isinstance(raw, (list, tuple)):
        return _elements(raw, [Any] * len(raw))
    raise Faults(Problem("", f"must be a JSON value, got {got(raw)}"))


def _mapping(raw: Any, kind: Any) -> dict[str, Any]:
    if not isinstance(raw, Mapping):
        raise wrong(kind, raw)
    _, inner = typing.get_args(kind) or (str, Any)
    problems = [Problem("", f"keys must be text, got {got(key)}") for key in raw if not isinstance(key, str)]
    values = {}
    for key, item in raw.items():
        try:
            values[key] = _converter.structure(item, inner)
        except Faults as faults:
            problems += faults.below(str(key))
    if problems:
        raise Faults(*problems)
    return values


def _sequence(raw: Any, kind: Any) -> Any:
    if isinstance(raw, str) or not isinstance(raw, (list, tuple)):
        raise wrong(kind, raw, f"write [{raw}]" if isinstance(raw, (str, int, float)) else "")
    origin, inner = typing.get_origin(kind) or kind, typing.get_args(kind) or (Any, ...)
    if origin is list:
        return _elements(raw, [inner[0]] * len(raw))
    if origin is tuple and inner[-1] is not ...:
        if len(raw) != len(inner):
            raise Faults(Problem("", f"must have {len(inner)} entries, got {len(raw)}"))
        return tuple(_elements(raw, inner))
    return tuple(_elements(raw, [inner[0]] * len(raw)))


def _elements(raw: Sequence[Any], kinds: Sequence[Any]) -> list[Any]:
    values: list[Any] = []
    problems: list[Problem] = []
    for index, (item, kind) in enumerate(zip(raw, kinds, strict=True)):
        try:
            values.append(_converter.structure(item, kind))
        except Faults as faults:
            problems += faults.below(f"[{index}]")
    if problems:
        raise Faults(*problems)
    return values


def _union(raw: Any, kind: Any) -> Any:
    members = typing.get_args(kind)
    if raw is None and type(None) in members:
        return None
    sections = [member for member in members if attrs.has(member)]
    if sections and isinstance(raw, Mapping):
        return _converter.structure(raw, sections[0]) if len(sections) == 1 else _of_kind(raw, sections)
    if type(raw) in members:  # 1 stays an integer where integers are allowed too
        return _converter.structure(raw, type(raw))
    hint = ""
    for member in members:
        if member is type(None) or member in sections:
            continue
        try:
            return _converter.structure(raw, member)
        except Faults as faults:
            if any(problem.path for problem in faults.problems):
                raise  # the shape fits and something inside does not: say what
            hint = hint or faults.problems[0].hint
    raise wrong(kind, raw, hint)


def _of_kind(raw: Mapping[Any, Any], sections: Sequence[Any]) -> Any:
    """The section that `kind` names; a setting of another kind is told to be one."""
    cls = _tagged(raw, sections)
    owners = {field.name: kinds_of(other) for other in sections for field in settings(other)}
    foreign = owners.keys() - {field.name for field in settings(cls)}
    problems = [
        Problem(
            name,
            f"is a setting of kind {choices(owners[name])}, and this is of kind {raw['kind']!r}",
            "remove it, or change `kind`",
        )
        for name in raw
        if name in foreign
    ]
    try:
        value = _converter.structure({name: inner for name, inner in raw.items() if name not in foreign}, cls)
    except Faults as faults:
        problems += faults.problems
    if problems:
        raise Faults(*problems)
    return value


def _tagged(raw: Mapping[Any, Any], sections: Sequence[Any]) -> Any:
    """The one of several classes that `kind` names. cattrs itself reports an unknown tag as a missing field."""
    known = {kind: cls for cls in sections for kind in kinds_of(cls)}
    if "kind" not in raw:
        raise Faults(Problem("kind", "is missing", f"{choices(tuple(known))}"))
    kind = raw["kind"]
    if isinstance(kind, str) and kind in known:
        return known[kind]
    raise Faults(Problem("kind", f"must be {choices(tuple(known))}, got {got(kind)}", closest(kind, tuple(known))))


def _section(raw: Any, cls: Any) -> Any:
    if not isinstance(raw, Mapping):
        raise wrong(cls, raw, "give its settings, or leave the line out" if raw is None else "")
    return made(raw, cls, read_field)


def _with_kind(raw: Any, field: attrs.Attribute[Any]) -> Any:
    """A section that leaves its `kind` out is of the kind that the field has by default."""
    if not isinstance(raw, Mapping):
        return raw
    kind = default_kind(field)
    return {"kind": kind, **raw} if kind else raw


def _unsupported(_: Any, kind: Any) -> Any:
    raise TypeError(f"a setting cannot have the type {kind!r}")


def _make() -> cattrs.Converter:
    """The later of two matching hooks wins, so the refusal of everything comes first."""
    converter = cattrs.Converter(unstruct_collection_overrides={tuple: list})
    sequences = (tuple, list, Sequence)
    mappings = (dict, Mapping)
    hooks: list[tuple[Callable[[Any], bool], Callable[[Any, Any], Any]]] = [
        (lambda kind: True, _unsupported),
        (lambda kind: kind is Any or kind is object, _any),
        (lambda kind: typing.get_origin(kind) is Literal, structure_literal),
        (lambda kind: (typing.get_origin(kind) or kind) in sequences, _sequence),
        (lambda kind: (typing.get_origin(kind) or kind) in mappings, _mapping),
        (lambda kind: typing.get_origin(kind) in (typing.Union, types.UnionType), _union),
        (attrs.has, _section),
    ]
    for predicate, hook in hooks:
        converter.register_structure_hook_func(predicate, hook)
    for scalar, scalar_hook in SCALARS:
        converter.register_structure_hook(scalar, scalar_hook)  # cattrs asks these before any predicate
    return converter


_converter = _make()
