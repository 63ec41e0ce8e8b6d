"""The phases around the trials: idle baseline, warm-up, calibration."""

from __future__ import annotations

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
    """Work before anything is measured, of the kind that will be."""
    session.live_work.warm_up()


def calibrate(session: Session) -> None:
    """Settle what a trial is, tell how long it will take, and store what was found out about the engine."""
    work = session.live_work
    figures = work.calibrate()
    if work.facts():
        session.store.write_engine(session.order.experiment_id, session.facts(), replace=True)
    rest = session.experiment.baseline
    after = rest.discard_seconds + (rest.seconds - rest.discard_seconds) / 2 if rest.seconds else 0.0
    session.emit(
        {
            "event": "calibrated",
            **figures,
            "trial_s": work.trial_s,
            "after_s": after if session.live_instruments.domains else 0.0,
        }
    )
