"""How much work a window contained: operations, bytes that must move, and the time the hardware needs at least.

Operations per token: 2 N + 4 L H Q T (forward third of PaLM, appendix B), N active parameters, L layers, H heads,
Q size of a head, T mean context. Bytes: the weights that take part, once per step, and the key-value cache of the
context, once per token. Both are lower bounds: what an engine moves beyond them is its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from llem.devices.peaks import Peak
from llem.models.spec import Architecture
from llem.store.models import RequestRow

__all__ = ["BatchWork", "Ceiling", "WindowWork", "flops_of", "weight_bytes", "window_work"]


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


def flops_of(architecture: Architecture, positions: int, context: int) -> int:
    """Operations of so many positions. `context`: tokens that they attend to, summed over the positions."""
    attention = 4 * architecture.layers * architecture.heads * architecture.head_dim
    return 2 * architecture.active_parameters * positions + attention * context


def _span_flops(architecture: Architecture, first: int, last: int) -> int:
    """Operations of the positions first … last (1-based; position p attends to p tokens)."""
    count = last - first + 1
    return flops_of(architecture, count, (first + last) * count // 2)


def weight_bytes(architecture: Architecture) -> float:
    """Bytes of the weights one token touches: the input embedding is read by the row, idle experts not at all."""
    return architecture.weight_bytes * min(1.0, architecture.active_parameters / architecture.parameters)


def _batch_work(architecture: Architecture, rows: Sequence[RequestRow]) -> BatchWork:
    produced = [row for row in rows if row.output_tokens > 0]
    steps = max((row.output_tokens for row in rows), default=0)
    weights = weight_bytes(architecture)
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
