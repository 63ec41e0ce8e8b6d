"""One trial: lead-in, window, lead-out.

    begin trace | jitter | lead-in batches | t0  k batches  t1 | lead-out batches | end trace

The lead batches are the same work, unmeasured. They keep power steady across the window's edges, so that neither the
counter's period nor the sensor's delay moves energy over them.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import struct
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from llem.errors import MachineError
from llem.experiment.session import Batch, Session
from llem.findings import Finding, finding
from llem.meters.trace import TraceRow, health_summary
from llem.results.models import RequestRow, Trial

__all__ = ["LEAD_S", "run_trial"]

#: Lead-in and lead-out last at least this long: longer than the sensor's delay (0.3 s) and three ticks (0.3 s).
LEAD_S = 0.5
#: Random pauses break an alias between the load's cycle and the sensor's 100 ms (Yang et al.).
JITTER_S = 0.1

THROTTLED = ("hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake")


def run_trial(session: Session, index: int) -> tuple[Trial, list[TraceRow], list[RequestRow]]:
    """Measure one window. Everything that can be made ready is ready before it opens."""
    instruments, engine = session.live_instruments, session.live_engine
    first_index = session.cursor
    lead_in = session.next_batches(session.lead_batches)
    work = session.next_batches(session.batches)
    lead_out = session.next_batches(session.lead_batches)
    jitter = random.Random(f"{session.order.experiment_id}/{index}").uniform(0, JITTER_S)
    started = datetime.now(UTC).isoformat(timespec="seconds")
    ended = False
    instruments.begin()
    try:
        time.sleep(jitter)
        for requests in lead_in:
            session.run(requests)
        engine.reset_memory()
        instruments.window_begin()
        t0 = time.monotonic_ns()
        batches = [session.run(requests) for requests in work]
        t1 = time.monotonic_ns()
        instruments.window_end()
        for requests in lead_out:
            session.run(requests)
        ended = True
    finally:
        if not ended:  # the trace is of no use, but the reader must stop reading
            with contextlib.suppress(MachineError):  # what ended the trial is what shall be told
                instruments.end(0, 1)
    energies, rows, findings = instruments.end(t0, t1)
    memory = engine.memory()
    health = health_summary(rows, t0, t1)
    requests_done = [request for batch in batches for request in batch.requests]
    limits = {domain.name: domain.power_limit_w for _, domain in instruments.domains}
    trial = Trial(
        experiment_id=session.order.experiment_id,
        index=index,
        restart=session.order.restart,
        started_at=started,
        t0_ns=t0,
        t1_ns=t1,
        batches=len(batches),
        requests=len(requests_done),
        input_tokens=sum(len(request.token_ids) for request in requests_done),
        output_tokens=sum(len(done.token_ids) for batch in batches for done in batch.completions),
        expected_output_tokens=sum(request.output_tokens for request in requests_done),
        batch_s=tuple((batch.end_ns - batch.start_ns) / 1e9 for batch in batches),
        first_index=first_index + session.lead_batches * session.experiment.load.batch_size,
        energies=energies,
        peak_memory_bytes=memory.peak_bytes,
        memory_covers=memory.covers,
        memory_reason=memory.reason,
        output_digest=_digest(batches),
        health={name: {**seen, "power_limit_w": limits.get(name)} for name, seen in health.items()},
        findings=(*findings, *_conduct(session, health)),
    )
    return trial, rows, _request_rows(batches)


def _digest(batches: Sequence[Batch]) -> str:
    """SHA-256 over all generated ids in order, each as four bytes little-endian."""
    found = hashlib.sha256()
    for batch in batches:
        for done in batch.completions:
            found.update(struct.pack(f"<{len(done.token_ids)}I", *done.token_ids))
    return found.hexdigest()


def _conduct(session: Session, health: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    """What the machine did during the trial that it should not have done."""
    found = []
    for name, seen in health.items():
        reasons = list(seen.get("throttle", ()))
        slowed = [reason for reason in reasons if reason in THROTTLED]
        if slowed:
            found.append(finding("throttled", f"{name} slowed down: {', '.join(slowed)}", domain=name, reasons=slowed))
        if "sw_power_cap" in reasons:
            found.append(finding("power_capped", f"{name} ran at its power limit", domain=name))
    strangers = session.tenants.strangers() if session.tenants else ()
    if strangers:
        message = f"{len(strangers)} other process(es) on the GPU: {', '.join(map(str, strangers))}"
        found.append(finding("foreign_process", message, pids=list(strangers)))
    return found


def _request_rows(batches: Sequence[Batch]) -> list[RequestRow]:
    return [
        RequestRow(
            index=request.index,
            batch=number,
            input_tokens=len(request.token_ids),
            output_tokens=len(done.token_ids),
            start_ns=batch.start_ns,
            end_ns=batch.end_ns,
            token_times_ns=done.token_times_ns,
        )
        for number, batch in enumerate(batches)
        for request, done in zip(batch.requests, batch.completions, strict=True)
    ]
