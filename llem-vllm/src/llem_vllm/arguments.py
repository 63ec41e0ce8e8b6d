"""From an experiment to arguments of vLLM's classes, as plain values. Imports no vllm."""

from __future__ import annotations

from typing import Any

from llem.config.models import Experiment, Sampling
from llem.models.spec import ModelSpec
from llem_vllm.config import COMPILATION, ENGINE, SAMPLING, SPECULATIVE, VllmOptions

__all__ = ["PROBE", "engine_arguments", "keeps_metrics", "sampling_arguments"]

PROBE = "llem_vllm.probe.WorkerProbe"
#: vLLM's own limit of log probabilities per token.
MAX_LOGPROBS = 20


def engine_arguments(
    experiment: Experiment, options: VllmOptions, spec: ModelSpec, *, model: str, tokenizer: bool
) -> dict[str, Any]:
    """Keyword arguments of vLLM's EngineArgs: what differs from vLLM's defaults, and no more.

    Args:
        model: folder or id of what is loaded; of a shape, the folder that was made for it.
        tokenizer: whether the model has one and it is needed.
    """
    arguments: dict[str, Any] = {
        "model": model,
        "revision": spec.revision,
        "tokenizer_revision": spec.revision,
        "dtype": experiment.dtype,
        "trust_remote_code": experiment.trust_remote_code,
        "seed": experiment.sampling.seed,
        "skip_tokenizer_init": not tokenizer,
        "disable_log_stats": not keeps_metrics(experiment, options),
        "worker_extension_cls": PROBE,
        "use_tqdm_on_load": False,
        **options.extra,
    }
    arguments |= {name: _plain(value) for name in ENGINE if (value := getattr(options, name)) is not None}
    if spec.source == "shape" and options.shape_weights != "seeded":
        arguments["load_format"] = "dummy"
    if options.adapter is not None:
        arguments["enable_lora"] = True
    for section, names in (("compilation_config", COMPILATION), ("speculative_config", SPECULATIVE)):
        filled = {
            field: _plain(value) for name, field in names.items() if (value := getattr(options, name)) is not None
        }
        if filled or section in options.extra:
            arguments[section] = {**options.extra.get(section, {}), **filled}
    asked = max(2 * options.beam_width if (options.beam_width or 1) > 1 else 0, options.logprobs or 0)  # type: ignore[operator]
    if asked > MAX_LOGPROBS:
        arguments.setdefault("max_logprobs", asked)
    return arguments


def keeps_metrics(experiment: Experiment, options: VllmOptions) -> bool:
    """Whether vLLM keeps times of each request."""
    if options.request_metrics is not None:
        return options.request_metrics
    return experiment.token_times or experiment.load.kind != "offline"


def sampling_arguments(
    options: VllmOptions,
    sampling: Sampling,
    output_tokens: int,
    index: int | None = None,
    stop: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Keyword arguments of vLLM's SamplingParams. What `sampling` leaves None is off.

    Args:
        output_tokens: the most there are, and with `ignore_eos` the number there is.
        index: of the request, where it is seeded by itself.
        stop: texts that end the request, beside those of the options.
    """
    arguments: dict[str, Any] = {
        "max_tokens": output_tokens,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k or 0,
        "top_p": 1.0 if sampling.top_p is None else sampling.top_p,
        "min_p": sampling.min_p or 0.0,
        "repetition_penalty": 1.0 if sampling.repetition_penalty is None else sampling.repetition_penalty,
        "ignore_eos": sampling.ignore_eos,
        **options.extra_sampling,
    }
    arguments |= {name: _plain(value) for name in SAMPLING if (value := getattr(options, name)) is not None}
    if "min_tokens" in arguments:
        arguments["min_tokens"] = min(arguments["min_tokens"], output_tokens)
    if stop:
        arguments |= {"stop": [*(options.stop or ()), *stop], "detokenize": True}
    if options.seed_per_request and index is not None:
        arguments["seed"] = sampling.request_seed(index)
    return arguments


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
