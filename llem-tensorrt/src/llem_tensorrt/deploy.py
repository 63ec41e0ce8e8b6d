"""How to launch a measured configuration with TensorRT-LLM alone: `trtllm-serve`, and a program. Imports no engine.

`trtllm-serve` takes the arguments of `tensorrt_llm.LLM` from a YAML file (`--extra_llm_api_options`).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

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
from llem.config.models import Experiment, Sampling
from llem.config.text import to_yaml
from llem.models.spec import ModelSpec
from llem_tensorrt.config import OURS, SAMPLING, TensorRTOptions
from llem_tensorrt.loading import CLASSES, DRAFTS, SPARSE
from llem_tensorrt.objects import NAMED

__all__ = ["commands"]

FILE = "llem-tensorrt.yaml"
#: Kind of speculation to the `decoding_type` by which a YAML file names it.
DECODING = {
    "auto": "AUTO",
    "draft_target": "Draft_Target",
    "eagle": "Eagle",
    "eagle3": "Eagle3",
    "mtp": "MTP",
    "ngram": "NGram",
    "pard": "PARD",
    "sa": "SA",
}


def commands(experiment: Experiment, model: ModelSpec) -> Deployment:
    """`trtllm-serve` with its YAML file, and the same engine in Python."""
    options: TensorRTOptions = experiment.options
    sampling = _sampling(experiment.sampling, options)
    return Deployment(
        shell=_serve(experiment, options, model),
        python=_program(experiment, options, model, sampling),
        notes=(
            *common_notes(experiment, model),
            *server_notes(experiment),
            *_notes(experiment, options, model, sampling),
        ),
    )


def _given(section: Any, leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    found = attrs.asdict(section, recurse=False)
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}
    return {name: value for name, value in plain.items() if value is not None and name not in leave_out}


def _asked(options: TensorRTOptions) -> dict[str, Any]:
    """What becomes an argument of LLM, sections as they are."""
    return {name: value for name, value in _given(options).items() if name not in OURS and name not in SAMPLING}


def _document(experiment: Experiment, options: TensorRTOptions) -> dict[str, Any]:
    """The arguments as plain values."""
    found: dict[str, Any] = {"dtype": experiment.dtype}
    for name, value in _asked(options).items():
        found[name] = _plain(name, value)
    if options.lora_config is not None:
        found["enable_lora"] = True
    extra = {name: value for name, value in (options.extra or {}).items() if name not in NAMED}
    return {**found, **extra}


def _plain(name: str, value: Any) -> Any:
    if name == "cuda_graph_config" and value.enabled is False:
        return None
    if name == "speculative_config":
        return {"decoding_type": DECODING[value.kind], **_drafting(value)}
    if name == "sparse_attention_config":
        return {"algorithm": value.algorithm, **(value.settings or {})}
    if name == "lora_config":
        return {**_given(value), "lora_dir": [value.lora_dir]}
    return _given(value, ("enabled",)) if attrs.has(type(value)) else value


def _drafting(section: Any) -> dict[str, Any]:
    found = {**_given(section, ("kind", "settings")), **(section.settings or {})}
    return {"speculative_model" if name == "speculative_model_dir" else name: one for name, one in found.items()}


def _serve(experiment: Experiment, options: TensorRTOptions, model: ModelSpec) -> str:
    flags = ["--backend pytorch", f"--extra_llm_api_options {FILE}"]
    if experiment.trust_remote_code:
        flags.append("--trust_remote_code")
    gpus = visible_gpus(experiment)
    before = "" if gpus is None else f"CUDA_VISIBLE_DEVICES={gpus} "
    command = " \\\n  ".join([f"{before}trtllm-serve {shlex.quote(served_model(model))}", *flags])
    return f"cat > {FILE} <<'END'\n{to_yaml(_document(experiment, options), {})}END\n{command}"


def _program(experiment: Experiment, options: TensorRTOptions, model: ModelSpec, sampling: Mapping[str, Any]) -> str:
    arguments: dict[str, Any] = {"model": served_model(model), "dtype": experiment.dtype}
    if model.revision is not None:
        arguments["revision"] = model.revision
    if experiment.trust_remote_code:
        arguments["trust_remote_code"] = True
    classes: list[str] = []
    for name, value in _asked(options).items():
        plain = _plain(name, value)
        cls = _class(name, value)
        if cls is not None and plain is not None:
            classes.append(cls)
            settings = {key: one for key, one in plain.items() if key not in ("decoding_type", "algorithm")}
            plain = Code(f"{cls}({', '.join(f'{key}={one!r}' for key, one in settings.items())})")
        arguments[name] = plain
    if options.lora_config is not None:
        arguments["enable_lora"] = True
    arguments |= {name: value for name, value in (options.extra or {}).items() if name not in NAMED}
    given: dict[str, Any] = {"inputs": Code('["Hello"]'), "sampling_params": Code("params"), "use_tqdm": False}
    lines = ["from tensorrt_llm import LLM, SamplingParams"]
    if options.lora_config is not None:
        lines.append("from tensorrt_llm.executor.request import LoRARequest")
        given["lora_request"] = Code(f'LoRARequest("adapter", 1, {json.dumps(options.lora_config.lora_dir)})')
    if classes:
        lines.append(f"from tensorrt_llm.llmapi.llm_args import {', '.join(sorted(set(classes)))}")
    if gpus := visible_gpus(experiment):
        chosen = f'os.environ["CUDA_VISIBLE_DEVICES"] = "{gpus}"  # before tensorrt_llm is imported'
        lines = ["import os", "", chosen, "", *lines]
    body = [
        f"llm = {call('LLM', arguments)}",
        f"params = {call('SamplingParams', sampling)}",
        f"outputs = {call('llm.generate', given)}",
    ]
    return guarded(lines, body)


def _class(name: str, value: Any) -> str | None:
    if name == "speculative_config":
        return DRAFTS[value.kind]
    return SPARSE[value.algorithm] if name == "sparse_attention_config" else CLASSES.get(name)


def _sampling(sampling: Sampling, options: TensorRTOptions) -> dict[str, Any]:
    """Arguments of SamplingParams, as `llem_tensorrt.sampling` has them, with plain values."""
    given: dict[str, Any] = {}
    if sampling.temperature > 0:
        given = {"temperature": sampling.temperature, "top_p": 1.0 if sampling.top_p is None else sampling.top_p}
        given |= {name: value for name in ("top_k", "min_p") if (value := getattr(sampling, name)) is not None}
    if sampling.repetition_penalty is not None:
        given["repetition_penalty"] = sampling.repetition_penalty
    asked = {name: value for name in sorted(SAMPLING) if (value := getattr(options, name)) is not None}
    given |= {name: value for name, value in asked.items() if name != "guided_decoding"}
    if options.use_beam_search:
        given |= {"n": 1, "best_of": options.max_beam_width}
    return {**given, **(options.extra_sampling or {})}


def _notes(
    experiment: Experiment, options: TensorRTOptions, model: ModelSpec, sampling: Mapping[str, Any]
) -> Iterator[str]:
    yield "trtllm-serve: these commands follow its documentation (1.0 to 1.2) and were not run on the real library"
    if model.revision is not None:
        yield f"revision: `trtllm-serve` has no flag for it; download {model.revision} and name the folder"
    if sampling:
        yield f"sampling: the server has no defaults for it; send with each request: {json.dumps(dict(sampling))}"
    if experiment.sampling.temperature > 0:
        yield "sampling.seed: llem seeds each request by its place; send a `seed` with each request"
    if options.guided_decoding is not None:
        asked = json.dumps(_given(options.guided_decoding))
        yield f"tensorrt.guided_decoding: send `response_format` or guided decoding with each request: {asked}"
    for name in (name for name in options.extra or {} if name in NAMED):
        yield f"tensorrt.extra.{name}: is an object of Python ({(options.extra or {})[name]}); make it in the program"
    if options.quant_algo is not None:
        yield f"tensorrt.quant_algo: {options.quant_algo} comes with a checkpoint; name one that is quantised so"
    if options.lora_config is not None:
        yield "tensorrt.lora_config: name the adapter in each request"
    if isinstance(experiment.gpus, int) and experiment.gpus > 1:
        yield f"gpus: {experiment.gpus} were taken, whichever were free; choose them with CUDA_VISIBLE_DEVICES"
