"""How much work a window contained: operations, bytes that must move, and the time the hardware needs at least.

Operations (multiplications and additions apart) of one token's pass at context c, that is, as token c of its request:

    2 (N - V) + 4 H Q (sum over layers of min(c, w))  +  2 V where the logits are computed

N active parameters, V those of the output projection, H heads, Q size of a head, w the layer's window (endless where it
has none). This is the forward third of PaLM, appendix B, with causal contexts: two operations for each parameter, and
two products of Q numbers for each head and token attended to; query groups (GQA, Ainslie et al. 2023) change the cache
and not the operations. Engines compute logits for the last position of a prompt and for every token decoded, so the
output projection counts once for each of those. A mixture of experts counts the experts of one token. Tokens of a
prompt that the engine says it had cached are not computed again; what follows attends to them.

Bytes, at least: the weights once per pass (tables that are only looked up left out), and the key-value cache of the
context of each decoded token, which GQA and windows make smaller. Of a mixture of experts, a pass reads the experts of
one token at least; B tokens together read up to B times as many, which depends on the router and is not counted. What
an engine moves beyond that is its own. An engine that reads a prefix once for several requests (cascade attention)
moves less than this.

Phases: the prefill is a prompt's pass, which brings the first token; decoding is every further token. An offline
request of n output tokens needs n passes, a batch those of its longest request. That does not hold where several tokens
come from one pass (speculation), or a token from several (beams): `Architecture.unfit` tells so.

A serving window is counted by what was emitted within it. A prompt counts where its first token came, whole; every
further token at its own position in its own context. A stream does not tell steps; they are bounded from below by

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
class Phases:
    """Operations of the two phases, and the positions that they are of: one token's pass through the model each."""

    prefill_positions: int
    prefill_flops: int
    decode_positions: int
    decode_flops: int

    @property
    def positions(self) -> int:
        return self.prefill_positions + self.decode_positions

    @property
    def flops(self) -> int:
        return self.prefill_flops + self.decode_flops

    @property
    def flops_per_token(self) -> float:
        """Operations per position, averaged over both phases."""
        return self.flops / self.positions

    @property
    def prefill_flops_per_token(self) -> float | None:
        """Operations per token of a prompt; None where no prompt was computed."""
        return self.prefill_flops / self.prefill_positions if self.prefill_positions else None

    @property
    def decode_flops_per_token(self) -> float | None:
        """Operations per token after a request's first; None where there was none."""
        return self.decode_flops / self.decode_positions if self.decode_positions else None


@attrs.frozen
class BatchWork(Phases):
    """Work of one batch: the prefill, and all decode steps together. Bytes are bounds from below; None: not known."""

    steps: int
    prefill_bytes: float | None
    decode_bytes: float | None

    def least_s(self, ceiling: Ceiling) -> float | None:
        """Time by the roofline: each phase is bound by operations or by memory. None where bytes are not known."""
        if self.prefill_bytes is None or self.decode_bytes is None:
            return None
        return max(self.prefill_flops / ceiling.flops, self.prefill_bytes / ceiling.bytes_per_s) + max(
            self.decode_flops / ceiling.flops, self.decode_bytes / ceiling.bytes_per_s
        )


@attrs.frozen
class WindowWork(Phases):
    """Work of all batches of one window."""

    batches: tuple[BatchWork, ...]

    @classmethod
    def of(cls, batches: Sequence[BatchWork]) -> WindowWork:
        """The sum of its batches."""
        names = [field.name for field in attrs.fields(Phases)]
        return cls(**{name: sum(getattr(batch, name) for batch in batches) for name in names}, batches=tuple(batches))

    @property
    def steps(self) -> int:
        return sum(batch.steps for batch in self.batches)

    @property
    def least_bytes(self) -> float | None:
        """Bytes that had to move; None where they are not known."""
        moved = [part for batch in self.batches for part in (batch.prefill_bytes, batch.decode_bytes)]
        return None if None in moved else sum(part for part in moved if part is not None)

    def least_step_s(self, ceiling: Ceiling) -> float | None:
        """Time that the hardware needs at least for a step, the prefill being one; None where bytes are not known."""
        least = [batch.least_s(ceiling) for batch in self.batches]
        if None in least or not self.steps:
            return None
        return sum(one for one in least if one is not None) / self.steps


@attrs.frozen
class ServingWork(Phases):
    """Work of one serving window. `steps` (of decoding) and `least_bytes` are bounds from below."""

    steps: float
    least_bytes: float | None

    def least_step_s(self, ceiling: Ceiling) -> float | None:
        """Time that the hardware needs at least for a step of decoding; None where there was none, or not known."""
        if not self.steps or self.least_bytes is None:
            return None
        return max(self.decode_flops / ceiling.flops, self.least_bytes / ceiling.bytes_per_s) / self.steps


