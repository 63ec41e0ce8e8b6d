"""What is stored. Raw trials are the truth; a Result is computed from them and can be computed again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import attrs

from llem.findings import Finding
from llem.meters.base import EnergyReading, ErrorBudget

__all__ = [
    "SCHEMA_VERSION",
    "BaselineReading",
    "DomainMetrics",
    "EnergyReading",
    "ErrorBudget",
    "Quantity",
    "RequestRow",
    "Result",
    "ServingFacts",
    "Trial",
]

SCHEMA_VERSION = 3


def _after_t0(measured: Any, _: Any, t1_ns: int) -> None:
    """Rates divide by a window's length: a stored one of no length, or less, was damaged."""
    if t1_ns <= measured.t0_ns:
        raise ValueError(f"t1_ns {t1_ns} is not after t0_ns {measured.t0_ns}")


@attrs.frozen
class BaselineReading:
    """Idle measurement of one engine process: `<phase>` before or after the trials.

    Attributes:
        process: which engine process.
        phase: "before" or "after".
        t0_ns, t1_ns: monotonic clock, the discarded beginning excluded.
        readings: energies over that time; power is energy over `duration_s`.
    """

    process: int
    phase: Literal["before", "after"]
    t0_ns: int
    t1_ns: int = attrs.field(validator=_after_t0)
    readings: tuple[EnergyReading, ...]
    schema_version: int = SCHEMA_VERSION

    @property
    def duration_s(self) -> float:
        return (self.t1_ns - self.t0_ns) / 1e9


@attrs.frozen
class RequestRow:
    """One measured request. Times are monotonic nanoseconds.

    Attributes:
        index: in the workload's sequence.
        batch: of an offline load; 0 for every request of a serving load.
        output_tokens: as the engine counts them, as many as had arrived when the request ended.
        start_ns: when the engine was given the request (a serving load: when it was sent).
        end_ns: when its last token, its failure or its abortion came.
        token_times_ns: arrival of each token, or of each chunk where `chunk_tokens` is there. None: not asked for.
        scheduled_ns: open load: when it should have been sent; latencies count from here.
        chunk_tokens: tokens of each chunk in `token_times_ns`; None means one each.
        finish_reason: what the engine says ("length", "stop", …), "error" for a failed request, "unfinished" for one
            that was aborted because it had not ended in time. None: not told.
        engine_metrics: what the engine itself says about the request.
    """

    index: int
    batch: int
    input_tokens: int
    output_tokens: int
    start_ns: int
    end_ns: int
    token_times_ns: tuple[int, ...] | None = None
    scheduled_ns: int | None = None
    chunk_tokens: tuple[int, ...] | None = None
    finish_reason: str | None = None
    engine_metrics: Mapping[str, float] | None = None


@attrs.frozen
class ServingFacts:
    """How a serving load went within the window [t0, t1).

    Attributes:
        kind: "closed", "open" or "replay".
        concurrency: number of clients of a closed load; None for others.
        request_rate: arrivals per second that were scheduled on average; of a replay, those of this trial's part of the
            trace; None for a closed load.
        seed: of this trial's schedule; 0 where none is drawn.
        sent: requests sent within the window.
        completed: requests whose last token arrived within it.
        failed: requests that failed within it.
        unfinished: requests of the whole trial that were aborted because they had not ended in time.
        lag_p50_s, lag_p99_s, lag_max_s: how far requests were sent behind their schedule, over those that were
            scheduled within the window; None for a closed load.
        in_flight_mean, in_flight_start, in_flight_end: requests sent and not ended: mean over the window's time, and at
            its two edges. An open load that is more than the engine can bear ends with more than it began with.
        completed_output_tokens: tokens of the completed requests, those outside the window included.
        completed_expected_tokens: what the workload asked for in those requests.
    """

    kind: str
    concurrency: int | None
    request_rate: float | None
    seed: int
    sent: int
    completed: int
    failed: int
    unfinished: int
    lag_p50_s: float | None
    lag_p99_s: float | None
    lag_max_s: float | None
    in_flight_mean: float
    in_flight_start: float
    in_flight_end: float
    completed_output_tokens: int
    completed_expected_tokens: int


