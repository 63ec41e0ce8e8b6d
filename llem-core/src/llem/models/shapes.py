"""The named architectures behind `shape:NAME`: a model's real sizes, with weights made on the spot.

Speed and energy of a dense model depend on its sizes and number formats, not on what its weights have learnt, so
a shape is enough to measure them. It is not enough for anything that depends on the text: quality, the moment at
which a model would stop by itself, or how often a drafted token is accepted.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import attrs

__all__ = ["SHAPES", "Shape", "parameter_count"]


@attrs.frozen
class Shape:
    """One architecture.

    Attributes:
        config: keyword arguments of the Hugging Face configuration class, `model_type` included. Rotary embeddings
            are in the form of transformers 5 (`rope_parameters`).
        source: where the figures come from.
    """

    config: Mapping[str, Any]
    source: str

    def kwargs(self) -> dict[str, Any]:
        """A copy of `config` that the caller may hand to a library that changes its arguments."""
        return copy.deepcopy(dict(self.config))


def _shape(source: str, model_type: str, architecture: str, **sizes: Any) -> Shape:
    config = {"model_type": model_type, "architectures": [architecture], "hidden_act": "silu", **sizes}
    return Shape(MappingProxyType(config), source)


def _llama3_rope(factor: float) -> dict[str, Any]:
    return {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }


def _rope(theta: float) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": theta}


_SHAPES: dict[str, Shape] = {
    # Small enough for a first result within seconds on any CPU, with heads that every engine has kernels for; no
    # published model looks like this.
    "tiny": _shape(
        "llem's own",
        "llama",
        "LlamaForCausalLM",
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        vocab_size=512,
        max_position_embeddings=2048,
        rms_norm_eps=1e-5,
        rope_parameters=_rope(10000.0),
        tie_word_embeddings=False,
        bos_token_id=256,
        eos_token_id=257,
        dtype="float32",
    ),
    "llama-3.1-8b": _shape(
        "config.json of meta-llama/Llama-3.1-8B",
        "llama",
        "LlamaForCausalLM",
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
        vocab_size=128256,
        max_position_embeddings=131072,
        rms_norm_eps=1e-5,
        rope_parameters=_llama3_rope(8.0),
        tie_word_embeddings=False,
        bos_token_id=128000,
        eos_token_id=128001,
        dtype="bfloat16",
    ),
    "llama-3.2-1b": _shape(
        "config.json of meta-llama/Llama-3.2-1B",
        "llama",
        "LlamaForCausalLM",
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=64,
        vocab_size=128256,
        max_position_embeddings=131072,
        rms_norm_eps=1e-5,
        rope_parameters=_llama3_rope(32.0),
        tie_word_embeddings=True,
        bos_token_id=128000,
        eos_token_id=128001,
        dtype="bfloat16",
    ),
    "qwen2.5-0.5b": _shape(
        "config.json of Qwen/Qwen2.5-0.5B",
        "qwen2",
        "Qwen2ForCausalLM",
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        vocab_size=151936,
        max_position_embeddings=32768,
        rms_norm_eps=1e-6,
        rope_parameters=_rope(1000000.0),
        use_sliding_window=False,
        tie_word_embeddings=True,
        bos_token_id=151643,
        eos_token_id=151643,
        dtype="bfloat16",
    ),
    "qwen2.5-7b": _shape(
        "config.json of Qwen/Qwen2.5-7B",
        "qwen2",
        "Qwen2ForCausalLM",
        hidden_size=3584,
        intermediate_size=18944,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
        vocab_size=152064,
        max_position_embeddings=131072,
        rms_norm_eps=1e-6,
        rope_parameters=_rope(1000000.0),
        use_sliding_window=False,
        tie_word_embeddings=False,
        bos_token_id=151643,
        eos_token_id=151643,
        dtype="bfloat16",
    ),
    "qwen3-8b": _shape(
        "config.json of Qwen/Qwen3-8B",
        "qwen3",
        "Qwen3ForCausalLM",
        hidden_size=4096,
        intermediate_size=12288,
        num_hidden_layers=36,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
        vocab_size=151936,
        max_position_embeddings=40960,
        rms_norm_eps=1e-6,
        rope_parameters=_rope(1000000.0),
        attention_bias=False,
        use_sliding_window=False,
        tie_word_embeddings=False,
        bos_token_id=151643,
        eos_token_id=151645,
        dtype="bfloat16",
    ),
    "mistral-7b-v0.3": _shape(
        "config.json of mistralai/Mistral-7B-v0.3",
        "mistral",
        "MistralForCausalLM",
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
        vocab_size=32768,
        max_position_embeddings=32768,
        rms_norm_eps=1e-5,
        rope_parameters=_rope(1000000.0),
        sliding_window=None,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=2,
        dtype="bfloat16",
    ),
}

SHAPES: Mapping[str, Shape] = MappingProxyType(_SHAPES)


def parameter_count(config: Mapping[str, Any]) -> int | None:
    """All parameters of a decoder of the llama family, embeddings included and tied weights counted once.

    Per layer: attention projections (q and o of heads x head_dim, k and v of kv_heads x head_dim), three matrices of
    the gated feed-forward part, two norms; then the token embedding, the final norm, and the output projection
    unless it is tied to the embedding.

    Returns None for a `model_type` whose parameters this formula does not count.
    """
    model_type = config.get("model_type")
    if model_type not in ("llama", "mistral", "qwen2", "qwen3"):
        return None
    hidden, intermediate = int(config["hidden_size"]), int(config["intermediate_size"])
    heads = int(config["num_attention_heads"])
    head_dim = int(config.get("head_dim") or hidden // heads)
    q = heads * head_dim
    kv = int(config.get("num_key_value_heads") or heads) * head_dim
    layer = 2 * hidden * q + 2 * hidden * kv + 3 * hidden * intermediate + 2 * hidden
    if model_type == "qwen2":  # biases on q, k and v, always
        layer += q + 2 * kv
    elif config.get("attention_bias"):
        layer += q + 2 * kv + hidden
    if model_type == "qwen3":  # a norm over each head of q and of k
        layer += 2 * head_dim
    if config.get("mlp_bias"):
        layer += 2 * intermediate + hidden
    embedding = int(config["vocab_size"]) * hidden
    outputs = 0 if config.get("tie_word_embeddings") else embedding
    return embedding + int(config["num_hidden_layers"]) * layer + hidden + outputs
