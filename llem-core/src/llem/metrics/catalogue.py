"""Every named metric of an experiment, from its trials. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from llem.metrics.aggregate import Value, absent, exact, quantity
from llem.metrics.energies import gross, headline, net
from llem.metrics.flow import Flow
from llem.metrics.latency import latency_metrics
from llem.metrics.requests import requests_within
from llem.metrics.serving_latency import serving_latency_metrics
from llem.metrics.serving_metrics import absent_serving_metrics, serving_metrics
from llem.metrics.serving_work import ServingWork
from llem.metrics.setup import Setup
from llem.metrics.work import Ceiling, WindowWork
from llem.store.models import BaselineReading, Quantity, RequestRow, Trial

__all__ = ["ENERGY_PER", "compute_metrics"]

#: What a window's energy is divided by in each metric; power is energy over seconds.
ENERGY_PER: Mapping[str, Callable[[Trial], float]] = {
    "energy_per_output_token_j": lambda trial: trial.output_tokens,
    "energy_per_token_j": lambda trial: trial.input_tokens + trial.output_tokens,
    "energy_per_request_j": requests_within,
    "power_w": lambda trial: trial.duration_s,
}


def compute_metrics(
    setup: Setup,
    trials: Sequence[Trial],
    baselines: Sequence[BaselineReading],
    rows: Sequence[Sequence[RequestRow]],
    works: Sequence[WindowWork | ServingWork | None],
    flows: Sequence[Flow | None],
) -> dict[str, Quantity]:
    """All metrics by name. `rows`, `works` and `flows` are per trial, in the order of `trials`."""
    found = _energy_metrics(trials, baselines)
    found |= _speed_metrics(trials)
    served = [flow for flow in flows if flow is not None]
    if served:
        found |= serving_metrics(setup, trials, served) | serving_latency_metrics(served)
    else:
        found |= absent_serving_metrics("no_trials" if setup.serving else "offline_load")
        found |= latency_metrics(rows, asked=setup.token_times or setup.serving)
    found["prefill_energy_j"] = absent("J", "not_requested")
    found["decode_energy_j"] = absent("J", "not_requested")
    found |= _utilisation_metrics(setup, trials, works)
    found["peak_memory_bytes"] = _peak_memory(trials)
    return found


def _per(value: Value, count: float) -> Value:
    """`value` divided by a count; None where there was nothing to divide by."""
    if count == 0:
        return Value(None, reason=value.reason or "no_completions")
    return value.scaled(1 / count)


def _energy_metrics(trials: Sequence[Trial], baselines: Sequence[BaselineReading]) -> dict[str, Quantity]:
    chosen = headline(trials)
    if chosen is None:
        reason = "no_meter" if trials else "no_trials"
        return {name: absent(_unit(name), reason) for name in ("energy_j", "energy_net_j", *ENERGY_PER)}
    energies = [gross(trial, chosen.of(trial)) for trial in trials]
    values = {
        "energy_j": energies,
        "energy_net_j": [net(trial, baselines, chosen.of(trial)) for trial in trials],
        **{
            name: [_per(energy, count(trial)) for energy, trial in zip(energies, trials, strict=True)]
            for name, count in ENERGY_PER.items()
        },
    }
    return {name: quantity(found, _unit(name), scope=chosen.scope, kind=chosen.kind) for name, found in values.items()}


def _unit(name: str) -> str:
    return "W" if name == "power_w" else "J"


def _speed_metrics(trials: Sequence[Trial]) -> dict[str, Quantity]:
    return {
        "output_tokens_per_s": quantity([Value(t.output_tokens / t.duration_s) for t in trials], "token/s"),
        "requests_per_s": quantity([_request_rate(trial) for trial in trials], "request/s"),
        "duration_s": quantity([Value(t.duration_s) for t in trials], "s"),
    }


def _request_rate(trial: Trial) -> Value:
    count = requests_within(trial)
    return Value(count / trial.duration_s if count else None, reason="no_completions")


def _utilisation_metrics(
    setup: Setup, trials: Sequence[Trial], works: Sequence[WindowWork | ServingWork | None]
) -> dict[str, Quantity]:
    """Operations per token, and the shares of the peak rates reached over the window, prefill and decode together."""
    known = [work for work in works if work is not None]
    if not trials or len(known) < len(trials):
        known_model = setup.architecture is not None
        reason = "no_trials" if not trials else "no_completions" if known_model else "architecture_unknown"
        return {"flops_per_token": absent("FLOP", reason), "mfu": absent("", reason), "mbu": absent("", reason)}
    rates = [work.flops_per_token for work in known]
    if len(set(rates)) == 1:
        found = {"flops_per_token": exact(rates[0], "FLOP", len(rates))}
    else:
        found = {"flops_per_token": quantity([Value(rate) for rate in rates], "FLOP")}
    ceiling = setup.ceiling
    if ceiling is None:
        reason = setup.ceiling_reason or "peak_unknown"
        return {**found, "mfu": absent("", reason), "mbu": absent("", reason)}
    pairs = list(zip(known, trials, strict=True))
    return {
        **found,
        "mfu": quantity([Value(_mfu(work, trial, ceiling)) for work, trial in pairs], ""),
        "mbu": quantity([Value(_mbu(work, trial, ceiling)) for work, trial in pairs], ""),
    }


def _mfu(work: WindowWork | ServingWork, trial: Trial, ceiling: Ceiling) -> float:
    return work.flops / trial.duration_s / ceiling.flops


def _mbu(work: WindowWork | ServingWork, trial: Trial, ceiling: Ceiling) -> float:
    return work.least_bytes / trial.duration_s / ceiling.bytes_per_s


def _peak_memory(trials: Sequence[Trial]) -> Quantity:
    """The greatest peak of all trials: what must fit."""
    if not trials:
        return absent("B", "no_trials")
    peaks = [trial.peak_memory_bytes for trial in trials if trial.peak_memory_bytes is not None]
    if len(peaks) < len(trials):
        missing = next(trial for trial in trials if trial.peak_memory_bytes is None)
        return absent("B", missing.memory_reason or "not_supported")
    return exact(float(max(peaks)), "B", len(peaks))
