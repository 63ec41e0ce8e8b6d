"""Service-level objectives: limits on latencies, applied to the requests after the measurement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from llem.config.fields import at_least, between, option
from llem.errors import nearest

__all__ = ["SLO_PRESETS", "Slo"]

#: Limits of MLPerf Inference's server scenarios (TTFT, TPOT at the 99th percentile), in seconds.
#: Source: MLCommons inference rules, "constraints of the server scenarios".
SLO_PRESETS: Mapping[str, Mapping[str, float]] = {
    "mlperf-llama-3.1-8b-conversational": {"ttft_s": 2.0, "tpot_s": 0.1},
    "mlperf-llama-3.1-8b-interactive": {"ttft_s": 0.5, "tpot_s": 0.03},
    "mlperf-llama-2-70b-conversational": {"ttft_s": 2.0, "tpot_s": 0.2},
    "mlperf-llama-2-70b-interactive": {"ttft_s": 0.45, "tpot_s": 0.04},
    "mlperf-llama-3.1-405b-conversational": {"ttft_s": 6.0, "tpot_s": 0.175},
    "mlperf-deepseek-r1-conversational": {"ttft_s": 2.0, "tpot_s": 0.08},
    "mlperf-deepseek-r1-interactive": {"ttft_s": 1.5, "tpot_s": 0.015},
    "mlperf-gpt-oss-120b-conversational": {"ttft_s": 3.0, "tpot_s": 0.08},
}


def _known(_: Any, attribute: Any, value: str | None) -> None:
    if value is not None and value not in SLO_PRESETS:
        near = nearest(value, SLO_PRESETS)
        hint = f"did you mean {near!r}?" if near else f"known: {', '.join(SLO_PRESETS)}"
        raise ValueError(f"no preset {value!r}; {hint}")


@attrs.frozen(kw_only=True)
class Slo:
    """Limits on the latencies of a request; null is no limit. They change no measurement but that of the
    greatest rate at which they are kept (`load.request_rate: max`)."""

    preset: str | None = option(
        None, help="Limits of an MLPerf scenario. A limit given beside it overrides the preset's.", validator=_known
    )
    ttft_s: float | None = option(None, help="Time to the first token, at most.", unit="s", validator=at_least(0))
    tpot_s: float | None = option(None, help="Time per further token, at most.", unit="s", validator=at_least(0))
    e2el_s: float | None = option(None, help="Time to the last token, at most.", unit="s", validator=at_least(0))
    attainment: float = option(
        0.99, help="Share of requests that must keep every limit, for the objective to be met.",
        validator=between(0, 1),
    )  # fmt: skip

    def __attrs_post_init__(self) -> None:
        if self.preset is None and self.ttft_s is None and self.tpot_s is None and self.e2el_s is None:
            raise ValueError("states no limit; give preset, ttft_s, tpot_s or e2el_s")

    def limits(self) -> Mapping[str, float]:
        """Every limit in seconds, by name: those of the preset, and above them those given here."""
        own = {name: getattr(self, name) for name in ("ttft_s", "tpot_s", "e2el_s")}
        preset = {} if self.preset is None else SLO_PRESETS[self.preset]
        return {**preset, **{name: limit for name, limit in own.items() if limit is not None}}
