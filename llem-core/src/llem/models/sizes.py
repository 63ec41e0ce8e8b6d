"""What a Hugging Face configuration tells of a decoder's layers: windows of attention, experts, parameters.

Everything here is None where it would be a guess: a wrong count of operations is worse than none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import attrs

from llem.models.shapes import parameter_count
from llem.models.spec import Architecture

__all__ = ["DecoderSizes", "attention_windows", "decoder_sizes", "experts_of", "is_plain_decoder"]

#: Fields that, where they are set, change what a layer computes or keeps, so that the formulas of `llem.metrics.work`
#: do not hold: latent and linear attention, state spaces, convolutions, chunks, caches or heads that layers share or
#: that differ between layers, cross attention, further embeddings per layer.
OTHER_KINDS = (
    *("kv_lora_rank", "q_lora_rank", "index_topk", "v_head_dim", "linear_num_key_heads", "linear_num_value_heads"),
    *("ssm_cfg", "state_size", "mamba_d_state", "mamba_d_ssm", "mamba_expand", "time_mix_extra_dim", "conv_L_cache"),
    *("attn_layer_period", "attn_layer_indices", "layers_block_type", "block_types", "block_configs"),
    *("hybrid_override_pattern", "attention_layers", "attention_types", "attention_chunk_size"),
    *("num_kv_shared_layers", "hidden_size_per_layer_input", "altup_num_inputs", "global_head_dim"),
    *("num_global_key_value_heads", "attention_k_eq_v", "use_bidirectional_attention", "cross_attention_layers"),
    *(
        "is_encoder_decoder",
        "add_cross_attention",
        "multi_query",
        "multi_query_attention",
        "kv_n_heads",
        "num_kv_heads",
    ),
    *("ffn_config", "attn_config"),
)
OTHER_TYPES = ("diffllama", "recurrent_gemma", "rwkv")
COUNTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
CHOSEN = ("num_experts_per_tok", "num_experts_per_token", "top_k_experts", "moe_topk", "moe_top_k", "moe_k")

#: Families whose configuration says by `use_sliding_window` whether windows slide at all.
_SWITCHED = ("qwen2", "qwen3", "qwen2_moe", "qwen3_moe")
#: Families of which every layer slides, once a window is set.
_ALL_SLIDE = ("mistral", "mixtral", "phi3", "phimoe", "starcoder2", "qwen3_moe")
#: Families of which each n-th layer sees the whole context, and the others slide; where `layer_types` is not told.
_PATTERN = {"gemma2": 2, "gpt_oss": 2, "gemma3_text": 6}
_SLIDING, _FULL = "sliding_attention", "full_attention"


def is_plain_decoder(config: Mapping[str, Any]) -> bool:
    """Whether every layer is causal attention of equal heads over its own cache, and a feed-forward part."""
    kinds = set(config.get("layer_types") or ())
    odd = any(config.get(name) for name in OTHER_KINDS)
    return not odd and kinds <= {_SLIDING, _FULL} and config.get("model_type") not in OTHER_TYPES


def attention_windows(config: Mapping[str, Any], layers: int) -> tuple[tuple[int, int], ...] | None:
    """(tokens, layers) of the layers that attend to the last so many tokens only; None where that is not certain.

    `layer_types` decides where it is told. Else the rules are those of the families' own classes in transformers.
    """
    family, told = config.get("model_type"), config.get("layer_types")
    switched_off = not config.get("use_sliding_window", family not in _SWITCHED)
    window = None if switched_off else config.get("sliding_window")
    if told is not None:
        sliding = Counter(told)[_SLIDING]
        if len(told) != layers or not set(told) <= {_SLIDING, _FULL}:
            return None
    elif not window:
        silent = "sliding_window" not in config and not switched_off
        return None if silent and (family in _ALL_SLIDE or family in _PATTERN) else ()
    elif family in _ALL_SLIDE:
        sliding = layers
    elif family in ("qwen2", "qwen3"):
        sliding = max(layers - int(config.get("max_window_layers", 28)), 0)
    elif family in _PATTERN:
        sliding = layers - layers // int(config.get("sliding_window_pattern") or _PATTERN[family])
    else:
        return None
    if not sliding or (told is not None and not window and family in _SWITCHED):
        return ()
    return ((int(window), sliding),) if window else None


def experts_of(config: Mapping[str, Any]) -> tuple[int, int] | None:
    """(experts that a token goes through, routed experts) of a layer; (1, 1) for a dense model; None: not known."""
    counts = {int(config[name]) for name in COUNTS if config.get(name)}
    if not counts:
        return (1, 1)
    chosen = {int(config[name]) for name in CHOSEN if config.get(name)}
    if len(counts) != 1 or len(chosen) != 1:
        return None
    routed, active = counts.pop(), chosen.pop()
    return (active, routed) if 0 < active <= routed else None


@attrs.frozen
class DecoderSizes:
    """Sizes that follow from a configuration alone.

    Attributes:
        parameters, active_parameters, windows: as in `llem.models.spec.Architecture`.
        chosen, experts: experts of a token, and all routed ones, of a layer.
    """

    parameters: int
    active_parameters: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    hidden_size: int
    vocab_size: int
    windows: tuple[tuple[int, int], ...]
    chosen: int
    experts: int

    def architecture(self, weight_bytes: int, cache_item_bytes: int, **loaded: Any) -> Architecture:
        """The sizes of the model as an engine loaded it.

        Args:
            weight_bytes: of all weights.
            cache_item_bytes: of one element of the key-value cache.
            loaded: further fields of `Architecture` that the engine decides (`read_bytes`, `other_products`, `unfit`).
        """
        return Architecture(
            parameters=self.parameters,
            active_parameters=self.active_parameters,
            layers=self.layers,
            heads=self.heads,
            kv_heads=self.kv_heads,
            head_dim=self.head_dim,
            hidden_size=self.hidden_size,
            vocab_size=self.vocab_size,
            weight_bytes=weight_bytes,
            kv_bytes_per_token=2 * self.layers * self.kv_heads * self.head_dim * cache_item_bytes,
            windows=self.windows,
            experts=self.experts,
            **loaded,
        )


def decoder_sizes(config: Mapping[str, Any]) -> DecoderSizes | None:
    """Sizes of a decoder of a known family; None for all others, and for kinds that are no plain decoder."""
    count, experts = _parameters(config), experts_of(config)
    if count is None or experts is None or not is_plain_decoder(config):
        return None
    layers, heads, hidden = (int(config[n]) for n in ("num_hidden_layers", "num_attention_heads", "hidden_size"))
    windows = attention_windows(config, layers)
    if windows is None:
        return None
    (total, routed), (chosen, number) = count, experts
    embedding = int(config["vocab_size"]) * hidden
    return DecoderSizes(
        parameters=total,
        active_parameters=total - (0 if _tied(config) else embedding) - routed // number * (number - chosen),
        layers=layers,
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head_dim=int(config.get("head_dim") or hidden // heads),
        hidden_size=hidden,
        vocab_size=int(config["vocab_size"]),
        windows=windows,
        chosen=chosen,
        experts=number,
    )


def _tied(config: Mapping[str, Any]) -> bool:
    """`tie_word_embeddings`, which is true for Gemma where it is not told."""
    return bool(config.get("tie_word_embeddings", str(config.get("model_type")).startswith("gemma")))


def _parameters(config: Mapping[str, Any]) -> tuple[int, int] | None:
    """(all parameters, those of routed experts); None for a family that is not known here."""
    dense = parameter_count(config)
    if dense is not None:
        return dense, 0
    family = config.get("model_type")
    if family not in ("mixtral", "qwen3_moe", "gemma2", "gemma3_text") or config.get("mlp_only_layers"):
        return None
    if int(config.get("decoder_sparse_step") or 1) != 1:
        return None
    hidden, layers = int(config["hidden_size"]), int(config["num_hidden_layers"])
    alike = {**config, "tie_word_embeddings": _tied(config)}
    if family.startswith("gemma"):  # two more norms a layer; Gemma 3 has those over heads too
        plain = parameter_count({**alike, "model_type": "qwen3" if family == "gemma3_text" else "llama"})
        return None if plain is None else (plain + 2 * hidden * layers, 0)
    width = int(config["moe_intermediate_size" if family == "qwen3_moe" else "intermediate_size"])
    plain = parameter_count(
        {**alike, "model_type": "qwen3" if family == "qwen3_moe" else "llama", "intermediate_size": width}
    )
    experts = experts_of(config)
    if plain is None or experts is None:
        return None
    one = 3 * hidden * width * layers
    return plain + one * (experts[1] - 1) + hidden * experts[1] * layers, one * experts[1]
