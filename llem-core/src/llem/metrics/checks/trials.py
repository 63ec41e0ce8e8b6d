"""Findings that follow from the stored numbers. Pure; what only the worker can see, it put into the trials itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llem.config.load import ECHO
from llem.findings import Finding, finding
from llem.meters.trace import TraceRow
from llem.metrics.checks.between import drift_between
from llem.metrics.checks.drift import steady_state
from llem.metrics.checks.host import host_busy
from llem.metrics.checks.host_bound import host_bound, power_limit
from llem.metrics.checks.meters import meters
from llem.metrics.checks.pauses import disturbed
from llem.metrics.checks.servers import server_checks
from llem.metrics.checks.serving import serving_checks
from llem.metrics.checks.stalls import alike, stalls
from llem.metrics.checks.words import in_trials
from llem.metrics.energies import Key, headline, key_of
from llem.metrics.idle import powers
from llem.metrics.metric import Measured
from llem.metrics.setup import Setup
from llem.store.models import BaselineReading, Quantity, Trial

__all__ = ["check_all", "merge"]

IDLE_DRIFT = 0.03
SHORT_WINDOW_S = 5.0
#: Why a reading has no energy, by its code.
ABSENT = {
    "counter_stuck": "the energy counter stood still",
    "counter_reset": "the energy counter went backwards",
    "meter_failed": "the meter gave no reading",
}
#: Calibration of single boards is off by up to 5 %, so a reading may exceed the limit by that much and still be right.
LIMIT_MARGIN = 1.05
#: No part of any machine takes more watts; for domains whose limit nobody tells. Above it is a wrong unit.
MOST_W: Mapping[str, float] = {"gpu": 5_000, "cpu": 5_000, "dram": 5_000, "node": 50_000}


def check_all(
    measured: Measured, metrics: Mapping[str, Quantity], traces: Mapping[int, Sequence[TraceRow]]
) -> list[Finding]:
    """Every check in turn. `traces` by trial index."""
    setup, trials, baselines = measured.setup, measured.trials, measured.baselines
    flows = measured.flows
    found: list[Finding] = []
    found += _design(setup, trials, metrics)
    found += _absent_energy(trials)
    found += meters(trials, baselines, traces)
    if not setup.metered:  # a command runs from its start to its exit, and is in no steady state
        found += steady_state(measured, traces)
    found += drift_between(measured)
    found += _idle(trials, baselines)
    found += host_busy(setup, trials)
    found += disturbed(setup, trials, alike(measured))
    if not setup.metered:  # what a command does between its requests is its own affair
        found += stalls(measured)
    if setup.device == "cuda" and not setup.metered:  # a command may leave the GPU idle as it likes
        found += host_bound(setup, trials, measured.works, flows)
    found += _tokens(setup, trials)
    if measured.served:
        found += serving_checks(setup, trials, flows, metrics)
    found += server_checks(measured, metrics)
    found += _bounds(setup, trials, metrics)
    return found


def _design(setup: Setup, trials: Sequence[Trial], metrics: Mapping[str, Quantity]) -> Iterable[Finding]:
    if setup.config.get("backend") == ECHO:
        yield finding("fake_backend", "measured on echo, which only plays at inference: the figures mean nothing")
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
    yield from _wide(setup, metrics)


def _wide(setup: Setup, metrics: Mapping[str, Quantity]) -> Iterable[Finding]:
    """That the interval of the headline, or of the speed where no energy is read, is wider than the target.

    It is a remark: an interval is honest whatever its width, and results chosen for narrow ones would be lucky ones.
    """
    energy, speed = metrics["energy_per_output_token_j"], metrics["output_tokens_per_s"]
    name, found = ("energy per output token", energy) if energy.value else ("output tokens per second", speed)
    if not found.value or found.half_width is None or found.method != "student_t":
        return
    width = found.half_width / abs(found.value)
    if width > setup.target_half_width:
        message = (
            f"after {found.n} trials the 95 % interval of {name} is ± {width:.2%}, "
            f"wider than the target of ± {setup.target_half_width:.2%}"
        )
        if found.processes > 1:
            message += f"; it is over {found.processes} processes, and more of them would narrow it the most"
        yield finding("interval_wide", message, relative_half_width=width, target=setup.target_half_width)


def _absent_energy(trials: Sequence[Trial]) -> Iterable[Finding]:
    """What the headline lacks. Where a meter raised an error, the worker has told it already."""
    chosen = headline(trials)
    if chosen is None:
        return
    where: dict[tuple[str, Key], list[Trial]] = {}
    for trial in trials:
        told = {(one.evidence["meter"], one.evidence["domain"]) for one in trial.findings if one.code == "meter_failed"}
        for reading in trial.energies:
            key = key_of(reading)
            if key in chosen.of(trial) and key not in told and reading.reason in ABSENT:
                where.setdefault((reading.reason, key), []).append(trial)
    for (code, (meter, domain)), lacking in where.items():
        message = f"{domain}: {ABSENT[code]}{_in(lacking)}"
        yield finding(code, message, meter=meter, domain=domain, trials=_indices(lacking))


def _idle(trials: Sequence[Trial], baselines: Sequence[BaselineReading]) -> Iterable[Finding]:
    chosen = headline(trials)
    if chosen is None:
        return
    for process, keys in chosen.keys.items():
        for key in keys:
            watts = [one.value for one in powers(baselines, process, (key,)).values()]
            before, after = watts if len(watts) == 2 else (None, None)
            if not before or after is None or abs(after / before - 1) <= IDLE_DRIFT:
                continue
            _, domain = key
            message = f"{domain}: idle power was {before:.1f} W before the trials and {after:.1f} W after"
            yield finding("idle_drift", message, domain=domain, process=process, before_w=before, after_w=after)


def _tokens(setup: Setup, trials: Sequence[Trial]) -> Iterable[Finding]:
    counts = [(trial, *_parity(trial)) for trial in trials]
    wrong = [(trial, output, expected) for trial, output, expected in counts if output != expected]
    if setup.exact_output and wrong:
        _, output, expected = wrong[0]
        where = [trial for trial, *_ in wrong]
        message = f"{output} output tokens where {expected} were asked for{_in(where)}"
        evidence = {"output_tokens": output, "expected": expected}
        yield finding("token_count_mismatch", message, **evidence, trials=_indices(where))


def _parity(trial: Trial) -> tuple[int, int]:
    """Output tokens, and those asked for: of the completed requests where the window cuts through others."""
    if trial.serving is not None:
        return trial.serving.completed_output_tokens, trial.serving.completed_expected_tokens
    return trial.output_tokens, trial.expected_output_tokens


def _bounds(setup: Setup, trials: Sequence[Trial], metrics: Mapping[str, Quantity]) -> Iterable[Finding]:
    """More power than the limit, which no energy survives; more work than the peak, which is the count's own fault."""
    for trial in trials:
        for reading in trial.energies:
            limit = power_limit(setup, trial, reading.domain) or MOST_W[reading.scope]
            if reading.energy_j is None:
                continue
            watts = reading.energy_j / trial.duration_s
            if watts > limit * LIMIT_MARGIN:
                message = f"{reading.domain}: {watts:.0f} W on average, above its limit of {limit:.0f} W{_in([trial])}"
                evidence = {"power_w": watts, "power_limit_w": limit, "trials": [trial.index]}
                yield finding("energy_suspect", message, domain=reading.domain, **evidence)
    for name in ("mfu", "mbu"):
        if metrics[name].reason == "model_does_not_fit":
            message = f"{name} would be above 1: the count of the work does not fit this engine; energy is not affected"
            yield finding("utilisation_model", message, metric=name)


