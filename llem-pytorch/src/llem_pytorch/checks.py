"""Configurations that this backend refuses, before anything is loaded and without importing torch.

Each rule is a small generator of messages; a message names the parameter, what is wrong and what would be right.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path

from llem.config.models import Experiment
from llem.findings import Finding, finding
from llem.models.spec import ModelSpec
from llem_pytorch.config import QUANTISATION_DETAILS, STATIC_CACHES, PyTorchOptions

__all__ = ["contradictions"]

#: Parameter and what is wrong with it.
Refusal = tuple[str, str]

FLASH_ATTENTION_MODULES = {
    "flash_attention_2": "flash_attn",
    "flash_attention_3": "flash_attn_interface",
    "flash_attention_4": "flash_attn.cute",
}


def contradictions(options: PyTorchOptions, experiment: Experiment, model: ModelSpec) -> Sequence[Finding]:
    """Every reason to refuse this configuration."""
    refusals = [
        *_attention(options, experiment),
        *_compilation(options),
        *_quantisation(options),
        *_cache(options, experiment),
        *_decoding(options, experiment),
        *_sampling(experiment),
        *_placement(options, experiment),
        *_adapter(options),
    ]
    return [finding("backend_check", f"{path}: {message}", parameter=path) for path, message in refusals]


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its parent package is not installed
        return False


def _attention(options: PyTorchOptions, experiment: Experiment) -> Iterator[Refusal]:
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
    for name in ("mode", "backend", "fullgraph", "dynamic"):
        if getattr(options, f"torch_compile_{name}") is not None and options.torch_compile is not True:
            yield f"pytorch.torch_compile_{name}", "has no effect without `torch_compile: true`"
    if options.torch_compile_mode is not None and options.torch_compile_backend not in (None, "inductor"):
        yield (
            "pytorch.torch_compile_mode",
            f"modes belong to inductor; {options.torch_compile_backend} ignores them; leave the mode out",
        )


def _quantisation(options: PyTorchOptions) -> Iterator[Refusal]:
    if options.load_in_4bit and options.load_in_8bit:
        yield "pytorch.load_in_8bit", "load_in_4bit and load_in_8bit exclude each other; leave one out"
    for name in QUANTISATION_DETAILS:
        if getattr(options, name) is not None and not options.load_in_4bit:
            yield f"pytorch.{name}", "has no effect without `load_in_4bit: true`"
    for name in ("load_in_4bit", "load_in_8bit"):
        if getattr(options, name) and not _installed("bitsandbytes"):
            yield f"pytorch.{name}", "needs bitsandbytes: pip install 'llem-pytorch[quantization]'"


def _cache(options: PyTorchOptions, experiment: Experiment) -> Iterator[Refusal]:
    path, cache = "pytorch.cache_implementation", options.cache_implementation
    if cache is None:
        return
    if options.use_cache is False:
        yield path, "has no effect with `use_cache: false`"
    if cache.startswith("offloaded") and experiment.device == "cpu":
        yield path, f"{cache} moves the cache off a GPU; there is none on the CPU"
    if cache == "quantized" and not _installed("optimum.quanto"):
        yield path, "quantized needs optimum-quanto: pip install optimum-quanto"


def _decoding(options: PyTorchOptions, experiment: Experiment) -> Iterator[Refusal]:
    beams = (options.num_beams or 1) > 1
    for name in ("length_penalty", "early_stopping"):
        if getattr(options, name) is not None and not beams:
            yield f"pytorch.{name}", "has no effect without beam search; set num_beams above 1"
    if beams and experiment.token_times:
        yield "token_times", "beam search has no time per token; leave token_times off or num_beams at 1"
    if options.prompt_lookup_num_tokens is None:
        return
    path = "pytorch.prompt_lookup_num_tokens"
    if beams:
        yield path, "does not work with beam search; leave num_beams at 1"
    if experiment.load.batch_size > 1:
        yield path, f"works for one request at a time; load.batch_size is {experiment.load.batch_size}"
    if options.use_cache is False or options.cache_implementation in STATIC_CACHES:
        yield path, "needs a dynamic cache; leave use_cache and cache_implementation out"


def _sampling(experiment: Experiment) -> Iterator[Refusal]:
    sampling = experiment.sampling
    if sampling.repetition_penalty is not None and sampling.repetition_penalty <= 0:
        yield "sampling.repetition_penalty", "must be above 0; 1 is no penalty"
    if sampling.temperature > 0:
        return
    for name in ("top_k", "top_p", "min_p"):
        if getattr(sampling, name) is not None:
            yield f"sampling.{name}", "has no effect at temperature 0 (greedy); leave it out or raise temperature"


def _placement(options: PyTorchOptions, experiment: Experiment) -> Iterator[Refusal]:
    if options.max_memory is not None and options.device_map is None:
        yield "pytorch.max_memory", "has no effect without device_map; set `device_map: auto`"
    if experiment.gpus is not None and len(experiment.gpus) > 1 and options.device_map is None:
        yield "gpus", f"{len(experiment.gpus)} GPUs are named and one would be used; set `pytorch.device_map: auto`"
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
    folder = Path(options.adapter)
    if folder.is_dir():
        if not (folder / "adapter_config.json").is_file():
            yield "pytorch.adapter", f"{options.adapter} holds no adapter_config.json, so it is no adapter"
        if options.adapter_revision is not None:
            yield "pytorch.adapter_revision", "a folder has no revisions; leave it out"
    elif options.adapter.startswith((".", "/", "~")):
        yield "pytorch.adapter", f"there is no folder {options.adapter}"
    if options.merge_adapter and (options.load_in_4bit or options.load_in_8bit):
        yield "pytorch.merge_adapter", "merging into quantised weights rounds the adapter away; leave it out"
