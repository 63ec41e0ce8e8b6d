"""From an experiment to a loaded `tensorrt_llm.LLM`."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from llem.config.models import Experiment
from llem.errors import ConfigError, MachineError
from llem.models.spec import ModelSpec
from llem_tensorrt.config import OURS, SAMPLING, TensorRTOptions
from llem_tensorrt.failures import load_failures, memory_failures
from llem_tensorrt.folder import write_shape
from llem_tensorrt.installed import library, llm_arguments, made, missing, refuse_unknown, sampling_arguments
from llem_tensorrt.objects import engine_objects

__all__ = ["Loaded", "load_model"]

#: Sections, and the classes that they become.
CLASSES = {
    "attention_dp_config": "AttentionDpConfig",
    "cuda_graph_config": "CudaGraphConfig",
    "kv_cache_config": "KvCacheConfig",
    "lora_config": "LoraConfig",
    "moe_config": "MoeConfig",
    "peft_cache_config": "PeftCacheConfig",
    "scheduler_config": "SchedulerConfig",
    "torch_compile_config": "TorchCompileConfig",
}
DRAFTS = {
    "auto": "AutoDecodingConfig",
    "draft_target": "DraftTargetDecodingConfig",
    "eagle": "EagleDecodingConfig",
    "eagle3": "Eagle3DecodingConfig",
    "mtp": "MTPDecodingConfig",
    "ngram": "NGramDecodingConfig",
    "pard": "PARDDecodingConfig",
    "sa": "SADecodingConfig",
}
SPARSE = {"rocket": "RocketSparseAttentionConfig", "dsa": "DeepSeekSparseAttentionConfig"}


@attrs.frozen
class Loaded:
    """A loaded model.

    Attributes:
        llm: the `tensorrt_llm.LLM`.
        model: what was asked for.
        lora: the LoRARequest of every request, or None.
        folder: holds the files of a shape while the engine lives.
    """

    llm: Any
    model: ModelSpec
    lora: Any
    folder: tempfile.TemporaryDirectory[str] | None


def load_model(experiment: Experiment, options: TensorRTOptions, model: ModelSpec) -> Loaded:
    """Build the arguments, compare their names with the installed version's, and load.

    Raises:
        ConfigError, MachineError, ExperimentFailed: see `llem_tensorrt.failures`.
    """
    tensorrt_llm = library()
    _refuse_silent_fallbacks(options)
    _refuse_missing_sampler(experiment, options)
    refuse_unknown(_sampling_names(options), sampling_arguments(), "tensorrt")
    folder = None
    try:
        if model.source == "shape":
            folder = tempfile.TemporaryDirectory(prefix="llem-shape-")
            write_shape(Path(folder.name), model.config or {}, options.quant_algo)
        with load_failures(f"model {model.name!r}"), memory_failures("loading the model"):
            arguments = _arguments(options)
            refuse_unknown(arguments, llm_arguments(), "tensorrt")
            llm = tensorrt_llm.LLM(**_model_arguments(experiment, model, folder), **arguments)
    except BaseException:
        if folder is not None:
            folder.cleanup()
        raise
    return Loaded(llm, model, _lora_request(options), folder)


def _model_arguments(
    experiment: Experiment, model: ModelSpec, folder: tempfile.TemporaryDirectory[str] | None
) -> dict[str, Any]:
    """Arguments that follow from the experiment itself."""
    if folder is not None:
        where: dict[str, Any] = {"model": folder.name, "load_format": "dummy", "skip_tokenizer_init": True}
    else:
        where = {"model": model.path or model.name}
    if model.revision is not None:
        where["revision"] = model.revision
    return {**where, "dtype": experiment.dtype, "trust_remote_code": experiment.trust_remote_code}


def _arguments(options: TensorRTOptions) -> dict[str, Any]:
    """Arguments that were asked for in the section; what is None is left to the engine."""
    given: dict[str, Any] = {}
    for field in attrs.fields(TensorRTOptions):
        value = getattr(options, field.name)
        if value is not None and field.name not in OURS and field.name not in SAMPLING:
            given[field.name] = _argument(field.name, value)
    if options.lora_config is not None:
        given["enable_lora"] = True
    return {**given, **engine_objects(options.extra or {})}


def _argument(name: str, value: Any) -> Any:
    path = f"tensorrt.{name}"
    if name == "cuda_graph_config" and value.enabled is False:
        return None  # how LLM is told to use none
    if name == "speculative_config":
        settings = {**_given(value, leave_out=("kind", "settings")), **(value.settings or {})}
        return made(DRAFTS[value.kind], path, settings, renamed={"speculative_model_dir": "speculative_model"})
    if name == "sparse_attention_config":
        return made(SPARSE[value.algorithm], path, value.settings or {})
    if name == "lora_config":
        return made("LoraConfig", path, {**_given(value), "lora_dir": [_adapter(value.lora_dir)]})
    if name in CLASSES:
        return made(CLASSES[name], path, _given(value, leave_out=("enabled",)))
    return value


def _given(section: Any, leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    """Settings of a section that are not None; tuples become lists, as the engine's types have it."""
    values = {field.name: getattr(section, field.name) for field in attrs.fields(type(section))}
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
        if value is not None and name not in leave_out
    }


def _sampling_names(options: TensorRTOptions) -> list[str]:
    typed = [name for name in sorted(SAMPLING) if getattr(options, name) is not None]
    return [*typed, *(options.extra_sampling or {})]


def _refuse_silent_fallbacks(options: TensorRTOptions) -> None:
    """TensorRT-LLM takes its own attention kernels, without a word, where flashinfer is not installed."""
    if (options.attn_backend or "").startswith("FLASHINFER") and missing("flashinfer"):
        raise MachineError(
            f"tensorrt.attn_backend: {options.attn_backend} needs flashinfer, which is not installed",
            "pip install flashinfer-python, or leave attn_backend out",
            code="requirement_missing",
        )


def _refuse_missing_sampler(experiment: Experiment, options: TensorRTOptions) -> None:
    """In 1.0 sampling has to be switched on; without it the most likely token would be taken."""
    switches: Mapping[str, bool | None] = {
        "enable_trtllm_sampler": options.enable_trtllm_sampler,
        "enable_mixed_sampler": options.enable_mixed_sampler,
    }
    if experiment.sampling.temperature > 0 and "sampler_type" not in llm_arguments() and not any(switches.values()):
        raise ConfigError(
            "sampling.temperature: this version of TensorRT-LLM samples only where it is told to",
            "set `tensorrt.enable_trtllm_sampler: true`, or use version 1.1 or newer",
        )


def _adapter(folder: str) -> str:
    return str(Path(folder).expanduser().resolve())


def _lora_request(options: TensorRTOptions) -> Any:
    if options.lora_config is None:
        return None
    requests = importlib.import_module("tensorrt_llm.executor.request")
    return requests.LoRARequest("adapter", 1, _adapter(options.lora_config.lora_dir))
