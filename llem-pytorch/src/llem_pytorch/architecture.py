"""Sizes of a loaded decoder, counted from its parameters and read from its configuration."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel

from llem.models.spec import Architecture

__all__ = ["architecture_of", "parameter_count", "weight_bytes"]

#: Attributes whose presence means that sizes below would be guesses: experts, latent attention, state spaces.
UNKNOWN = ("num_experts", "num_local_experts", "n_routed_experts", "num_experts_per_tok", "kv_lora_rank", "ssm_cfg")


def architecture_of(model: PreTrainedModel) -> Architecture | None:
    """The sizes, or None for a mixture of experts, latent or linear attention, an encoder-decoder, a state space model.

    Active parameters leave out every embedding table but the one that is tied to the output projection.
    """
    config: Any = model.config.get_text_config(decoder=True)
    kinds = set(getattr(config, "layer_types", None) or ())
    odd = any(getattr(config, name, None) for name in UNKNOWN) or any("attention" not in kind for kind in kinds)
    if odd or "linear_attention" in kinds or model.config.is_encoder_decoder or model._is_stateful:
        return None
    layers, heads = getattr(config, "num_hidden_layers", None), getattr(config, "num_attention_heads", None)
    hidden = getattr(config, "hidden_size", None)
    if not layers or not heads or not hidden:
        return None
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    head_dim = getattr(config, "head_dim", None) or hidden // heads
    total = sum(parameter_count(parameter) for parameter in model.parameters())
    return Architecture(
        parameters=total,
        active_parameters=total - _lookup_parameters(model),
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        hidden_size=hidden,
        vocab_size=config.vocab_size,
        weight_bytes=sum(weight_bytes(parameter) for parameter in model.parameters()),
        kv_bytes_per_token=2 * layers * kv_heads * head_dim * model.dtype.itemsize,
    )


def _lookup_parameters(model: PreTrainedModel) -> int:
    """Parameters of tables that are only looked up."""
    output = model.get_output_embeddings()
    projected = None if output is None else output.weight
    tables = {module.weight for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    return sum(table.numel() for table in tables if table is not projected)


def parameter_count(parameter: torch.nn.Parameter) -> int:
    """Numbers a parameter stands for; 4-bit ones are packed two to a byte, their shape is in bitsandbytes' state."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else int(torch.Size(state.shape).numel())


def weight_bytes(parameter: torch.nn.Parameter) -> int:
    """Bytes as held, with the scales that bitsandbytes keeps beside the weights."""
    size = parameter.numel() * parameter.element_size()
    scales = [getattr(parameter, "SCB", None)]
    state = getattr(parameter, "quant_state", None)
    if state is not None:
        nested = getattr(state, "state2", None)
        scales += [state.absmax, getattr(nested, "absmax", None)]
    return size + sum(scale.numel() * scale.element_size() for scale in scales if isinstance(scale, torch.Tensor))
