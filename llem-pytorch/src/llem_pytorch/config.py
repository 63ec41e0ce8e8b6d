"""The section `pytorch:` of an experiment. `None` always means: the engine's own default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import attrs

from llem.config.fields import at_least, between, option

__all__ = ["STATIC_CACHES", "PyTorchOptions", "QuantizedCache"]

Attention = Literal["eager", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3", "flash_attention_4"]
CacheImplementation = Literal["dynamic", "static", "offloaded", "offloaded_static", "quantized"]
CompileMode = Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]

STATIC_CACHES = ("static", "offloaded_static")


@attrs.frozen(kw_only=True)
class QuantizedCache:
    """Section `cache_config`: settings of the quantized cache, named as those of transformers' QuantizedCache."""

    backend: Literal["quanto", "hqq", "fp8"] | None = option(
        None, help="What quantises. The engine's default is quanto; fp8 needs no package and takes no other setting."
    )
    nbits: int | None = option(None, help="Bits per number. The engine's default is 4.", validator=between(1, 8))
    axis_key: int | None = option(None, help="Axis of the keys' groups.", validator=between(-1, 1))
    axis_value: int | None = option(None, help="Axis of the values' groups.", validator=between(-1, 1))
    q_group_size: int | None = option(
        None, help="Numbers that share a scale. The engine's default is 64.", validator=at_least(1)
    )
    residual_length: int | None = option(
        None, help="Latest tokens that are not quantised yet. The engine's default is 128.", validator=at_least(1)
    )


