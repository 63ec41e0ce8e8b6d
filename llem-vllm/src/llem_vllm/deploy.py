"""How to launch a measured configuration with vLLM alone: `vllm serve`, and a program. Imports no vllm."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from llem.backends.deployment import (
    Code,
    Deployment,
    call,
    common_notes,
    guarded,
    served_model,
    server_notes,
    visible_gpus,
)
from llem.config.models import Experiment
from llem.models.spec import ModelSpec
from llem_vllm.arguments import engine_arguments, sampling_arguments
from llem_vllm.config import SAMPLING, VllmOptions

__all__ = ["commands"]

#: Arguments that serve llem alone: its probe, its display, and token ids without text.
OURS = ("worker_extension_cls", "use_tqdm_on_load", "skip_tokenizer_init")
#: Switches whose flag has no opposite.
ONE_WAY = ("aggregate_engine_logging", "disable_log_stats")
#: Fields of EngineArgs that `vllm serve` has no flag for.
WITHOUT_FLAG = ("enable_mm_processor_stats", "mamba_config", "tokens_only")
#: What the server's own defaults of sampling may hold (`--override-generation-config`).
SERVER_DEFAULTS = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
#: Values of sampling that change nothing.
NEUTRAL: Mapping[str, Any] = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0, "ignore_eos": False}
ADAPTER = "adapter"


def commands(experiment: Experiment, model: ModelSpec) -> Deployment:
    """`vllm serve` with a flag for each setting, and the same engine in Python."""
    options: VllmOptions = experiment.options
    made = engine_arguments(experiment, options, model, model=served_model(model), tokenizer=True)
    arguments = {name: value for name, value in made.items() if value is not None and name not in OURS}
    arguments |= {name: _parsed(value) for name, value in arguments.items() if name.endswith("_config")}
    if not arguments["trust_remote_code"]:
        del arguments["trust_remote_code"]
    if model.source == "shape" and arguments.get("load_format") == "dummy":
        del arguments["load_format"]
    sampling = sampling_arguments(options, experiment.sampling, _output_tokens(experiment))
    return Deployment(
        shell=_serve(experiment, options, arguments, sampling),
        python=_program(experiment, options, arguments, sampling),
        notes=(
            *common_notes(experiment, model),
            *server_notes(experiment),
            *_notes(experiment, options, model, arguments, sampling),
        ),
    )


def _parsed(value: Any) -> Any:
    """A section that was given as JSON text, as what it says."""
    return json.loads(value) if isinstance(value, str) and value.startswith("{") else value


def _output_tokens(experiment: Experiment) -> int:
    """Tokens of an answer, where the workload gives a number; else 256."""
    asked = getattr(experiment.workload, "output_tokens", None)
    return asked if isinstance(asked, int) else 256


def _serve(
    experiment: Experiment, options: VllmOptions, arguments: Mapping[str, Any], sampling: Mapping[str, Any]
) -> str:
    flags = [_flag(name, value) for name, value in arguments.items() if name not in ("model", *WITHOUT_FLAG)]
    defaults = {name: sampling[name] for name in SERVER_DEFAULTS if sampling[name] != NEUTRAL.get(name)}
    flags.append(["--generation-config", "vllm"])
    flags.append(["--override-generation-config", json.dumps(defaults)])
    if options.adapter is not None:
        flags.append(["--lora-modules", f"{ADAPTER}={options.adapter}"])
    gpus = visible_gpus(experiment)
    before = "" if gpus is None else f"CUDA_VISIBLE_DEVICES={gpus} "
    lines = [f"{before}vllm serve {shlex.quote(arguments['model'])}", *(shlex.join(flag) for flag in flags if flag)]
    return " \\\n  ".join(lines)


def _flag(name: str, value: Any) -> list[str]:
    """One argument as words of the command line. vLLM's flags are its fields, with hyphens."""
    flag = f"--{name.replace('_', '-')}"
    if name in ONE_WAY:
        return [flag] if value else []
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag[2:]}"]
    if isinstance(value, Mapping):
        return [flag, json.dumps(value)]
    if isinstance(value, (list, tuple)):
        return [flag, *map(str, value)]
    return [flag, str(value)]


