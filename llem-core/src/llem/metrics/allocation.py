"""Energy of single requests: an allocation of the window's energy by a stated rule, never a measurement.

One counter sees all requests in flight together, so what a single one cost cannot be read from it. The rule: a request
bears the window's energy in proportion to the output tokens that it emitted within the window.

    energy of request i = window energy * tokens of i within the window / tokens of all within the window

The shares add up to the window's energy to the last bit. Prompts are not weighed: the cost of a long one is shared by
all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from llem.metrics.flow import Flow

__all__ = ["allocate", "whole_requests_energy"]


def allocate(total: float, weights: Sequence[int]) -> list[float]:
    """`total` in proportion to `weights`, such that `math.fsum` of the shares is `total` exactly.

    Raises ValueError when all weights are 0.
    """
    whole = sum(weights)
    if whole <= 0:
        raise ValueError("nothing to allocate to: every weight is 0")
    shares = [total * (weight / whole) for weight in weights]
    # What rounding left over, a few last bits of the total: the smallest share has the finest steps to bear it in.
    smallest = min((i for i, weight in enumerate(weights) if weight), key=lambda i: weights[i])
    shares[smallest] += math.fsum([total, *(-share for share in shares)])
    return shares


def whole_requests_energy(flow: Flow, energy_j: float) -> list[float]:
    """Allocated joules, ascending, of the requests that arrived and ended well within the window.

    None of them where no token came within it.
    """
    weights = flow.emitted.tolist()
    if not any(weights):
        return []
    shares = allocate(energy_j, weights)
    return sorted(shares[i] for i in flow.completed if flow.arrival[i] >= flow.t0)
