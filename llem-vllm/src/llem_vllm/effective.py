"""What really runs, read back from vLLM's own configuration and its workers. JSON values only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import attrs

__all__ = ["configuration", "effective_config", "plain"]

#: Sections of vLLM's configuration, each told in full but for what holds objects or repeats another section.
SECTIONS = (
    "cache_config",
    "scheduler_config",
    "parallel_config",
    "load_config",
    "lora_config",
    "speculative_config",
    "compilation_config",
    "attention_config",
    "kernel_config",
    "offload_config",
    "observability_config",
    "structured_outputs_config",
    "kv_transfer_config",
    "mamba_config",
)
MODEL = (
    "model",
    "tokenizer",
    "revision",
    "max_model_len",
    "quantization",
    "enforce_eager",
    "seed",
    "trust_remote_code",
    "skip_tokenizer_init",
    "max_logprobs",
    "logprobs_mode",
    "disable_cascade_attn",
    "disable_sliding_window",
    "model_impl",
    "generation_config",
    "override_generation_config",
    "hf_overrides",
)
#: Objects, addresses of this very process, and bookkeeping.
HIDDEN = (
    "target_model_config",
    "target_parallel_config",
    "draft_model_config",
    "draft_parallel_config",
    "static_forward_context",
    "static_all_moe_layers",
    "traced_files",
    "enabled_custom_ops",
    "disabled_custom_ops",
    "placement_group",
    "ray_runtime_env",
    "inductor_passes",
    "cache_dir",
    "local_cache_dir",
    "bs_to_padded_graph_size",
    "compilation_time",
    "encoder_compilation_time",
    "instance_id",
)
HIDDEN_PARTS = ("_port", "_ip", "rank", "address")


def configuration(vllm_config: Any) -> dict[str, Any]:
    """vLLM's configuration after it has filled in its defaults."""
    model = vllm_config.model_config
    told: dict[str, Any] = {
        "dtype": str(model.dtype).removeprefix("torch."),
        "model_config": {name: plain(getattr(model, name)) for name in MODEL if hasattr(model, name)},
    }
    for name in SECTIONS:
        section = getattr(vllm_config, name, None)
        told[name] = None if section is None else _fields(section)
    for name in ("optimization_level", "performance_mode"):
        told[name] = plain(getattr(vllm_config, name, None))
    return told


def effective_config(
    vllm_config: Any, sampling: Mapping[str, Any], workers: Sequence[Mapping[str, Any]], **facts: Any
) -> dict[str, Any]:
    """The configuration in effect.

    Args:
        sampling: fields of the experiment's SamplingParams or BeamSearchParams.
        workers: what each worker told (see `llem_vllm.probe`).
        facts: of the engine: its process, adapter and the like.
    """
    import torch
    import transformers
    import vllm

    return {
        "engine": "vllm",
        "vllm": vllm.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        **configuration(vllm_config),
        "workers": [plain(worker) for worker in workers],
        "attention_backends": sorted({name for worker in workers for name in worker["attention_backends"]}),
        "kv_cache_blocks": plain(getattr(vllm_config.cache_config, "num_gpu_blocks", None)),
        "sampling": plain(sampling),
        **plain(facts),
    }


def _fields(section: Any) -> dict[str, Any]:
    names = getattr(type(section), "__dataclass_fields__", None) or vars(section)
    return {name: plain(getattr(section, name, None)) for name in names if not _is_hidden(name)}


def _is_hidden(name: str) -> bool:
    if name.startswith("_") or name in HIDDEN:
        return True
    return any(part in name for part in HIDDEN_PARTS) and name != "max_lora_rank"


def plain(value: Any) -> Any:
    """JSON values: containers kept, configurations as mappings, everything else that is not one as text."""
    if isinstance(value, Enum):
        # vLLM's enums of numbers are told by number (compilation mode 3), others by name (FULL_AND_PIECEWISE)
        return value.value if isinstance(value, int | str) else value.name
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if abs(value) != float("inf") and value == value else str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=str)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if attrs.has(type(value)):
        return {field.name: plain(getattr(value, field.name)) for field in attrs.fields(type(value))}
    if hasattr(type(value), "__dataclass_fields__"):
        return _fields(value)
    if callable(value) or type(value).__module__.startswith("vllm."):
        return type(value).__name__ if not hasattr(value, "__qualname__") else value.__qualname__
    return str(value).removeprefix("torch.")
