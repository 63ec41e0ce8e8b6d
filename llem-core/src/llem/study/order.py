"""In which order experiments run. Pure.

All trials of an experiment still run together, so that "blocks" is a random order of experiments; blocks over trials
need an engine that is kept between them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from llem.config.study import Order
from llem.study.identify import Identified

__all__ = ["in_order"]


def in_order(experiments: Sequence[Identified], order: Order) -> list[Identified]:
    """The experiments in running order.

    The random order sorts by a hash of seed and id: it is the same with every version of Python and however the file
    is arranged, and a further experiment leaves the order of the others as it was.
    """
    if order.kind == "file":
        return list(experiments)
    return sorted(experiments, key=lambda one: hashlib.sha256(f"{order.seed}:{one.id}".encode()).digest())
