"""The contract of backends, held while experiments run: before a window, or once its trace may end; never within it."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import psutil

from llem.backends.base import Engine
from llem.backends.contract import overruled
from llem.backends.forms import architecture_breaches, effective_breaches, engine_breaches, findings_breaches
from llem.errors import TELL_AUTHORS, Breach, BrokenPlugin, ExperimentFailed
from llem.experiment.session import Session
from llem.findings import Finding, finding
from llem.protocol.lifeline import children
from llem.workloads.contract import workload_breaches

__all__ = ["Idle", "engine_findings", "hold", "hold_settings", "hold_workload", "loaded"]

#: So long the processor time of this process is looked at.
LOOK_S = 0.05
#: Threads that compute may spin for so long before they sleep (OpenMP's of Intel: 0.2 s).
SPIN_S = 0.5
#: Cores that are busy, beyond those that were before any work, count as work from here on.
BUSY_CORES = 0.5
#: A GPU that is busy for so long after a batch, and for this share of the batch's time, was left with work.
DEVICE_S, DEVICE_SHARE = 0.001, 0.01


def hold(session: Session, breaches: Iterable[Breach]) -> None:
    """Raise ExperimentFailed (invalid) for the first breach: what such an engine gives must not be stored."""
    for breach in breaches:
        raise ExperimentFailed(
            f"the {session.experiment.backend} backend breaks a rule of backends: {breach}",
            TELL_AUTHORS,
            "invalid",
        )


def hold_workload(session: Session) -> None:
    """The workload gives requests as workloads have to. Raises BrokenPlugin where it does not."""
    if (workload := session.workload) is not None:
        for breach in workload_breaches(workload):
            raise BrokenPlugin(f"the workload {workload.kind} breaks a rule of workloads: {breach}", TELL_AUTHORS)


def loaded(session: Session, engine: Any) -> Engine:
    """What a backend's `load` gave, which is an engine."""
    hold(session, engine_breaches(engine))
    found: Engine = engine
    return found


def engine_findings(session: Session) -> Sequence[Finding]:
    """What the loaded engine finds doubtful."""
    found = session.live_engine.findings()
    hold(session, findings_breaches("findings", found))
    return found


def hold_settings(session: Session) -> None:
    """What the engine says it runs with can be stored, and is what was asked for, or a finding says so. So can the
    sizes of its model."""
    hold(session, architecture_breaches(session.live_engine.architecture()))
    effective = session.live_engine.effective_config()
    hold(session, effective_breaches(effective))
    session.findings += overruled(session.experiment, effective)


class Idle:
    """How busy this process and its children are with nothing to do, looked at before the first work; then, whether
    work is left."""

    def __init__(self, rest: Callable[[float], None]) -> None:
        self._rest = rest
        self._before = self._cores()

    def _cores(self) -> float:
        since, used = time.monotonic(), _processor_s()
        self._rest(LOOK_S)
        return (_processor_s() - used) / (time.monotonic() - since)

    def left(self, batch_s: float) -> list[Finding]:
        """The finding on work that goes on, right after a batch that took `batch_s` has returned; mostly none."""
        if (seconds := _device_left_s()) > max(DEVICE_S, DEVICE_SHARE * batch_s):
            message = f"the GPU went on working for {seconds:.3g} s after a batch had returned"
            return [finding("work_left", message, seconds=seconds)]
        until = time.monotonic() + SPIN_S
        while (cores := self._cores() - self._before) >= BUSY_CORES:
            if time.monotonic() >= until:
                message = (
                    f"worker and children went on using {cores:.1f} cores for {SPIN_S:g} s after a batch had returned"
                )
                return [finding("work_left", message, cores=cores)]
        return []


def _processor_s() -> float:
    """Processor time of this process, and of those that it or they began and that live, so far."""
    used = time.process_time()
    for child in children():
        with contextlib.suppress(psutil.Error):  # it ended
            times = child.cpu_times()
            used += times.user + times.system
    return used


def _device_left_s() -> float:
    """How long the GPU goes on with what torch has given it; 0 where torch gave it nothing."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return 0.0
    since = time.monotonic()
    torch.cuda.synchronize()
    return time.monotonic() - since
