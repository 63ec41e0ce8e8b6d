"""How requests arrive: batches back to back, a fixed number of clients, schedules that do not wait, or a command."""

from __future__ import annotations

import math
from typing import Any, Literal

import attrs

from llem.config.fields import DAY_S, Bounds, at_least, between, option

__all__ = ["GREATEST", "ClosedLoad", "CommandLoad", "OfflineLoad", "OpenLoad", "RateSearch", "ReplayLoad", "search_s"]

#: The `request_rate` that asks for the greatest one under the experiment's `slo`.
GREATEST = "max"
#: Requests that a window of a search has at least on average: fewer say next to nothing of a share.
FEWEST = 10


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
    ramp_s: float | None = option(
        None,
        help="The clients start one by one, spread evenly over this time. Null: the usual time of a request, as the "
        "warm-up saw it, so that clients do not ask in step. 0: all at once.",
        unit="s",
        validator=between(0, DAY_S),
    )


@attrs.frozen(kw_only=True)
class RateSearch:
    """How the greatest rate is looked for: by doubling until a window breaks the SLO, and then by bisection."""

    min_rate: float = option(
        1.0,
        help="The first rate; each next one is twice as high.",
        unit="requests/s",
        validator=between(0.001, 1_000_000),
    )
    max_rate: float = option(
        1000.0,
        help="The highest rate that is tried. If it keeps the SLO, the trials have this rate, and the greatest one is "
        "above it.",
        unit="requests/s",
        validator=between(0.001, 1_000_000),
    )
    tolerance: float = option(
        0.05,
        help="Stop when the least rate that breaks the SLO is at most this share above the greatest that keeps it.",
        validator=between(0.001, 1),
    )
    window_s: float = option(
        30.0,
        help="Length of the window at each rate. At the greatest rate it should have a few hundred requests.",
        unit="s",
        validator=between(0.1, DAY_S),
    )

    def __attrs_post_init__(self) -> None:
        if self.max_rate < self.min_rate:
            raise ValueError(f"max_rate ({self.max_rate:g}) is below min_rate ({self.min_rate:g})")
        if (requests := self.min_rate * self.window_s) < FEWEST:
            raise ValueError(
                f"a window of {self.window_s:g} s has {requests:g} requests at min_rate ({self.min_rate:g}), and "
                f"{FEWEST} are needed: raise window_s or min_rate"
            )

    @property
    def windows(self) -> tuple[int, int]:
        """How many windows the search has, at least and at most.

        At least: the second rate breaks the SLO, or the highest is reached before. At most: every rate of the doubling
        is tried twice, and the highest alone breaks the SLO.
        """
        doubling = 1 + math.ceil(math.log2(self.max_rate / self.min_rate))
        bisection = math.ceil(max(math.log2(math.log(2) / math.log1p(self.tolerance)), 0))
        return min(2 + bisection, doubling), 2 * doubling + bisection


@attrs.frozen
class _RateOrGreatest(Bounds):
    """Validator: a rate within bounds, or the word for the greatest one; None passes."""

    def __call__(self, _: Any, attribute: Any, value: Any) -> None:
        """Raise ValueError for a rate that is outside."""
        if value != GREATEST:
            super().__call__(_, attribute, value)


@attrs.frozen(kw_only=True)
class OpenLoad:
    """Requests sent at scheduled times, whether or not earlier ones have ended."""

    kind: Literal["open"] = option("open", help="How requests arrive.")
    request_rate: float | Literal["max"] | None = option(
        None,
        help="Mean rate of arrivals. `max` is the greatest rate at which the experiment's `slo` is kept: llem looks "
        "for it before the trials. Give this or `capacity_share`.",
        unit="requests/s",
        validator=_RateOrGreatest(0.001, 1_000_000),
    )
    search: RateSearch | None = option(
        None, help="How the greatest rate is looked for. Only with `request_rate: max`; null takes the defaults."
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
        help="Length of the capacity probe, from when all its clients have started and as many answers have begun.",
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
        if self.request_rate == GREATEST and self.search is None:
            object.__setattr__(self, "search", RateSearch())  # what is done stands in the configuration, and in the id
        if self.request_rate != GREATEST and self.search is not None:
            raise ValueError("search belongs to `request_rate: max`; nothing is looked for here")


@attrs.frozen(kw_only=True)
class ReplayLoad:
    """Requests sent at the times that the workload has for them, whether or not earlier ones have ended."""

    kind: Literal["replay"] = option("replay", help="How requests arrive.")
    speed: float = option(1.0, help="Speed relative to the trace: 2 halves every gap.", validator=between(0.001, 1000))


def _words(_: Any, attribute: Any, value: tuple[str, ...]) -> None:
    if not value or not value[0]:
        raise ValueError("must name a program, and then its arguments")


@attrs.frozen(kw_only=True)
class CommandLoad:
    """Whatever a command does, from its start to its exit. llem sends no request. `llem meter` measures this load."""

    kind: Literal["command"] = option("command", help="How requests arrive.")
    name: str = option("", help="Name of the experiment in tables. Part of its identity, like the command itself.")
    argv: tuple[str, ...] = option(
        help="The program and its arguments. No shell reads them. `llem meter` stores `***` for keys and tokens.",
        validator=_words,
    )
    requests: str | None = option(
        None,
        help="A file that the command writes: requests of `vllm bench serve --save-result --save-detailed` (JSON), "
        "AIPerf (`profile_export.jsonl`) or GuideLLM (`benchmarks.json`).",
    )
    server_pids: tuple[int, ...] = option(
        (), help="Processes that were running before and are measured too, such as a server; with their children."
    )


def search_s(load: Any) -> tuple[float, float]:
    """Seconds of the windows in which a load's greatest rate is looked for, at least and at most; 0 for other loads."""
    if not isinstance(load, OpenLoad) or load.search is None:
        return 0.0, 0.0
    least, most = load.search.windows
    return least * load.search.window_s, most * load.search.window_s
