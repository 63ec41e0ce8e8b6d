"""What is stored. Raw trials are the truth; a Result is computed from them and can be computed again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import attrs

from llem.findings import Finding
from llem.meters.readings import EnergyReading, ErrorBudget

__all__ = [
    "SCHEMA_VERSION",
    "BaselineReading",
    "DomainMetrics",
    "EnergyReading",
    "ErrorBudget",
    "Quantity",
    "RequestRow",
    "Result",
    "Trial",
]

SCHEMA_VERSION = 1


@attrs.frozen
class BaselineReading:
    """Idle measurement of one engine process: `<phase>` before or after the trials.

    Attributes:
        restart: which engine process.
        phase: "before" or "after".
        t0_ns, t1_ns: monotonic clock, the discarded beginning excluded.
        readings: energies over that time; power is energy over `duration_s`.
    """

    restart: int
    phase: Literal["before", "after"]
    t0_ns: int
    t1_ns: int
    readings: tuple[EnergyReading, ...]
    schema_version: int = SCHEMA_VERSION

    @property
    def duration_s(self) -> float:
        return (self.t1_ns - self.t0_ns) / 1e9


@attrs.frozen
class RequestRow:
    """One measured request. Times are monotonic nanoseconds; token times only where they were asked for."""

    index: int
    batch: int
    input_tokens: int
    output_tokens: int
    start_ns: int
    end_ns: int
    token_times_ns: tuple[int, ...] | None = None


@attrs.frozen
class Trial:
    """One repetition, as measured.

    Attributes:
        index: 0, 1, … over all engine processes.
        restart: which engine process it ran in.
        started_at: UTC, the one wall-clock anchor.
        t0_ns, t1_ns: the window on the monotonic clock.
        batches, requests, input_tokens, output_tokens: work done within the window; padding is not counted.
        expected_output_tokens: what the workload asked for.
        batch_s: duration of each batch.
        first_index: of the first request in the workload's sequence.
        energies: by meter and domain.
        peak_memory_bytes, memory_covers, memory_reason: peak within the window and what it covers.
        output_digest: SHA-256 over the generated token ids, to compare engines.
        health: per GPU: temperature, clocks, throttle reasons and utilisation seen during the window.
    """

    experiment_id: str
    index: int
    restart: int
    started_at: str
    t0_ns: int
    t1_ns: int
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
        method: "student_t" over trials, "bootstrap" over requests, "instrument" (one window, its error bound),
            "single_trial", or "exact".
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

    def __str__(self) -> str:
        if self.value is None:
            return f"none ({self.reason})"
        text = f"{self.value:.4g} {self.unit}".rstrip()
        if self.low is None or self.high is None or self.confidence is None:
            return text
        half = (self.high - self.low) / 2
        return f"{text} ± {half:.2g} ({self.confidence * 100:g} %, n = {self.n})"


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
