"""Findings that follow from the stored numbers. Pure; what only the worker can see, it put into the trials itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llem.findings import Finding, finding
from llem.meters.trace import TraceRow
from llem.results.drift import steady_state
from llem.results.energies import domain_metrics, headline, idle_power, output_energy
from llem.results.models import BaselineReading, Quantity, Trial
from llem.results.setup import Setup
from llem.results.statistics import relative_half_width
from llem.results.work import WindowWork

__all__ = ["check_all", "merge"]

DISAGREE, SUSPECT = 0.02, 0.05
IDLE_DRIFT = 0.03
SHORT_WINDOW_S = 5.0
BUSY_PERCENT = 90.0
STEP_RATIO, POWER_SHARE = 3.0, 0.6
#: Calibration of single boards is off by up to 5 %, so a reading may exceed the limit by that much and still be right.
LIMIT_MARGIN = 1.05


def check_all(
    setup: Setup,
    trials: Sequence[Trial],
    baselines: Sequence[BaselineReading],
    works: Sequence[WindowWork | None],
    metrics: Mapping[str, Quantity],
    traces: Mapping[int, Sequence[TraceRow]] | None,
) -> list[Finding]:
    """Every check in turn. `works` are per trial, in the order of `trials`; `traces` by trial index."""
    found: list[Finding] = []
    found += _design(setup, trials)
    found += _meters(trials, baselines)
    found += steady_state(trials, traces)
    found += _idle(trials, baselines)
    found += _host(setup, trials, works)
    found += _tokens(setup, trials)
    found += _bounds(setup, trials, metrics)
    return found


def _design(setup: Setup, trials: Sequence[Trial]) -> Iterable[Finding]:
    if setup.preset == "quick":
        yield finding("not_publishable_preset", "measured with the preset `quick`")
    if setup.token_times:
        yield finding("token_times_on", "the time of every token was recorded, which slows the engine")
    if len(trials) == 1:
        yield finding("single_trial", "one trial, so the interval is the instrument's error bound where there is one")
    short = [trial for trial in trials if trial.duration_s < SHORT_WINDOW_S]
    if short:
        least = min(trial.duration_s for trial in short)
        message = f"the shortest window is {least:.2f} s{_in(short)}; {SHORT_WINDOW_S:g} s or more are advised"
        yield finding("short_window", message, least_s=least, trials=_indices(short))
    values = output_energy(trials)
    name = "energy per output token" if values else "output tokens per second"
    width = relative_half_width(values or [trial.output_tokens / trial.duration_s for trial in trials])
    if width is not None and width > setup.target_half_width:
        message = (
            f"after {len(trials)} trials the 95 % interval of {name} is ± {width:.2%}, "
            f"wider than the target of ± {setup.target_half_width:.2%}"
        )
        yield finding("interval_wide", message, relative_half_width=width, target=setup.target_half_width)


def _meters(trials: Sequence[Trial], baselines: Sequence[BaselineReading]) -> Iterable[Finding]:
    gappy = [trial for trial in trials if any(one.budget and one.budget.gap_j > 0 for one in trial.energies)]
    if gappy:
        worst = max(one.budget.gap_j for trial in gappy for one in trial.energies if one.budget)
        message = f"updates of a meter did not come{_in(gappy)}, which may hide up to {worst:.3g} J"
        yield finding("sample_gap", message, gap_j=worst, trials=_indices(gappy))
    for domain in domain_metrics(trials, baselines):
        ratio = domain.cross_ratio.value
        if ratio is None or abs(ratio - 1) <= DISAGREE:
            continue
        code = "energy_suspect" if abs(ratio - 1) > SUSPECT else "meters_disagree"
        message = f"{domain.domain}: {domain.instrument} over integrated power is {ratio:.4f}"
        yield finding(code, message, meter=domain.meter, domain=domain.domain, ratio=ratio)


def _idle(trials: Sequence[Trial], baselines: Sequence[BaselineReading]) -> Iterable[Finding]:
    chosen = headline(trials)
    after = [baseline for baseline in baselines if baseline.phase == "after"]
    for baseline in after if chosen else ():
        for reading in baseline.readings:
            key = (reading.meter, reading.domain)
            before = idle_power(baselines, baseline.restart, key).value
            if chosen is None or key not in chosen.keys or not before or reading.energy_j is None:
                continue
            watts = reading.energy_j / baseline.duration_s
            if abs(watts / before - 1) > IDLE_DRIFT:
                message = f"{reading.domain}: idle power was {before:.1f} W before the trials and {watts:.1f} W after"
                where = {"domain": reading.domain, "restart": baseline.restart}
                yield finding("idle_drift", message, **where, before_w=before, after_w=watts)


def _host(setup: Setup, trials: Sequence[Trial], works: Sequence[WindowWork | None]) -> Iterable[Finding]:
    """The GPU waits for the host: by its utilisation, or by slow steps at low power."""
    if setup.device != "cuda":
        return
    evidence: dict[str, Any] = {}
    busy = [
        gpu["utilisation_percent"]["mean"]
        for trial in trials
        for gpu in trial.health.values()
        if gpu.get("utilisation_percent")
    ]
    if busy:
        evidence["utilisation_percent"] = sum(busy) / len(busy)
    ceiling = setup.ceiling
    steps = [(trial, work) for trial, work in zip(trials, works, strict=True) if work is not None and work.steps]
    if steps and ceiling is not None:
        evidence["step_s"] = sum(trial.duration_s / work.steps for trial, work in steps) / len(steps)
        evidence["roofline_step_s"] = sum(work.least_s(ceiling) / work.steps for _, work in steps) / len(steps)
        evidence["step_ratio"] = evidence["step_s"] / evidence["roofline_step_s"]
    shares = [share for trial in trials for share in _power_shares(setup, trial)]
    if shares:
        evidence["power_share"] = sum(shares) / len(shares)
    idle = evidence.get("utilisation_percent", 100.0) < BUSY_PERCENT
    slow = evidence.get("step_ratio", 0.0) > STEP_RATIO and evidence.get("power_share", 1.0) < POWER_SHARE
    if idle or slow:
        yield finding("host_bound", _host_message(evidence), **evidence)


def _host_message(evidence: Mapping[str, Any]) -> str:
    parts = []
    if "utilisation_percent" in evidence:
        parts.append(f"the GPU was busy {evidence['utilisation_percent']:.0f} % of the time")
    if "step_ratio" in evidence:
        parts.append(
            f"a step took {evidence['step_s'] * 1e3:.3g} ms where the hardware needs "
            f"{evidence['roofline_step_s'] * 1e3:.3g} ms (ratio {evidence['step_ratio']:.1f})"
        )
    if "power_share" in evidence:
        parts.append(f"at {evidence['power_share']:.0%} of the power limit")
    return ", ".join(parts)


def _limit(setup: Setup, trial: Trial, domain: str) -> float | None:
    """The power limit of a domain: as seen during the window, else as the meter stated it."""
    seen = trial.health.get(domain, {}).get("power_limit_w")
    return seen or setup.power_limits.get(domain)


def _power_shares(setup: Setup, trial: Trial) -> Iterable[float]:
    for reading in trial.energies:
        limit = _limit(setup, trial, reading.domain)
        if reading.scope == "gpu" and reading.kind == "measured" and reading.energy_j is not None and limit:
            yield reading.energy_j / trial.duration_s / limit


def _tokens(setup: Setup, trials: Sequence[Trial]) -> Iterable[Finding]:
    wrong = [trial for trial in trials if trial.output_tokens != trial.expected_output_tokens]
    if setup.exact_output and wrong:
        first = wrong[0]
        message = f"{first.output_tokens} output tokens where {first.expected_output_tokens} were asked for{_in(wrong)}"
        yield finding(
            "token_count_mismatch",
            message,
            output_tokens=first.output_tokens,
            expected=first.expected_output_tokens,
            trials=_indices(wrong),
        )


def _bounds(setup: Setup, trials: Sequence[Trial], metrics: Mapping[str, Quantity]) -> Iterable[Finding]:
    """What physics forbids: more power than the limit, or work faster than the peak."""
    for trial in trials:
        for reading in trial.energies:
            limit = _limit(setup, trial, reading.domain)
            if reading.energy_j is None or not limit:
                continue
            watts = reading.energy_j / trial.duration_s
            if watts > limit * LIMIT_MARGIN:
                message = f"{reading.domain}: {watts:.0f} W on average, above its limit of {limit:.0f} W{_in([trial])}"
                evidence = {"power_w": watts, "power_limit_w": limit, "trials": [trial.index]}
                yield finding("energy_suspect", message, domain=reading.domain, **evidence)
    for name in ("mfu", "mbu"):
        share = metrics[name].value
        if share is not None and share > 1:
            yield finding("energy_suspect", f"{name} is {share:.2f}: more than the hardware can do", **{name: share})


def _indices(trials: Sequence[Trial]) -> list[int]:
    return [trial.index for trial in trials]


def _in(trials: Sequence[Trial]) -> str:
    return _named(_indices(trials))


def _named(indices: Sequence[int]) -> str:
    return f" (trial{'s' if len(indices) > 1 else ''} {', '.join(map(str, indices))})" if indices else ""


def merge(trials: Sequence[Trial], others: Iterable[Finding]) -> tuple[Finding, ...]:
    """The workers' findings, each told once with the trials it was seen in, and then `others` without repetition."""
    seen: dict[tuple[Any, ...], tuple[Finding, list[int]]] = {}
    for trial in trials:
        for found in trial.findings:
            subject = tuple(str(found.evidence.get(name)) for name in ("meter", "domain", "gpu"))
            seen.setdefault((found.code, subject), (found, []))[1].append(trial.index)
    result = [
        Finding(found.code, found.severity, found.message + _named(where), {**found.evidence, "trials": where})
        for found, where in seen.values()
    ]
    told = {(found.code, found.message) for found in result}
    for found in others:
        if (found.code, found.message) not in told:
            told.add((found.code, found.message))
            result.append(found)
    return tuple(result)
