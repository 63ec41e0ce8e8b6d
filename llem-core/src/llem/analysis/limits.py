"""Limits that a configuration must keep, as a user writes them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import attrs

__all__ = ["Limit"]


@attrs.frozen
class Limit:
    """One limit that a configuration must keep.

    Attributes:
        text: as the user wrote it.
        metric: its name in the catalogue, such as `ttft_p99_s`, `peak_memory_bytes` or `quality.gsm8k`.
        upper: whether the value must be below the bound; else above.
        bound: in the metric's unit; of a change, in the score's unit or as a share of the reference's score.
        against: "" for the value itself; "difference" for the score less the reference's; "share" for that difference
            divided by the reference's score.
        each: of a share of requests (`slo_attainment`): the limits in seconds by latency that each request must keep,
            such as `{"ttft_s": 0.5}`. Empty: those of the study's `slo`.
    """

    text: str
    metric: str
    upper: bool
    bound: float
    against: Literal["", "difference", "share"] = ""
    each: Mapping[str, float] = attrs.field(factory=dict)
