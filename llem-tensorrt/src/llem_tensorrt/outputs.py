"""From what TensorRT-LLM answers to what llem stores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llem.backends.base import Completion, Request
from llem.errors import ExperimentFailed

__all__ = ["completion", "engine_metrics", "finish_reason", "token_ids"]

ENDED = ("length", "stop")


def completion(request: Request, output: Any, times_ns: tuple[int, ...] | None = None) -> Completion:
    """The best sequence of a finished RequestOutput. Raises ExperimentFailed for one that did not end by itself."""
    best = output.outputs[0]
    return Completion(request.index, token_ids(best), finish_reason(best), times_ns, engine_metrics(output))


def token_ids(sequence: Any, since: int = 0) -> tuple[int, ...]:
    """Tokens so far, as plain integers, from place `since` on; the prompt is not among them."""
    return tuple(int(token) for token in (sequence.token_ids or ())[since:])


def finish_reason(sequence: Any) -> str:
    """Why a sequence ended: "length" or "stop"."""
    reason = sequence.finish_reason
    if reason not in ENDED:
        raise ExperimentFailed(
            f"TensorRT-LLM ended a request early: {reason}",
            "look into the worker's log for what happened before",
        )
    return str(reason)


def engine_metrics(output: Any) -> Mapping[str, float] | None:
    """What the engine says about a finished request; None where it was not asked to (`return_perf_metrics`).

    From its time to first token, queueing time and end-to-end time, all in seconds from arrival: `queued_s`,
    `prefill_s` (scheduled until the first token), `decode_s` (first until last token).
    """
    told = {
        getattr(name, "value", name): value for name, value in (getattr(output, "metrics_dict", None) or {}).items()
    }
    if not told:
        return None
    first, queued, whole = told.get("ttft"), told.get("request_queue_time"), told.get("e2e")
    found: dict[str, float] = {}
    if queued is not None:
        found["queued_s"] = float(queued)
    if first is not None and queued is not None:
        found["prefill_s"] = float(first) - float(queued)
    if first is not None and whole is not None:
        found["decode_s"] = float(whole) - float(first)
    cached = getattr(output, "cached_tokens", None)
    if cached is not None:
        found["cached_tokens"] = float(cached)
    return found or None
