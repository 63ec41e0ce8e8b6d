"""Sizes of a loaded decoder, counted from its parameters and read from its configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import attrs
import torch
from torch import nn
from transformers import GenerationConfig, PreTrainedModel

from llem.models.sizes import attention_windows, experts_of, is_plain_decoder
from llem.models.spec import Architecture

__all__ = ["architecture_of", "parameter_count", "unfit_of", "weight_bytes"]

#: Routed experts by the names of their parameters; shared ones take part in every token.
ROUTED = re.compile(r"(^|\.)experts(\.|$)")
#: Ways to hold weights of which the bytes and the numbers are known here; and those whose products are in the dtype.
KNOWN_METHODS = (None, "bitsandbytes", "awq", "gptq", "fp8")
#: A module of AWQ or GPTQ holds its weights, scales and zero points in buffers.
PACKED = "qweight"


@attrs.frozen
class _Held:
    """One parameter, or all of a packed module: the numbers it stands for, its bytes, and whether it is a lookup."""

    name: str
    count: int
    bytes: int
    looked_up: bool = False


def architecture_of(
    model: PreTrainedModel, unfit: str | None = None, cache_bits: int | None = None
) -> Architecture | None:
    """The sizes; None where they would be guesses.

    That is latent or linear attention, an encoder-decoder, a state space model, a model of more than text, layers that
    differ in their heads, experts whose parameters are not found, and a quantisation that is not known here.

    Active parameters leave out every embedding table but the one that is tied to the output projection, and the experts
    that a token does not go through.

    Args:
        unfit: as in `Architecture`.
        cache_bits: bits of a number in a quantised key-value cache; None: the model's dtype.
    """
    config: Any = model.config.get_text_config(decoder=True)
    told, held = config.to_dict(), _held(model)
    plain = config is model.config and is_plain_decoder(told) and not model._is_stateful
    experts, sizes = experts_of(told), _sizes(config)
    if not plain or held is None or experts is None or sizes is None:
        return None
    layers, heads, kv_heads, head_dim = sizes
    windows, routed = attention_windows(told, layers), [one for one in held if ROUTED.search(one.name)]
    chosen, number = experts
    if windows is None or (number > 1) != bool(routed) or (number == 1 and any("expert" in one.name for one in held)):
        return None
    if not _heads_are_alike(model, heads * head_dim, kv_heads * head_dim):
        return None
    idle = (number - chosen) / number
    taking_part = [one for one in held if not one.looked_up]
    output: Any = model.get_output_embeddings()
    return Architecture(
        parameters=sum(one.count for one in held),
        active_parameters=sum(one.count for one in taking_part) - round(idle * sum(one.count for one in routed)),
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        hidden_size=config.hidden_size,
        vocab_size=config.vocab_size,
        weight_bytes=sum(one.bytes for one in held),
        kv_bytes_per_token=2 * layers * kv_heads * head_dim * (cache_bits or 8 * model.dtype.itemsize) // 8,
        windows=windows,
        output_parameters=None if output is None else parameter_count(output.weight),
        read_bytes=sum(one.bytes for one in taking_part) - round(idle * sum(one.bytes for one in routed)),
        experts=number,
        other_products=_method(model) == "fp8" or bool(getattr(model, "is_loaded_in_8bit", False)),
        unfit=unfit,
    )


def unfit_of(config: GenerationConfig, drafts: bool) -> str | None:
    """Why passes do not follow from tokens with these settings of generation; None where they do."""
    if drafts:
        return "speculative"
    other = config.num_beams > 1 or config.guidance_scale not in (None, 1) or not config.use_cache
    return "passes_unknown" if other else None


def _sizes(config: Any) -> tuple[int, int, int, int] | None:
    """Layers, heads, heads of keys and values, and the size of a head; None where they are not one number each."""
    try:
        layers, heads, hidden = (
            getattr(config, name, None) for name in ("num_hidden_layers", "num_attention_heads", "hidden_size")
        )
        kv_heads = getattr(config, "num_key_value_heads", None) or heads
        head_dim = getattr(config, "head_dim", None) or (hidden or 0) // (heads or 1)
    except (RuntimeError, TypeError):  # transformers refuses to give one number for layers that differ
        return None
    found = (layers, heads, kv_heads, head_dim)
    return found if all(isinstance(size, int) and size > 0 for size in found) else None  # type: ignore[return-value]


def _method(model: PreTrainedModel) -> str | None:
    settings: Any = getattr(model.config, "quantization_config", None)
    if settings is None:
        return None
    method = settings.get("quant_method") if isinstance(settings, dict) else settings.quant_method
    return str(getattr(method, "value", method))


def _held(model: PreTrainedModel) -> list[_Held] | None:
    """Everything the model holds, tied tables once; None where that is packed in a way that is not known here."""
    if _method(model) not in KNOWN_METHODS:
        return None
    output: Any = model.get_output_embeddings()
    projected = None if output is None else output.weight
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding) and m.weight is not projected}
    found = [
        _Held(name, parameter_count(one), weight_bytes(one), id(one) in tables)
        for name, one in model.named_parameters()
    ]
    packed = list(_packed(model))
    return None if None in packed else [*found, *(one for one in packed if one is not None)]


def _packed(model: PreTrainedModel) -> Iterator[_Held | None]:
    for name, module in model.named_modules():
        buffers = dict(module.named_buffers(recurse=False))
        if PACKED not in buffers:
            continue
        inputs, outputs = getattr(module, "in_features", None), getattr(module, "out_features", None)
        size = sum(one.numel() * one.element_size() for one in buffers.values())
        known = isinstance(inputs, int) and isinstance(outputs, int)
        yield _Held(name, inputs * outputs, size) if known else None  # type: ignore[operator]


def _heads_are_alike(model: PreTrainedModel, queries: int, keys: int) -> bool:
    """Whether every projection of queries, keys and values that has a name is as wide as the configuration says."""
    wanted = {"q_proj": queries, "k_proj": keys, "v_proj": keys}
    return all(
        getattr(module, "out_features", wanted[last]) == wanted[last]
        for name, module in model.named_modules()
        if (last := name.rpartition(".")[2]) in wanted
    )


def parameter_count(parameter: nn.Parameter) -> int:
    """Numbers a parameter stands for; 4-bit ones are packed two to a byte, their shape is in bitsandbytes' state."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else int(torch.Size(state.shape).numel())


def weight_bytes(parameter: nn.Parameter) -> int:
    """Bytes as held, with the scales that bitsandbytes keeps beside the weights."""
    size = parameter.numel() * parameter.element_size()
    scales = [getattr(parameter, "SCB", None)]
    state = getattr(parameter, "quant_state", None)
    if state is not None:
        nested = getattr(state, "state2", None)
        scales += [state.absmax, getattr(nested, "absmax", None)]
    return size + sum(scale.numel() * scale.element_size() for scale in scales if isinstance(scale, torch.Tensor))
