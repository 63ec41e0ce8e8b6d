"""Models to JSON and back, exactly: floats round-trip by their shortest form, nothing is coerced, nothing dropped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

from cattrs import Converter

from llem.errors import StoreError

__all__ = ["canonical", "digest", "dump", "load", "parse", "to_text"]

T = TypeVar("T")


@cache
def _converter() -> Converter:
    converter = Converter(forbid_extra_keys=True, detailed_validation=False)

    def strict(kind: type) -> Any:
        def structure(value: Any, _: type) -> Any:
            if kind is float and type(value) is int:
                return float(value)
            if type(value) is not kind:  # cattrs alone turns 2.9 into 2 and "false" into True
                raise TypeError(f"{value!r} is not {kind.__name__}")
            return value

        return structure

    for kind in (bool, int, float, str):
        converter.register_structure_hook(kind, strict(kind))
    return converter


def dump(model: Any) -> dict[str, Any]:
    """A model as JSON values: the very values that reading its file gives."""
    data: dict[str, Any] = json.loads(to_text(_converter().unstructure(model)))
    return data


def load(data: Mapping[str, Any], kind: type[T], where: str) -> T:
    """A model from JSON values. Raises StoreError (store_corrupt) naming the file `where`."""
    try:
        return _converter().structure(data, kind)
    except Exception as error:  # cattrs raises many kinds; each means that the file is not what was written
        detail = f"{type(error).__name__}: {error}".splitlines()[0]
        raise StoreError(
            f"{where}: not a {kind.__name__.lower()} ({detail})", "restore the file, or measure again", "store_corrupt"
        ) from error


def to_text(data: Any) -> str:
    """JSON as it is stored. Raises ValueError for NaN and infinity, which are not JSON."""
    return json.dumps(data, allow_nan=False, sort_keys=True, indent=2, ensure_ascii=False) + "\n"


def parse(text: str) -> Any:
    """JSON values from text. Raises ValueError with the position; NaN and infinity are refused."""

    def refuse(name: str) -> Any:
        raise ValueError(f"{name} is not a JSON number")

    return json.loads(text, parse_constant=refuse)


def canonical(data: Any) -> bytes:
    """One byte string per JSON value, whatever the order and spacing it was written in."""
    return json.dumps(data, allow_nan=False, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest(data: Any) -> str:
    """SHA-256 over the canonical form."""
    return hashlib.sha256(canonical(data)).hexdigest()
