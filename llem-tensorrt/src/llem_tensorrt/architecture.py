"""Sizes of a decoder of a known family, counted from its configuration: the engine keeps its weights to itself."""

from __future__ import annotations

from typing import Any

from llem.models.sizes import decoder_sizes
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
    sizes = decoder_sizes(config)
    width = BYTES.get(str(dtype if dtype != "auto" else config.get("dtype")))
    if sizes is None or width is None:
        return None
    cache = None if options.kv_cache_config is None else options.kv_cache_config.dtype
    item = CACHE_BYTES.get(cache or "auto", width)
    beams = bool(options.use_beam_search) and (options.max_beam_width or 1) > 1
    return sizes.architecture(
        sizes.parameters * width,
        item,
        read_bytes=sizes.active_parameters * width,
        unfit="speculative" if options.speculative_config is not None else "passes_unknown" if beams else None,
    )
