"""The phases around the trials: idle baseline, warm-up, calibration."""

from __future__ import annotations

import math
import time
from typing import Literal

from llem.experiment.session import Session
from llem.experiment.trial import LEAD_S
from llem.results.models import BaselineReading

__all__ = ["baseline", "calibrate", "warm_up"]


def baseline(session: Session, phase: Literal["before", "after"]) -> None:
    """Idle energy of this very process with the engine resident; the beginning, while power settles, is left out.

    The one after the trials is half as long past its discarded part: it is there to see drift.
    """
    wanted = session.experiment.baseline
    instruments = session.live_instruments
    if wanted.seconds == 0 or not instruments.domains:
        return
    kept = max(wanted.seconds - wanted.discard_seconds, 1.0)
    kept = kept if phase == "before" else kept / 2
    session.phase(f"baseline {phase}", wanted.discard_seconds + kept)
    instruments.begin()
    _rest(session, max(wanted.discard_seconds, LEAD_S))
    instruments.window_begin()
    t0 = time.monotonic_ns()
    _rest(session, kept)
    t1 = time.monotonic_ns()
    instruments.window_end()
    _rest(session, LEAD_S)
    readings, rows, findings = instruments.end(t0, t1)
    session.findings += findings
    reading = BaselineReading(session.order.restart, phase, t0, t1, readings)
    session.store.write_baseline(session.order.experiment_id, reading, rows)


def _rest(session: Session, seconds: float) -> None:
    """Do nothing, and wake at once when the user asks to stop."""
    session.stop.wait(seconds)
    session.check_stop()


def warm_up(session: Session) -> None:
    """A fixed warm-up: full-length batches for compilation and caches, then the same load until it has lasted long.

    Fixed and not "until stable", so that two configurations are warmed alike; what drifts nevertheless is found
    afterwards (`no_steady_state`). Leaves the least time of the last batches for calibration.
    """
    wanted = session.experiment.warmup
    session.phase("warm-up", wanted.seconds, batches=wanted.batches)
    times: list[float] = []
    for _ in range(max(wanted.batches, 1)):  # one at least: calibration needs a time
        times.append(_timed(session))
    until = time.monotonic() + wanted.seconds
    thermal: list[float] = []
    while time.monotonic() < until:
        thermal.append(_timed(session))
    # the fastest of the last ones: a window must not come out shorter than asked for
    session.batch_s = min(thermal[-20:] or times[-1:])


def _timed(session: Session) -> float:
    session.check_stop()
    [requests] = session.next_batches(1)
    batch = session.run(requests)
    return (batch.end_ns - batch.start_ns) / 1e9


def calibrate(session: Session) -> None:
    """The number of batches that fills a window, fixed for all trials; and of the lead-in and lead-out."""
    batch_s = max(session.batch_s, 1e-6)
    session.batches = max(1, math.ceil(session.experiment.window_s / batch_s))
    read = bool(session.live_instruments.sampled)
    session.lead_batches = max(1, math.ceil(LEAD_S / batch_s)) if read else 0
    trial_s = batch_s * (session.batches + 2 * session.lead_batches)
    rest = session.experiment.baseline
    after = rest.discard_seconds + (rest.seconds - rest.discard_seconds) / 2 if rest.seconds else 0.0
    session.emit(
        {
            "event": "calibrated",
            "batch_s": batch_s,
            "batches": session.batches,
            "trial_s": trial_s,
            "after_s": after if session.live_instruments.domains else 0.0,
        }
    )
