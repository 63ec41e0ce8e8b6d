"""How to run a measured configuration with transformers alone: a program. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from llem.backends.deployment import PLACEHOLDER, Code, Deployment, call, common_notes, served_model, visible_gpus
from llem.config.models import Experiment
from llem.models.spec import ModelSpec
from llem_pytorch.config import STATIC_CACHES, PyTorchOptions

__all__ = ["commands"]

#: Options that are fields of GenerationConfig under the same name.
GENERATION = (
    "num_beams",
    "use_cache",
    "cache_implementation",
    "max_cache_len",
    "prefill_chunk_size",
    "no_repeat_ngram_size",
    "guidance_scale",
    "min_new_tokens",
    "prompt_lookup_num_tokens",
    "max_matching_ngram_size",
    "assistant_early_exit",
)
#: Options that are arguments of from_pretrained under the same name.
LOADING = (
    "attn_implementation",
    "experts_implementation",
    "use_kernels",
    "device_map",
    "offload_folder",
    "offload_buffers",
)
#: Settings of drafting, which transformers reads from the drafting model; and those where vocabularies differ.
DRAFTING = ("num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_confidence_threshold")
LOOKBEHIND = ("assistant_lookbehind", "target_lookbehind")
#: Of `extra_generation`, what is no field of the GenerationConfig of each call.
ELSEWHERE = (*LOOKBEHIND, "stop_strings")
DEVICE = Code('{"": "cuda" if torch.cuda.is_available() else "cpu"}')


def commands(experiment: Experiment, model: ModelSpec) -> Deployment:
    """A program with the same model, number format, kernels, compilation, cache and generation. There is no server."""
    options: PyTorchOptions = experiment.options
    body = [
        *_process(experiment, options),
        *_model(experiment, options, model),
        *_assistant(experiment, options),
        *_generation(experiment, options),
        *_run(experiment, options),
    ]
    text = "\n".join(body)
    names = ("AutoModelForCausalLM", "AutoTokenizer", "BitsAndBytesConfig", "CompileConfig", "GenerationConfig")
    used = [name for name in (*names, "KernelConfig") if f"{name}(" in text or f"{name}." in text]
    head = ["import torch"]
    if options.adapter is not None:
        head.append("from peft import PeftModel")
    head.append(f"from transformers import {', '.join(used)}")
    if gpus := visible_gpus(experiment):
        head = ["import os", "", f'os.environ["CUDA_VISIBLE_DEVICES"] = "{gpus}"  # before torch is used', "", *head]
    notes = (*common_notes(experiment, model), *_notes(experiment, options, model))
    return Deployment(python="\n".join([*head, "", text]), notes=notes)


def _process(experiment: Experiment, options: PyTorchOptions) -> Iterator[str]:
    if options.num_threads is not None:
        yield f"torch.set_num_threads({options.num_threads})"
    if options.float32_matmul_precision is not None:
        yield f'torch.set_float32_matmul_precision("{options.float32_matmul_precision}")'


def _model(experiment: Experiment, options: PyTorchOptions, model: ModelSpec) -> Iterator[str]:
    name, common = served_model(model), _common(experiment, model)
    arguments = {**common, "dtype": _dtype(experiment), "device_map": _device(experiment), **_asked(options, LOADING)}
    if options.max_memory is not None:
        arguments["max_memory"] = {int(key) if key.isdigit() else key: most for key, most in options.max_memory.items()}
    if options.load_in_4bit or options.load_in_8bit:
        arguments["quantization_config"] = Code(f"BitsAndBytesConfig({_inline(_quantisation(experiment, options))})")
    arguments |= options.extra_model or {}
    if "kernel_config" in arguments:
        arguments["kernel_config"] = Code(f"KernelConfig(**{arguments['kernel_config']!r})")
    yield f"model = {call('AutoModelForCausalLM.from_pretrained', arguments, name)}"
    if options.adapter is not None:
        adapter = {"revision": options.adapter_revision, "autocast_adapter_dtype": False}
        given = {key: value for key, value in adapter.items() if value is not None}
        end = "merge_and_unload" if options.merge_adapter else "get_base_model"
        made = call("PeftModel.from_pretrained", {"model_id": options.adapter, **given}, Code("model"))
        yield f"model = {made}.{end}()"
    yield "model = model.eval().requires_grad_(False)"
    yield f"tokenizer = {call('AutoTokenizer.from_pretrained', {**common, 'padding_side': 'left'}, name)}"


def _common(experiment: Experiment, model: ModelSpec) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if model.revision is not None:
        found["revision"] = model.revision
    if experiment.trust_remote_code:
        found["trust_remote_code"] = True
    return found


def _dtype(experiment: Experiment) -> Any:
    return "auto" if experiment.dtype == "auto" else Code(f"torch.{experiment.dtype}")


def _device(experiment: Experiment) -> Any:
    return DEVICE if experiment.device == "auto" else {"": experiment.device}


def _asked(options: PyTorchOptions, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def _quantisation(experiment: Experiment, options: PyTorchOptions) -> dict[str, Any]:
    names = [field.name for field in attrs.fields(PyTorchOptions)]
    details = _asked(options, tuple(name for name in names if name.startswith(("load_in_", "bnb_", "llm_int8_"))))
    if options.load_in_4bit:
        details.setdefault("bnb_4bit_compute_dtype", "bfloat16" if experiment.dtype == "auto" else experiment.dtype)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in details.items()}


def _inline(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in arguments.items())


def _assistant(experiment: Experiment, options: PyTorchOptions) -> Iterator[str]:
    """The model that drafts, and what transformers reads from its settings: of the model itself where there is none."""
    drafting = _asked(options, DRAFTING)
    drafting |= {name: value for name, value in (options.extra_generation or {}).items() if name in LOOKBEHIND}
    made = f"GenerationConfig({_inline(drafting)})"
    yield "own = model.generation_config"
    if options.assistant_model is None:
        yield f"model.generation_config = {made}  # as measured: nothing comes from the model's own file"
        return
    yield "model.generation_config = GenerationConfig()  # as measured: nothing comes from the model's own file"
    name = PLACEHOLDER if options.assistant_model.startswith("shape:") else options.assistant_model
    arguments = {"dtype": _dtype(experiment), "device_map": _device(experiment)}
    if experiment.trust_remote_code:
        arguments["trust_remote_code"] = True
    arguments |= _asked(options, ("attn_implementation",))
    yield f"assistant = {call('AutoModelForCausalLM.from_pretrained', arguments, name)}.eval().requires_grad_(False)"
    yield f"assistant.generation_config = {made}"


def _generation(experiment: Experiment, options: PyTorchOptions) -> Iterator[str]:
    sampling = experiment.sampling
    asked = getattr(experiment.workload, "output_tokens", None)
    extra = {name: value for name, value in (options.extra_generation or {}).items() if name not in ELSEWHERE}
    settings: dict[str, Any] = {
        **extra,
        "max_new_tokens": asked if isinstance(asked, int) else 256,
        "do_sample": sampling.temperature > 0,
        "eos_token_id": Code("own.eos_token_id"),
        "pad_token_id": Code("own.pad_token_id or 0"),
        **_asked(options, GENERATION),
    }
    if sampling.repetition_penalty is not None:
        settings["repetition_penalty"] = sampling.repetition_penalty
    if (options.num_beams or 1) > 1:
        settings |= _asked(options, ("length_penalty", "early_stopping"))
    if sampling.temperature > 0:
        settings |= {"temperature": sampling.temperature, "top_k": sampling.top_k or 0}
        settings |= {"top_p": 1.0 if sampling.top_p is None else sampling.top_p}
        settings |= {} if sampling.min_p is None else {"min_p": sampling.min_p}
    if options.cache_config is not None:
        settings["cache_config"] = attrs.asdict(options.cache_config, filter=lambda _, value: value is not None)
    if options.torch_compile is False:
        settings["disable_compile"] = True
    static = options.cache_implementation in STATIC_CACHES
    if options.torch_compile and static:
        settings["compile_config"] = Code(f"CompileConfig({_inline(_decode_compilation(options))})")
    yield f"generation = {call('GenerationConfig', settings)}"
    if options.torch_compile and static and experiment.device != "cuda":
        yield "generation.compile_config._compile_all_devices = True  # else transformers compiles on GPUs alone"
    if options.torch_compile and not static:
        yield f"model.compile({_inline(_compilation(options))})"


def _compilation(options: PyTorchOptions) -> dict[str, Any]:
    """Arguments of torch.compile."""
    names = ("mode", "backend", "fullgraph", "dynamic", "options")
    found = {name: getattr(options, f"torch_compile_{name}") for name in names}
    return {
        name: dict(value) if isinstance(value, Mapping) else value for name, value in found.items() if value is not None
    }


def _decode_compilation(options: PyTorchOptions) -> dict[str, Any]:
    """As `llem_pytorch.generation.decode_compilation`: with a static cache inductor's own mode is CUDA graphs."""
    asked = _compilation(options)
    backend = asked.get("backend", "inductor")
    own = "reduce-overhead" if backend == "inductor" and not asked.get("options") else None
    return {"fullgraph": False, "dynamic": None, "mode": own, **asked, "backend": backend}


