"""From a ModelSpec to a model in evaluation mode, on its device and in its dtype."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import attrs
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from llem.backends.base import Placement
from llem.config.models import Experiment
from llem.errors import ConfigError, MachineError
from llem.models.resolve import resolve_model
from llem.models.spec import ModelSpec
from llem.models.tokenizer import Tokenizer, load_tokenizer
from llem_pytorch.adapter import with_adapter
from llem_pytorch.config import PyTorchOptions
from llem_pytorch.failures import load_failures, memory_failures
from llem_pytorch.names import TYPED
from llem_pytorch.speculation import LOOKBEHIND

__all__ = ["Loaded", "load", "load_model"]


@attrs.frozen
class Loaded:
    """What an experiment runs with.

    Attributes:
        model: see `load_model`.
        assistant: the model that drafts, where `assistant_model` names one.
        read_tokenizer: gives llem's tokenizer of the model.
        tokenizers: transformers' own, of the model and of an assistant of another vocabulary; only where something
            needs them.
    """

    model: PreTrainedModel
    read_tokenizer: Callable[[], Tokenizer]
    assistant: PreTrainedModel | None = None
    tokenizers: Mapping[str, PreTrainedTokenizerBase] = attrs.field(factory=dict)


def load(experiment: Experiment, options: PyTorchOptions, spec: ModelSpec, placement: Placement) -> Loaded:
    """The model and what goes with it. Raises as `load_model`, and ConfigError for a draft that does not fit."""
    model = load_model(experiment, options, spec, placement)
    read = functools.partial(load_tokenizer, spec, trust_remote_code=experiment.trust_remote_code)
    extra = options.extra_generation or {}
    tokenizers = {"tokenizer": _tokenizer(experiment, spec)} if "stop_strings" in extra else {}
    if options.assistant_model is None:
        return Loaded(model, read, None, tokenizers)
    draft_spec = resolve_model(options.assistant_model, seed=experiment.weights_seed)
    draft_options = PyTorchOptions(attn_implementation=options.attn_implementation)
    draft = load_model(experiment, draft_options, draft_spec, placement)
    sizes = tuple(one.config.get_text_config(decoder=True).vocab_size for one in (model, draft))
    if extra.get("speculation_type") == "dflash" and not hasattr(draft.config, "target_layer_ids"):
        raise ConfigError(
            "pytorch.extra_generation.speculation_type: the assistant_model is no DFlash draft",
            "name one whose configuration has target_layer_ids, or leave speculation_type out",
        )
    if sizes[0] != sizes[1]:
        if "shape" in (spec.source, draft_spec.source):
            raise ConfigError(
                f"pytorch.assistant_model: drafts from {sizes[1]} tokens for a model of {sizes[0]}",
                "use a draft of the same vocabulary; between others tokenizers translate, and a shape has none",
            )
        tokenizers = {
            "tokenizer": _tokenizer(experiment, spec),
            "assistant_tokenizer": _tokenizer(experiment, draft_spec),
        }
    elif unused := [name for name in LOOKBEHIND if name in extra]:
        raise ConfigError(
            f"pytorch.extra_generation.{unused[0]}: has no effect where both models have the same vocabulary",
            "leave it out",
        )
    return Loaded(model, read, draft, tokenizers)


def _tokenizer(experiment: Experiment, spec: ModelSpec) -> PreTrainedTokenizerBase:
    with load_failures(f"tokenizer of {spec.name!r}"), _quiet():
        return AutoTokenizer.from_pretrained(  # type: ignore[no-any-return]
            spec.path or spec.name, revision=spec.revision or "main", trust_remote_code=experiment.trust_remote_code
        )


def load_model(
    experiment: Experiment, options: PyTorchOptions, spec: ModelSpec, placement: Placement
) -> PreTrainedModel:
    """The model, without gradients, its adapter in place.

    Raises:
        ConfigError, MachineError, ExperimentFailed: see `llem_pytorch.failures`.
    """
    if placement.device == "cuda" and not torch.cuda.is_available():
        raise MachineError(
            f"device cuda is asked for and torch {torch.__version__} finds no GPU",
            "install a CUDA build of torch and check the driver with `llem doctor`, or set `device: cpu`",
        )
    with memory_failures("loading the model"), load_failures(f"model {spec.name!r}"), _quiet():
        if spec.source == "shape":
            model = _random(experiment, options, spec, placement)
        else:
            model = _pretrained(experiment, options, spec, placement)
    if options.adapter is not None:
        with memory_failures("loading the adapter"), _quiet():
            model = with_adapter(model, options)
    return model.eval().requires_grad_(False)


def _random(experiment: Experiment, options: PyTorchOptions, spec: ModelSpec, placement: Placement) -> PreTrainedModel:
    """Seeded random weights, made on the device and in the dtype: no larger copy ever exists.

    With quantisation or a device map the weights are made first, then loaded as if from a file; for a device map they
    are made on the CPU, since one device may not hold them. The generators of CPU and CUDA differ, so the same seed
    gives other weights on each; weights of one device are reproducible.
    """
    dtype = _shape_dtype(experiment.dtype, spec.config or {})
    device = "cpu" if options.device_map is not None else placement.device
    kernels, placed = _kernels(options), _placed(experiment, options)
    cuda = [torch.cuda.current_device()] if device == "cuda" else []
    with torch.random.fork_rng(devices=cuda):  # the caller's generators are left as they were
        torch.manual_seed(spec.seed)
        with torch.device(device):
            model = AutoModelForCausalLM.from_config(_configuration(spec), dtype=dtype, **kernels)
    if not placed:
        return model
    return type(model).from_pretrained(
        None,
        config=_configuration(spec),
        state_dict=model.state_dict(),
        dtype=dtype,
        **kernels,
        **{"device_map": {"": placement.device}, **placed},
    )


def _configuration(spec: ModelSpec) -> PreTrainedConfig:
    """Made anew each time, since it and what is made of it change what they are given."""
    return AutoConfig.for_model(**copy.deepcopy(dict(spec.config or {})))


def _shape_dtype(asked: str, config: Mapping[str, Any]) -> torch.dtype:
    """For a shape, "auto" is the dtype its configuration names, else bfloat16, the dtype of nearly all checkpoints."""
    name = config.get("dtype") or config.get("torch_dtype") or "bfloat16" if asked == "auto" else asked
    return getattr(torch, str(name).removeprefix("torch."))  # type: ignore[no-any-return]


def _pretrained(
    experiment: Experiment, options: PyTorchOptions, spec: ModelSpec, placement: Placement
) -> PreTrainedModel:
    where = spec.path if spec.source == "folder" and spec.path is not None else spec.name
    dtype = "auto" if experiment.dtype == "auto" else getattr(torch, experiment.dtype)
    return AutoModelForCausalLM.from_pretrained(  # type: ignore[no-any-return]
        where,
        revision=spec.revision or "main",
        trust_remote_code=experiment.trust_remote_code,
        dtype=dtype,
        **_kernels(options),
        **{"device_map": {"": placement.device}, **_placed(experiment, options)},
    )


def _kernels(options: PyTorchOptions) -> dict[str, Any]:
    """Arguments of from_config and from_pretrained alike."""
    return _asked(options, "attn_implementation", "experts_implementation")


def _asked(options: PyTorchOptions, *names: str) -> dict[str, Any]:
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def _placed(experiment: Experiment, options: PyTorchOptions) -> dict[str, Any]:
    """Further arguments of from_pretrained, as asked for: where and how the weights are held, and `extra_model`."""
    arguments = _asked(options, "device_map", "offload_folder", "offload_buffers", "use_kernels")
    if options.max_memory is not None:
        arguments["max_memory"] = {int(key) if key.isdigit() else key: most for key, most in options.max_memory.items()}
    if options.load_in_4bit or options.load_in_8bit:
        arguments["quantization_config"] = _quantisation(experiment, options)
    arguments |= options.extra_model or {}
    if "kernel_config" in arguments:
        from transformers import KernelConfig

        arguments["kernel_config"] = KernelConfig(**arguments["kernel_config"])
    return arguments


def _quantisation(experiment: Experiment, options: PyTorchOptions) -> BitsAndBytesConfig:
    details = _asked(options, *TYPED["BitsAndBytesConfig"])
    if options.llm_int8_skip_modules is not None:
        details["llm_int8_skip_modules"] = list(options.llm_int8_skip_modules)
    if options.load_in_4bit:
        # bitsandbytes' own default computes in float32, which nobody means who asked for a half-precision dtype
        own = "bfloat16" if experiment.dtype == "auto" else experiment.dtype
        details.setdefault("bnb_4bit_compute_dtype", own)
    return BitsAndBytesConfig(**details)


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars of transformers on stderr, which llem's own progress owns."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
