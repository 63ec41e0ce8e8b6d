"""What the meters say of themselves: missing updates, and a second instrument that disagrees where it can tell."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence

from llem.findings import Finding, finding
from llem.meters.trace import TraceRow
from llem.meters.window import cross_parts
from llem.metrics.domains import domain_metrics
from llem.metrics.statistics import mean_interval
from llem.store.models import BaselineReading, Trial

__all__ = ["meters", "resolves"]

#: Between two instruments. A reading resolves a load where their ratio is known to as much.
DISAGREE = 0.02
#: Where the sensor takes one sample of 25 ms in each 0.1 s, load that repeats at these periods may meet the same phase
#: in each of them (seconds; square waves on an H200, docs/explanation/measurement.md).
ALIASING_S = (0.025, 0.8)
#: Pauses of random length come before each trial: from so many on, a phase that is met throughout a trial shows.
SHIFTED_TRIALS = 3


def meters(
    trials: Sequence[Trial], baselines: Sequence[BaselineReading], traces: Mapping[int, Sequence[TraceRow]]
) -> Iterable[Finding]:
    gappy = [trial for trial in trials if any(one.budget and one.budget.gap_j > 0 for one in trial.energies)]
    if gappy:
        indices = [trial.index for trial in gappy]
        where = f" (trial{'s' if len(indices) > 1 else ''} {', '.join(map(str, indices))})"
        worst = max(one.budget.gap_j for trial in gappy for one in trial.energies if one.budget)
        message = f"updates of a meter did not come{where}, which may hide up to {worst:.3g} J"
        yield finding("sample_gap", message, gap_j=worst, trials=indices)
    for domain in domain_metrics(trials, baselines):
        ratio = domain.cross_ratio.value
        if ratio is None or abs(ratio - 1) <= DISAGREE:
            continue
        known_to = _resolved_to(trials, traces, domain.meter, domain.domain)
        evidence = {"meter": domain.meter, "domain": domain.domain, "ratio": ratio, "known_to": known_to}
        message = f"{domain.domain}: {domain.instrument} over integrated instantaneous power is {ratio:.4f}"
        if known_to is not None and known_to <= DISAGREE:
            yield finding("meters_disagree", message, **evidence)
        else:
            told = "is not known to resolve this load" if known_to is None else f"gives it to ± {known_to:.2f}"
            yield finding("cross_unresolved", f"{message}, but that reading {told}", **evidence)


def resolves(trials: Sequence[Trial], traces: Mapping[int, Sequence[TraceRow]], meter: str, domain: str) -> bool:
    """Whether the readings of power follow the load: always where no counter is beside them to tell."""
    if not any(row.reading == "counter_j" for row in traces.get(trials[0].index, ()) if row.domain == domain):
        return True
    known_to = _resolved_to(trials, traces, meter, domain)
    return known_to is not None and known_to <= DISAGREE


def _resolved_to(
    trials: Sequence[Trial], traces: Mapping[int, Sequence[TraceRow]], meter: str, domain: str
) -> float | None:
    """To how much the ratio of counter and instantaneous power is known: a 95 % half-width.

    It is the wider one of the half-widths over parts of the windows and over trials. A reading that resolves the load
    gives one ratio in all of them; one that aliases gives ratios that scatter. None where no scatter would show: too
    few parts, or few trials of a load that repeats as often as a reading may alias.
    """
    parts, wholes = [], []
    for trial in trials:
        parts += cross_parts(traces.get(trial.index, ()), meter, domain, trial.t0_ns, trial.t1_ns)
        reading = next((one for one in trial.energies if (one.meter, one.domain) == (meter, domain)), None)
        if reading is not None and reading.energy_j is not None and reading.cross_energy_j:
            wholes.append(reading.energy_j / reading.cross_energy_j)
    if len(parts) < 3 or (len(wholes) < SHIFTED_TRIALS and any(_may_alias(trial) for trial in trials)):
        return None
    widths = [mean_interval(values).half_width for values in (parts, wholes) if len(values) >= 3]
    return max(widths)


def _may_alias(trial: Trial) -> bool:
    """Whether the batches, or the steps that make one token of each request, repeat at a period that aliases."""
    if trial.serving is not None or not trial.batch_s or not trial.requests:
        return False
    batch = statistics.median(trial.batch_s)
    step = batch * trial.requests / max(trial.output_tokens, 1)
    return any(ALIASING_S[0] <= period <= ALIASING_S[1] for period in (batch, step))
