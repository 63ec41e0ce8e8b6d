"""Which way a metric is better. Pure."""

from __future__ import annotations

from llem.errors import StoreError, nearest

__all__ = ["DIRECTIONS", "lower_is_better"]

_LOWER = (
    "energy_j", "energy_net_j", "energy_per_output_token_j", "energy_per_token_j", "energy_per_request_j",
    "energy_per_good_request_j", "prefill_energy_j", "decode_energy_j", "power_w", "duration_s", "ttft_s", "tpot_s",
    "itl_chunk_s", "e2el_s", "flops_per_token", "peak_memory_bytes",
)  # fmt: skip
_HIGHER = ("output_tokens_per_s", "requests_per_s", "goodput_requests_per_s", "slo_attainment", "mfu", "mbu")

#: Metric to whether less of it is better. Percentiles of the times, and qualities, are judged by `lower_is_better`.
DIRECTIONS = {**dict.fromkeys(_LOWER, True), **dict.fromkeys(_HIGHER, False)}

_TIMES = ("ttft_", "tpot_", "itl_", "e2el_")


def lower_is_better(metric: str) -> bool:
    """Whether less of a metric is better. Raises StoreError (no_direction) for one that is neither good nor bad."""
    if metric in DIRECTIONS:
        return DIRECTIONS[metric]
    if metric.startswith("quality."):
        return False
    if metric.startswith(_TIMES) and metric.endswith("_s"):
        return True
    near = nearest(metric, DIRECTIONS)
    hint = f"did you mean {near!r}?" if near else f"such as {', '.join(list(DIRECTIONS)[:3])}"
    raise StoreError(f"of {metric!r}, neither less nor more is better", hint, "no_direction")
