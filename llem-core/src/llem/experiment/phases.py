"""The phases around the trials: idle baseline, warm-up, calibration, and the pause between two trials."""

from __future__ import annotations

import time
from typing import Literal

from llem.config.models import Baseline
from llem.errors import MachineError
from llem.experiment.session import EngineProcess, Session
from llem.experiment.trial import LEAD_S
from llem.findings import Finding, finding
from llem.meters.trace import TraceRow
from llem.protocol.events import BaselineMeasured, Calibrated
from llem.store.models import BaselineReading

__all__ = ["baseline", "calibrate", "pause", "warm_up"]

#: How often a GPU that is to cool down is asked for its temperature.
COOLING_POLL_S = 1.0


def baseline(
    process: EngineProcess, wanted: Baseline, phase: Literal["before", "after"]
) -> tuple[BaselineReading, list[TraceRow]] | None:
    """Idle energy of this very process with the engine resident; the beginning, while power settles, is left out.

    None where no meter reads, none is wanted, or there are no trials.
    """
    instruments = process.instruments
    if wanted.seconds == 0 or instruments is None or not instruments.domains or not process.order.turns:
        return None
    process.phase(f"baseline {phase}", wanted.length_s(phase))
    instruments.begin()
    process.rest(max(wanted.discard_seconds, LEAD_S))
    instruments.window_begin()
    t0 = time.monotonic_ns()
    process.rest(wanted.kept_s(phase))
    t1 = time.monotonic_ns()
    instruments.window_end()
    process.rest(LEAD_S)
    readings, rows, findings = instruments.end(t0, t1)
    process.findings += findings
    process.emit(BaselineMeasured(phase=phase, t0_ns=t0, t1_ns=t1))
    return BaselineReading(process.order.process, phase, t0, t1, readings), rows


def warm_up(session: Session) -> None:
    """Work before anything is measured, of the kind that will be."""
    session.live_work.warm_up()


def calibrate(session: Session) -> None:
    """Settle what a trial is, tell how long it will take, and store what was found out about the engine."""
    work = session.live_work
    figures = work.calibrate()
    if work.facts():
        session.store.write_engine(session.id, session.facts(), replace=True)
    after_s = session.experiment.baseline.length_s("after")
    session.process.emit(
        Calibrated(
            id=session.id,
            trial_s=work.trial_s,
            settle_s=work.settle_s,
            after_s=after_s if session.live_instruments.domains else 0.0,
            **figures,
        )
    )


def pause(process: EngineProcess) -> list[Finding]:
    """The pause before a trial that is not the first; what of it could not be had.

    Raises MachineError where temperatures are waited for and none can be read.
    """
    gap, found = process.order.gap, []
    now = _temperatures(process) if gap.until_c is not None else {}
    if process.first_c is None:  # before the first trial
        process.first_c = now
        return []
    if gap.seconds or gap.until_c is not None:
        process.phase("pause", gap.seconds)
    process.rest(gap.seconds)
    if gap.until_c is not None:
        until = time.monotonic() + gap.timeout_s
        while (warm := _too_warm(process, gap.until_c)) and time.monotonic() < until:
            process.rest(COOLING_POLL_S)
        if warm:
            told = ", ".join(f"{uuid} at {now} °C, wanted {limit:g} °C" for uuid, (now, limit) in warm.items())
            message = f"not cool after {gap.timeout_s:g} s: {told}"
            found.append(finding("still_warm", message, timeout_s=gap.timeout_s, gpus=list(warm)))
    return found


def _temperatures(process: EngineProcess) -> dict[str, int]:
    read = {uuid: process.nvml.temperature_c(uuid) for uuid in process.placement.gpu_uuids} if process.nvml else {}
    known = {uuid: degrees for uuid, degrees in read.items() if degrees is not None}
    if not known or len(known) < len(read):
        hint = "use `order.gap_s`, which waits for a fixed time"
        raise MachineError("`order.gap_until_c` waits for temperatures of GPUs, and none can be read", hint)
    return known


def _too_warm(process: EngineProcess, margin_c: float) -> dict[str, tuple[int, float]]:
    """GPUs above where they may be: their temperature, and the most that it may be."""
    now = _temperatures(process)
    limits = {uuid: first + margin_c for uuid, first in (process.first_c or {}).items()}
    return {uuid: (now[uuid], limits[uuid]) for uuid in now if now[uuid] > limits[uuid]}
