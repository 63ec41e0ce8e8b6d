"""Sizes of a loaded decoder, from vLLM's configuration and its workers' reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llem.models.sizes import DecoderSizes, decoder_sizes
from llem.models.spec import Architecture

__all__ = ["architecture_of"]

ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "uint8": 1, "int8": 1, "float8_e4m3fn": 1, "float8_e5m2": 1}
#: Quantisations of weights alone, whose products are computed in the dtype. Others may compute in FP8 or int8.
WEIGHTS_ONLY = ("awq", "awq_marlin", "gptq", "gptq_marlin", "bitsandbytes")


def architecture_of(vllm_config: Any, workers: Sequence[Mapping[str, Any]], beams: bool = False) -> Architecture | None:
    """The sizes, or None where they cannot be counted.

    Parameters follow from the configuration: vLLM fuses, pads and splits its tensors. Bytes of weights are those that
    the workers hold, so copies on several GPUs count as often as they are read; where a worker has packed them away,
    parameters times the dtype's size, and None as a whole where they are quantised as well.

    Args:
        beams: whether requests are searched with several beams.
    """
    model = vllm_config.model_config
    config = model.hf_text_config
    if model.hf_config.model_type != config.model_type:  # more than text: its other parts are not counted apart
        return None
    told = config.to_dict()
    sizes = decoder_sizes(told)
    item = _cache_item_bytes(workers)
    if sizes is None or item is None:
        return None
    held = _held(vllm_config, workers, sizes, bool(told.get("tie_word_embeddings")))
    if held is None:
        return None
    weights, read = held
    drafts = getattr(vllm_config, "speculative_config", None) is not None
    return sizes.architecture(
        weights,
        item,
        read_bytes=read,
        other_products=model.quantization not in (None, *WEIGHTS_ONLY),
        unfit="speculative" if drafts else "passes_unknown" if beams else None,
    )


def _cache_item_bytes(workers: Sequence[Mapping[str, Any]]) -> int | None:
    dtypes = {dtype for worker in workers for dtype in worker["kv_cache_dtype"]}
    return ITEM_BYTES.get(dtypes.pop()) if len(dtypes) == 1 else None


def _held(
    vllm_config: Any, workers: Sequence[Mapping[str, Any]], sizes: DecoderSizes, tied: bool
) -> tuple[int, int | None] | None:
    """Bytes of all weights, and of those that a pass reads at least (None: not known); None: neither is known."""
    if any(worker["weights_packed"] for worker in workers):
        item = ITEM_BYTES.get(str(vllm_config.model_config.dtype).removeprefix("torch."))
        quantised = vllm_config.model_config.quantization is not None
        return None if item is None or quantised else (sizes.parameters * item, sizes.active_parameters * item)
    total, experts = (sum(worker[name] for worker in workers) for name in ("weight_bytes", "expert_bytes"))
    tables = 0 if tied else sum(worker["lookup_bytes"] for worker in workers)
    if (sizes.experts > 1) != bool(experts) or not (tied or tables):
        return total, None
    return total, total - tables - round(experts * (1 - sizes.chosen / sizes.experts))