def _indices(trials: Sequence[Trial]) -> list[int]:
    return [trial.index for trial in trials]


def _in(trials: Sequence[Trial]) -> str:
    return in_trials(_indices(trials))


def merge(trials: Sequence[Trial], others: Iterable[Finding]) -> tuple[Finding, ...]:
    """The workers' findings, each told once with the trials it was seen in, and then `others` without repetition."""
    seen: dict[tuple[Any, ...], list[tuple[Finding, int]]] = {}
    for trial in trials:
        for found in trial.findings:
            subject = tuple(str(found.evidence.get(name)) for name in ("meter", "domain", "gpu"))
            seen.setdefault((found.code, subject), []).append((found, trial.index))
    result = [_once(cases) for cases in seen.values()]
    told = {(found.code, found.message) for found in result}
    for found in others:
        if (found.code, found.message) not in told:
            told.add((found.code, found.message))
            result.append(found)
    return tuple(result)


def _once(cases: Sequence[tuple[Finding, int]]) -> Finding:
    """One finding of several trials: as the first had it, or as that one which had the greatest share."""
    found, index = max(cases, key=lambda case: case[0].evidence.get("share", 0.0))
    trials = [number for _, number in cases]
    where = in_trials(trials)
    if "share" in found.evidence and len(cases) > 1:
        where = f"{where.removesuffix(')')}; the most in trial {index})"
    return Finding(found.code, found.severity, found.message + where, {**found.evidence, "trials": trials})
