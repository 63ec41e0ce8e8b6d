"""The section `tensorrt:` of an experiment. `None` always means: the engine's own default.

A field is named like the argument of `tensorrt_llm.LLM` or `tensorrt_llm.SamplingParams` that it becomes. An argument
that the installed version does not know is refused when the model is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import attrs

from llem.config.fields import at_least, between, option
from llem_tensorrt.sections import (
    AttentionDp,
    CudaGraph,
    GuidedDecoding,
    KvCache,
    Lora,
    Moe,
    PeftCache,
    Scheduler,
    SparseAttention,
    Speculative,
    TorchCompile,
)

__all__ = ["OURS", "SAMPLING", "TensorRTOptions"]

AllReduce = Literal["AUTO", "NCCL", "UB", "MINLATENCY", "ONESHOT", "TWOSHOT", "LOWPRECISION", "MNNVL", "NCCL_SYMMETRIC"]

#: Fields that become arguments of SamplingParams; all others become arguments of LLM.
SAMPLING = frozenset(
    {
        "beam_search_diversity_rate",
        "detokenize",
        "early_stopping",
        "frequency_penalty",
        "guided_decoding",
        "length_penalty",
        "logprobs",
        "min_tokens",
        "no_repeat_ngram_size",
        "presence_penalty",
        "top_p_decay",
        "top_p_min",
        "top_p_reset_ids",
        "use_beam_search",
    }
)
#: Fields that are not arguments of the same name.
OURS = frozenset({"extra", "extra_sampling", "quant_algo"})


@attrs.frozen(kw_only=True)
class TensorRTOptions:
    """Parameters of TensorRT-LLM's LLM API. Every one is used or refused, never ignored."""

    # limits
    max_batch_size: int | None = option(
        None, help="Requests computed together at most. The engine's default is 2048.", validator=at_least(1)
    )
    max_num_tokens: int | None = option(
        None,
        help="Tokens computed in one step at most. The engine's default is 8192.",
        unit="tokens",
        validator=at_least(1),
    )
    max_seq_len: int | None = option(
        None, help="Prompt and output at most; null is what the model allows.", unit="tokens", validator=at_least(1)
    )
    max_input_len: int | None = option(None, help="Prompt at most.", unit="tokens", validator=at_least(1))
    max_beam_width: int | None = option(
        None, help="Beams of use_beam_search: each request then has this many.", validator=at_least(1)
    )

    # parallelism
    tensor_parallel_size: int | None = option(None, help="GPUs that share each layer.", validator=at_least(1))
    pipeline_parallel_size: int | None = option(
        None, help="GPUs that the layers are spread over.", validator=at_least(1)
    )
    context_parallel_size: int | None = option(None, help="GPUs that share a long prompt.", validator=at_least(1))
    moe_tensor_parallel_size: int | None = option(
        None, help="GPUs that share each expert, out of tensor_parallel_size.", validator=at_least(1)
    )
    moe_expert_parallel_size: int | None = option(
        None, help="GPUs that experts are spread over, out of tensor_parallel_size.", validator=at_least(1)
    )
    moe_cluster_parallel_size: int | None = option(
        None, help="Clusters that experts are spread over, out of tensor_parallel_size.", validator=at_least(1)
    )
    enable_attention_dp: bool | None = option(None, help="Attention by request on each GPU, experts and layers shared.")
    attention_dp_config: AttentionDp | None = option(None, help="Balancing of enable_attention_dp.")
    enable_lm_head_tp_in_adp: bool | None = option(
        None, help="Share the output projection although attention is by request; needs enable_attention_dp."
    )
    allreduce_strategy: AllReduce | None = option(None, help="How sums over GPUs are made. The default is AUTO.")

    # scheduling and batching
    enable_chunked_prefill: bool | None = option(None, help="Compute long prompts in chunks, beside decoding.")
    scheduler_config: Scheduler | None = option(None, help="Which requests run.")
    batching_type: Literal["STATIC", "INFLIGHT"] | None = option(
        None, help="Static or in-flight batching; versions after 1.0 have in-flight only."
    )
    batch_wait_timeout_ms: float | None = option(
        None, help="Wait this long for a full batch (from 1.1).", unit="ms", validator=at_least(0)
    )
    batch_wait_timeout_iters: int | None = option(
        None, help="Iterations to wait for more requests (from 1.1).", validator=at_least(0)
    )
    batch_wait_max_tokens_ratio: float | None = option(
        None, help="Wait until this share of max_num_tokens has gathered (from 1.1).", validator=between(0, 1)
    )
    disable_overlap_scheduler: bool | None = option(
        None, help="True schedules the next step only after the last one has ended."
    )
    stream_interval: int | None = option(
        None, help="Steps between two chunks of a stream; token times are then as coarse.", validator=at_least(1)
    )
    num_postprocess_workers: int | None = option(
        None, help="Processes that postprocess output; 0 is the engine's own.", validator=at_least(0)
    )
    garbage_collection_gen0_threshold: int | None = option(
        None, help="Threshold of Python's garbage collector. The engine's default is 20000.", validator=at_least(1)
    )

    # key-value cache
    kv_cache_config: KvCache | None = option(None, help="The key-value cache.")

    # kernels and compilation
    attn_backend: Literal["TRTLLM", "FLASHINFER", "VANILLA", "FLASHINFER_STAR_ATTENTION"] | None = option(
        None, help="Attention kernels. The engine's default is TRTLLM."
    )
    sparse_attention_config: SparseAttention | None = option(None, help="Attention to part of the cache (from 1.2).")
    cuda_graph_config: CudaGraph | None = option(None, help="CUDA graphs of the decoding step.")
    torch_compile_config: TorchCompile | None = option(None, help="torch.compile; off where this is left out.")
    enable_autotuner: bool | None = option(None, help="Choose kernels by measuring them. The default is true.")
    enable_min_latency: bool | None = option(None, help="Kernels for least latency (Llama 4 only).")
    moe_config: Moe | None = option(None, help="Mixture of experts.")

    # quantisation
    quant_algo: Literal["FP8", "FP8_BLOCK_SCALES", "NVFP4", "W4A16_AWQ", "W4A8_AWQ"] | None = option(
        None, help="Quantise a `shape:`. Other models bring their quantisation in their checkpoint."
    )
    force_dynamic_quantization: bool | None = option(
        None, help="Scale activations as they come, not by the checkpoint's scales; needs a quantised model."
    )

    # speculation and adapters
    speculative_config: Speculative | None = option(None, help="Speculative decoding.")
    lora_config: Lora | None = option(None, help="LoRA adapter of every request.")
    peft_cache_config: PeftCache | None = option(None, help="Memory of adapters.")

    # sampler
    sampler_type: Literal["auto", "TorchSampler", "TRTLLMSampler"] | None = option(
        None, help="Which sampler (from 1.1); TRTLLMSampler has penalties and min_p."
    )
    enable_trtllm_sampler: bool | None = option(None, help="The TRTLLM sampler, in 1.0; later `sampler_type`.")
    enable_mixed_sampler: bool | None = option(
        None, help="Sampling settings that differ within a batch, in 1.0; later always."
    )
    use_beam_search: bool | None = option(
        None,
        help="Beam search with max_beam_width beams, of which the best is returned. Versions up to 1.2 document that "
        "it also needs disable_overlap_scheduler and no CUDA graphs.",
    )
    beam_search_diversity_rate: float | None = option(None, help="Makes beams differ; needs use_beam_search.")
    length_penalty: float | None = option(None, help="Weight of length in a beam's score; needs use_beam_search.")
    early_stopping: int | None = option(
        None,
        help="1 stops at max_beam_width finished beams, 0 goes on; needs use_beam_search.",
        validator=between(0, 2),
    )
    presence_penalty: float | None = option(None, help="Above 0 discourages tokens that occurred; TRTLLM sampler.")
    frequency_penalty: float | None = option(None, help="As presence_penalty, for each occurrence; TRTLLM sampler.")
    no_repeat_ngram_size: int | None = option(
        None, help="No sequence of this many tokens occurs twice; TRTLLM sampler.", validator=at_least(1)
    )
    top_p_decay: float | None = option(None, help="Multiplies top_p after each token.", validator=between(0, 1))
    top_p_min: float | None = option(None, help="Least top_p after decay.", validator=between(0, 1))
    top_p_reset_ids: int | None = option(None, help="Token that resets top_p.", validator=at_least(0))
    min_tokens: int | None = option(
        None, help="No end of sequence before this many tokens.", unit="tokens", validator=at_least(1)
    )
    guided_decoding: GuidedDecoding | None = option(
        None, help="Mask tokens at each step, so that the text keeps to a form; needs `extra.guided_decoding_backend`."
    )
    logprobs: int | None = option(
        None, help="Compute the logarithms of this many probabilities per output token.", validator=at_least(1)
    )
    gather_generation_logits: bool | None = option(None, help="Keep the logits of output tokens.")
    detokenize: bool | None = option(
        None, help="Make text of the output, as the engine does by default where there is a tokenizer."
    )

    # observation
    return_perf_metrics: bool | None = option(
        None, help="Let the engine time each request (from 1.1); stored as engine metrics."
    )
    enable_iter_perf_stats: bool | None = option(None, help="Let the engine keep statistics of each step.")

    # all the rest
    extra: Mapping[str, Any] | None = option(None, help="Further arguments of tensorrt_llm.LLM, by their own names.")
    extra_sampling: Mapping[str, Any] | None = option(
        None, help="Further arguments of tensorrt_llm.SamplingParams, by their own names."
    )

    @property
    def reuses_blocks(self) -> bool:
        """Whether blocks of a prompt are kept for a later one, which TensorRT-LLM does unless it is told not to."""
        return self.kv_cache_config is None or self.kv_cache_config.enable_block_reuse is not False
