"""Sections within `tensorrt:`, each named and typed like the class of TensorRT-LLM that it becomes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import attrs

from llem.config.fields import at_least, between, option

__all__ = [
    "AttentionDp",
    "CudaGraph",
    "GuidedDecoding",
    "KvCache",
    "Lora",
    "Moe",
    "PeftCache",
    "Scheduler",
    "SparseAttention",
    "Speculative",
    "TorchCompile",
]

StateDtype = Literal["auto", "float16", "bfloat16", "float32"]


@attrs.frozen(kw_only=True)
class KvCache:
    """Section `kv_cache_config`, the class KvCacheConfig."""

    enable_block_reuse: bool | None = option(
        None, help="Reuse blocks of earlier requests with the same prefix. The engine's default is true."
    )
    enable_partial_reuse: bool | None = option(None, help="Reuse blocks that match only in part.")
    copy_on_partial_reuse: bool | None = option(None, help="Copy a partly matching block that is in use.")
    free_gpu_memory_fraction: float | None = option(
        None,
        help="Share of the memory left after loading that becomes cache. The engine's default is 0.9.",
        validator=between(0, 1),
    )
    max_tokens: int | None = option(None, help="Tokens in the cache at most.", unit="tokens", validator=at_least(1))
    max_gpu_total_bytes: int | None = option(
        None, help="GPU memory of the cache at most.", unit="B", validator=at_least(0)
    )
    host_cache_size: int | None = option(
        None, help="Host memory to move evicted blocks to; 0 or null is none.", unit="B", validator=at_least(0)
    )
    onboard_blocks: bool | None = option(None, help="Bring blocks back from the host before they are used.")
    secondary_offload_min_priority: int | None = option(
        None, help="Only blocks above this priority are moved to the host."
    )
    use_uvm: bool | None = option(None, help="Unified memory for the cache.")
    tokens_per_block: int | None = option(None, help="Tokens in a block.", unit="tokens", validator=at_least(1))
    max_attention_window: tuple[int, ...] | None = option(
        None, help="Attention window of each layer, repeated over the layers.", unit="tokens"
    )
    sink_token_length: int | None = option(
        None, help="First tokens that always stay in the window.", unit="tokens", validator=at_least(0)
    )
    dtype: Literal["auto", "fp8"] | None = option(
        None, help="Number format of the cache; other formats come with a checkpoint."
    )
    mamba_ssm_cache_dtype: StateDtype | None = option(None, help="Number format of state space caches.")


@attrs.frozen(kw_only=True)
class Scheduler:
    """Section `scheduler_config`, the class SchedulerConfig."""

    capacity_scheduler_policy: Literal["MAX_UTILIZATION", "GUARANTEED_NO_EVICT", "STATIC_BATCH"] | None = option(
        None,
        help="Which requests are admitted: GUARANTEED_NO_EVICT (the engine's default) never pauses one, "
        "MAX_UTILIZATION admits more and pauses some, STATIC_BATCH waits for the whole batch.",
    )
    context_chunking_policy: Literal["FIRST_COME_FIRST_SERVED", "EQUAL_PROGRESS"] | None = option(
        None, help="Whose chunks go first with chunked prefill."
    )
    dynamic_batch_config: Mapping[str, Any] | None = option(
        None,
        help="Tuning while it runs: enable_batch_size_tuning, enable_max_num_tokens_tuning, "
        "dynamic_batch_moving_average_window.",
    )


@attrs.frozen(kw_only=True)
class CudaGraph:
    """Section `cuda_graph_config`, the class CudaGraphConfig."""

    enabled: bool | None = option(
        None, help="False runs without CUDA graphs. The engine's default is to use them for decoding."
    )
    batch_sizes: tuple[int, ...] | None = option(None, help="Batch sizes to capture.")
    max_batch_size: int | None = option(
        None, help="Largest batch size to capture. The engine's default is 128.", validator=at_least(1)
    )
    enable_padding: bool | None = option(None, help="Round a batch up to the next captured size.")


@attrs.frozen(kw_only=True)
class TorchCompile:
    """Section `torch_compile_config`, the class TorchCompileConfig. Written at all, even as `{}`, it turns this on."""

    enable_fullgraph: bool | None = option(None, help="Compile the model as one graph.")
    enable_inductor: bool | None = option(None, help="Compile with inductor.")
    enable_piecewise_cuda_graph: bool | None = option(None, help="CUDA graphs for prefill, piece by piece.")
    capture_num_tokens: tuple[int, ...] | None = option(None, help="Token counts to capture piecewise graphs for.")
    enable_userbuffers: bool | None = option(None, help="User buffers for collective operations.")
    max_num_streams: int | None = option(None, help="CUDA streams at most.", validator=at_least(1))


@attrs.frozen(kw_only=True)
class Moe:
    """Section `moe_config`, the class MoeConfig."""

    backend: Literal["CUTLASS", "CUTEDSL", "WIDEEP", "TRTLLM", "DEEPGEMM", "VANILLA", "TRITON"] | None = option(
        None, help="Kernels of the experts. The engine's default is CUTLASS."
    )
    max_num_tokens: int | None = option(
        None, help="Tokens sent through the experts at once.", unit="tokens", validator=at_least(1)
    )
    load_balancer: str | Mapping[str, Any] | None = option(
        None, help="Balancing of experts: a YAML file or its content.", file="or id"
    )
    disable_finalize_fusion: bool | None = option(None, help="Do not fuse the last step of CUTLASS kernels.")
    use_low_precision_moe_combine: bool | None = option(None, help="Combine in low precision (NVFP4 only).")


@attrs.frozen(kw_only=True)
class AttentionDp:
    """Section `attention_dp_config`, the class AttentionDpConfig; needs enable_attention_dp."""

    enable_balance: bool | None = option(None, help="Balance requests over the ranks.")
    timeout_iters: int | None = option(None, help="Iterations to wait for balance.", validator=at_least(0))
    batching_wait_iters: int | None = option(None, help="Iterations to wait for a batch.", validator=at_least(0))


@attrs.frozen(kw_only=True)
class Lora:
    """Section `lora_config`, the class LoraConfig: one adapter, applied to every request."""

    lora_dir: str = option(help="Folder of the adapter.", file=True)
    max_lora_rank: int | None = option(None, help="Largest rank. The engine's default is 64.", validator=at_least(1))
    max_loras: int | None = option(None, help="Adapters on the GPU at most.", validator=at_least(1))
    max_cpu_loras: int | None = option(None, help="Adapters in host memory at most.", validator=at_least(1))
    lora_target_modules: tuple[str, ...] | None = option(None, help="Modules that the adapter changes.")
    lora_ckpt_source: Literal["hf", "nemo"] | None = option(None, help="Format of the adapter.")


@attrs.frozen(kw_only=True)
class PeftCache:
    """Section `peft_cache_config`, the class PeftCacheConfig: memory of adapters; needs lora_config."""

    device_cache_percent: float | None = option(
        None, help="Share of free GPU memory for adapters. The engine's default is 0.02.", validator=between(0, 1)
    )
    host_cache_size: int | None = option(None, help="Host memory for adapters.", unit="B", validator=at_least(0))
    optimal_adapter_size: int | None = option(None, help="Rank that pages are sized for.", validator=at_least(1))
    max_adapter_size: int | None = option(None, help="Largest rank.", validator=at_least(1))
    num_put_workers: int | None = option(None, help="Threads that fill the host cache.", validator=at_least(1))
    num_ensure_workers: int | None = option(None, help="Threads that copy to the GPU.", validator=at_least(1))
    num_copy_streams: int | None = option(None, help="CUDA streams that copy.", validator=at_least(1))


@attrs.frozen(kw_only=True)
class Speculative:
    """Section `speculative_config`: drafts of several tokens, verified in one step."""

    kind: Literal["draft_target", "eagle", "eagle3", "mtp", "ngram", "pard", "sa", "auto"] = option(
        help="Where drafts come from: another model (draft_target, pard), heads (eagle, eagle3, mtp), the text so "
        "far (ngram, sa), or as the engine sees fit (auto)."
    )
    max_draft_len: int | None = option(None, help="Tokens drafted at once.", unit="tokens", validator=at_least(1))
    speculative_model_dir: str | None = option(
        None, help="Model that drafts: a folder or a Hugging Face id.", file="or id"
    )
    max_concurrency: int | None = option(
        None, help="No drafts while more requests than this are running.", validator=at_least(1)
    )
    max_matching_ngram_size: int | None = option(
        None, help="Tokens matched to find a draft (ngram).", unit="tokens", validator=at_least(1)
    )
    num_nextn_predict_layers: int | None = option(None, help="Layers that draft (mtp).", validator=at_least(1))
    eagle3_one_model: bool | None = option(None, help="Draft inside the target's own engine (eagle, eagle3).")
    settings: Mapping[str, Any] | None = option(
        None, help="Further settings of that kind, by the engine's own names; unknown ones are refused at load."
    )


@attrs.frozen(kw_only=True)
class SparseAttention:
    """Section `sparse_attention_config`."""

    algorithm: Literal["rocket", "dsa"] = option(help="RocketKV, or the sparse attention of DeepSeek.")
    settings: Mapping[str, Any] | None = option(
        None, help="Its settings, by the engine's own names; unknown ones are refused at load."
    )


@attrs.frozen(kw_only=True)
class GuidedDecoding:
    """Section `guided_decoding`, the class GuidedDecodingParams: one of its settings; needs a backend in `extra`."""

    json: str | Mapping[str, Any] | None = option(None, help="The output follows this JSON schema.")
    regex: str | None = option(None, help="The output matches this regular expression.")
    grammar: str | None = option(None, help="The output follows this grammar (EBNF).")
    json_object: bool | None = option(None, help="The output is any JSON object.")
    structural_tag: str | None = option(None, help="The output follows this structural tag (xgrammar only).")
