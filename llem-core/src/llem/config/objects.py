"""An attrs object from the raw values of its fields, with every fault that they have; who reads them is told."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from llem.config.scalars import Faults, closest
from llem.config.words import quoted, renamed
from llem.errors import Problem

__all__ = ["Read", "default_of", "made", "settings"]

#: Reads the value of a field; raises Faults.
Read = Callable[["attrs.Attribute[Any]", Any], Any]


@functools.cache
def settings(cls: Any) -> tuple[attrs.Attribute[Any], ...]:
    """The fields a user may set, with annotations resolved to types."""
    attrs.resolve_types(cls)
    return tuple(field for field in attrs.fields(cls) if field.init)


def default_of(field: attrs.Attribute[Any]) -> Any:
    """A field's default value, or attrs.NOTHING where there is none, or none without an object to compute it from."""
    default: Any = field.default
    if not hasattr(default, "takes_self"):
        return default
    return attrs.NOTHING if default.takes_self else default.factory()


def made(raw: Mapping[Any, Any], cls: Any, read: Read) -> Any:
    """The object of a class. Raises Faults, with all that the fields' readers, validators and the class itself say."""
    fields = settings(cls)
    problems = [] if raw.keys() <= _names(cls) else _unknown(raw, tuple(field.name for field in fields))
    values: dict[str, Any] = {}
    for field in fields:
        if field.name in raw:
            try:
                values[field.name] = read(field, raw[field.name])
            except Faults as faults:
                problems += faults.below(field.name)
        elif field.default is attrs.NOTHING:
            problems.append(Problem(field.name, "is missing", field.metadata.get("help", "")))
    if problems:
        raise Faults(*problems, *_invalid(cls, fields, values))
    other = _other_names(cls)
    try:
        return cls(**{other.get(name, name): value for name, value in values.items()} if other else values)
    except (ValueError, TypeError) as error:  # a validator, or a rule over several fields in `__attrs_post_init__`
        raise Faults(*(_invalid(cls, fields, values) or [Problem("", _text(error))])) from error


@functools.cache
def _names(cls: Any) -> frozenset[str]:
    return frozenset(field.name for field in settings(cls))


@functools.cache
def _other_names(cls: Any) -> Mapping[str, str]:
    """Of fields whose argument is called otherwise, by the field's name."""
    return {field.name: field.alias for field in settings(cls) if field.alias not in (None, field.name)}


def _unknown(raw: Mapping[Any, Any], known: Sequence[str]) -> list[Problem]:
    return [
        Problem(
            str(name),
            "unknown field",
            renamed(str(name), known) or closest(name, known) or f"known: {quoted(known)}",
        )
        for name in raw
        if name not in known
    ]


def _invalid(cls: Any, fields: Sequence[attrs.Attribute[Any]], values: Mapping[str, Any]) -> list[Problem]:
    """What the validators say, one by one: attrs itself stops at the first and does not name the field."""
    partial = object.__new__(cls)  # validators may look at their neighbours
    for field in fields:
        if field.name in values:
            object.__setattr__(partial, field.name, values[field.name])
        elif (default := default_of(field)) is not attrs.NOTHING:
            object.__setattr__(partial, field.name, default)
    problems = []
    for field in fields:
        if field.name not in values or field.validator is None:
            continue
        try:
            field.validator(partial, field, values[field.name])
        except (ValueError, TypeError) as error:
            problems.append(Problem(field.name, _text(error)))
        except AttributeError:
            # It looks at a neighbour that is itself missing or wrong, which is reported; with a complete object it is a
            # defect of the class.
            if all(hasattr(partial, other.name) for other in fields):
                raise
    return problems


def _text(error: Exception) -> str:
    return str(error.args[0]) if error.args else type(error).__name__