def _program(
    experiment: Experiment, options: VllmOptions, arguments: Mapping[str, Any], sampling: Mapping[str, Any]
) -> str:
    beams = (options.beam_width or 1) > 1
    own = {name: value for name, value in sampling.items() if name != "ignore_eos" and value != NEUTRAL.get(name)}
    own.pop("detokenize", None)
    lines = ["from vllm import LLM, SamplingParams"]
    asked: dict[str, Any] = {}
    if options.adapter is not None:
        lines.append("from vllm.lora.request import LoRARequest")
        asked["lora_request"] = Code(f"LoRARequest({ADAPTER!r}, 1, {json.dumps(options.adapter)})")
    if beams:
        lines[0] = "from vllm import LLM"
        lines.append("from vllm.sampling_params import BeamSearchParams")
        own = {"beam_width": options.beam_width, "max_tokens": sampling["max_tokens"]}
        own |= {"temperature": sampling["temperature"], "length_penalty": options.length_penalty}
        own = {name: value for name, value in own.items() if value is not None}
    if gpus := visible_gpus(experiment):
        chosen = f'os.environ["CUDA_VISIBLE_DEVICES"] = "{gpus}"  # before vllm is imported'
        lines = ["import os", "", chosen, "", *lines]
    prompts = Code('[{"prompt": "Hello"}]' if beams else '["Hello"]')
    call_name, params = ("llm.beam_search", "BeamSearchParams") if beams else ("llm.generate", "SamplingParams")
    body = [
        f"llm = {call('LLM', arguments)}",
        f"params = {call(params, own)}",
        f"outputs = {call(call_name, {'prompts': prompts, **_params(beams), **asked})}",
    ]
    return guarded(lines, body)


def _params(beams: bool) -> dict[str, Any]:
    return {"params" if beams else "sampling_params": Code("params")}


def _notes(
    experiment: Experiment,
    options: VllmOptions,
    model: ModelSpec,
    arguments: Mapping[str, Any],
    sampling: Mapping[str, Any],
) -> Iterator[str]:
    yield from (
        f"vllm.extra.{name}: `vllm serve` has no flag for it; the program has it"
        for name in WITHOUT_FLAG
        if name in arguments
    )
    if not options.detokenize:
        yield (
            "vllm.detokenize: llem sent token ids and had no text made; a server makes tokens of each prompt and text "
            "of each answer, which takes time on the CPU"
        )
    by_request = [name for name in SAMPLING if name != "detokenize" and getattr(options, name) is not None]
    by_request += list(options.extra_sampling)
    if by_request:
        asked = json.dumps({name: sampling[name] for name in by_request}, default=str)
        yield f"sampling: the server has no default for {', '.join(by_request)}; send with each request: {asked}"
    if options.seed_per_request:
        yield "vllm.seed_per_request: send a `seed` of its own with each request"
    if (options.beam_width or 1) > 1:
        length = "" if options.length_penalty is None else f', "length_penalty": {options.length_penalty}'
        yield (
            f'vllm.beam_width: send with each request: {{"use_beam_search": true, "n": {options.beam_width}{length}}}'
        )
    if options.adapter is not None:
        yield f"vllm.adapter: send `{ADAPTER}` as the model of each request; the base model answers to its own name"
    if options.in_process is not None:
        yield "vllm.in_process: `vllm serve` runs its engine in a process of its own, whatever this says"
    if model.source == "shape" and options.shape_weights is not None:
        yield "vllm.shape_weights: has no meaning with weights of a real model"
    if model.source == "shape" and experiment.weights_seed:
        yield "weights_seed: has no meaning with weights of a real model"
    if (options.data_parallel_size or 1) > 1:
        yield "vllm.data_parallel_size: `vllm serve` runs the copies; the program needs vLLM's AsyncLLM for them"
    if isinstance(experiment.gpus, int) and experiment.gpus > 1:
        yield f"gpus: {experiment.gpus} were taken, whichever were free; choose them with CUDA_VISIBLE_DEVICES"
    if experiment.device == "cpu":
        yield "device: measured with vLLM's build for the CPU, which these commands need too"