Work: TypeAlias = WindowWork | ServingWork


def _attended(architecture: Architecture, before: Any, last: Any) -> Any:
    """Tokens that positions before + 1 … last attend to, summed over positions and layers; integers or columns.

    Position p of a layer attends to min(p, its window) tokens.
    """
    windows = architecture.windows or ()
    endless = architecture.layers - sum(layers for _, layers in windows)
    found = endless * (_triangle(last) - _triangle(before))
    for width, layers in windows:
        found = found + layers * (_capped(last, width) - _capped(before, width))
    return found


def _triangle(n: Any) -> Any:
    return n * (n + 1) // 2


def _capped(n: Any, width: int) -> Any:
    """Sum of min(p, width) for p = 1 … n."""
    over = (n - width) * (n > width)
    return _triangle(n - over) + over * width


def _flops_of(architecture: Architecture, positions: int, logits: int, attended: int) -> int:
    """Operations of so many positions, of which some give logits. `attended` as `_attended` gives it."""
    body = 2 * (architecture.active_parameters - architecture.projection) * positions
    return body + 2 * architecture.projection * logits + 4 * architecture.heads * architecture.head_dim * attended


def _moved(architecture: Architecture, passes: float, attended: int) -> float | None:
    """Bytes of weights and of key-value caches; None where those of the weights are not known."""
    cache = architecture.kv_bytes_per_token / architecture.layers * attended
    return None if architecture.read_bytes is None else architecture.read_bytes * passes + cache


def _skipped(row: RequestRow) -> int:
    """Tokens of a prompt that were not computed: what the engine says it had cached. The last one always is."""
    told = int((row.engine_metrics or {}).get("cached_tokens", 0))
    return min(max(told, 0), max(_given(row) - 1, 0))


def _given(row: RequestRow) -> int:
    """Tokens of a prompt; engines whose architecture is known get token ids."""
    return row.input_tokens or 0


def _batch_work(architecture: Architecture, rows: Sequence[RequestRow]) -> BatchWork:
    steps = max((row.output_tokens for row in rows), default=0)
    # The last output token is never fed back, and the first comes out of the prefill.
    further = [max(row.output_tokens - 1, 0) for row in rows]
    prompts = sum(_attended(architecture, _skipped(row), _given(row)) for row in rows)
    contexts = sum(
        _attended(architecture, _given(row), _given(row) + count) for row, count in zip(rows, further, strict=True)
    )
    computed = sum(_given(row) - _skipped(row) for row in rows)
    return BatchWork(
        prefill_positions=computed,
        prefill_flops=_flops_of(architecture, computed, len(rows), prompts),
        decode_positions=sum(further),
        decode_flops=_flops_of(architecture, sum(further), sum(further), contexts),
        steps=steps,
        prefill_bytes=_moved(architecture, 1, 0),
        decode_bytes=_moved(architecture, max(steps - 1, 0), contexts),
    )


def window_work(architecture: Architecture, rows: Iterable[RequestRow]) -> WindowWork | None:
    """Work of one window from its requests; None when it has none, or a prompt's tokens are not known."""
    batches: dict[int, list[RequestRow]] = {}
    for row in rows:
        if row.input_tokens is None:
            return None
        batches.setdefault(row.batch, []).append(row)
    if not batches:
        return None
    return WindowWork.of([_batch_work(architecture, batches[number]) for number in sorted(batches)])


def serving_work(architecture: Architecture, flow: Flow) -> ServingWork | None:
    """Work of one window; None when no token came within it, or a prompt's tokens are not known."""
    import numpy as np

    if (flow.inputs < 0).any():
        return None
    begun = np.flatnonzero((flow.first >= flow.t0) & (flow.first < flow.t1))
    before = _before(flow)
    # Tokens of decoding: all but the request's first, which comes out of the prompt's pass. Token k is computed from
    # the one before it, at position inputs + k - 1.
    done = np.maximum(before, 1) - 1
    count = np.maximum(before + flow.emitted - 1 - done, 0)
    skipped = np.array([_skipped(flow.rows[int(i)]) for i in begun], dtype=np.int64)
    computed, decoded = int((flow.inputs[begun] - skipped).sum()), int(count.sum())
    if not computed + decoded:
        return None
    prompts = int(_attended(architecture, skipped, flow.inputs[begun]).sum())
    contexts = int(_attended(architecture, flow.inputs + done, flow.inputs + done + count).sum())
    steps = _steps(flow)
    return ServingWork(
        prefill_positions=computed,
        prefill_flops=_flops_of(architecture, computed, len(begun), prompts),
        decode_positions=decoded,
        decode_flops=_flops_of(architecture, decoded, decoded, contexts),
        steps=steps,
        least_bytes=_moved(architecture, steps, contexts),
    )


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
