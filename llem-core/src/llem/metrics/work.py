"""How much work a window contained: operations, bytes that must move, and the time the hardware needs at least.

Operations per token: 2 N + 4 L H Q T (forward third of PaLM, appendix B), N active parameters, L layers, H heads,
Q size of a head, T mean context. Bytes: the weights that take part, once per step, and the key-value cache of the
context, once per token. Both are lower bounds: what an engine moves beyond them is its own.

A serving window is counted by what was emitted within it. A prompt counts where its first token came, whole (less what
the engine says it had cached); every further token at its own position in its own context. Bytes: each further token
reads the key-value cache of its context, and the weights are read once per step of decoding. A stream does not tell
steps; they are bounded from below by

    steps >= sum over chunks after a request's first of 1 / (requests that had begun and not ended when it came)

since one step brings one chunk at most to each of them. Prompts read the weights in steps of their own or share those
of others; their reads are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import attrs

from llem.devices.peaks import Peak
from llem.metrics.flow import Flow
from llem.models.spec import Architecture
from llem.store.models import RequestRow

__all__ = ["BatchWork", "Ceiling", "ServingWork", "WindowWork", "Work", "serving_work", "window_work"]


@attrs.frozen
class Ceiling:
    """What all GPUs of an experiment can do together at most: operations per second and bytes per second."""

    flops: float
    bytes_per_s: float

    @classmethod
    def of(cls, peak: Peak, dtype: str, gpus: int) -> Ceiling | None:
        """Ceiling of `gpus` devices computing in `dtype`; None when the device has no rate stated for it."""
        rate = peak.rate(dtype)
        return None if rate is None else cls(rate * gpus, peak.bytes_per_s * gpus)


@attrs.frozen
class BatchWork:
    """Work of one batch: the prefill, and all decode steps together."""

    steps: int
    positions: int
    prefill_flops: int
    prefill_bytes: float
    decode_flops: int
    decode_bytes: float

    def least_s(self, ceiling: Ceiling) -> float:
        """Time by the roofline: each phase is bound by operations or by memory."""
        return sum(
            max(flops / ceiling.flops, moved / ceiling.bytes_per_s)
            for flops, moved in (
                (self.prefill_flops, self.prefill_bytes),
                (self.decode_flops, self.decode_bytes),
            )
        )


@attrs.frozen
class WindowWork:
    """Work of all batches of one window. A position is one token's pass through the model."""

    batches: tuple[BatchWork, ...]

    @property
    def steps(self) -> int:
        return sum(batch.steps for batch in self.batches)

    @property
    def flops(self) -> int:
        return sum(batch.prefill_flops + batch.decode_flops for batch in self.batches)

    @property
    def flops_per_token(self) -> float:
        """Operations per position, averaged over the window."""
        return self.flops / sum(batch.positions for batch in self.batches)

    @property
    def least_bytes(self) -> float:
        return sum(batch.prefill_bytes + batch.decode_bytes for batch in self.batches)

    def least_s(self, ceiling: Ceiling) -> float:
        """Time by the roofline of all batches, one after the other."""
        return sum(batch.least_s(ceiling) for batch in self.batches)


@attrs.frozen
class ServingWork:
    """Work of one serving window. A position is one token's pass through the model.

    `prefill_flops` and `decode_flops` are operations; `steps` (of decoding, at least) and `least_bytes` are bounds.
    """

    positions: int
    prefill_flops: int
    decode_flops: int
    steps: float
    least_bytes: float

    @property
    def flops(self) -> int:
        return self.prefill_flops + self.decode_flops

    @property
    def flops_per_token(self) -> float:
        """Operations per position, averaged over the window."""
        return self.flops / self.positions

    def least_step_s(self, ceiling: Ceiling) -> float | None:
        """Time that the hardware needs at least for a step of decoding; None where there was none."""
        if not self.steps:
            return None
        return max(self.decode_flops / ceiling.flops, self.least_bytes / ceiling.bytes_per_s) / self.steps


Work: TypeAlias = WindowWork | ServingWork


def _flops_of(architecture: Architecture, positions: int, context: int) -> int:
    """Operations of so many positions. `context`: tokens that they attend to, summed over the positions."""
    attention = 4 * architecture.layers * architecture.heads * architecture.head_dim
    return 2 * architecture.active_parameters * positions + attention * context


