"""The section `pytorch:` of an experiment. `None` always means: the engine's own default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import attrs

from llem.config.fields import at_least, option

__all__ = ["QUANTISATION_DETAILS", "STATIC_CACHES", "PyTorchOptions"]

Attention = Literal["eager", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3", "flash_attention_4"]
CacheImplementation = Literal["dynamic", "static", "offloaded", "offloaded_static", "quantized"]
CompileMode = Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]

STATIC_CACHES = ("static", "offloaded_static")
QUANTISATION_DETAILS = ("bnb_4bit_compute_dtype", "bnb_4bit_quant_type", "bnb_4bit_use_double_quant")


@attrs.frozen(kw_only=True)
class PyTorchOptions:
    """Parameters of PyTorch and transformers. Every one is used or refused, never ignored."""

    # kernels
    attn_implementation: Attention | None = option(
        None, help="Attention kernel. The engine's default is sdpa where the model has it, else eager."
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

    # quantisation
    load_in_4bit: bool | None = option(None, help="Quantise weights to 4 bits with bitsandbytes.")
    load_in_8bit: bool | None = option(None, help="Quantise weights to 8 bits (LLM.int8) with bitsandbytes.")
    bnb_4bit_compute_dtype: Literal["float32", "float16", "bfloat16"] | None = option(
        None, help="Number format of products with 4-bit weights; the default is the experiment's dtype."
    )
    bnb_4bit_quant_type: Literal["fp4", "nf4"] | None = option(None, help="4-bit number format.")
    bnb_4bit_use_double_quant: bool | None = option(None, help="Quantise the 4-bit scales as well.")

    # key-value cache
    cache_implementation: CacheImplementation | None = option(
        None, help="Key-value cache. The engine's default is dynamic."
    )
    use_cache: bool | None = option(None, help="False computes every earlier token anew at each step.")

    # decoding
    num_beams: int | None = option(None, help="Beams of beam search; 1 is none.", validator=at_least(1))
    length_penalty: float | None = option(None, help="Exponent of length in a beam's score; needs num_beams > 1.")
    early_stopping: bool | None = option(None, help="Stop when num_beams candidates are complete; needs num_beams > 1.")
    no_repeat_ngram_size: int | None = option(
        None, help="No sequence of this many tokens occurs twice; 0 is off.", validator=at_least(0)
    )
    prompt_lookup_num_tokens: int | None = option(
        None,
        help="Speculate this many tokens at once by looking them up in the prompt; needs batch_size 1.",
        validator=at_least(1),
    )

    # placement
    device_map: str | None = option(
        None, help="Spread the model: auto, balanced, balanced_low_0, sequential, or one device such as cuda:0."
    )
    max_memory: Mapping[str, str] | None = option(
        None, help='Most memory per device for device_map, such as {"0": "20GiB", "cpu": "60GiB"}.'
    )

    # adapter
    adapter: str | None = option(None, help="LoRA adapter: a folder or a Hugging Face id.", file="or id")
    adapter_revision: str | None = option(None, help="Branch, tag or commit of the adapter.")
    merge_adapter: bool | None = option(None, help="Merge the adapter into the weights before anything runs.")
