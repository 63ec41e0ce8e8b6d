"""The setting `gpus`: which GPUs, or how many of them."""

from __future__ import annotations

from typing import Any

import attrs

from llem.config.fields import Bounds

__all__ = ["Gpus", "HowMany", "how_many"]

#: A number of GPUs, whichever there are to be had; or each by index or UUID; None leaves it open.
Gpus = int | tuple[int | str, ...] | None


@attrs.frozen
class HowMany(Bounds):
    """Validator: a number is at least 1. A list passes: whether its GPUs are there, only their machine knows."""

    low: float | None = 1

    def __call__(self, _: Any, attribute: Any, value: Any) -> None:
        """Raise ValueError for a number below 1, which was probably meant as an index."""
        if isinstance(value, int) and value < 1:
            meant = f"a number says how many GPUs; `[{value}]` says which, and `device: cpu` uses none"
            raise ValueError(f"must be {self}, got {value}: {meant}")


def how_many(gpus: Gpus) -> int | None:
    """How many GPUs the setting asks for; None where it leaves that open."""
    return len(gpus) if isinstance(gpus, tuple) else gpus