@attrs.frozen(kw_only=True)
class PyTorchOptions:
    """Parameters of PyTorch and transformers. Every one is used or refused, never ignored."""

    # kernels
    attn_implementation: Attention | None = option(
        None, help="Attention kernel. The engine's default is sdpa where the model has it, else eager."
    )
    experts_implementation: Literal["eager", "batched_mm", "grouped_mm"] | None = option(
        None, help="Kernel of expert layers. The engine's default is grouped_mm where the model has it, else eager."
    )
    use_kernels: bool | None = option(
        None,
        help="Replace layers by kernels from the Hugging Face hub, where it has one for the layer and the device; "
        "needs the package kernels and the network.",
    )
    float32_matmul_precision: Literal["highest", "high", "medium"] | None = option(
        None, help="Precision of float32 matrix products: `high` allows TF32, `highest` forbids it."
    )
    num_threads: int | None = option(None, help="CPU threads within one operation.", validator=at_least(1))

    # compilation
    torch_compile: bool | None = option(
        None,
        help="Compile with torch.compile: the decode step with a static cache, the whole forward pass otherwise. "
        "Null lets transformers decide, which compiles the decode step on a GPU with a static cache.",
    )
    torch_compile_mode: CompileMode | None = option(
        None, help="Mode of torch.compile. With a static cache the default is reduce-overhead (CUDA graphs)."
    )
    torch_compile_backend: str | None = option(None, help="Compiler of torch.compile; the default is inductor.")
    torch_compile_fullgraph: bool | None = option(None, help="Fail where the model cannot be one graph.")
    torch_compile_dynamic: bool | None = option(None, help="True: dynamic shapes; false: none; null: as needed.")

    torch_compile_options: Mapping[str, Any] | None = option(
        None, help="Options of the compiler, such as inductor's; they take the place of a mode."
    )

    # quantisation
    load_in_4bit: bool | None = option(None, help="Quantise weights to 4 bits with bitsandbytes.")
    load_in_8bit: bool | None = option(None, help="Quantise weights to 8 bits (LLM.int8) with bitsandbytes.")
    bnb_4bit_compute_dtype: Literal["float32", "float16", "bfloat16"] | None = option(
        None, help="Number format of products with 4-bit weights; the default is the experiment's dtype."
    )
    bnb_4bit_quant_type: Literal["fp4", "nf4"] | None = option(None, help="4-bit number format.")
    bnb_4bit_use_double_quant: bool | None = option(None, help="Quantise the 4-bit scales as well.")

    bnb_4bit_quant_storage: Literal["uint8", "float16", "float32", "bfloat16"] | None = option(
        None, help="Number format that 4-bit weights are stored in. The engine's default is uint8."
    )
    llm_int8_threshold: float | None = option(
        None,
        help="Activations above this are multiplied in float16 (load_in_8bit); the default is 6.",
        validator=at_least(0),
    )
    llm_int8_skip_modules: tuple[str, ...] | None = option(
        None, help="Modules that are not quantised, in 8 and in 4 bits; the default is the output projection."
    )
    llm_int8_enable_fp32_cpu_offload: bool | None = option(
        None, help="Let device_map place modules on the CPU, in float32 (load_in_8bit)."
    )
    llm_int8_has_fp16_weight: bool | None = option(None, help="Keep float16 weights beside 8-bit ones (load_in_8bit).")

    # key-value cache
    cache_implementation: CacheImplementation | None = option(
        None, help="Key-value cache. The engine's default is dynamic."
    )
    cache_config: QuantizedCache | None = option(
        None, help="Settings of the cache; needs `cache_implementation: quantized`."
    )
    max_cache_len: int | None = option(
        None,
        help="Tokens that a static cache is made for, where a batch needs fewer: attention runs over all of them.",
        validator=at_least(1),
    )
    use_cache: bool | None = option(None, help="False computes every earlier token anew at each step.")
    prefill_chunk_size: int | None = option(
        None, help="Compute prompts in chunks of this many tokens.", validator=at_least(1)
    )

    # decoding
    num_beams: int | None = option(None, help="Beams of beam search; 1 is none.", validator=at_least(1))
    length_penalty: float | None = option(None, help="Exponent of length in a beam's score; needs num_beams > 1.")
    early_stopping: bool | Literal["never"] | None = option(
        None,
        help="True stops when num_beams candidates are complete, never only when none better can come; needs "
        "num_beams > 1.",
    )
    no_repeat_ngram_size: int | None = option(
        None, help="No sequence of this many tokens occurs twice; 0 is off.", validator=at_least(0)
    )
    min_new_tokens: int | None = option(
        None, help="No end before this many tokens; needs `sampling.ignore_eos: false`.", validator=at_least(1)
    )
    guidance_scale: float | None = option(
        None,
        help="Classifier-free guidance: above 1 each step also computes the logits without the prompt.",
        validator=at_least(0),
    )

    # speculation, for one request at a time
    prompt_lookup_num_tokens: int | None = option(
        None,
        help="Speculate this many tokens at once by looking them up in the prompt; needs batch_size 1.",
        validator=at_least(1),
    )

    max_matching_ngram_size: int | None = option(
        None, help="Tokens matched to find a draft in the prompt; the default is 2.", validator=at_least(1)
    )
    assistant_model: str | None = option(
        None,
        help="Model that drafts: `shape:NAME`, a folder or a Hugging Face id; needs batch_size 1. It runs on the same "
        "device, in the same dtype.",
        file="or id",
    )
    assistant_early_exit: int | None = option(
        None,
        help="Draft with the first layers of the model itself, this many; needs batch_size 1.",
        validator=at_least(1),
    )
    num_assistant_tokens: int | None = option(
        None, help="Tokens drafted at once. The engine's default is 20.", validator=at_least(1)
    )
    num_assistant_tokens_schedule: Literal["heuristic", "heuristic_transient", "constant"] | None = option(
        None,
        help="Whether the number of drafted tokens follows how many were right. The engine's default is constant.",
    )
    assistant_confidence_threshold: float | None = option(
        None,
        help="Stop drafting at a token less probable than this; 0 is off. The engine's default is 0.4.",
        validator=between(0, 1),
    )

    # placement
    device_map: str | None = option(
        None, help="Spread the model: auto, balanced, balanced_low_0, sequential, or one device such as cuda:0."
    )
    max_memory: Mapping[str, str] | None = option(
        None, help='Most memory per device for device_map, such as {"0": "20GiB", "cpu": "60GiB"}.'
    )

    offload_folder: str | None = option(
        None,
        help="Folder for weights that device_map finds no memory for.",
    )
    offload_buffers: bool | None = option(None, help="Move buffers off with their module; needs device_map.")

    # adapter
    adapter: str | None = option(None, help="LoRA adapter: a folder or a Hugging Face id.", file="or id")
    adapter_revision: str | None = option(None, help="Branch, tag or commit of the adapter.")
    merge_adapter: bool | None = option(None, help="Merge the adapter into the weights before anything runs.")

    # everything else
    extra_generation: Mapping[str, Any] | None = option(
        None, help="Further fields of transformers' GenerationConfig, by their own names."
    )
    extra_model: Mapping[str, Any] | None = option(
        None, help="Further arguments of transformers' from_pretrained, by their own names."
    )
