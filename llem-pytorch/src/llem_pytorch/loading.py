"""From a ModelSpec to a model in evaluation mode, on its device and in its dtype."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from llem.backends.base import Placement
from llem.config.models import Experiment
from llem.errors import MachineError
from llem.models.spec import ModelSpec
from llem_pytorch.adapter import with_adapter
from llem_pytorch.config import PyTorchOptions
from llem_pytorch.failures import load_failures, memory_failures

__all__ = ["load_model"]


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
    config = copy.deepcopy(dict(spec.config or {}))  # configuration classes change what they are given
    dtype = _shape_dtype(experiment.dtype, config)
    redistribute = options.device_map is not None or options.load_in_4bit or options.load_in_8bit
    device = "cpu" if options.device_map is not None else placement.device
    attention = {} if options.attn_implementation is None else {"attn_implementation": options.attn_implementation}
    cuda = [torch.cuda.current_device()] if device == "cuda" else []
    with torch.random.fork_rng(devices=cuda):  # the caller's generators are left as they were
        torch.manual_seed(spec.seed)
        with torch.device(device):
            model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), dtype=dtype, **attention)
    if not redistribute:
        return model
    return type(model).from_pretrained(
        None,
        config=AutoConfig.for_model(**copy.deepcopy(dict(spec.config or {}))),
        state_dict=model.state_dict(),
        dtype=dtype,
        **attention,
        **_placed(experiment, options, placement),
    )


def _shape_dtype(asked: str, config: Mapping[str, Any]) -> torch.dtype:
    """For a shape, "auto" is the dtype its configuration names, else bfloat16, the dtype of nearly all checkpoints."""
    name = config.get("dtype") or config.get("torch_dtype") or "bfloat16" if asked == "auto" else asked
    return getattr(torch, str(name).removeprefix("torch."))  # type: ignore[no-any-return]


def _pretrained(
    experiment: Experiment, options: PyTorchOptions, spec: ModelSpec, placement: Placement
) -> PreTrainedModel:
    attention = {} if options.attn_implementation is None else {"attn_implementation": options.attn_implementation}
    where = spec.path if spec.source == "folder" and spec.path is not None else spec.name
    dtype = "auto" if experiment.dtype == "auto" else getattr(torch, experiment.dtype)
    return AutoModelForCausalLM.from_pretrained(  # type: ignore[no-any-return]
        where,
        revision=spec.revision or "main",
        trust_remote_code=experiment.trust_remote_code,
        dtype=dtype,
        **attention,
        **_placed(experiment, options, placement),
    )


def _placed(experiment: Experiment, options: PyTorchOptions, placement: Placement) -> dict[str, Any]:
    """Arguments of from_pretrained for where and how the weights are held."""
    arguments: dict[str, Any] = {"device_map": options.device_map or {"": placement.device}}
    if options.max_memory is not None:
        arguments["max_memory"] = {int(key) if key.isdigit() else key: most for key, most in options.max_memory.items()}
    if options.load_in_4bit or options.load_in_8bit:
        arguments["quantization_config"] = _quantisation(experiment, options)
    return arguments


def _quantisation(experiment: Experiment, options: PyTorchOptions) -> BitsAndBytesConfig:
    if options.load_in_8bit:
        return BitsAndBytesConfig(load_in_8bit=True)
    # bitsandbytes' own default computes in float32, which nobody means who asked for a half-precision dtype
    own = "bfloat16" if experiment.dtype == "auto" else experiment.dtype
    details: dict[str, Any] = {"bnb_4bit_compute_dtype": options.bnb_4bit_compute_dtype or own}
    if options.bnb_4bit_quant_type is not None:
        details["bnb_4bit_quant_type"] = options.bnb_4bit_quant_type
    if options.bnb_4bit_use_double_quant is not None:
        details["bnb_4bit_use_double_quant"] = options.bnb_4bit_use_double_quant
    return BitsAndBytesConfig(load_in_4bit=True, **details)


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
