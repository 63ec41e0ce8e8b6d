"""What every trial has, whatever the load: a trace that is ended come what may, and the facts beside the work."""

from __future__ import annotations

import contextlib
import hashlib
import random
import struct
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import attrs

from llem.backends.forms import memory_breaches
from llem.errors import ExperimentFailed
from llem.experiment.contract import hold
from llem.experiment.session import Session
from llem.findings import Finding, finding
from llem.meters.base import LEAD_S, EnergyReading
from llem.meters.trace import TraceRow
from llem.meters.window import health_summary
from llem.metrics.energies import headline, token_value
from llem.metrics.quantity import Value
from llem.protocol.events import TrialEnded
from llem.store.models import Trial

__all__ = ["LEAD_S", "Trace", "digest", "finish", "traced", "trial_event"]

#: Random pauses break an alias between the load's cycle and the sensor's 100 ms (Yang et al.).
JITTER_S = 0.1

THROTTLED = ("hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake")


@attrs.define(eq=False)
class Trace:
    """What the meters read of a trial.

    Attributes:
        started_at: when the trial started, ISO 8601.
        window: t0 and t1 in monotonic ns. The body sets it; the rest is there after it.
        energies: of the window. rows: all that was read. failures: meters that failed.
    """

    started_at: str
    window: tuple[int, int] = (0, 0)
    energies: tuple[EnergyReading, ...] = ()
    rows: list[TraceRow] = attrs.field(factory=list)
    failures: Sequence[Finding] = ()


@contextlib.contextmanager
def traced(session: Session, index: int) -> Iterator[Trace]:
    """The trace is read while the body runs, first during a random pause. Where the body raises, what was read is lost.

    Raises ExperimentFailed: the window has no length, so nothing can be divided by it.
    """
    instruments = session.live_instruments
    jitter = random.Random(f"{session.id}/{index}").uniform(0, JITTER_S)
    trace = Trace(datetime.now(UTC).isoformat(timespec="seconds"))
    instruments.host.own(session.live_engine.pids())
    with instruments.reading():
        time.sleep(jitter)
        yield trace
        if trace.window[1] <= trace.window[0]:
            raise ExperimentFailed("the window has no length: nothing was done in it", "see the worker's log")
    trace.energies, trace.rows, trace.failures = instruments.end(*trace.window)


def finish(
    session: Session,
    index: int,
    trace: Trace,
    *,
    findings: Sequence[Finding] = (),
    **work: Any,
) -> Trial:
    """The trial, put together from its energies, the machine's conduct, and its work.

    Args:
        trace: that has ended.
        work: the fields of `Trial` that say what was done.

    Raises ExperimentFailed: the engine's memory is told as no backend may.
    """
    instruments, window = session.live_instruments, trace.window
    memory = session.live_engine.memory()
    hold(session, memory_breaches(memory))
    health = health_summary(trace.rows, *window)
    limits = {domain.name: domain.power_limit_w for _, domain in instruments.domains}
    return Trial(
        experiment_id=session.id,
        index=index,
        process=session.order.process,
        started_at=trace.started_at,
        t0_ns=window[0],
        t1_ns=window[1],
        energies=trace.energies,
        peak_memory_bytes=memory.peak_bytes,
        memory_covers=memory.covers,
        memory_reason=memory.reason,
        health={name: {**seen, "power_limit_w": limits.get(name)} for name, seen in health.items()},
        findings=(*trace.failures, *findings, *_conduct(session, health)),
        host=instruments.host.load(),
        beats=instruments.pulse.beats(*window, instruments.gaps),
        **work,
    )


def trial_event(trial: Trial) -> TrialEnded:
    """What is told of a trial when it has ended."""
    chosen = headline([trial])
    energy = Value(None) if chosen is None else token_value(trial, chosen)
    basis = None if energy.value is None else chosen
    return TrialEnded(
        id=trial.experiment_id, trial=trial.index, t0_ns=trial.t0_ns, t1_ns=trial.t1_ns, duration_s=trial.duration_s,
        output_tokens_per_s=trial.output_tokens / trial.duration_s, energy_per_output_token_j=energy.value,
        energy_bound_j=energy.bound, energy_shared_j=energy.shared,
        energy_scope=basis.scope if basis else None, energy_kind=basis.kind if basis else None,
    )  # fmt: skip


def digest(outputs: Iterable[Sequence[int] | None]) -> str:
    """SHA-256 over all generated ids in order, each as four bytes little-endian; empty where any are not known."""
    found = hashlib.sha256()
    for token_ids in outputs:
        if token_ids is None:
            return ""
        found.update(struct.pack(f"<{len(token_ids)}I", *token_ids))
    return found.hexdigest()


def _conduct(session: Session, health: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    """What the machine did during the trial that it should not have done."""
    found = []
    for name, seen in health.items():
        shares: Mapping[str, float] = seen.get("throttle", {})
        readings = seen.get("throttle_readings", 0)
        slowed = {reason: shares[reason] for reason in THROTTLED if reason in shares}
        if slowed:
            told = ", ".join(f"{reason} in {_of(share, readings)}" for reason, share in slowed.items())
            where = {"domain": name, "reasons": list(slowed)}
            evidence = {"share": max(slowed.values()), "shares": slowed, "readings": readings}
            found.append(finding("throttled", f"{name} slowed down: {told}", **where, **evidence))
        if share := shares.get("sw_power_cap"):
            message = f"the driver lowered the clocks of {name} for its power limit in {_of(share, readings)}"
            found.append(finding("power_capped", message, domain=name, share=share, readings=readings))
    strangers = session.tenants.strangers() if session.tenants else ()
    if strangers:
        message = f"{len(strangers)} other process(es) on the GPU: {', '.join(map(str, strangers))}"
        found.append(finding("foreign_process", message, pids=list(strangers)))
    return found


def _of(share: float, readings: int) -> str:
    return f"{share * 100:.0f} % of {readings} reading{'' if readings == 1 else 's'}"
