"""Objects that TensorRT-LLM takes, made of the plain values that a configuration holds.

A Python object of one's own is named: `"module:name"` stands for what is there under that name, a class for one object
of it that is made without arguments.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import attrs

from llem.errors import ConfigError
from llem.plugins.reference import resolve
from llem_tensorrt.failures import load_failures
from llem_tensorrt.installed import refuse_unknown

__all__ = ["NAMED", "engine_objects", "sampling_objects"]

#: Arguments that hold objects of one's own.
NAMED = ("batched_logits_processor", "checkpoint_loader", "logits_processor")


def engine_objects(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of LLM, objects in place of their names."""
    return {
        name: _named(value, f"tensorrt.extra.{name}") if name in NAMED else value for name, value in arguments.items()
    }


def sampling_objects(arguments: Mapping[str, Any], vocab_size: int | None) -> dict[str, Any]:
    """Arguments of SamplingParams, objects in place of plain values.

    Args:
        vocab_size: of the model, None where it is not known before it is loaded.
    """
    made = dict(arguments)
    path = "tensorrt.extra_sampling"
    if "guided_decoding" in made:
        settings = attrs.asdict(made["guided_decoding"], filter=lambda _, value: value is not None)
        made["guided_decoding"] = _object("GuidedDecodingParams", "tensorrt.guided_decoding", settings)
    if "logits_processor" in made:
        given = made["logits_processor"]
        found = [_named(one, f"{path}.logits_processor") for one in (given if isinstance(given, list) else [given])]
        made["logits_processor"] = found if isinstance(given, list) else found[0]
    if "additional_model_outputs" in made:
        made["additional_model_outputs"] = [
            _object("AdditionalModelOutput", f"{path}.additional_model_outputs", {"gather_context": False, **output})
            for output in made["additional_model_outputs"]
        ]
    if "embedding_bias" in made:
        made["embedding_bias"] = _bias(made["embedding_bias"], vocab_size, f"{path}.embedding_bias")
    return made


def _named(target: Any, path: str) -> Any:
    if not isinstance(target, str) or ":" not in target:
        raise ConfigError(f'{path}: is an object of Python, and {target!r} names none; write "module:name"')
    try:
        found = resolve(target)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{path}: there is no {target}: {error}", "the module must be importable here") from error
    return found() if isinstance(found, type) else found


def _object(name: str, path: str, settings: Mapping[str, Any]) -> Any:
    cls = getattr(importlib.import_module("tensorrt_llm.sampling_params"), name)
    refuse_unknown(settings, (field for field in cls.__dataclass_fields__), path)
    with load_failures(f"section {path}", path):
        return cls(**settings)


def _bias(given: Mapping[str, float], vocab_size: int | None, path: str) -> Any:
    """A number for each token of the vocabulary, 0 where none is given."""
    import torch

    if vocab_size is None:
        raise ConfigError(f"{path}: the size of the vocabulary is not known in advance", "name the model's folder")
    wrong = [token for token in given if not token.isdecimal() or int(token) >= vocab_size]
    if wrong:
        raise ConfigError(f"{path}: {wrong[0]} is no token of a vocabulary of {vocab_size}", "write token ids as keys")
    bias = torch.zeros(vocab_size, dtype=torch.float32)
    for token, value in given.items():
        bias[int(token)] = value
    return bias
