"""vLLM's sampling parameters, made once per setting and length, and completions from its outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_type_hints

import attrs
from pydantic import TypeAdapter, ValidationError
from vllm import RequestOutput, SamplingParams
from vllm.sampling_params import RequestOutputKind

from llem.backends.base import Completion, Request
from llem.config.models import Sampling
from llem.errors import ConfigError, ExperimentFailed, Problem
from llem_vllm.arguments import sampling_arguments
from llem_vllm.config import VllmOptions

__all__ = ["SamplingCache", "completion", "request_metrics"]


class SamplingCache:
    """SamplingParams by setting, number of tokens and stop texts, so that a batch costs a look-up and no validation.

    Raises ConfigError on construction for values of `extra_sampling` that are not of vLLM's types.
    """

    def __init__(self, options: VllmOptions, kind: RequestOutputKind) -> None:
        self._options = attrs.evolve(options, extra_sampling=_typed(options.extra_sampling))
        self._kind = kind
        self._made: dict[tuple[Sampling, int, tuple[str, ...]], SamplingParams] = {}

    def get(self, request: Request, sampling: Sampling) -> SamplingParams:
        """Raises ConfigError for what vLLM refuses."""
        if self._options.seed_per_request:
            return self._make(sampling, request, request.index)
        key = (sampling, request.output_tokens, request.stop)
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = self._make(sampling, request, None)
        return made

    def _make(self, sampling: Sampling, request: Request, index: int | None) -> SamplingParams:
        arguments = sampling_arguments(self._options, sampling, request.output_tokens, index, request.stop)
        try:
            return SamplingParams(**arguments, output_kind=self._kind)
        except (ValueError, TypeError) as error:
            raise ConfigError(
                f"vLLM refuses the sampling parameters: {error}", "change the one that the message names"
            ) from error


def _typed(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a file as vLLM's own types: SamplingParams takes anything, and falls over a mapping where it expects an
    object, or text where it expects a token id, when a request is already on its way."""
    kinds = get_type_hints(SamplingParams)
    made, problems = {}, []
    for name, value in extra.items():
        try:
            made[name] = TypeAdapter(kinds[name]).validate_python(value)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in (f"vllm.extra_sampling.{name}", *first["loc"]))
            problems.append(Problem(where, f"vLLM refuses {first['input']!r}: {first['msg'].lower()}"))
    if problems:
        raise ConfigError("sampling parameters of the wrong kind", problems=tuple(problems))
    return made


def completion(request: Request, output: RequestOutput, times_ns: Sequence[int] | None = None) -> Completion:
    """What llem keeps of a finished request."""
    made = output.outputs[0]
    if made.finish_reason not in ("length", "stop"):
        raise ExperimentFailed(
            f"vLLM ended request {request.index} with {made.finish_reason!r}", "see the log of this worker"
        )
    times = None if times_ns is None else tuple(times_ns)
    return Completion(request.index, tuple(made.token_ids), made.finish_reason, times, request_metrics(output))


def request_metrics(output: RequestOutput) -> dict[str, float] | None:
    """The engine's own times of a request in seconds, or None where it keeps none.

    Queued, prefill and decode are differences of the engine process's monotonic clock; `ttft_s` is of the front end's
    wall clock. Prefill ends with the first token, decode with the last.
    """
    stats: Any = output.metrics
    if stats is None:
        return None
    spans = {
        "queued_s": (stats.queued_ts, stats.scheduled_ts),
        "prefill_s": (stats.scheduled_ts, stats.first_token_ts),
        "decode_s": (stats.first_token_ts, stats.last_token_ts),
    }
    # vLLM writes 0 for a moment it did not see; such a span is left out
    told: dict[str, float] = {name: end - start for name, (start, end) in spans.items() if start and end}
    if stats.first_token_latency:
        told["ttft_s"] = stats.first_token_latency
    if output.num_cached_tokens is not None:
        told["cached_tokens"] = float(output.num_cached_tokens)
    if hasattr(stats, "num_preemptions"):
        told["preemptions"] = float(stats.num_preemptions)
    return told
