"""Models to JSON values and back, exactly: floats by their shortest form, nothing coerced, nothing dropped."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any, TypeVar

import attrs
from cattrs import Converter
from cattrs.gen import make_dict_unstructure_fn, override

from llem.errors import StoreError

__all__ = ["dump", "load"]

T = TypeVar("T")


@functools.cache
def _converter() -> Converter:
    converter = Converter(forbid_extra_keys=True, detailed_validation=False)

    def strict(kind: type) -> Any:
        def structure(value: Any, _: type) -> Any:
            if kind is float and type(value) is int:
                return float(value)
            if type(value) is not kind:  # cattrs alone turns 2.9 into 2 and "false" into True
                raise TypeError(f"{value!r:.80} is not {kind.__name__}")
            return value

        return structure

    for kind in (bool, int, float, str):
        converter.register_structure_hook(kind, strict(kind))
    converter.register_unstructure_hook_factory(lambda kind: bool(_spare(kind)), functools.partial(_sparing, converter))
    return converter


def _spare(kind: Any) -> list[str]:
    """Fields of a model that are written only where they are not the default, by their metadata `spare`: they came
    later than the files, or few of very many have them."""
    return [field.name for field in attrs.fields(kind) if field.metadata.get("spare")] if attrs.has(kind) else []


def _sparing(converter: Converter, kind: Any) -> Any:
    overrides: dict[str, Any] = {name: override(omit_if_default=True) for name in _spare(kind)}
    return make_dict_unstructure_fn(kind, converter, **overrides)


def dump(model: Any) -> dict[str, Any]:
    """A model as JSON values: the very values that reading its file gives."""
    text = json.dumps(_converter().unstructure(model), allow_nan=False, sort_keys=True)
    data: dict[str, Any] = json.loads(text)
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
