"""Configurations that this backend refuses, before anything is loaded and without importing vllm.

Each rule is a small generator of messages; a message names the parameter, what is wrong and what would be right.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from llem.backends.check import Refusal, adapter_refusals, phases_refusals, refused, sampling_refusals
from llem.config.models import Experiment
from llem.findings import Finding
from llem.models.spec import ModelSpec
from llem_vllm.config import COMPILATION, VllmOptions
from llem_vllm.inventory import known
from llem_vllm.names import name_faults

__all__ = ["contradictions", "gpus_needed", "lacking"]

#: Head sizes that the attention kernel of vLLM's CPU build has.
CPU_HEAD_SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)
LORA_DETAILS = ("max_loras", "max_lora_rank", "max_cpu_loras", "lora_dtype", "fully_sharded_loras")
#: The same of `extra`.
FURTHER_LORA_DETAILS = (
    "lora_target_modules",
    "enable_tower_connector_lora",
    "specialize_active_lora",
    "enable_mixed_moe_lora_format",
    "enable_moe_shared_loras",
    "max_lora_cls_labels",
)
SPECULATIVE_DETAILS = ("num_speculative_tokens", "prompt_lookup_max", "prompt_lookup_min", "draft_tensor_parallel_size")
#: What vLLM's beam search takes no notice of.
NOT_WITH_BEAMS = ("presence_penalty", "frequency_penalty", "min_tokens", "logprobs", "stop", "stop_token_ids")
GPU_ONLY = (
    "disable_custom_all_reduce",
    "kv_offloading_size",
    "enable_flashinfer_autotune",
    "enable_dbo",
    "cpu_offload_gb",
)


def contradictions(options: VllmOptions, experiment: Experiment, model: ModelSpec) -> Sequence[Finding]:
    """Every reason to refuse this configuration."""
    refusals = [
        *name_faults(options, known()),
        *_compilation(options),
        *_memory(options),
        *phases_refusals(experiment, "vllm.enable_prefix_caching", options.enable_prefix_caching is False),
        *_lengths(options, experiment),
        *_parallel(options, experiment),
        *_device(options, experiment, model),
        *_weights(options, experiment, model),
        *_adapter(options),
        *_speculation(options, experiment),
        *_decoding(options, experiment),
        *_beams(options, experiment),
        *sampling_refusals(experiment.sampling),
        *_sampling(experiment),
        *_serving(options, experiment),
    ]
    return refused(refusals)


def lacking(options: VllmOptions, capability: str) -> str | None:
    """Why a capability is not to be had with these settings; None where it is."""
    if capability == "stop" and (options.beam_width or 1) > 1:
        return "beam search does not end at texts; leave `vllm.beam_width` at 1"
    if capability != "loglikelihood":
        return None
    if options.logprobs_mode not in (None, "raw_logprobs"):
        return f"vLLM reports {options.logprobs_mode}, not raw log probabilities; leave `vllm.logprobs_mode` out"
    if options.extra.get("max_logprobs") == 0:
        return "`vllm.extra.max_logprobs: 0` lets vLLM report none; leave it out"
    if options.extra.get("kv_sharing_fast_prefill"):
        return "`vllm.extra.kv_sharing_fast_prefill: true` makes those of a prompt wrong; leave it out"
    return None


def gpus_needed(options: VllmOptions) -> int:
    """Ranks of all kinds of parallelism; decode context parallelism divides the tensor parallel ranks."""
    names = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size", "prefill_context_parallel_size")
    return math.prod(getattr(options, name) or 1 for name in names)


def _compilation(options: VllmOptions) -> Iterator[Refusal]:
    if not options.enforce_eager:
        return
    for name in (*COMPILATION, "cudagraph_capture_sizes", "max_cudagraph_capture_size"):
        value = getattr(options, name)
        if value is not None and value not in (0, "NONE") and name != "custom_ops":
            yield f"vllm.{name}", "has no effect with `enforce_eager: true`"


def _memory(options: VllmOptions) -> Iterator[Refusal]:
    if options.kv_offloading_backend is not None and options.kv_offloading_size is None:
        yield "vllm.kv_offloading_backend", "has no effect without kv_offloading_size"
    if options.prefix_caching_hash_algo is not None and options.enable_prefix_caching is False:
        yield "vllm.prefix_caching_hash_algo", "has no effect with `enable_prefix_caching: false`"
    if options.enable_chunked_prefill is False and options.long_prefill_token_threshold:
        yield "vllm.long_prefill_token_threshold", "has no effect with `enable_chunked_prefill: false`"
    tokens, seqs = options.max_num_batched_tokens, options.max_num_seqs
    if tokens is not None and seqs is not None and tokens < seqs:
        yield "vllm.max_num_batched_tokens", f"{tokens} is less than max_num_seqs, {seqs}: a step needs one token each"


def _lengths(options: VllmOptions, experiment: Experiment) -> Iterator[Refusal]:
    """Of requests that all have one length: vLLM would cut their outputs, or refuse them once it is loaded."""
    names = ("input_tokens", "output_tokens")
    lengths = [value for name in names if isinstance(value := getattr(experiment.workload, name, None), int)]
    longest = options.max_model_len
    if longest is not None and len(lengths) == len(names) and sum(lengths) > longest:
        yield "vllm.max_model_len", f"{longest} is less than {lengths[0]} tokens of prompt and {lengths[1]} of output"


def _parallel(options: VllmOptions, experiment: Experiment) -> Iterator[Refusal]:
    needed, asked = gpus_needed(options), experiment.gpu_count or 0
    if experiment.device != "cpu" and asked and needed != asked:
        yield "gpus", f"{asked} asked for and {needed} used; the parallel sizes of `vllm` must multiply to {asked}"
    elif experiment.device != "cpu" and needed > 1 and not asked:
        yield "gpus", f"the parallel sizes of `vllm` multiply to {needed}; set `gpus: {needed}`, or name {needed} GPUs"
    tensor, context = options.tensor_parallel_size or 1, options.decode_context_parallel_size or 1
    if tensor % context:
        yield "vllm.decode_context_parallel_size", f"{context} does not divide tensor_parallel_size, {tensor}"
    if (options.data_parallel_size or 1) > 1 and experiment.load.kind == "offline":
        yield "vllm.data_parallel_size", "vLLM runs copies for serving loads only; choose another `load.kind`"
    if options.distributed_executor_backend == "uni" and needed > 1:
        yield "vllm.distributed_executor_backend", f"uni runs one worker, {needed} are asked for; use mp"
    if needed == 1 and options.disable_custom_all_reduce is not None:
        yield "vllm.disable_custom_all_reduce", "has no effect on one GPU"
    if options.enable_eplb and not options.enable_expert_parallel:
        yield "vllm.enable_eplb", "has no effect without `enable_expert_parallel: true`"


def _device(options: VllmOptions, experiment: Experiment, model: ModelSpec) -> Iterator[Refusal]:
    if experiment.device != "cpu":
        return
    for name in GPU_ONLY:
        if getattr(options, name):
            yield f"vllm.{name}", "needs a GPU; leave it out on the CPU"
    if options.cudagraph_mode not in (None, "NONE") or options.cudagraph_capture_sizes:
        yield "vllm.cudagraph_mode", "there are no CUDA graphs on the CPU; leave it out"
    if options.async_scheduling:
        yield "vllm.async_scheduling", "vLLM's CPU build does not schedule ahead; leave it out"
    size = _head_size(model)
    if size is not None and size not in CPU_HEAD_SIZES:
        sizes = ", ".join(map(str, CPU_HEAD_SIZES))
        yield "model", f"{model.name} has attention heads of {size}; vLLM's CPU build runs {sizes}"


def _head_size(model: ModelSpec) -> int | None:
    config = model.config or {}
    config = config.get("text_config") or config
    hidden, heads = config.get("hidden_size"), config.get("num_attention_heads")
    size = config.get("head_dim") or (hidden // heads if hidden and heads else None)
    return size if isinstance(size, int) else None


def _weights(options: VllmOptions, experiment: Experiment, model: ModelSpec) -> Iterator[Refusal]:
    if model.source != "shape":
        if options.shape_weights is not None:
            yield "vllm.shape_weights", f"belongs to `shape:` models; {model.name} has weights of its own"
        return
    if options.load_format not in (None, "dummy"):
        yield "vllm.load_format", "a `shape:` model has no files; leave it out"
    if options.load_format == "dummy" and options.shape_weights == "seeded":
        yield "vllm.load_format", "dummy weights are not the seeded ones; leave load_format or shape_weights out"
    if experiment.weights_seed and options.shape_weights != "seeded":
        yield "weights_seed", "vLLM's dummy weights have a seed of their own; set `vllm.shape_weights: seeded`"


def _adapter(options: VllmOptions) -> Iterator[Refusal]:
    if options.adapter is None:
        for name in LORA_DETAILS:
            if getattr(options, name) is not None:
                yield f"vllm.{name}", "has no effect without adapter"
        for name in FURTHER_LORA_DETAILS:
            if name in options.extra:
                yield f"vllm.extra.{name}", "has no effect without `vllm.adapter`"
        return
    yield from adapter_refusals("vllm.adapter", options.adapter)


def _speculation(options: VllmOptions, experiment: Experiment) -> Iterator[Refusal]:
    method, model = options.speculative_method, options.speculative_model
    speculates = method is not None or model is not None
    for name in SPECULATIVE_DETAILS:
        if getattr(options, name) is not None and not speculates:
            yield f"vllm.{name}", "has no effect without speculative_method or speculative_model"
    if speculates and experiment.sampling.min_p is not None:
        yield "sampling.min_p", "vLLM does not apply it with speculative decoding; leave it out"
    if not speculates and options.extra.get("speculative_config") is not None:
        yield "vllm.extra.speculative_config", "has no effect without speculative_method or speculative_model"
    ngram = method in ("ngram", "ngram_gpu")
    if speculates and not ngram and (options.prompt_lookup_max or options.prompt_lookup_min):
        yield "vllm.prompt_lookup_max", "belongs to `speculative_method: ngram`; leave it out"
    if ngram and options.num_speculative_tokens is None:
        yield "vllm.num_speculative_tokens", "is missing; method ngram needs it"
    if ngram and model is not None:
        yield "vllm.speculative_model", "method ngram drafts from the prompt; leave the model out"
    low, high = options.prompt_lookup_min, options.prompt_lookup_max
    if low is not None and high is not None and low > high:
        yield "vllm.prompt_lookup_min", f"{low} is more than prompt_lookup_max, {high}"
    if method in ("draft_model", "eagle", "eagle3", "medusa") and model is None:
        yield "vllm.speculative_model", f"is missing; method {method} needs one"


def _decoding(options: VllmOptions, experiment: Experiment) -> Iterator[Refusal]:
    if options.stop and not options.detokenize:
        yield "vllm.stop", "is found in text; set `detokenize: true`"
    for name in ("stop", "stop_token_ids"):
        if getattr(options, name) and experiment.sampling.ignore_eos:
            yield f"vllm.{name}", "would end completions early; set `sampling.ignore_eos: false` if that is meant"
    if options.min_tokens and experiment.sampling.ignore_eos:
        yield "vllm.min_tokens", "has no effect with `sampling.ignore_eos: true`"
    if options.logprobs_mode is not None and options.logprobs is None:
        yield "vllm.logprobs_mode", "has no effect without logprobs"
    if options.seed_per_request is not None and experiment.sampling.temperature == 0:
        yield "vllm.seed_per_request", "has no effect at temperature 0 (greedy)"


def _beams(options: VllmOptions, experiment: Experiment) -> Iterator[Refusal]:
    if (options.beam_width or 1) == 1:
        if options.length_penalty is not None:
            yield "vllm.length_penalty", "has no effect without beam search; set beam_width above 1"
        return
    path, sampling = "vllm.beam_width", experiment.sampling
    if experiment.load.kind != "offline":
        yield path, "vLLM searches with beams over whole batches; use an offline load"
    if options.speculative_method or options.speculative_model:
        yield path, "beam search makes one token per step; leave speculative decoding out"
    if experiment.token_times:
        yield "token_times", "beam search has no time per token; leave token_times off or beam_width at 1"
    for name in NOT_WITH_BEAMS:
        if getattr(options, name) is not None:
            yield f"vllm.{name}", "has no effect in beam search; leave it out"
    for name in options.extra_sampling:
        yield f"vllm.extra_sampling.{name}", "has no effect in beam search; leave it out"
    for name in ("top_k", "top_p", "min_p", "repetition_penalty"):
        if getattr(sampling, name) is not None:
            yield f"sampling.{name}", "has no effect in beam search; leave it out"
    if options.seed_per_request is not None:
        yield "vllm.seed_per_request", "has no effect in beam search; leave it out"


def _sampling(experiment: Experiment) -> Iterator[Refusal]:
    sampling = experiment.sampling
    if sampling.top_p == 0:
        yield "sampling.top_p", "must be above 0; use temperature 0 for the most likely token"
    if 0 < sampling.temperature < 0.01:
        yield "sampling.temperature", "vLLM raises values below 0.01 to 0.01; use 0 or at least 0.01"


def _serving(options: VllmOptions, experiment: Experiment) -> Iterator[Refusal]:
    if experiment.load.kind == "offline":
        if options.stream_interval is not None:
            yield "vllm.stream_interval", "has no effect with an offline load; choose another `load.kind`"
        return
    if options.in_process:
        yield "vllm.in_process", "vLLM serves from a process of its own; leave it out, or use an offline load"
    if options.request_metrics is False:
        yield "vllm.request_metrics", "serving loads keep the engine's times; leave it out"