def _run(experiment: Experiment, options: PyTorchOptions) -> Iterator[str]:
    arguments: dict[str, Any] = {"generation_config": Code("generation")}
    if options.assistant_model is not None:
        arguments["assistant_model"] = Code("assistant")
    if "stop_strings" in (options.extra_generation or {}):
        arguments |= {"stop_strings": options.extra_generation["stop_strings"], "tokenizer": Code("tokenizer")}  # type: ignore[index]
    yield 'inputs = tokenizer(["Hello"], return_tensors="pt", padding=True).to(model.device)'
    if experiment.sampling.temperature > 0:
        yield f"torch.manual_seed({experiment.sampling.seed})"
    yield "with torch.inference_mode():"
    told = ", ".join(f"{name}={_value(one)}" for name, one in arguments.items())
    yield f"    output = model.generate(**inputs, {told})"


def _value(value: Any) -> str:
    return value.text if isinstance(value, Code) else repr(value)


def _notes(experiment: Experiment, options: PyTorchOptions, model: ModelSpec) -> Iterator[str]:
    yield "transformers has no server of its own here: a program runs batches"
    if experiment.load.kind == "offline" and experiment.load.batch_size > 1:
        yield f"load.batch_size: give the tokenizer {experiment.load.batch_size} prompts at once"
    if experiment.sampling.temperature > 0:
        yield "sampling.seed: llem seeds each batch by its place; the program seeds once"
    if model.source == "shape" and experiment.weights_seed:
        yield "weights_seed: has no meaning with weights of a real model"
    if (options.assistant_model or "").startswith("shape:"):
        yield f"pytorch.assistant_model: {options.assistant_model} has random weights; put a draft of the model there"
    elif options.assistant_model is not None:
        yield "pytorch.assistant_model: with another vocabulary, give `generate` both tokenizers too"
    if isinstance(experiment.gpus, int) and experiment.gpus > 1:
        yield f"gpus: {experiment.gpus} were taken, whichever were free; choose them with CUDA_VISIBLE_DEVICES"
