"""Options that vLLM changed without an error: its platforms and models overrule some, with a line in the log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
    if problems:
        raise ConfigError("vLLM overruled what was asked for", problems=tuple(problems))


def _at(told: Any, path: str) -> Any:
    """The value at a path. A section or field that this version of vLLM does not tell is taken to be as asked."""
    for name in path.split("."):
        if not isinstance(told, Mapping) or name not in told:
            return UNKNOWN
        told = told[name]
    return told


def _same(asked: Any, found: Any) -> bool:
    """`auto` is whatever vLLM chose; names are told in capitals."""
    if found is UNKNOWN or asked == "auto":
        return True
    return str(asked).lower() == str(found).lower() if isinstance(asked, str) else bool(asked == found)
