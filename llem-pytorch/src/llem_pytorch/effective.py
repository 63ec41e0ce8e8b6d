"""What really runs, read back from the loaded objects. JSON values only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import Enum
from typing import Any

import torch
import transformers
from transformers import GenerationConfig, PreTrainedModel

from llem_pytorch.architecture import parameter_count, weight_bytes
from llem_pytorch.config import STATIC_CACHES, PyTorchOptions
from llem_pytorch.generation import ELSEWHERE
from llem_pytorch.speculation import DRAFTING, LOOKBEHIND

__all__ = ["effective_config"]

#: Compilers that have modes.
OWN_MODES = (None, "inductor")
GENERATION = (
    "do_sample",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "no_repeat_ngram_size",
    "num_beams",
    "length_penalty",
    "early_stopping",
    "min_new_tokens",
    "guidance_scale",
    "use_cache",
    "cache_config",
    "max_cache_len",
    "prefill_chunk_size",
    "pad_token_id",
    "eos_token_id",
)


def effective_config(
    model: PreTrainedModel, config: GenerationConfig, options: PyTorchOptions, left_out: Mapping[str, Any]
) -> dict[str, Any]:
    """The configuration in effect.

    Args:
        config: generation settings of the experiment.
        options: for what no object keeps (the limits that a device map was made within; that an adapter was merged;
            further arguments of loading).
        left_out: settings that came with the model and are not applied.
    """
    parameters = list(model.parameters())
    dtypes = Counter(str(parameter.dtype).removeprefix("torch.") for parameter in parameters)
    return {
        "engine": "pytorch",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "cuda": torch.version.cuda if model.device.type == "cuda" else None,
        "model_class": type(model).__name__,
        "dtype": str(model.dtype).removeprefix("torch."),
        "parameter_dtypes": dict(dtypes),
        "num_parameters": sum(parameter_count(parameter) for parameter in parameters),
        "weight_bytes": sum(weight_bytes(parameter) for parameter in parameters),
        "attn_implementation": model.config._attn_implementation,
        "experts_implementation": getattr(model.config, "_experts_implementation", None),
        "use_kernels": bool(getattr(model, "_use_kernels", False)),
        "quantization": _quantisation(model),
        "cache_implementation": _cache(config),
        "compile": _compilation(model, config, options),
        "device": str(model.device),
        "device_map": {name: str(place) for name, place in _device_map(model).items()},
        "max_memory": None if options.max_memory is None else dict(options.max_memory),
        "offload_folder": options.offload_folder,
        "offload_buffers": options.offload_buffers,
        "threads": torch.get_num_threads(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "tf32_cudnn": torch.backends.cudnn.allow_tf32,
        "generation": {name: _plain(getattr(config, name, None)) for name in GENERATION},
        "extra_generation": _extra_generation(config, options),
        "extra_model": _plain(options.extra_model or {}),
        "model_generation_defaults_not_applied": _plain(left_out),
        "adapter": _adapter(model, options),
    }


def speculation(
    model: PreTrainedModel, assistant: PreTrainedModel | None, config: GenerationConfig, options: PyTorchOptions
) -> dict[str, Any] | None:
    """How tokens are drafted; None where they are not."""
    if config.prompt_lookup_num_tokens is not None:
        return {
            "by": "prompt_lookup",
            "prompt_lookup_num_tokens": config.prompt_lookup_num_tokens,
            "max_matching_ngram_size": config.max_matching_ngram_size or 2,
        }
    if assistant is None and config.assistant_early_exit is None:
        return None
    told: dict[str, Any] = {"by": "first_layers", "assistant_early_exit": config.assistant_early_exit}
    if assistant is not None:
        told = {
            "by": "assistant_model",
            "assistant_model": options.assistant_model,
            "model_class": type(assistant).__name__,
            "num_parameters": sum(parameter_count(parameter) for parameter in assistant.parameters()),
            "dtype": str(assistant.dtype).removeprefix("torch."),
            "device": str(assistant.device),
        }
    settings = (model if assistant is None else assistant).generation_config
    defaults = settings._get_default_generation_params()
    for name in (*DRAFTING, *LOOKBEHIND):
        given = getattr(settings, name, None)
        told[name] = defaults.get(name) if given is None else given
    return told


def _extra_generation(config: GenerationConfig, options: PyTorchOptions) -> dict[str, Any]:
    """As transformers' own object holds them; what reaches it otherwise (see `ELSEWHERE`) as it was given."""
    given = options.extra_generation or {}
    return {name: _plain(value if name in ELSEWHERE else getattr(config, name)) for name, value in given.items()}


def _device_map(model: PreTrainedModel) -> Mapping[str, Any]:
    return getattr(model, "hf_device_map", None) or {"": model.device}


def _cache(config: GenerationConfig) -> str | None:
    """The cache that generation makes; dynamic is what transformers makes where none is named."""
    if not config.use_cache:
        return None
    return config.cache_implementation or "dynamic"


def _quantisation(model: PreTrainedModel) -> dict[str, Any] | None:
    settings = getattr(model.config, "quantization_config", None)
    if settings is None:
        return None
    values = settings if isinstance(settings, dict) else settings.to_dict()
    other = "llm_int8_" if values.get("load_in_4bit") else "bnb_4bit_"  # bitsandbytes lists both kinds, one applies
    return {name: value for name, value in _plain(values).items() if not name.startswith(other)}


def _compilation(model: PreTrainedModel, config: GenerationConfig, options: PyTorchOptions) -> dict[str, Any]:
    """What is compiled: "none", the "forward" pass, or the "decode_step" (by transformers, static cache)."""
    if getattr(model, "_compiled_call_impl", None) is not None:
        asked = {
            name: getattr(options, f"torch_compile_{name}")
            for name in ("mode", "backend", "fullgraph", "dynamic", "options")
        }
        return {
            "compiled": "forward",
            "mode": asked["mode"] or (None if asked["options"] or asked["backend"] not in OWN_MODES else "default"),
            "backend": asked["backend"] or "inductor",
            "fullgraph": bool(asked["fullgraph"]),
            "dynamic": asked["dynamic"],
            "options": _plain(asked["options"]),
        }
    settings = config.compile_config
    automatic = settings is None and model.device.type == "cuda" and config.cache_implementation in STATIC_CACHES
    if config.disable_compile or (settings is None and not automatic):
        return {"compiled": "none"}
    settings = settings or model._default_compile_config()
    return {"compiled": "decode_step", "automatic": automatic, **_plain(settings.to_dict())}


def _adapter(model: PreTrainedModel, options: PyTorchOptions) -> dict[str, Any] | None:
    if options.adapter is None:
        return None
    told: dict[str, Any] = {
        "name": options.adapter,
        "revision": options.adapter_revision,
        "merged": bool(options.merge_adapter),
    }
    layers = [parameter for name, parameter in model.named_parameters() if "lora_" in name]
    for settings in getattr(model, "peft_config", {}).values():
        told |= {"r": settings.r, "alpha": settings.lora_alpha, "target_modules": sorted(settings.target_modules)}
    told["parameters"] = sum(parameter.numel() for parameter in layers)
    told["dtypes"] = sorted({str(parameter.dtype).removeprefix("torch.") for parameter in layers})
    return told


def _plain(value: Any) -> Any:
    """JSON values: containers kept, everything else that is not one as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items() if not str(key).startswith("_")}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if hasattr(value, "to_dict"):
        return _plain(value.to_dict())
    value = value.value if isinstance(value, Enum) else value
    return value if value is None or isinstance(value, bool | int | float | str) else str(value).removeprefix("torch.")
