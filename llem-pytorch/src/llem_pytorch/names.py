"""What each name of transformers' parameters is to llem: an option, another setting's, llem's own, refused, or gone.

What is in none of these tables is accepted in `extra_generation` (GenerationConfig) or `extra_model` (from_pretrained).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from llem.backends.check import Refusal
from llem.backends.coverage import Inventory, Reach
from llem.errors import nearest
from llem_pytorch.config import PyTorchOptions
from llem_pytorch.inventory import known

__all__ = ["NOT_FREE", "SECTIONS", "TYPED", "name_faults"]

#: Owner to its parameters that are options: name to the option.
TYPED: Mapping[str, Mapping[str, str]] = {
    "GenerationConfig": {
        name: name
        for name in (
            "cache_implementation",
            "cache_config",
            "max_cache_len",
            "use_cache",
            "prefill_chunk_size",
            "num_beams",
            "length_penalty",
            "early_stopping",
            "no_repeat_ngram_size",
            "min_new_tokens",
            "guidance_scale",
            "prompt_lookup_num_tokens",
            "max_matching_ngram_size",
            "assistant_early_exit",
            "num_assistant_tokens",
            "num_assistant_tokens_schedule",
            "assistant_confidence_threshold",
        )
    },
    "CompileConfig": {name: f"torch_compile_{name}" for name in ("mode", "backend", "fullgraph", "dynamic", "options")},
    "BitsAndBytesConfig": {
        name: name
        for name in (
            "load_in_8bit",
            "load_in_4bit",
            "bnb_4bit_compute_dtype",
            "bnb_4bit_quant_type",
            "bnb_4bit_use_double_quant",
            "bnb_4bit_quant_storage",
            "llm_int8_threshold",
            "llm_int8_skip_modules",
            "llm_int8_enable_fp32_cpu_offload",
            "llm_int8_has_fp16_weight",
        )
    },
    "from_pretrained": {
        name: name
        for name in (
            "attn_implementation",
            "experts_implementation",
            "use_kernels",
            "device_map",
            "max_memory",
            "offload_folder",
            "offload_buffers",
        )
    },
}
#: Owner to its parameters that follow from other settings, and which.
DERIVED: Mapping[str, Mapping[str, str]] = {
    "GenerationConfig": {
        "max_new_tokens": "set `workload.output_tokens`",
        "max_length": "set `workload.output_tokens`",
        "do_sample": "set `sampling.temperature`",
        "temperature": "set `sampling.temperature`",
        "top_k": "set `sampling.top_k`",
        "top_p": "set `sampling.top_p`",
        "min_p": "set `sampling.min_p`",
        "repetition_penalty": "set `sampling.repetition_penalty`",
        "eos_token_id": "set `sampling.ignore_eos`; the ids are the model's own",
        "compile_config": "set `pytorch.torch_compile` and `pytorch.torch_compile_…`",
        "disable_compile": "set `pytorch.torch_compile: false`",
        "is_assistant": "set `pytorch.assistant_model`",
    },
    "from_pretrained": {
        "pretrained_model_name_or_path": "set `model`",
        "config": "set `model`",
        "state_dict": "set `model: shape:NAME` and `weights_seed`",
        "revision": "set `revision`",
        "dtype": "set `dtype`",
        "trust_remote_code": "set `trust_remote_code`",
        "token": "results store the configuration; log in with `hf auth login`, or set the variable HF_TOKEN",
        "proxies": "the library that downloads ignores it; set the variables HTTP_PROXY and HTTPS_PROXY",
        "adapter_kwargs": "set `pytorch.adapter` and `pytorch.adapter_revision`",
        "adapter_name": "set `pytorch.adapter`",
    },
}
#: Owner to its parameters that llem decides, and how.
FIXED: Mapping[str, Mapping[str, str]] = {
    "GenerationConfig": {
        "max_time": "the work is the same however long it takes: `workload.output_tokens` ends a sequence",
        "num_return_sequences": "a request has one completion; repeat the prompt in the workload instead",
        "token_healing": "every engine gets the same token ids, which the workload makes",
        "bos_token_id": "every engine gets the same token ids, which the workload makes",
        "pad_token_id": "padding is masked, and neither counted nor returned",
        "transformers_version": "it is the installed one",
    },
    "from_pretrained": {
        "generation_config": "generation is set by `sampling` and `pytorch` alone, never by the model's own file",
        "output_loading_info": "it changes what is returned and not what is loaded",
        "tqdm_class": "llem shows its own progress",
    },
}
#: Owner to its parameters that cannot be given, and why.
REFUSED: Mapping[str, Mapping[str, str]] = {
    "GenerationConfig": {
        "use_mtp": "transformers loads the drafting layers anew in each batch, within the measured window",
        "decoder_start_token_id": "belongs to encoder-decoder models, which this backend does not load",
    },
    "from_pretrained": {
        "distributed_config": "needs one process per GPU, and a worker is one process; see `pytorch.device_map`",
        "device_mesh": "needs one process per GPU, and a worker is one process; see `pytorch.device_map`",
    },
}
_MOVED = "transformers has moved this kind of search to code on the hub"
_DROPPED = "transformers takes it and ignores it"
_OLD = "transformers has replaced it by"
#: Owner to names that the library still takes and does nothing with, or hands over to code that is not its own.
GONE: Mapping[str, Mapping[str, str]] = {
    "GenerationConfig": {
        "continuous_batching_config": "transformers takes it elsewhere, and ignores it in this kind of generation",
        "low_memory": _MOVED,
        "penalty_alpha": _MOVED,
        "dola_layers": _MOVED,
        "diversity_penalty": _MOVED,
        "num_beam_groups": _MOVED,
        "constraints": _MOVED,
        "force_words_ids": _MOVED,
    },
    "from_pretrained": {
        "mirror": _DROPPED,
        "low_cpu_mem_usage": _DROPPED,
        "from_tf": _DROPPED,
        "from_flax": _DROPPED,
        "offload_state_dict": _DROPPED,
        "torch_dtype": f"{_OLD} dtype; set `dtype`",
        "tp_plan": f"{_OLD} distributed_config, which this backend refuses",
        "tp_size": f"{_OLD} distributed_config, which this backend refuses",
    },
}
NOT_FREE: Mapping[Reach, Mapping[str, Mapping[str, str]]] = {
    "derived": DERIVED,
    "fixed": FIXED,
    "refused": REFUSED,
    "gone": GONE,
}
#: Owner to the option that takes its further parameters.
SECTIONS = {"GenerationConfig": "extra_generation", "from_pretrained": "extra_model"}

#: Where in the configuration, and what is wrong there.


def name_faults(options: PyTorchOptions) -> Iterator[Refusal]:
    """What is wrong with names: unknown to transformers, typed, not free, or options that the installed one lacks."""
    for owner, section in SECTIONS.items():
        for name in getattr(options, section) or {}:
            wrong = _wrong(owner, name, known())
            if wrong is not None:
                yield f"pytorch.{section}.{name}", wrong
    for owner, names in TYPED.items():
        for name, option in names.items():
            if getattr(options, option) is not None and name not in known().fields[owner]:
                yield f"pytorch.{option}", f"transformers {known().version} has no such parameter; leave it out"


def _wrong(owner: str, name: str, inventory: Inventory) -> str | None:
    if name in TYPED[owner]:
        return f"has a setting of its own: set `pytorch.{TYPED[owner][name]}`"
    for table in NOT_FREE.values():
        if name in table[owner]:
            return f"is not to be given: {table[owner][name]}"
    if name in inventory.fields[owner]:
        return None
    other = next((place for place in SECTIONS if place != owner and name in inventory.fields[place]), None)
    if other is not None:
        return f"is no parameter of {owner} but of {other}; see `pytorch.{SECTIONS[other]}`"
    close = nearest(name, inventory.fields[owner])
    return f"transformers {inventory.version} has no such parameter" + (f"; did you mean {close!r}?" if close else "")
