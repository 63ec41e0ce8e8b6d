"""The section `vllm:` of an experiment. `None` always means: the engine's own default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import attrs

from llem.config.fields import at_least, between, option

__all__ = ["COMPILATION", "ENGINE", "SAMPLING", "SPECULATIVE", "VllmOptions"]

#: Options that are fields of vLLM's EngineArgs under the same name.
ENGINE = (
    "gpu_memory_utilization",
    "kv_cache_memory_bytes",
    "kv_cache_dtype",
    "block_size",
    "num_gpu_blocks_override",
    "enable_prefix_caching",
    "prefix_caching_hash_algo",
    "max_model_len",
    "disable_sliding_window",
    "disable_hybrid_kv_cache_manager",
    "cpu_offload_gb",
    "kv_offloading_size",
    "kv_offloading_backend",
    "max_num_seqs",
    "max_num_batched_tokens",
    "enable_chunked_prefill",
    "long_prefill_token_threshold",
    "prefill_schedule_interval",
    "scheduling_policy",
    "async_scheduling",
    "stream_interval",
    "attention_backend",
    "disable_cascade_attn",
    "moe_backend",
    "linear_backend",
    "enable_flashinfer_autotune",
    "model_impl",
    "enforce_eager",
    "optimization_level",
    "performance_mode",
    "cudagraph_capture_sizes",
    "max_cudagraph_capture_size",
    "quantization",
    "load_format",
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "data_parallel_size",
    "prefill_context_parallel_size",
    "decode_context_parallel_size",
    "enable_expert_parallel",
    "enable_eplb",
    "all2all_backend",
    "enable_dbo",
    "distributed_executor_backend",
    "disable_custom_all_reduce",
    "max_loras",
    "max_lora_rank",
    "max_cpu_loras",
    "lora_dtype",
    "fully_sharded_loras",
    "logprobs_mode",
)
#: Option to the field of vLLM's CompilationConfig.
COMPILATION = {
    "compilation_mode": "mode",
    "compilation_backend": "backend",
    "cudagraph_mode": "cudagraph_mode",
    "compile_sizes": "compile_sizes",
    "custom_ops": "custom_ops",
}
#: Option to the field of vLLM's SpeculativeConfig.
SPECULATIVE = {
    "speculative_method": "method",
    "speculative_model": "model",
    "num_speculative_tokens": "num_speculative_tokens",
    "prompt_lookup_max": "prompt_lookup_max",
    "prompt_lookup_min": "prompt_lookup_min",
    "draft_tensor_parallel_size": "draft_tensor_parallel_size",
}
#: Options that are fields of vLLM's SamplingParams under the same name.
SAMPLING = (
    "presence_penalty",
    "frequency_penalty",
    "min_tokens",
    "logprobs",
    "detokenize",
    "stop",
    "stop_token_ids",
)


@attrs.frozen(kw_only=True)
class VllmOptions:
    """Parameters of vLLM. Every one is used or refused, never ignored."""

    # key-value cache and memory
    gpu_memory_utilization: float | None = option(
        None, help="Share of a GPU's memory that vLLM takes, cache included.", validator=between(0.01, 1)
    )
    kv_cache_memory_bytes: int | None = option(
        None, help="Size of the key-value cache per GPU, instead of a share.", unit="bytes", validator=at_least(1)
    )
    kv_cache_dtype: str | None = option(None, help="Number format of the key-value cache: auto, fp8, bfloat16, …")
    block_size: int | None = option(None, help="Tokens per cache block.", validator=at_least(1))
    num_gpu_blocks_override: int | None = option(
        None, help="Number of cache blocks, instead of what fits.", validator=at_least(1)
    )
    enable_prefix_caching: bool | None = option(
        None, help="Keep and reuse the cache of common beginnings of prompts. The engine's default is on."
    )
    prefix_caching_hash_algo: str | None = option(None, help="Hash of cache blocks: sha256, xxhash, …")
    max_model_len: int | None = option(
        None, help="Most tokens of prompt and output; the model's own limit by default.", validator=at_least(1)
    )
    disable_sliding_window: bool | None = option(None, help="Attend to all tokens up to the window's length.")
    disable_hybrid_kv_cache_manager: bool | None = option(
        None, help="One cache size for all layers, also where they attend differently far."
    )
    cpu_offload_gb: float | None = option(
        None, help="Weights kept in host memory, per GPU.", unit="GiB", validator=at_least(0)
    )
    kv_offloading_size: float | None = option(
        None, help="Host memory for cache blocks that leave the GPU.", unit="GiB", validator=at_least(0)
    )
    kv_offloading_backend: Literal["native", "lmcache"] | None = option(
        None, help="What moves cache blocks to host memory; needs kv_offloading_size."
    )

    # scheduler
    max_num_seqs: int | None = option(None, help="Most sequences in one step.", validator=at_least(1))
    max_num_batched_tokens: int | None = option(None, help="Most tokens in one step.", validator=at_least(1))
    enable_chunked_prefill: bool | None = option(None, help="Spread a long prompt over several steps.")
    long_prefill_token_threshold: int | None = option(
        None, help="Tokens from which on a prompt counts as long; 0 is off.", validator=at_least(0)
    )
    prefill_schedule_interval: int | None = option(
        None, help="Start prompts only every this many steps.", validator=at_least(1)
    )
    scheduling_policy: Literal["fcfs", "priority"] | None = option(None, help="Which request goes first.")
    async_scheduling: bool | None = option(None, help="Schedule the next step while the last one runs.")
    stream_interval: int | None = option(
        None, help="Tokens per chunk of a stream, after the first.", validator=at_least(1)
    )

    # kernels and compilation
    attention_backend: str | None = option(None, help="Attention kernel: FLASH_ATTN, FLASHINFER, TRITON_ATTN, …")
    disable_cascade_attn: bool | None = option(None, help="No shared attention over a common beginning of prompts.")
    moe_backend: str | None = option(None, help="Kernel of expert layers.")
    linear_backend: str | None = option(None, help="Kernel of quantised linear layers.")
    enable_flashinfer_autotune: bool | None = option(None, help="Try FlashInfer's kernels out when loading.")
    model_impl: str | None = option(None, help="auto, vllm, or transformers' own implementation of the model.")
    enforce_eager: bool | None = option(None, help="Neither compile nor use CUDA graphs.")
    optimization_level: int | None = option(
        None, help="0 starts fast, 3 runs fast; sets what is left open below.", validator=between(0, 3)
    )
    performance_mode: Literal["balanced", "interactivity", "throughput"] | None = option(
        None, help="What vLLM's own defaults aim at."
    )
    compilation_mode: int | None = option(
        None, help="0 none, 1 plain torch.compile, 2 trace once, 3 vLLM's own.", validator=between(0, 3)
    )
    compilation_backend: str | None = option(None, help="Compiler: inductor, eager, …")
    cudagraph_mode: Literal["NONE", "PIECEWISE", "FULL", "FULL_DECODE_ONLY", "FULL_AND_PIECEWISE"] | None = option(
        None, help="Which steps run as CUDA graphs."
    )
    cudagraph_capture_sizes: tuple[int, ...] | None = option(None, help="Batch sizes to capture CUDA graphs for.")
    max_cudagraph_capture_size: int | None = option(
        None, help="Largest batch size with a CUDA graph.", validator=at_least(1)
    )
    compile_sizes: tuple[int, ...] | None = option(None, help="Batch sizes to compile for by themselves.")
    custom_ops: tuple[str, ...] | None = option(None, help="vLLM's own operators: all, none, +name, -name.")

    # weights
    quantization: str | None = option(None, help="How weights are quantised: fp8, awq, gptq, bitsandbytes, …")
    load_format: str | None = option(None, help="How weights are read: auto, safetensors, dummy (random), …")
    shape_weights: Literal["dummy", "seeded"] | None = option(
        None,
        help="Weights of a `shape:` model: vLLM's own dummy values (the default), or the very values that other "
        "backends make of `weights_seed` on the CPU, which are written to a temporary folder first.",
    )

    # parallelism
    tensor_parallel_size: int | None = option(None, help="GPUs that share each layer.", validator=at_least(1))
    pipeline_parallel_size: int | None = option(None, help="GPUs that share the layers.", validator=at_least(1))
    data_parallel_size: int | None = option(
        None, help="Copies of the model; needs a serving load.", validator=at_least(1)
    )
    prefill_context_parallel_size: int | None = option(
        None, help="GPUs that share a prompt's tokens.", validator=at_least(1)
    )
    decode_context_parallel_size: int | None = option(
        None, help="Of the tensor parallel GPUs, how many share a sequence's cache.", validator=at_least(1)
    )
    enable_expert_parallel: bool | None = option(None, help="Spread whole experts over the GPUs.")
    enable_eplb: bool | None = option(None, help="Balance experts by their use; needs enable_expert_parallel.")
    all2all_backend: str | None = option(None, help="How tokens travel to experts.")
    enable_dbo: bool | None = option(None, help="Overlap two half batches; needs expert and data parallelism.")
    distributed_executor_backend: Literal["mp", "ray", "uni"] | None = option(
        None, help="What runs the workers: processes, Ray, or the engine's own process."
    )
    disable_custom_all_reduce: bool | None = option(None, help="Use NCCL's all-reduce only.")

    # adapter
    adapter: str | None = option(None, help="LoRA adapter: a folder or a Hugging Face id.", file="or id")
    max_loras: int | None = option(None, help="Adapters in one batch.", validator=at_least(1))
    max_lora_rank: int | None = option(None, help="Largest rank; memory is set aside for it.", validator=at_least(1))
    max_cpu_loras: int | None = option(None, help="Adapters kept in host memory.", validator=at_least(1))
    lora_dtype: Literal["auto", "float16", "bfloat16"] | None = option(None, help="Number format of adapters.")
    fully_sharded_loras: bool | None = option(None, help="Share both matrices of an adapter over the GPUs.")

    # speculative decoding
    speculative_method: str | None = option(None, help="ngram, draft_model, eagle, eagle3, medusa, mtp, suffix, …")
    speculative_model: str | None = option(None, help="Draft model: a folder or a Hugging Face id.", file="or id")
    num_speculative_tokens: int | None = option(None, help="Tokens drafted at once.", validator=at_least(1))
    prompt_lookup_max: int | None = option(
        None, help="Longest sequence looked up (method ngram).", validator=at_least(1)
    )
    prompt_lookup_min: int | None = option(
        None, help="Shortest sequence looked up (method ngram).", validator=at_least(1)
    )
    draft_tensor_parallel_size: int | None = option(
        None, help="GPUs that share the draft model.", validator=at_least(1)
    )

    # decoding
    beam_width: int | None = option(None, help="Beams of beam search; 1 is none.", validator=at_least(1))
    length_penalty: float | None = option(None, help="Exponent of length in a beam's score; needs beam_width > 1.")
    presence_penalty: float | None = option(
        None, help="Above 0 discourages tokens that occurred.", validator=between(-2, 2)
    )
    frequency_penalty: float | None = option(
        None, help="Above 0 discourages tokens by how often they occurred.", validator=between(-2, 2)
    )
    min_tokens: int | None = option(
        None, help="No end before this many tokens; needs `sampling.ignore_eos: false`.", validator=at_least(0)
    )
    logprobs: int | None = option(None, help="Log probabilities computed per token.", validator=at_least(0))
    logprobs_mode: Literal["raw_logits", "raw_logprobs", "processed_logits", "processed_logprobs"] | None = option(
        None, help="Which values log probabilities are; needs logprobs."
    )
    detokenize: bool = option(
        False, help="Make text of each token as it comes. Off here, since nothing is measured on the text."
    )
    stop: tuple[str, ...] | None = option(None, help="Texts that end a completion; needs detokenize.")
    stop_token_ids: tuple[int, ...] | None = option(None, help="Tokens that end a completion.")
    seed_per_request: bool | None = option(
        None,
        help="Seed each request by itself, so that its tokens do not depend on what ran before; slower. By default "
        "sampling is seeded once per engine.",
    )

    # the engine's process and its reports
    in_process: bool | None = option(
        None, help="Run the engine in the worker's process. vLLM's default is a process of its own."
    )
    request_metrics: bool | None = option(
        None,
        help="Keep the engine's times of each request (queued, prefill, decode). On with serving loads and token "
        "times, else off, as it costs host work.",
    )

    # everything else
    extra: Mapping[str, Any] = option(factory=dict, help="Further fields of vLLM's EngineArgs, by their own names.")
    extra_sampling: Mapping[str, Any] = option(
        factory=dict, help="Further fields of vLLM's SamplingParams, by their own names."
    )
