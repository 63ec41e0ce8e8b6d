"""What readers take for granted in the documents of a store that are no models: which keys, of which kind.

A document that was damaged, or written by hand, is then a message that names the file and the key, before any number
is made from it. Keys beyond these are for whoever looks at them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import EllipsisType, UnionType
from typing import Any, TypeAlias

import attrs

from llem.config.words import describe, got
from llem.models.spec import Architecture
from llem.store.files import corrupt, read_json

__all__ = ["ENGINE", "ENVIRONMENT", "EXPERIMENT", "OUTCOME", "STUDY", "Maybe", "Shape", "fault", "read_shaped"]

#: A class (or several, `int | float`), keys with their shapes (`...` for all keys), or a list of what has one shape.
Shape: TypeAlias = "type | UnionType | Maybe | dict[str | EllipsisType, Any] | list[Any]"


@attrs.frozen
class Maybe:
    """What may be left out, or null."""

    shape: Shape


_TEXT = str | None
_FINDINGS = Maybe([{"code": str, "severity": str, "message": str, "evidence": Maybe(dict)}])
_DOMAIN = {"meter": str, "name": str, "scope": str, "kind": str, "instrument": str}
_ARCHITECTURE: dict[Any, Any] = {
    field.name: int | float for field in attrs.fields(Architecture) if field.default is attrs.NOTHING
}
_CONFIG = {"load": Maybe({"kind": Maybe(str)}), "sampling": Maybe(dict), "trials": Maybe(int), "processes": Maybe(int)}

STUDY: Shape = {
    "experiments": Maybe([str]),
    "axes": Maybe([str]),
    "points": Maybe({...: {"number": int, "values": dict}}),
    "texts": Maybe(dict),
    "overrides": Maybe([{"values": dict}]),
}
ENVIRONMENT: Shape = {"host": {"cpu": _TEXT, "threads": int, "memory_bytes": int | float}}
EXPERIMENT: Shape = {"id": str, "config": _CONFIG, "sources": Maybe(dict), "model": {"weights": str}}
ENGINE: Shape = {
    "process": int,
    "effective": Maybe(dict),
    "environment": Maybe(str),
    "architecture": Maybe(_ARCHITECTURE),
    "device": Maybe({"device": Maybe(str), "gpus": Maybe([str]), "names": Maybe([_TEXT])}),
    "domains": Maybe([_DOMAIN]),
    "probe": Maybe({"requests_per_s": int | float}),
    "findings": _FINDINGS,
}
OUTCOME: Shape = {"process": int, "outcome": str, "error": Maybe(str), "findings": _FINDINGS}


def fault(value: Any, shape: Shape, path: str = "") -> str | None:
    """The first thing that is not of its shape, in words: "`model.weights` is missing"; None where all is."""
    if isinstance(shape, Maybe):
        return None if value is None else fault(value, shape.shape, path)
    kind: Any = type(shape) if isinstance(shape, (list, dict)) else shape
    if not isinstance(value, kind):
        return f"`{path}` must be {describe(kind)}, got {got(value)}"
    if isinstance(shape, list):
        return next(filter(None, (fault(item, shape[0], f"{path}[{n}]") for n, item in enumerate(value))), None)
    return _fault_below(value, shape, path) if isinstance(shape, dict) else None


def _fault_below(value: Mapping[str, Any], shape: Mapping[Any, Any], path: str) -> str | None:
    keys = value if ... in shape else shape
    for key in keys:
        inner = shape[key] if key in shape else shape[...]
        below = f"{path}.{key}" if path else str(key)
        if key not in value:
            if not isinstance(inner, Maybe):
                return f"`{below}` is missing"
        elif (found := fault(value[key], inner, below)) is not None:
            return found
    return None


def read_shaped(path: Path, shape: Shape) -> dict[str, Any]:
    """A document with all that its readers take for granted. Raises StoreError (store_corrupt) where it is not."""
    document = read_json(path)
    if (what := fault(document, shape)) is not None:
        raise corrupt(path, what)
    return document
