"""Types and values in a user's words, for messages and reference pages."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import attrs

__all__ = ["choices", "describe", "got", "quoted", "renamed"]

_NAMES: Mapping[Any, str] = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "text",
    type(None): "null",
    Any: "any value",
}

_LONGEST = 60
#: Settings of earlier versions and what they are called now: stores on disk are upgraded, files of users are not.
_RENAMED = {"restarts": "processes", "percentile": "attainment"}


def renamed(name: str, known: Iterable[str]) -> str:
    """The hint for a setting that has another name now, where that one is known; else empty."""
    new = _RENAMED.get(name)
    return "" if new is None or new not in known else f"it is called {new!r} now"


def got(value: Any) -> str:
    """What a value is: "the text 'x'", "the number 2.9", "a list"."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return f"the text {value[:_LONGEST]!r}" + ("…" if len(value) > _LONGEST else "")
    if isinstance(value, (int, float)):
        return f"the number {value!r}"
    if isinstance(value, Mapping):
        return "a section"
    return "a list" if isinstance(value, (list, tuple)) else f"a {type(value).__name__}"


def quoted(names: Iterable[Any]) -> str:
    """`'a', 'b'`."""
    return ", ".join(repr(name) for name in names)


def choices(allowed: tuple[Any, ...]) -> str:
    """`'a'` for one, `one of 'a', 'b'` for several."""
    return repr(allowed[0]) if len(allowed) == 1 else f"one of {quoted(allowed)}"


def describe(kind: Any) -> str:
    """What a value of this type is: "an integer or null", "one of 'auto', 'cpu'", "a list", "a section"."""
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(describe(member) for member in typing.get_args(kind)))
    if origin is Literal:
        return choices(typing.get_args(kind))
    if kind in _NAMES:
        return _NAMES[kind]
    if attrs.has(kind) or issubclass(origin or kind, Mapping):
        return "a section"
    return "a list"
