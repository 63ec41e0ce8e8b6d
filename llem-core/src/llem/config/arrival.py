"""How requests arrive: batches back to back, a fixed number of clients, or schedules that do not wait."""

from __future__ import annotations

from typing import Literal

import attrs

from llem.config.fields import DAY_S, at_least, between, option

__all__ = ["ClosedLoad", "OfflineLoad", "OpenLoad", "ReplayLoad"]


@attrs.frozen(kw_only=True)
class OfflineLoad:
    """Batches back to back: the next starts when the last has ended."""

    kind: Literal["offline"] = option("offline", help="How requests arrive.")
    batch_size: int = option(1, help="Requests per batch.", validator=at_least(1))


@attrs.frozen(kw_only=True)
class ClosedLoad:
    """A fixed number of clients, each of which sends its next request as soon as its last one has ended."""

    kind: Literal["closed"] = option("closed", help="How requests arrive.")
    concurrency: int = option(1, help="Number of clients: each has one request in flight.", validator=at_least(1))
    ramp_s: float = option(
        0.0, help="The clients start one by one, spread evenly over this time.", unit="s", validator=between(0, DAY_S)
    )


@attrs.frozen(kw_only=True)
class OpenLoad:
    """Requests sent at scheduled times, whether or not earlier ones have ended."""

    kind: Literal["open"] = option("open", help="How requests arrive.")
    request_rate: float | None = option(
        None,
        help="Mean rate of arrivals. Give this or `capacity_share`.",
        unit="requests/s",
        validator=between(0.001, 1_000_000),
    )
    capacity_share: float | None = option(
        None,
        help="Mean rate of arrivals, as a share of the engine's capacity. A probe with a closed load measures the "
        "capacity.",
        validator=between(0.01, 1.5),
    )
    burstiness: float = option(
        1.0,
        help="Shape of the gamma distribution of the gaps: 1 is Poisson, less makes bursts, more is regular.",
        validator=at_least(0.01),
    )
    seed: int = option(0, help="Seed of the schedules. Every configuration gets the same schedules.")
    probe_concurrency: int = option(256, help="Clients of the capacity probe.", validator=at_least(1))
    probe_seconds: float = option(
        20.0,
        help="Length of the capacity probe, from when every client has received a token.",
        unit="s",
        validator=between(0.1, DAY_S),
    )

    def __attrs_post_init__(self) -> None:
        if (self.request_rate is None) == (self.capacity_share is None):
            both = "both" if self.request_rate is not None else "neither"
            raise ValueError(f"give exactly one of request_rate and capacity_share, not {both}")
        fields = attrs.fields(OpenLoad)
        probe = (fields.probe_concurrency, fields.probe_seconds)
        if self.request_rate is not None and any(getattr(self, one.name) != one.default for one in probe):
            raise ValueError("probe_concurrency and probe_seconds belong to capacity_share; no probe is needed here")


@attrs.frozen(kw_only=True)
class ReplayLoad:
    """Requests sent at the times that the workload has for them, whether or not earlier ones have ended."""

    kind: Literal["replay"] = option("replay", help="How requests arrive.")
    speed: float = option(1.0, help="Speed relative to the trace: 2 halves every gap.", validator=between(0.001, 1000))
