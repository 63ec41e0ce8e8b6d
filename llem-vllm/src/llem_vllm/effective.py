"""What really runs, read back from vLLM's own configuration and its workers. JSON values only."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from enum import Enum
from typing import Any

import attrs

__all__ = ["configuration", "effective_config", "plain"]

#: Sections of vLLM's configuration that are told elsewhere, or hold objects.
APART = ("model_config", "quant_config")
#: Of the model's section: objects that repeat the model's own file, paths of temporary folders, and a secret.
MODEL_HIDDEN = (
    "hf_config",
    "hf_text_config",
    "hf_image_processor_config",
    "encoder_config",
    "model_arch_config",
    "model_weights",
    "hf_token",
    "dtype",
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
    "engine_id",
)
HIDDEN_PARTS = ("_port", "_ip", "rank", "address")


def configuration(vllm_config: Any) -> dict[str, Any]:
    """vLLM's configuration after it has filled in its defaults: every section, but for what holds objects or repeats
    another section."""
    model = vllm_config.model_config
    return {
        "dtype": str(model.dtype).removeprefix("torch."),
        "model_config": _fields(model, MODEL_HIDDEN),
        **_fields(vllm_config, APART),
    }


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


def _fields(section: Any, but: Collection[str] = ()) -> dict[str, Any]:
    """Fields of a dataclass, none of its class's own or of what only its making takes."""
    is_made = dataclasses.is_dataclass(section)
    names = [field.name for field in dataclasses.fields(section)] if is_made else list(vars(section))
    wanted = [name for name in names if name not in but and not _is_hidden(name) and hasattr(section, name)]
    return {name: plain(getattr(section, name)) for name in wanted}


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
