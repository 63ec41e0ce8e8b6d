"""Configurations that this backend refuses, before anything is loaded and without importing tensorrt_llm.

Each rule is a small generator of messages; a message names the parameter, what is wrong and what would be right. What
depends on the GPU (its compute capability decides about fp8, nvfp4 and bfloat16) or on the installed version cannot be
known here and is refused when the model is loaded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from llem.backends.check import Refusal, phases_refusals, refused, sampling_refusals
from llem.config.models import Experiment
from llem.findings import Finding
from llem.models.spec import ModelSpec
from llem_tensorrt.config import TensorRTOptions
from llem_tensorrt.inventory import refused_extras

__all__ = ["contradictions", "lacking", "trtllm_sampler", "world_size"]

BEAMS_ONLY = ("beam_search_diversity_rate", "length_penalty", "early_stopping")
PENALTIES = ("presence_penalty", "frequency_penalty", "no_repeat_ngram_size")
DEFAULT_MAX_NUM_TOKENS = 8192
#: Drafts of another model, or of heads that come as one.
NEEDS_MODEL = ("draft_target", "eagle", "eagle3", "pard")
OF_KIND = {
    "speculative_model_dir": NEEDS_MODEL,
    "max_matching_ngram_size": ("ngram",),
    "num_nextn_predict_layers": ("mtp",),
    "eagle3_one_model": ("eagle", "eagle3"),
}


def contradictions(options: TensorRTOptions, experiment: Experiment, model: ModelSpec) -> Sequence[Finding]:
    """Every reason to refuse this configuration."""
    refusals = [
        *_device(experiment, model),
        *_parallelism(options, experiment),
        *_limits(options, experiment),
        *_cache(options),
        *phases_refusals(experiment, "tensorrt.kv_cache_config.enable_block_reuse", not options.reuses_blocks),
        *_graphs(options),
        *_quantisation(options, model),
        *_speculation(options),
        *_adapter(options),
        *_sampling(options, experiment),
        *_penalties(options, experiment),
        *_beams(options, experiment),
        *_guidance(options),
        *_text(options, model),
        *refused_extras(options),
    ]
    return refused(refusals)


def lacking(options: TensorRTOptions, capability: str) -> str | None:
    """Why a capability is not to be had with these settings; None where it is."""
    if capability != "loglikelihood":
        return None
    if options.reuses_blocks:
        return "reused blocks have no logits; set `tensorrt.kv_cache_config: {enable_block_reuse: false}`"
    if options.enable_chunked_prefill:
        return "a prompt in chunks has logits of its last chunk only; leave `tensorrt.enable_chunked_prefill` out"
    return None


def world_size(options: TensorRTOptions) -> int:
    """GPUs that the parallel sizes ask for: tensor times pipeline times context."""
    sizes = (options.tensor_parallel_size, options.pipeline_parallel_size, options.context_parallel_size)
    return math.prod(size or 1 for size in sizes)


def trtllm_sampler(options: TensorRTOptions) -> bool:
    """Whether the sampler that has penalties and min_p is asked for by name."""
    return options.sampler_type == "TRTLLMSampler" or options.enable_trtllm_sampler is True


def _device(experiment: Experiment, model: ModelSpec) -> Iterator[Refusal]:
    if experiment.device == "cpu":
        yield "device", "TensorRT-LLM runs on NVIDIA GPUs only; set `device: cuda`, or use another backend"
    if model.source == "shape" and experiment.weights_seed != 0:
        yield "weights_seed", "TensorRT-LLM makes dummy weights by itself, without this seed; leave it out"


def _parallelism(options: TensorRTOptions, experiment: Experiment) -> Iterator[Refusal]:
    gpus = 1 if experiment.gpu_count is None else experiment.gpu_count
    world = world_size(options)
    if world != gpus:
        named = "gpus is not set, which is 1 GPU" if experiment.gpus is None else f"gpus asks for {gpus}"
        yield (
            "tensorrt.tensor_parallel_size",
            f"tensor x pipeline x context parallel sizes make {world} and {named}; they must be equal",
        )
    tensor = options.tensor_parallel_size or 1
    names = ("moe_tensor_parallel_size", "moe_expert_parallel_size", "moe_cluster_parallel_size")
    given = {name: size for name in names if (size := getattr(options, name)) is not None}
    product = math.prod(given.values())
    first = next(iter(given), "")
    if given and tensor % product != 0:
        yield f"tensorrt.{first}", f"sizes of experts make {product}, which does not divide {tensor} GPUs of a layer"
    elif len(given) == len(names) and product != tensor:
        yield f"tensorrt.{first}", f"sizes of experts make {product} and must make tensor_parallel_size, {tensor}"
    for name in ("attention_dp_config", "enable_lm_head_tp_in_adp"):
        if getattr(options, name) not in (None, False) and options.enable_attention_dp is not True:
            yield f"tensorrt.{name}", "has no effect without `enable_attention_dp: true`"
    if options.enable_attention_dp and tensor == 1:
        yield "tensorrt.enable_attention_dp", "spreads requests over the GPUs of a layer; set tensor_parallel_size"
    if options.allreduce_strategy not in (None, "AUTO") and tensor == 1:
        yield "tensorrt.allreduce_strategy", "there is nothing to sum over one GPU; set tensor_parallel_size"


def _fixed(workload: Any, name: str) -> int | None:
    """A length of the workload where it is one number."""
    value = getattr(workload, name, None)
    return value if isinstance(value, int) else None


def _limits(options: TensorRTOptions, experiment: Experiment) -> Iterator[Refusal]:
    prompt, output = _fixed(experiment.workload, "input_tokens"), _fixed(experiment.workload, "output_tokens")
    longest = options.max_seq_len
    if longest is not None and prompt is not None and output is not None and prompt + output > longest:
        yield "tensorrt.max_seq_len", f"{longest} is less than prompts of {prompt} and outputs of {output} tokens"
    if options.max_input_len is not None and prompt is not None and prompt > options.max_input_len:
        yield "tensorrt.max_input_len", f"{options.max_input_len} is less than prompts of {prompt} tokens"
    step = options.max_num_tokens or DEFAULT_MAX_NUM_TOKENS
    if prompt is not None and prompt > step and not options.enable_chunked_prefill:
        yield (
            "tensorrt.max_num_tokens",
            f"prompts of {prompt} tokens do not fit a step of {step}; raise it, or set `enable_chunked_prefill: true`",
        )
    if options.max_num_tokens is not None and (options.max_batch_size or 1) > options.max_num_tokens:
        yield "tensorrt.max_num_tokens", "must not be below max_batch_size: each request decodes a token per step"
    policy = options.scheduler_config
    if policy is not None and policy.context_chunking_policy is not None and not options.enable_chunked_prefill:
        yield (
            "tensorrt.scheduler_config.context_chunking_policy",
            "has no effect without `enable_chunked_prefill: true`",
        )


def _cache(options: TensorRTOptions) -> Iterator[Refusal]:
    cache = options.kv_cache_config
    if cache is None:
        return
    if cache.enable_block_reuse is False:
        for name in ("enable_partial_reuse", "copy_on_partial_reuse"):
            if getattr(cache, name):
                yield f"tensorrt.kv_cache_config.{name}", "has no effect with `enable_block_reuse: false`"
    if not cache.host_cache_size:
        for name in ("onboard_blocks", "secondary_offload_min_priority"):
            if getattr(cache, name) is not None:
                yield f"tensorrt.kv_cache_config.{name}", "has no effect without host_cache_size"
    if cache.max_attention_window is not None and min(cache.max_attention_window, default=0) < 1:
        yield "tensorrt.kv_cache_config.max_attention_window", "must be a list of whole numbers of at least 1"


def _graphs(options: TensorRTOptions) -> Iterator[Refusal]:
    graphs = options.cuda_graph_config
    if graphs is not None:
        sizes = ("batch_sizes", "max_batch_size", "enable_padding")
        if graphs.enabled is False:
            for name in sizes:
                if getattr(graphs, name) is not None:
                    yield f"tensorrt.cuda_graph_config.{name}", "has no effect with `enabled: false`"
        if graphs.batch_sizes is not None and min(graphs.batch_sizes, default=0) < 1:
            yield "tensorrt.cuda_graph_config.batch_sizes", "must be a list of whole numbers of at least 1"
        elif graphs.batch_sizes is not None and graphs.max_batch_size is not None:
            yield "tensorrt.cuda_graph_config.max_batch_size", "is the largest of batch_sizes; leave one of them out"
    compiled = options.torch_compile_config
    if compiled is not None and compiled.capture_num_tokens is not None and not compiled.enable_piecewise_cuda_graph:
        yield (
            "tensorrt.torch_compile_config.capture_num_tokens",
            "has no effect without `enable_piecewise_cuda_graph: true`",
        )


def _quantisation(options: TensorRTOptions, model: ModelSpec) -> Iterator[Refusal]:
    if options.quant_algo is not None and model.source != "shape":
        yield (
            "tensorrt.quant_algo",
            "quantises shapes only: TensorRT-LLM takes the quantisation of a real model from its checkpoint; "
            "name a quantised checkpoint as the model",
        )
    if options.force_dynamic_quantization and model.source == "shape" and options.quant_algo is None:
        yield "tensorrt.force_dynamic_quantization", "has no effect on a model that is not quantised; set quant_algo"


def _speculation(options: TensorRTOptions) -> Iterator[Refusal]:
    drafts = options.speculative_config
    if drafts is None:
        return
    path, kind = "tensorrt.speculative_config", drafts.kind
    for name, kinds in OF_KIND.items():
        if getattr(drafts, name) is not None and kind not in kinds:
            yield f"{path}.{name}", f"belongs to {' and '.join(kinds)}, not to {kind}; leave it out"
    if kind in NEEDS_MODEL and drafts.speculative_model_dir is None:
        yield f"{path}.speculative_model_dir", f"{kind} needs a model that drafts"
    if kind in (*NEEDS_MODEL, "ngram", "sa") and drafts.max_draft_len is None:
        yield f"{path}.max_draft_len", f"{kind} needs to know how many tokens to draft"
    if kind == "mtp" and drafts.max_draft_len is not None:
        yield f"{path}.max_draft_len", "mtp drafts one token per layer; write num_nextn_predict_layers"
    for name in drafts.settings or {}:
        if hasattr(drafts, name):
            yield f"{path}.settings.{name}", f"has a field of its own; write `{path}.{name}`"
    if trtllm_sampler(options):
        yield path, "does not work with the TRTLLM sampler; leave sampler_type and enable_trtllm_sampler out"


def _adapter(options: TensorRTOptions) -> Iterator[Refusal]:
    if options.peft_cache_config is not None and options.lora_config is None:
        yield "tensorrt.peft_cache_config", "has no effect without lora_config"
    if options.lora_config is None:
        return
    folder = Path(options.lora_config.lora_dir).expanduser()
    path = "tensorrt.lora_config.lora_dir"
    if not folder.is_dir():
        yield path, f"there is no folder {options.lora_config.lora_dir}; TensorRT-LLM loads adapters from folders"
    elif options.lora_config.lora_ckpt_source != "nemo" and not (folder / "adapter_config.json").is_file():
        yield path, f"{options.lora_config.lora_dir} holds no adapter_config.json, so it is no adapter"


def _sampling(options: TensorRTOptions, experiment: Experiment) -> Iterator[Refusal]:
    sampling = experiment.sampling
    yield from sampling_refusals(sampling)
    if sampling.temperature > 0 and sampling.top_p == 0:
        yield "sampling.top_p", "0 makes TensorRT-LLM greedy; set temperature to 0 for that, or raise top_p"
    for name in ("top_p_decay", "top_p_min", "top_p_reset_ids"):
        if getattr(options, name) is not None and (sampling.temperature == 0 or sampling.top_p is None):
            yield f"tensorrt.{name}", "changes top_p; set sampling.top_p and a temperature above 0"
    if options.top_p_decay is None:
        for name in ("top_p_min", "top_p_reset_ids"):
            if getattr(options, name) is not None:
                yield f"tensorrt.{name}", "has no effect without top_p_decay"
    if options.min_tokens is not None and sampling.ignore_eos:
        yield "tensorrt.min_tokens", "has no effect with `sampling.ignore_eos: true`, which never ends early"


def _penalties(options: TensorRTOptions, experiment: Experiment) -> Iterator[Refusal]:
    """The Torch sampler, the default, documents neither penalties nor min_p in these versions."""
    if trtllm_sampler(options):
        return
    advice = "needs the TRTLLM sampler: set `tensorrt.sampler_type: TRTLLMSampler` (in 1.0 enable_trtllm_sampler)"
    for name in PENALTIES:
        if getattr(options, name) is not None:
            yield f"tensorrt.{name}", advice
    for name in ("repetition_penalty", "min_p"):
        if getattr(experiment.sampling, name) is not None:
            yield f"sampling.{name}", advice


def _beams(options: TensorRTOptions, experiment: Experiment) -> Iterator[Refusal]:
    if not options.use_beam_search:
        for name in BEAMS_ONLY:
            if getattr(options, name) is not None:
                yield f"tensorrt.{name}", "has no effect without `use_beam_search: true`"
        if (options.max_beam_width or 1) > 1:
            yield "tensorrt.max_beam_width", "has no effect without `use_beam_search: true`"
        return
    path = "tensorrt.use_beam_search"
    if (options.max_beam_width or 1) < 2:
        yield "tensorrt.max_beam_width", "use_beam_search needs 2 beams or more"
    if experiment.sampling.temperature > 0:
        yield path, "beam search keeps the likeliest sequences; set sampling.temperature to 0"
    if experiment.token_times:
        yield "token_times", "beam search has no time per token; leave token_times off or use_beam_search out"
    if experiment.load.kind != "offline":
        yield path, "beams are rewritten as they grow, so they cannot be streamed; use an offline load"
    if options.speculative_config is not None:
        yield path, "does not work with speculative decoding; leave one of them out"


def _guidance(options: TensorRTOptions) -> Iterator[Refusal]:
    extra, sampling = options.extra or {}, options.extra_sampling or {}
    if options.guided_decoding is not None:
        given = [name for name, value in attrs.asdict(options.guided_decoding).items() if value is not None]
        if len(given) != 1:
            yield "tensorrt.guided_decoding", f"takes one guide, and {' and '.join(given) or 'none'} is given"
        if extra.get("guided_decoding_backend") is None:
            yield "tensorrt.guided_decoding", "needs `tensorrt.extra.guided_decoding_backend`: xgrammar or llguidance"
    batched, applied = "batched_logits_processor", "apply_batched_logits_processor"
    if batched in extra and not sampling.get(applied):
        yield f"tensorrt.extra.{batched}", f"has no effect without `tensorrt.extra_sampling.{applied}: true`"
    if sampling.get(applied) and batched not in extra:
        yield f"tensorrt.extra_sampling.{applied}", f"has no effect without `tensorrt.extra.{batched}`"


def _text(options: TensorRTOptions, model: ModelSpec) -> Iterator[Refusal]:
    if model.source != "shape":
        return
    if options.detokenize:
        yield "tensorrt.detokenize", "a shape has no tokenizer, so there is no text to make; leave it out"
    if options.guided_decoding is not None:
        yield "tensorrt.guided_decoding", "a shape has no tokenizer, so there is no text to guide"
    for name in ("stop", "bad"):
        if name in (options.extra_sampling or {}):
            yield f"tensorrt.extra_sampling.{name}", f"a shape has no tokenizer; write {name}_token_ids"
