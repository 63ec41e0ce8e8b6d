"""What really runs, read back from the arguments that the engine keeps. JSON values only."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from llem_tensorrt.hooks import STATUS
from llem_tensorrt.installed import library
from llem_tensorrt.loading import Loaded

__all__ = ["effective_config", "plain"]


def effective_config(loaded: Loaded, sampling: Any) -> dict[str, Any]:
    """The configuration in effect.

    `args` are those of the LLM object, which fills in its defaults and what it derives; the executor behind it does not
    tell what it made of them.

    Args:
        sampling: the SamplingParams that a request of the experiment gets.
    """
    args = loaded.llm.args
    told = {name: plain(getattr(args, name)) for name in sorted(type(args).model_fields)}
    if loaded.folder is not None:
        told["model"] = loaded.model.name  # the folder's name changes from run to run
    quantisation = getattr(args, "quant_config", None)
    return {
        "engine": "tensorrt",
        "engine_status": STATUS,
        "tensorrt_llm": str(getattr(library(), "__version__", "unknown")),
        "dtype": told.get("dtype"),
        "weights": "dummy" if loaded.folder is not None else "checkpoint",
        "quantization": None if quantisation is None else plain(quantisation),
        "args": told,
        "sampling_params": {name: value for name, value in _fields(sampling).items() if not name.startswith("_")},
        "lora": None if loaded.lora is None else _fields(loaded.lora),
    }


def plain(value: Any) -> Any:
    """JSON values: models, dataclasses and containers opened, enums by name, everything else as its class's name."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, str | Path):
        return str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=str)
    opened = _fields(value)
    return opened if opened else type(value).__name__


def _fields(value: Any) -> dict[str, Any]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    names = getattr(type(value), "model_fields", {})
    found = {name: plain(getattr(value, name)) for name in names}
    kind = getattr(type(value), "decoding_type", None) or getattr(type(value), "algorithm", None)
    return {"kind": str(kind), **found} if kind else found
