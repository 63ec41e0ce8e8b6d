"""vLLM's sampling parameters, made once per setting and length, and completions from its outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vllm import RequestOutput, SamplingParams
from vllm.sampling_params import RequestOutputKind

from llem.backends.base import Completion, Request
from llem.config.models import Sampling
from llem.errors import ConfigError, ExperimentFailed
from llem_vllm.arguments import sampling_arguments
from llem_vllm.config import VllmOptions

__all__ = ["SamplingCache", "completion", "request_metrics"]


class SamplingCache:
    """SamplingParams by setting and number of tokens, so that a batch costs a look-up and no validation."""

    def __init__(self, options: VllmOptions, kind: RequestOutputKind) -> None:
        self._options = options
        self._kind = kind
        self._made: dict[tuple[Sampling, int], SamplingParams] = {}

    def get(self, request: Request, sampling: Sampling) -> SamplingParams:
        """Raises ConfigError for what vLLM refuses."""
        if self._options.seed_per_request:
            return self._make(sampling, request.output_tokens, request.index)
        key = (sampling, request.output_tokens)
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = self._make(sampling, request.output_tokens, None)
        return made

    def _make(self, sampling: Sampling, output_tokens: int, index: int | None) -> SamplingParams:
        try:
            return SamplingParams(
                **sampling_arguments(self._options, sampling, output_tokens, index), output_kind=self._kind
            )
        except (ValueError, TypeError) as error:
            raise ConfigError(
                f"vLLM refuses the sampling parameters: {error}", "change the one that the message names"
            ) from error


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
