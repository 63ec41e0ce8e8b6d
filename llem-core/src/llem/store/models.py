"""The stored classes. Raw trials are the truth; llem computes a Result from them, and can compute it again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import attrs

from llem.devices.load import HostLoad
from llem.devices.pulse import Beats, Gap
from llem.display import Displayed
from llem.findings import Finding
from llem.foreign.values import a_time
from llem.meters.base import EnergyReading, ErrorBudget
from llem.store.client import ClientFacts
from llem.store.part import Part, after_t0
from llem.store.quantity import Metrics, Quantity

__all__ = [
    "SCHEMA_VERSION",
    "BaselineReading",
    "Beats",
    "ClientFacts",
    "DomainMetrics",
    "EnergyReading",
    "ErrorBudget",
    "Gap",
    "HostLoad",
    "Part",
    "Quantity",
    "RequestRow",
    "Result",
    "ServingFacts",
    "Trial",
]

SCHEMA_VERSION = 6

#: What a line on a Result tells: the first of these that it has.
HEADLINES = ("energy_per_output_token_j", "output_tokens_per_s")


@attrs.frozen
class BaselineReading:
    """Idle measurement of one engine process, before or after the trials.

    Attributes:
        process: number of the engine process.
        phase: "before" or "after" the trials.
        t0_ns, t1_ns: beginning and end on the monotonic clock, in nanoseconds, without the discarded beginning.
        readings: energies from t0 to t1; power is energy over `duration_s`.
    """

    process: int
    phase: Literal["before", "after"]
    t0_ns: int
    t1_ns: int = attrs.field(validator=after_t0)
    readings: tuple[EnergyReading, ...]
    schema_version: int = SCHEMA_VERSION

    @property
    def duration_s(self) -> float:
        return (self.t1_ns - self.t0_ns) / 1e9


@attrs.frozen
class RequestRow:
    """One measured request. Times are nanoseconds of the monotonic clock.

    Attributes:
        index, batch: position in the workload's sequence; number of the batch of an offline load, 0 for a serving load.
        input_tokens: of the prompt. None: it went out as text, and the engine did not tell its count.
        output_tokens: tokens that had arrived when the request ended, as the engine counts them.
        start_ns: when the engine got the request; of a serving load, when llem sent the request.
        end_ns: when the last token came, or when the request failed or was aborted.
        token_times_ns: arrival of each token, or of each chunk if `chunk_tokens` is not None. None: not recorded.
        scheduled_ns: open load or replay: when the request was due. Latencies count from this time.
        chunk_tokens: tokens of each chunk in `token_times_ns`; None means one each.
        finish_reason: as the engine states it ("length", "stop", …); "error" for a failed request; "unfinished" for a
            request that llem aborted because it had not ended in time. None: not stated.
        engine_metrics: what the engine itself reports about the request.
    """

    index: int
    batch: int
    input_tokens: int | None
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
        concurrency: number of clients of a closed load; None for other loads.
        request_rate: mean rate of scheduled arrivals, per second; of a replay, in this trial's part of the trace. None
            for a closed load.
        seed: seed of this trial's schedule; 0 if no schedule is drawn.
        sent: requests sent within the window.
        completed: requests whose last token arrived within the window.
        failed: requests that failed within the window.
        unfinished: requests that touch the window and that llem aborted, then or later: they had not ended in time.
        lag_p50_s, lag_p99_s, lag_max_s: how late requests were sent, over those that ended within the window, whose
            latencies count; None for a closed load.
        in_flight_mean, in_flight_start, in_flight_end: requests sent and not ended: mean over the window's time, and at
            its two edges. If an open load is more than the engine can serve, the number rises. Every request has one
            outcome: in_flight_start + sent = completed + failed + in_flight_end. One that llem, or the tool that sent
            it, aborted within the window is in flight at its end.
        completed_output_tokens: tokens of the completed requests, also those that arrived outside the window.
        completed_expected_tokens: tokens that the workload asked for in the completed requests.
        failed_output_tokens: tokens within the window of requests that failed, in it or after it. None: stored by an
            older llem, which did not count them; the rows tell.
        lead_s: how long the load had run when the window opened; None where llem did not send it.
        client: how the load generator fared; None where llem did not send the load.
        server: what a server told right before and right after the window, if it tells: `requests_running_start`, …; if
            it told both times, counts between them such as `output_tokens`, and `received_tokens`, those of llem.
        sent_so_far: requests that the engine process had sent when the trial was over, from its first one on: warm-up,
            search and what runs beside the windows included. None: an older llem stored it, which did not count them.
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
    failed_output_tokens: int | None = None
    lead_s: float | None = None
    client: ClientFacts | None = None
    server: Mapping[str, float] = attrs.field(factory=dict)
    sent_so_far: int | None = None


@attrs.frozen
class Trial:
    """One repetition, as measured.

    Attributes:
        index: 0, 1, … over all engine processes.
        process: number of the engine process that ran the trial.
        started_at: UTC, the one wall-clock time of a trial.
        t0_ns, t1_ns: the window on the monotonic clock, in nanoseconds.
        batches, requests, input_tokens, output_tokens: work within the window, without padding. Serving loads have no
            batches. Their requests are those that ended within [t0, t1), their input tokens the prompts of those whose
            first chunk arrived in it (None if one is not known), and their output tokens those of all its chunks.
        expected_output_tokens: tokens that the workload asked for. Of a serving load, `output_tokens` again, because
            the window cuts through requests; llem compares `serving.completed_expected_tokens` instead.
        batch_s: duration of each batch, in seconds; empty for serving loads.
        first_index: position of the first request in the workload's sequence.
        energies: by meter and domain.
        peak_memory_bytes, memory_covers, memory_reason: peak within the window, what the peak covers, and why there is
            none.
        output_digest: SHA-256 over the generated token ids, to compare engines. Of a serving load, over the requests
            that ended within the window, in the order of their indices. Empty if the engine gives no ids.
        health: by GPU: temperature, clocks and utilisation during the window. `throttle` maps each reason that was seen
            to the share of the window's `throttle_readings` with this reason, in (0, 1].
        serving: how a serving load went; None for an offline load.
        host: how busy the host was during the window; None for a window below 0.5 s, or if the system does not tell.
        planned_s: how long the window was to be: of an offline load as long as its batches took during the warm-up, of
            a serving load `window_s`. None for a metered command, which ends when it ends.
        beats: how steadily the worker ran, and what the clocks did. None in trials that an earlier llem measured.
        parts: further windows, with the setting `phases`; in the order in which they ran.
    """

    experiment_id: str
    index: int
    process: int
    started_at: str = attrs.field(validator=a_time)
    t0_ns: int
    t1_ns: int = attrs.field(validator=after_t0)
    batches: int
    requests: int
    input_tokens: int | None
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
    host: HostLoad | None = None
    planned_s: float | None = None
    beats: Beats | None = None
    parts: tuple[Part, ...] = ()
    schema_version: int = SCHEMA_VERSION

    @property
    def duration_s(self) -> float:
        return (self.t1_ns - self.t0_ns) / 1e9

    def part(self, name: str) -> Part | None:
        """The window of this name; None where there is none."""
        return next((part for part in self.parts if part.name == name), None)


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


@attrs.frozen(repr=False)
class Result(Displayed):
    """One experiment, computed from its trials. `result[name]` is `result.metrics[name]`.

    Attributes:
        id: the experiment's identity.
        outcome: "done", "oom", "timeout", "crash", "invalid" or "interrupted".
        error: what happened, if the outcome is not "done".
        config, sources: every setting's value; and, by dotted path, where the value came from.
        effective: the configuration that the engine itself reports.
        environment: hash of the stored environment.
        weights: "random", "real" or "unknown".
        trials: number of trials.
        metrics: by name. An energy covers what its `scope` says.
        domains: every energy by domain and meter.
        valid: the outcome is "done", and no finding has the severity "error".
        publishable: valid, without a warning, with at least five trials, and not with the preset `quick`.
    """

    id: str
    outcome: str
    config: Mapping[str, Any]
    sources: Mapping[str, str]
    effective: Mapping[str, Any]
    environment: str
    weights: str
    trials: int
    metrics: Mapping[str, Quantity] = attrs.field(converter=Metrics)
    domains: tuple[DomainMetrics, ...]
    findings: tuple[Finding, ...]
    valid: bool
    publishable: bool
    error: str | None = None
    schema_version: int = SCHEMA_VERSION

    #: Without this, Python would take it for a sequence, because it has `__getitem__`.
    __iter__: ClassVar[None] = None

    def __getitem__(self, metric: str) -> Quantity:
        """A metric by its name. Raises UnknownName, which is a KeyError."""
        return self.metrics[metric]

    def __repr__(self) -> str:
        config = (self.config.get(name) for name in ("backend", "model", "dtype"))
        told = ", ".join(str(one) if str(one).isprintable() else repr(one) for one in config if one)
        state = "valid" if self.valid else "not valid"
        name = next((one for one in HEADLINES if getattr(self.metrics.get(one), "value", None) is not None), None)
        figure = f"; {name} {self.metrics[name]}" if name else ""
        return f"<Result {self.id[:8]}: {self.outcome}, {state}; {told}{figure}>"
