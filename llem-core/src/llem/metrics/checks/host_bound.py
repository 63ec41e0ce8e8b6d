"""Does the GPU wait for the host? By its utilisation, or by slow steps at low power."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llem.findings import Finding, finding
from llem.metrics.flow import Flow
from llem.metrics.setup import Setup
from llem.metrics.statistics import mean
from llem.metrics.work import Ceiling, WindowWork, Work
from llem.store.models import Trial

__all__ = ["host_bound", "power_limit"]

BUSY_PERCENT = 90.0
STEP_RATIO, POWER_SHARE = 3.0, 0.6


def host_bound(
    setup: Setup,
    trials: Sequence[Trial],
    works: Sequence[Work | None],
    flows: Sequence[Flow | None],
) -> Iterable[Finding]:
    """`host_bound`, with what is known of utilisation, steps and power.

    Without a request in flight, a GPU does not wait for the host. So under a serving load, utilisation and power are
    compared with the share of the window in which a request was in flight.
    """
    if setup.device != "cuda" or not trials:
        return
    asked = mean([1.0 if flow is None else flow.busy_share for flow in flows])
    evidence: dict[str, Any] = {} if asked == 1.0 else {"in_flight_share": asked}
    busy = [
        gpu["utilisation_percent"]["mean"]
        for trial in trials
        for gpu in trial.health.values()
        if gpu.get("utilisation_percent")
    ]
    if busy:
        evidence["utilisation_percent"] = sum(busy) / len(busy)
    evidence |= _steps(setup, trials, works, flows)
    shares = [share for trial in trials for share in _power_shares(setup, trial)]
    if shares:
        evidence["power_share"] = sum(shares) / len(shares)
    idle = evidence.get("utilisation_percent", 100.0) < BUSY_PERCENT * asked
    slow = evidence.get("step_ratio", 0.0) > STEP_RATIO and evidence.get("power_share", 1.0) < POWER_SHARE * asked
    if idle or slow:
        yield finding("host_bound", _message(evidence), **evidence)


def _steps(
    setup: Setup,
    trials: Sequence[Trial],
    works: Sequence[Work | None],
    flows: Sequence[Flow | None],
) -> dict[str, float]:
    """Time of a step, the time that the hardware needs for it, and their ratio, averaged over trials.

    Nothing where the time that it needs is not known from above as well: with speculation or beams, whose steps are not
    known, and with a mixture of experts, of which a step may read many more experts than those of one token.
    """
    known = setup.architecture
    if setup.ceiling is None or known is None or known.unfit or known.experts > 1:
        return {}
    pairs = [
        pair
        for trial, work, flow in zip(trials, works, flows, strict=True)
        if work is not None and (pair := _step(trial, work, flow, setup.ceiling)) is not None
    ]
    if not pairs:
        return {}
    took, least = (sum(values) / len(pairs) for values in zip(*pairs, strict=True))
    return {"step_s": took, "roofline_step_s": least, "step_ratio": took / least}


def _step(trial: Trial, work: Work, flow: Flow | None, ceiling: Ceiling) -> tuple[float, float] | None:
    """Seconds of a step as it was and as it could be: the mean over an offline window, the median gap of a stream."""
    least = work.least_step_s(ceiling)
    if isinstance(work, WindowWork):
        took: float | None = trial.duration_s / work.steps if work.steps else None
    else:
        took = None if flow is None else flow.median_token_gap_s
    return None if least is None or took is None else (took, least)


def _message(evidence: Mapping[str, Any]) -> str:
    parts = []
    if "utilisation_percent" in evidence:
        asked = f" where it was asked for {evidence['in_flight_share']:.0%}" if "in_flight_share" in evidence else ""
        parts.append(f"the GPU was busy {evidence['utilisation_percent']:.0f} % of the time{asked}")
    if "step_ratio" in evidence:
        parts.append(
            f"a step took {evidence['step_s'] * 1e3:.3g} ms where the hardware needs "
            f"{evidence['roofline_step_s'] * 1e3:.3g} ms (ratio {evidence['step_ratio']:.1f})"
        )
    if "power_share" in evidence:
        parts.append(f"at {evidence['power_share']:.0%} of the power limit")
    return ", ".join(parts)


def power_limit(setup: Setup, trial: Trial, domain: str) -> float | None:
    """The power limit of a domain: as seen during the window, else as the meter stated it."""
    seen = trial.health.get(domain, {}).get("power_limit_w")
    return seen or setup.power_limits.get(domain)


def _power_shares(setup: Setup, trial: Trial) -> Iterable[float]:
    for reading in trial.energies:
        limit = power_limit(setup, trial, reading.domain)
        if reading.scope == "gpu" and reading.kind == "measured" and reading.energy_j is not None and limit:
            yield reading.energy_j / trial.duration_s / limit
