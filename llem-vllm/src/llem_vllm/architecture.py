"""Sizes of a loaded decoder, from vLLM's configuration and its workers' reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llem.models.shapes import parameter_count
from llem.models.spec import Architecture

__all__ = ["architecture_of"]

#: Attributes whose presence means that sizes below would be guesses: experts, latent attention, state spaces.
UNKNOWN = ("num_experts", "num_local_experts", "n_routed_experts", "num_experts_per_tok", "kv_lora_rank", "ssm_cfg")
ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "uint8": 1, "int8": 1, "float8_e4m3fn": 1, "float8_e5m2": 1}


def architecture_of(vllm_config: Any, workers: Sequence[Mapping[str, Any]]) -> Architecture | None:
    """The sizes, or None where they cannot be counted.

    Parameters follow from the configuration: vLLM fuses, pads and splits its tensors. Bytes of weights are those that
    the workers hold, so copies on several GPUs count as often as they are read; where a worker has packed them away,
    parameters times the dtype's size, and None as a whole where they are quantised as well.
    """
    config = vllm_config.model_config.hf_text_config
    told = config.to_dict()
    kinds = set(told.get("layer_types") or ())
    total = parameter_count(told)
    if total is None or any(getattr(config, name, None) for name in UNKNOWN):
        return None
    if any("attention" not in kind for kind in kinds) or "linear_attention" in kinds:
        return None
    layers, heads, hidden = config.num_hidden_layers, config.num_attention_heads, config.hidden_size
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    head_dim = getattr(config, "head_dim", None) or hidden // heads
    item, weights = _cache_item_bytes(workers), _weight_bytes(vllm_config, workers, total)
    if item is None or weights is None:
        return None
    return Architecture(
        parameters=total,
        active_parameters=total - (0 if told.get("tie_word_embeddings") else config.vocab_size * hidden),
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        hidden_size=hidden,
        vocab_size=config.vocab_size,
        weight_bytes=weights,
        kv_bytes_per_token=2 * layers * kv_heads * head_dim * item,
    )


def _cache_item_bytes(workers: Sequence[Mapping[str, Any]]) -> int | None:
    dtypes = {dtype for worker in workers for dtype in worker["kv_cache_dtype"]}
    return ITEM_BYTES.get(dtypes.pop()) if len(dtypes) == 1 else None


def _weight_bytes(vllm_config: Any, workers: Sequence[Mapping[str, Any]], parameters: int) -> int | None:
    if not any(worker["weights_packed"] for worker in workers):
        return sum(worker["weight_bytes"] for worker in workers)
    item = ITEM_BYTES.get(str(vllm_config.model_config.dtype).removeprefix("torch."))
    return None if item is None or vllm_config.model_config.quantization is not None else parameters * item
