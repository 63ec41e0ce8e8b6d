"""Sizes of a decoder of the llama family, counted from its configuration: the engine keeps its weights to itself."""

from __future__ import annotations

from typing import Any

from llem.models.shapes import parameter_count
from llem.models.spec import Architecture, ModelSpec
from llem_tensorrt.config import TensorRTOptions

__all__ = ["architecture_of"]

BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
CACHE_BYTES = {"fp8": 1}


def architecture_of(model: ModelSpec, options: TensorRTOptions, dtype: Any) -> Architecture | None:
    """The sizes; None where they would be guesses: another family, a quantised model, an adapter, an unknown dtype.

    Args:
        dtype: of weights, as the engine has it.
    """
    config = model.config
    quantised = options.quant_algo is not None or (config or {}).get("quantization_config") is not None
    if config is None or quantised or options.lora_config is not None or model.source != "shape":
        return None  # a folder may be quantised by a file that is not its config.json
    total = parameter_count(config)
    width = BYTES.get(str(dtype if dtype != "auto" else config.get("dtype")))
    if total is None or width is None:
        return None
    heads, hidden = int(config["num_attention_heads"]), int(config["hidden_size"])
    layers, vocabulary = int(config["num_hidden_layers"]), int(config["vocab_size"])
    kv_heads = int(config.get("num_key_value_heads") or heads)
    head_dim = int(config.get("head_dim") or hidden // heads)
    cache = None if options.kv_cache_config is None else options.kv_cache_config.dtype
    return Architecture(
        parameters=total,
        active_parameters=total if config.get("tie_word_embeddings") else total - vocabulary * hidden,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        hidden_size=hidden,
        vocab_size=vocabulary,
        weight_bytes=total * width,
        kv_bytes_per_token=2 * layers * kv_heads * head_dim * CACHE_BYTES.get(cache or "auto", width),
    )
