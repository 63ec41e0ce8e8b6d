"""How much work a serving window contained. Operations are counted as in `work`, by what was emitted within the window.

A prompt counts where its first token came, whole (less what the engine says it had cached); every further token at its
own position in its own context. Bytes are a lower bound: each further token reads the key-value cache of its context,
and the weights are read once per step of decoding. Steps are not told by a stream; they are bounded from below by

    steps >= sum over chunks after a request's first of 1 / (requests that had begun and not ended when it came)

since one step brings one chunk at most to each of them. Prompts read the weights in steps of their own or share those
of others; their reads are left out.
"""

from __future__ import annotations

from typing import Any

import attrs

from llem.metrics.flow import Flow
from llem.metrics.work import Ceiling, flops_of, weight_bytes
from llem.models.spec import Architecture

__all__ = ["ServingWork", "serving_work"]


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
        prefill_flops=flops_of(architecture, int(fresh.sum()), int(prompt_context.sum())),
        decode_flops=flops_of(architecture, decoded, contexts),
        steps=steps,
        least_bytes=weight_bytes(architecture) * steps + architecture.kv_bytes_per_token * contexts,
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