@attrs.frozen
class Trial:
    """One repetition, as measured.

    Attributes:
        index: 0, 1, … over all engine processes.
        process: which engine process it ran in.
        started_at: UTC, the one wall-clock anchor.
        t0_ns, t1_ns: the window on the monotonic clock.
        batches, requests, input_tokens, output_tokens: work done within the window; padding is not counted.
            Serving loads: no batches; requests that ended within the window; prompt tokens of those whose first chunk
            arrived in [t0, t1); tokens of the chunks that arrived in [t0, t1), of whatever request.
        expected_output_tokens: what the workload asked for. Serving loads: `output_tokens` again, since the window
            cuts through requests; parity is checked on `serving.completed_expected_tokens`.
        batch_s: duration of each batch; none for serving loads.
        first_index: of the first request in the workload's sequence.
        energies: by meter and domain.
        peak_memory_bytes, memory_covers, memory_reason: peak within the window and what it covers.
        output_digest: SHA-256 over the generated token ids, to compare engines; of a serving load over those of the
            requests that ended within the window, in the order of their indices. Empty where the engine gives no ids.
        health: per GPU: temperature, clocks and utilisation seen during the window; `throttle`, each reason that was
            seen to the share of the window's `throttle_readings` that had it, in (0, 1].
        serving: how a serving load went; None for an offline load.
    """

    experiment_id: str
    index: int
    process: int
    started_at: str
    t0_ns: int
    t1_ns: int = attrs.field(validator=_after_t0)
    batches: int
    requests: int
    input_tokens: int
    output_tokens: int
    expected_output_tokens: int
    batch_s: tuple[float, ...]
    first_index: int
    energies: tuple[EnergyReading, ...]
    peak_memory_bytes: int | None
    memory_covers: str
    memory_reason: str | None
    output_digest: str
    health: Mapping[str, Mapping[str, Any]]
    findings: tuple[Finding, ...] = ()
    serving: ServingFacts | None = None
    schema_version: int = SCHEMA_VERSION

    @property
    def duration_s(self) -> float:
        return (self.t1_ns - self.t0_ns) / 1e9


@attrs.frozen
class Quantity:
    """A number with its unit and how sure we are, or None with the code of the reason.

    Attributes:
        low, high: the interval at `confidence`; None where one trial gives none.
        n: what the interval is computed from.
        method: "student_t" over trials, "bootstrap" over batches, "block_bootstrap" over runs of consecutive requests,
            "instrument" (one window, its error bound), "items" (standard error over a task's items), "single_trial",
            or "exact".
        scope, kind: for energies, what it covers and whether it is measured or modelled.
    """

    value: float | None
    unit: str
    low: float | None = None
    high: float | None = None
    confidence: float | None = None
    n: int = 0
    method: str = ""
    reason: str | None = None
    scope: str | None = None
    kind: str | None = None

    @property
    def lopsided(self) -> bool:
        """One side of the interval is longer than the other by more than a quarter, so that "±" would mislead."""
        if self.value is None or self.low is None or self.high is None:
            return False
        below, above = self.value - self.low, self.high - self.value
        return max(below, above) > 1.25 * min(below, above)

    def __str__(self) -> str:
        if self.value is None:
            return f"none ({self.reason})"
        text = f"{self.value:.4g} {self.unit}".rstrip()
        if self.low is None or self.high is None or self.confidence is None:
            return text
        half = f"{self.low:.4g} to {self.high:.4g}" if self.lopsided else f"± {(self.high - self.low) / 2:.2g}"
        return f"{text} {half} ({self.confidence * 100:g} %, n = {self.n})"


@attrs.frozen
class DomainMetrics:
    """Energies of one domain by one meter: gross, net, power, and the error budget of their mean."""

    meter: str
    domain: str
    scope: str
    kind: str
    instrument: str
    energy_j: Quantity
    energy_net_j: Quantity
    power_w: Quantity
    idle_power_w: Quantity
    budget: ErrorBudget | None
    cross_ratio: Quantity


@attrs.frozen
class Result:
    """One experiment, computed from its trials.

    Attributes:
        id: the experiment's identity.
        outcome: "done", "oom", "timeout", "crash", "invalid" or "interrupted".
        error: what happened, where the outcome is not "done".
        config: resolved values; `sources`: dotted path to where each came from.
        effective: what the engine says it ran.
        environment: hash of the stored environment.
        weights: "random" or "real".
        metrics: name to Quantity; energies are those of `scope`.
        domains: every energy by domain and meter.
        valid: no finding of severity error. publishable: valid, no warning, enough trials, a publishable preset.
    """

    id: str
    outcome: str
    config: Mapping[str, Any]
    sources: Mapping[str, str]
    effective: Mapping[str, Any]
    environment: str
    weights: str
    trials: int
    metrics: Mapping[str, Quantity]
    domains: tuple[DomainMetrics, ...]
    findings: tuple[Finding, ...]
    valid: bool
    publishable: bool
    error: str | None = None
    schema_version: int = SCHEMA_VERSION
