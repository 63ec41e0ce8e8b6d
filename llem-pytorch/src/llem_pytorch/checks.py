"""Configurations that this backend refuses, before anything is loaded and without importing torch.

Each rule is a small generator of messages; a message names the parameter, what is wrong and what would be right.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

from llem.backends.check import Refusal, adapter_refusals, refused, sampling_refusals
from llem.config.models import Experiment
from llem.findings import Finding
from llem.models.spec import ModelSpec
from llem_pytorch.config import STATIC_CACHES, PyTorchOptions, QuantizedCache
from llem_pytorch.extras import generation_faults, model_faults
from llem_pytorch.names import name_faults
from llem_pytorch.speculation import speculation_faults

__all__ = ["contradictions", "unkept"]

#: Details of quantisation, by what they belong to.
OF_4BIT = ("bnb_4bit_compute_dtype", "bnb_4bit_quant_type", "bnb_4bit_use_double_quant", "bnb_4bit_quant_storage")
OF_8BIT = ("llm_int8_threshold", "llm_int8_enable_fp32_cpu_offload", "llm_int8_has_fp16_weight")
#: What quantises a cache to the module it needs.
CACHE_MODULES = {"quanto": "optimum.quanto", "hqq": "hqq"}
FLASH_ATTENTION_MODULES = {
    "flash_attention_2": "flash_attn",
    "flash_attention_3": "flash_attn_interface",
    "flash_attention_4": "flash_attn.cute",
}


#: Settings with which `generate` does not go on from the cache of a prompt, or makes another one of it.
NOT_KEPT = (
    "cache_implementation", "prefill_chunk_size", "guidance_scale", "prompt_lookup_num_tokens", "assistant_model",
    "assistant_early_exit",
)  # fmt: skip


def unkept(options: PyTorchOptions) -> str | None:
    """Why prompts cannot be kept for decoding with these settings; None where they can."""
    named = [name for name in NOT_KEPT if getattr(options, name) is not None]
    named += ["num_beams"] if (options.num_beams or 1) > 1 else []
    named += ["use_cache"] if options.use_cache is False else []
    if not named:
        return None
    return (
        f"prompts are kept in transformers' dynamic cache; leave out {', '.join(f'`pytorch.{one}`' for one in named)}"
    )


def contradictions(options: PyTorchOptions, experiment: Experiment, model: ModelSpec) -> Sequence[Finding]:
    """Every reason to refuse this configuration."""
    refusals = [
        *_attention(options, experiment),
        *_compilation(options),
        *_quantisation(options),
        *_cache(options, experiment),
        *_decoding(options, experiment),
        *speculation_faults(options, experiment),
        *sampling_refusals(experiment.sampling),
        *_placement(options, experiment),
        *_adapter(options),
        *name_faults(options),
        *generation_faults(options, experiment, model),
        *model_faults(options, model),
    ]
    return refused(refusals)


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its parent package is not installed
        return False


def _attention(options: PyTorchOptions, experiment: Experiment) -> Iterator[Refusal]:
    if options.use_kernels and not _installed("kernels"):
        yield "pytorch.use_kernels", "needs kernels: pip install kernels"
    path, kernel = "pytorch.attn_implementation", options.attn_implementation or ""
    if kernel in ("", "eager", "sdpa"):
        return
    if experiment.device == "cpu":
        yield path, f"{kernel} needs a GPU; use sdpa or eager on the CPU"
    if kernel not in FLASH_ATTENTION_MODULES:
        return
    if experiment.dtype == "float32":
        yield path, f"{kernel} computes in float16 or bfloat16, not in float32; set dtype"
    module = FLASH_ATTENTION_MODULES[kernel]
    if not _installed(module):
        yield path, f"{kernel} needs the module {module}, which is not installed; use sdpa"


def _compilation(options: PyTorchOptions) -> Iterator[Refusal]:
    for name in ("mode", "backend", "fullgraph", "dynamic", "options"):
        if getattr(options, f"torch_compile_{name}") is not None and options.torch_compile is not True:
            yield f"pytorch.torch_compile_{name}", "has no effect without `torch_compile: true`"
    if options.torch_compile_mode is not None and options.torch_compile_backend not in (None, "inductor"):
        yield (
            "pytorch.torch_compile_mode",
            f"modes belong to inductor; {options.torch_compile_backend} ignores them; leave the mode out",
        )
    if options.torch_compile_options is not None and options.torch_compile_mode is not None:
        yield "pytorch.torch_compile_options", "a mode is a set of options; leave one of them out"


def _quantisation(options: PyTorchOptions) -> Iterator[Refusal]:
    if options.load_in_4bit and options.load_in_8bit:
        yield "pytorch.load_in_8bit", "load_in_4bit and load_in_8bit exclude each other; leave one out"
    for switch, details in (("load_in_4bit", OF_4BIT), ("load_in_8bit", OF_8BIT)):
        for name in details:
            if getattr(options, name) is not None and not getattr(options, switch):
                yield f"pytorch.{name}", f"has no effect without `{switch}: true`"
    if options.llm_int8_skip_modules is not None and not (options.load_in_4bit or options.load_in_8bit):
        yield "pytorch.llm_int8_skip_modules", "has no effect without load_in_4bit or load_in_8bit"
    if options.llm_int8_enable_fp32_cpu_offload and options.device_map is None:
        yield "pytorch.llm_int8_enable_fp32_cpu_offload", "has no effect without device_map"
    for name in ("load_in_4bit", "load_in_8bit"):
        if getattr(options, name) and not _installed("bitsandbytes"):
            yield f"pytorch.{name}", "needs bitsandbytes: pip install 'llem-pytorch[quantization]'"


def _cache(options: PyTorchOptions, experiment: Experiment) -> Iterator[Refusal]:
    path, cache = "pytorch.cache_implementation", options.cache_implementation
    if options.cache_config is not None and cache != "quantized":
        yield "pytorch.cache_config", "has no effect without `cache_implementation: quantized`"
    if options.max_cache_len is not None and cache not in STATIC_CACHES:
        yield "pytorch.max_cache_len", f"has no effect without a static cache: {' or '.join(STATIC_CACHES)}"
    if options.use_cache is False and options.prefill_chunk_size is not None:
        yield "pytorch.prefill_chunk_size", "chunks are joined by the cache; leave `use_cache: false` out"
    if cache is None:
        return
    if options.use_cache is False:
        yield path, "has no effect with `use_cache: false`"
    if cache.startswith("offloaded") and experiment.device == "cpu":
        yield path, f"{cache} moves the cache off a GPU; there is none on the CPU"
    if cache == "quantized":
        yield from _quantised_cache(options)


def _quantised_cache(options: PyTorchOptions) -> Iterator[Refusal]:
    settings = options.cache_config
    backend = (None if settings is None else settings.backend) or "quanto"
    module = CACHE_MODULES.get(backend)
    if module is not None and not _installed(module):
        package = module.replace(".", "-")
        yield "pytorch.cache_implementation", f"quantized by {backend} needs {package}: pip install {package}"
    if settings is None or backend != "fp8":
        return
    for field in attrs.fields(QuantizedCache):
        if field.name != "backend" and getattr(settings, field.name) is not None:
            yield (
                f"pytorch.cache_config.{field.name}",
                "fp8 has one scale per tensor and takes no setting; leave it out",
            )


def _decoding(options: PyTorchOptions, experiment: Experiment) -> Iterator[Refusal]:
    beams = (options.num_beams or 1) > 1
    for name in ("length_penalty", "early_stopping"):
        if getattr(options, name) is not None and not beams:
            yield f"pytorch.{name}", "has no effect without beam search; set num_beams above 1"
    if beams and experiment.token_times:
        yield "token_times", "beam search has no time per token; leave token_times off or num_beams at 1"
    if options.min_new_tokens is not None and experiment.sampling.ignore_eos:
        yield "pytorch.min_new_tokens", "has no effect with `sampling.ignore_eos: true`, which never ends early"
    if options.guidance_scale == 1:
        yield "pytorch.guidance_scale", "1 is no guidance; leave it out, or set another scale"
    if options.guidance_scale is not None and beams:
        yield "pytorch.guidance_scale", "its second cache does not follow beams; leave num_beams at 1"


def _placement(options: PyTorchOptions, experiment: Experiment) -> Iterator[Refusal]:
    for name in ("max_memory", "offload_folder", "offload_buffers"):
        if getattr(options, name) is not None and options.device_map is None:
            yield f"pytorch.{name}", "has no effect without device_map; set `device_map: auto`"
    if (experiment.gpu_count or 1) > 1 and options.device_map is None:
        yield "gpus", f"{experiment.gpu_count} GPUs are asked for and one would be used; set `pytorch.device_map: auto`"
    if experiment.device == "cpu" and (options.device_map or "").startswith("cuda"):
        yield "pytorch.device_map", f"{options.device_map} contradicts `device: cpu`"


def _adapter(options: PyTorchOptions) -> Iterator[Refusal]:
    for name in ("adapter_revision", "merge_adapter"):
        if getattr(options, name) is not None and options.adapter is None:
            yield f"pytorch.{name}", "has no effect without adapter"
    if options.adapter is None:
        return
    if not _installed("peft"):
        yield "pytorch.adapter", "needs peft: pip install 'llem-pytorch[lora]'"
    yield from adapter_refusals("pytorch.adapter", options.adapter)
    if options.adapter_revision is not None and Path(options.adapter).is_dir():
        yield "pytorch.adapter_revision", "a folder has no revisions; leave it out"
    if options.merge_adapter and (options.load_in_4bit or options.load_in_8bit):
        yield "pytorch.merge_adapter", "merging into quantised weights rounds the adapter away; leave it out"
