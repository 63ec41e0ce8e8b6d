"""Which metrics there are, and which way each is better. Pure."""

from __future__ import annotations

from llem.errors import StoreError, nearest

__all__ = ["DIRECTIONS", "NEITHER", "lower_is_better"]

_TIMES = ("ttft", "tpot", "itl_chunk", "e2el")
_LOWER = (
    "energy_per_output_token_j", "energy_per_token_j", "energy_per_request_j", "energy_j", "energy_net_j",
    "energy_per_good_request_j", "energy_per_request_p50_j", "energy_per_request_p99_j", "prefill_energy_j",
    "decode_energy_j", "power_w", "duration_s", "queued_s", "queued_p99_s", "flops_per_token", "peak_memory_bytes",
    *(f"{name}{percentile}_s" for name in _TIMES for percentile in ("", "_p50", "_p90", "_p95", "_p99")),
)  # fmt: skip
_HIGHER = (
    "output_tokens_per_s", "requests_per_s", "capacity_requests_per_s", "goodput_requests_per_s", "slo_attainment",
    "mfu", "mbu",
)  # fmt: skip

#: Metric to whether less of it is better. Qualities, which bear the names of tasks, are judged by `lower_is_better`.
DIRECTIONS = {**dict.fromkeys(_LOWER, True), **dict.fromkeys(_HIGHER, False)}

#: Metrics that are neither good nor bad: what was asked for, and what came of it.
NEITHER = ("request_rate", "in_flight_mean", "lag_p99_s", "capacity_share")


def lower_is_better(metric: str) -> bool:
    """Whether less of a metric is better. Raises StoreError: it is neither (no_direction), or none (metric_unknown)."""
    if metric in DIRECTIONS:
        return DIRECTIONS[metric]
    if metric.startswith("quality."):
        return False
    if metric in NEITHER:
        hint = f"name another metric, such as {', '.join(list(DIRECTIONS)[:3])}"
        raise StoreError(f"of {metric!r}, neither less nor more is better", hint, "no_direction")
    near = nearest(metric, (*DIRECTIONS, *NEITHER))
    listed = "`llem show DIR --json` and the reference page on metrics have the list"
    raise StoreError(
        f"there is no metric {metric!r}", f"did you mean {near!r}? {listed}" if near else listed, "metric_unknown"
    )