def _span_flops(architecture: Architecture, first: int, last: int) -> int:
    """Operations of the positions first … last (1-based; position p attends to p tokens)."""
    count = last - first + 1
    return _flops_of(architecture, count, (first + last) * count // 2)


def _weight_bytes(architecture: Architecture) -> float:
    """Bytes of the weights one token touches: the input embedding is read by the row, idle experts not at all."""
    return architecture.weight_bytes * min(1.0, architecture.active_parameters / architecture.parameters)


def _batch_work(architecture: Architecture, rows: Sequence[RequestRow]) -> BatchWork:
    produced = [row for row in rows if row.output_tokens > 0]
    steps = max((row.output_tokens for row in rows), default=0)
    weights = _weight_bytes(architecture)
    # The last output token is never fed back, and the first comes out of the prefill.
    decode_context = sum(
        (row.output_tokens - 1) * row.input_tokens + row.output_tokens * (row.output_tokens - 1) // 2
        for row in produced
    )
    return BatchWork(
        steps=steps,
        positions=sum(row.input_tokens + max(row.output_tokens - 1, 0) for row in rows),
        prefill_flops=sum(_span_flops(architecture, 1, row.input_tokens) for row in rows),
        prefill_bytes=weights,
        decode_flops=sum(
            _span_flops(architecture, row.input_tokens + 1, row.input_tokens + row.output_tokens - 1)
            for row in produced
        ),
        decode_bytes=weights * max(steps - 1, 0) + architecture.kv_bytes_per_token * decode_context,
    )


def window_work(architecture: Architecture, rows: Iterable[RequestRow]) -> WindowWork | None:
    """Work of one window from its requests; None when it has none."""
    batches: dict[int, list[RequestRow]] = {}
    for row in rows:
        batches.setdefault(row.batch, []).append(row)
    if not batches:
        return None
    return WindowWork(tuple(_batch_work(architecture, batches[number]) for number in sorted(batches)))


def serving_work(architecture: Architecture, flow: Flow) -> ServingWork | None:
    """Work of one window; None when no token came within it."""
    import numpy as np

    emitted = flow.emitted
    begun = (flow.first >= flow.t0) & (flow.first < flow.t1)
    cached = np.array([_cached(row.engine_metrics) for row in flow.rows], dtype=np.int64)
    prompts = np.flatnonzero(begun)
    before = _before(flow)
    # Tokens of decoding: all but the request's first, which comes out of the prompt's pass.
    first = np.maximum(before, 1) + 1
    count = np.maximum(before + emitted - first + 1, 0)
    # Token k stands at position inputs + k and is computed from the one before it, which attends to inputs + k - 1.
    context = flow.inputs * count + (2 * first + count - 3) * count // 2
    skipped = np.minimum(cached, np.maximum(flow.inputs - 1, 0))[prompts]
    whole, fresh = flow.inputs[prompts], flow.inputs[prompts] - skipped
    prompt_context = (whole * (whole + 1) - skipped * (skipped + 1)) // 2
    positions = int(fresh.sum() + count.sum())
    if not positions:
        return None
    decoded, contexts = int(count.sum()), int(context.sum())
    steps = _steps(flow)
    return ServingWork(
        positions=positions,
        prefill_flops=_flops_of(architecture, int(fresh.sum()), int(prompt_context.sum())),
        decode_flops=_flops_of(architecture, decoded, contexts),
        steps=steps,
        least_bytes=_weight_bytes(architecture) * steps + architecture.kv_bytes_per_token * contexts,
    )


def _cached(told: Any) -> int:
    return int((told or {}).get("cached_tokens", 0))


def _before(flow: Flow) -> Any:
    """Of each row: its tokens that came before the window."""
    import numpy as np

    found = np.zeros(len(flow.rows), dtype=np.int64)
    early = flow.at < flow.t0
    np.add.at(found, flow.owner[early], flow.tokens[early])
    return found


def _steps(flow: Flow) -> float:
    """Steps of decoding within the window, at least."""
    import numpy as np

    later = flow.inside & (flow.at > flow.first[flow.owner])
    begins = np.sort(flow.first[flow.first >= 0])
    ends = np.sort(flow.end[flow.first >= 0])
    at = flow.at[later]
    active = np.searchsorted(begins, at, side="right") - np.searchsorted(ends, at, side="left")
    return float((1.0 / active).sum())
