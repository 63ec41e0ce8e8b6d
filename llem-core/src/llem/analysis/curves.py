"""The latency-energy curve: what arrivals cost and how long their users wait, from one rate to the next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs

from llem.store.models import Quantity, Result
from llem.store.serial import canonical

__all__ = ["CurvePoint", "comparable", "latency_energy_curve"]

#: Metrics of one point, by the name they have in a Result.
COLUMNS = (
    "request_rate",
    "capacity_share",
    "ttft_p99_s",
    "tpot_p99_s",
    "energy_per_output_token_j",
    "energy_per_request_j",
    "goodput_requests_per_s",
)
#: What may differ between the points of one curve: how many arrive.
VARIED = ("request_rate", "capacity_share", "speed")
NONE = Quantity(None, "")


@attrs.frozen
class CurvePoint:
    """One rate of arrivals: the experiment, its metrics of `COLUMNS`, and whether it was more than the engine bears."""

    id: str
    metrics: Mapping[str, Quantity]
    saturated: bool
    valid: bool


def latency_energy_curve(results: Iterable[Result]) -> tuple[CurvePoint, ...]:
    """Points of the results that have a rate of arrivals, by it. Whether they are comparable is the caller's to see."""
    points = [_point(result) for result in results if result.metrics.get("request_rate", NONE).value is not None]
    return tuple(sorted(points, key=lambda point: (point.metrics["request_rate"].value or 0.0, point.id)))


def _point(result: Result) -> CurvePoint:
    return CurvePoint(
        id=result.id,
        metrics={name: result.metrics[name] for name in COLUMNS},
        saturated=any(found.code == "over_saturated" for found in result.findings),
        valid=result.valid,
    )


def comparable(results: Iterable[Result]) -> list[Sequence[Result]]:
    """Groups of two and more results whose configurations differ in the rate of arrivals alone: open loads, replays."""
    groups: dict[bytes, list[Result]] = {}
    for result in results:
        load = result.config.get("load", {})
        if load.get("kind") in ("open", "replay"):
            rest = {name: value for name, value in load.items() if name not in VARIED}
            groups.setdefault(canonical({**result.config, "load": rest}), []).append(result)
    return [group for group in groups.values() if len(group) > 1]
