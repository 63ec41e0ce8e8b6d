"""Options that vLLM changed without an error: its platforms and models overrule some, with a line in the log."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from llem.backends.contract import same_setting
from llem.errors import ConfigError, Problem
from llem_vllm.config import VllmOptions

__all__ = ["PATHS", "refuse_overruled"]

#: Option to the place of its value in what `llem_vllm.effective.configuration` tells. Left out are options whose value
#: vLLM may write differently (quantization, number formats, lists of sizes) or keeps nowhere.
PATHS: Mapping[str, str] = {
    **{
        name: f"cache_config.{name}"
        for name in (
            "gpu_memory_utilization",
            "kv_cache_memory_bytes",
            "block_size",
            "num_gpu_blocks_override",
            "enable_prefix_caching",
            "prefix_caching_hash_algo",
            "kv_offloading_size",
            "kv_offloading_backend",
        )
    },
    **{
        name: f"scheduler_config.{name}"
        for name in (
            "disable_hybrid_kv_cache_manager",
            "max_num_seqs",
            "max_num_batched_tokens",
            "enable_chunked_prefill",
            "long_prefill_token_threshold",
            "prefill_schedule_interval",
            "async_scheduling",
            "stream_interval",
        )
    },
    "scheduling_policy": "scheduler_config.policy",
    **{
        name: f"model_config.{name}"
        for name in (
            "max_model_len",
            "enforce_eager",
            "disable_cascade_attn",
            "disable_sliding_window",
            "logprobs_mode",
        )
    },
    **{
        name: f"parallel_config.{name}"
        for name in (
            "tensor_parallel_size",
            "pipeline_parallel_size",
            "data_parallel_size",
            "prefill_context_parallel_size",
            "decode_context_parallel_size",
            "enable_expert_parallel",
            "enable_eplb",
            "enable_dbo",
            "distributed_executor_backend",
            "disable_custom_all_reduce",
        )
    },
    "cpu_offload_gb": "offload_config.uva.cpu_offload_gb",
    "moe_backend": "kernel_config.moe_backend",
    "linear_backend": "kernel_config.linear_backend",
    "attention_backend": "attention_config.backend",
    "optimization_level": "optimization_level",
    "performance_mode": "performance_mode",
    "compilation_mode": "compilation_config.mode",
    "compilation_backend": "compilation_config.backend",
    "cudagraph_mode": "compilation_config.cudagraph_mode",
    "max_loras": "lora_config.max_loras",
    "max_lora_rank": "lora_config.max_lora_rank",
    "fully_sharded_loras": "lora_config.fully_sharded_loras",
    "num_speculative_tokens": "speculative_config.num_speculative_tokens",
    "prompt_lookup_max": "speculative_config.prompt_lookup_max",
    "prompt_lookup_min": "speculative_config.prompt_lookup_min",
}


UNKNOWN = object()
PLAIN = (bool, int, float, str)


def refuse_overruled(options: VllmOptions, told: Mapping[str, Any]) -> None:
    """Raise ConfigError naming every option that is set and that vLLM does not run with.

    Args:
        told: the configuration that vLLM resolved.
    """
    problems = [
        Problem(f"vllm.{name}", f"asked for {asked}, vLLM runs {found}", "vLLM's log above may say why; leave it out")
        for name, path in PATHS.items()
        if (asked := getattr(options, name)) is not None and not _same(asked, found := _at(told, path))
    ]
    problems += [*_further(options.extra, told), *_unheard(options.extra, told)]
    if problems:
        raise ConfigError("vLLM overruled what was asked for", problems=tuple(problems))


def _further(extra: Mapping[str, Any], told: Mapping[str, Any]) -> Iterator[Problem]:
    """Arguments of `extra` that stand in the configuration by their own name, and nowhere with the value asked for."""
    for name, asked in extra.items():
        found = [list(_differences(f"vllm.extra.{name}", asked, one)) for one in _named(told, name)]
        if found and all(found):
            yield from found[0]


def _named(told: Any, name: str) -> Iterator[Any]:
    """Every value of that name, at whatever depth."""
    if isinstance(told, Mapping):
        if name in told:
            yield told[name]
        for part in told.values():
            yield from _named(part, name)


def _differences(path: str, asked: Any, found: Any) -> Iterator[Problem]:
    """Values that differ, of sections field by field.

    No difference is what vLLM may write differently (lists), fill in (null), or use up while it fills in others (a
    section's field that is null afterwards).
    """
    if isinstance(asked, Mapping) and isinstance(found, Mapping):
        for name, value in asked.items():
            if found.get(name) is not None:
                yield from _differences(f"{path}.{name}", value, found[name])
    elif isinstance(asked, PLAIN) and (found is None or isinstance(found, PLAIN)) and not _same(asked, found):
        yield Problem(path, f"asked for {asked}, vLLM runs {found}", "vLLM's log above may say why; leave it out")


def _unheard(extra: Mapping[str, Any], told: Mapping[str, Any]) -> Iterator[Problem]:
    """Arguments about images and the like, of which vLLM takes no notice with a model that reads text alone."""
    if _at(told, "model_config.multimodal_config") is not None:
        return
    from vllm.config import ModelConfig

    # what ModelConfig takes and does not keep is what it makes its multimodal section of
    taken = set(inspect.signature(ModelConfig).parameters) - {field.name for field in dataclasses.fields(ModelConfig)}
    for name in extra:
        if name in taken:
            yield Problem(f"vllm.extra.{name}", "has no effect: this model reads text alone", "leave it out")


def _at(told: Any, path: str) -> Any:
    """The value at a path. A section or field that this version of vLLM does not tell is taken to be as asked."""
    for name in path.split("."):
        if not isinstance(told, Mapping) or name not in told:
            return UNKNOWN
        told = told[name]
    return told


def _same(asked: Any, found: Any) -> bool:
    return found is UNKNOWN or same_setting(asked, found)
