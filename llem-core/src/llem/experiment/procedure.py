"""The procedure: visible tuples of small steps, of an engine process (before and after) and of each experiment."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Mapping
from typing import Literal

import attrs

from llem.backends.check import check_backend, check_placed
from llem.config.models import Baseline
from llem.devices.nvml import Nvml
from llem.errors import MachineError
from llem.evaluators.base import check_quality
from llem.experiment.batches import Batches
from llem.experiment.command import CommandRun
from llem.experiment.contract import engine_findings, hold_settings, hold_workload, loaded
from llem.experiment.environment import Tenants, environment_facts
from llem.experiment.instruments import Instruments
from llem.experiment.quality import quality
from llem.experiment.serving.work import Serving
from llem.experiment.session import EngineProcess, Session, Work
from llem.experiment.trial import trial_event
from llem.findings import Finding, finding
from llem.meters.trace import TraceRow
from llem.models.spec import ModelSpec, vocabulary_of
from llem.protocol.events import BaselineMeasured, Calibrated, Loaded
from llem.store.models import BaselineReading

__all__ = [
    "AFTER",
    "BEFORE",
    "BEGIN",
    "baseline",
    "begin",
    "calibrate",
    "check",
    "let_go",
    "pause",
    "record",
    "trial",
    "warm_up",
]

#: What is done with each kind of load.
WORK: Mapping[str, Callable[[Session], Work]] = {
    "offline": Batches,
    "closed": Serving,
    "open": Serving,
    "replay": Serving,
    "command": CommandRun,
}


def check(session: Session) -> None:
    """What the backend, and the evaluator, say of an experiment before anything is loaded."""
    session.findings += check_backend(session.experiment, session.model, session.process.registry)
    session.backend = session.process.registry.load("backend", session.experiment.backend)(session.experiment.options)
    session.model = session.backend.known(session.experiment, session.model)
    if session.experiment.quality is not None:
        check_quality(session.experiment, session.model, session.process.registry)
    session.work = WORK[session.experiment.load.kind](session)


# of the engine process; the experiment given is the one that the engine is constructed for


def open_instruments(session: Session) -> None:
    """Open the meters first: a missing permission should cost a second, not the loading of a model."""
    process = session.process
    uuids = process.placement.gpu_uuids
    if uuids:
        process.nvml = Nvml.open()
        process.tenants = Tenants.on(process.nvml, uuids)
    process.instruments = Instruments.open(session.experiment, process.registry, uuids, process.events_fd)
    process.findings += process.instruments.findings
    shared = [domain.name for _, domain in process.instruments.domains if domain.scope != "gpu"]
    if process.order.beside and shared:
        message = f"other workers ran at the same time, whose energy is in {', '.join(shared)}"
        process.findings.append(finding("shared_host", message, domains=shared))


def load(session: Session) -> None:
    """Load the engine."""
    process = session.process
    process.phase("load")
    start = time.monotonic()
    if session.backend is None:
        check(session)
    assert session.backend is not None
    check_placed(session.backend, session.experiment, session.model, process.placement)
    session.backend.wait = process.wait
    process.engine = loaded(session, session.backend.load(session.experiment, session.model, process.placement))
    process.load_s = time.monotonic() - start
    process.findings += engine_findings(session)
    process.emit(Loaded(load_s=process.load_s))
    if process.tenants is not None:
        process.tenants.engine_loaded(process.engine.pids())


def baseline_before(session: Session) -> None:
    """Idle, engine resident, before the first warm-up."""
    process, wanted = session.process, session.experiment.baseline
    process.after_s = wanted.length_s("after") if session.live_instruments.domains else 0.0
    process.baseline = baseline(process, wanted, "before")


def baseline_after(session: Session, begun: Collection[Session]) -> None:
    """Idle again, so that drift of the baseline shows; stored with every experiment that began."""
    process = session.process
    known = len(process.findings)
    taken = baseline(process, session.experiment.baseline, "after")
    for one in begun if taken else ():
        one.store.write_baseline(one.id, *taken)  # type: ignore[misc]
        if len(process.findings) > known:  # the engine's document is what their results take findings from
            one.store.write_engine(one.id, one.facts(), replace=True)


#: Once for an engine process, before any experiment's turn.
BEFORE: tuple[Callable[[Session], None], ...] = (open_instruments, load, baseline_before)
#: Once for an engine process when all is measured, each by its phase in `AFTER_PHASES`. The trials stand without them:
#: what fails becomes a finding.
AFTER: Mapping[str, Callable[[Session, Collection[Session]], None]] = {
    "baseline after": baseline_after,
    "quality": quality,
}


# of each experiment, before its first trial


def record(session: Session) -> None:
    """Make the workload ready, and store what the engine says it runs, where, and how it idled."""
    process, experiment = session.process, session.experiment
    hold_settings(session)
    if session.live_work.sends:
        workload_class = process.registry.load("workload", experiment.workload.kind)
        trusted = {"trust_remote_code": experiment.trust_remote_code}
        own = session.live_engine.tokenizer_model(session.model)
        tokenizer = process.tokenizer(own, **trusted) if workload_class.needs_tokenizer and own is not None else None
        session.workload = workload_class(experiment.workload, tokenizer, _vocabulary(session, own))
        session.workload.salt, session.workload.ids = session.live_engine.salt(), session.live_engine.random_ids()
        session.workload.sends_messages = session.live_engine.takes_messages()
        session.findings += session.workload.prepare(experiment.sampling, session.live_engine.context_length())
        hold_workload(session)
    if process.environment is None:
        process.environment = _environment(process)
    session.trials = list(process.store.trials(session.id))
    process.store.write_engine(session.id, session.facts())
    session.begun = True
    if process.baseline is not None:
        process.store.write_baseline(session.id, *process.baseline)


def _vocabulary(session: Session, own: ModelSpec | None) -> int:
    if (known := session.live_engine.architecture()) is not None:
        return known.vocab_size
    return vocabulary_of(own)


def _environment(process: EngineProcess) -> str:
    facts, failures = environment_facts(process.registry, process.nvml, process.placement.gpu_uuids)
    for failure in failures:
        message = f"llem_environment of {failure.distribution}: {failure.error}"
        process.findings.append(finding("plugin_observer_failed", message))
    return process.store.write_environment(facts)


def warm_up(session: Session) -> None:
    """Work before anything is measured, of the kind that will be."""
    session.live_work.warm_up()


def calibrate(session: Session) -> None:
    """Settle what a trial is, tell how long it will take, and store what was found out about the engine."""
    work = session.live_work
    figures = work.calibrate()
    if work.facts():
        session.store.write_engine(session.id, session.facts(), replace=True)
    session.process.emit(
        Calibrated(
            id=session.id,
            trial_s=work.trial_s,
            settle_s=work.settle_s,
            after_s=session.process.after_s,
            **figures,
        )
    )


BEGIN: tuple[Callable[[Session], None], ...] = (record, warm_up, calibrate)


def begin(session: Session) -> None:
    """All that an experiment needs before its first trial in this engine process."""
    for step in BEGIN:
        step(session)


def trial(session: Session, index: int) -> None:
    """One turn of an experiment: its trial, written as it ends."""
    process = session.process
    process.check_stop()
    if process.current != session.id:
        session.live_engine.turn_to(session.experiment)
        process.current = session.id
        if session.begun:
            session.live_work.settle()
    if not session.begun:
        begin(session)
    found = pause(process)
    process.check_stop()
    session.phase("trial", session.live_work.trial_s, trial=index)
    measured, rows, requests = session.live_work.trial(index)
    measured = attrs.evolve(measured, findings=(*found, *measured.findings))
    process.store.write_trial(measured, rows, requests)
    session.trials.append(measured)
    process.emit(trial_event(measured))
    session.live_work.go_on()


def let_go(process: EngineProcess) -> None:
    """Each is closed whatever becomes of the others: the engine first, and then what it was held by."""
    with contextlib.ExitStack() as held:
        for lock in process.locks:
            held.callback(lock.let_go)
        for one in process.holdings():
            held.callback(one.close)


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
    with instruments.reading():
        process.rest(max(wanted.discard_seconds, instruments.lead_s))
        instruments.window_begin()
        t0 = time.monotonic_ns()
        process.rest(wanted.kept_s(phase))
        t1 = time.monotonic_ns()
        instruments.window_end()
        process.rest(instruments.lead_s)
    readings, rows, findings = instruments.end(t0, t1)
    process.findings += findings
    process.emit(BaselineMeasured(phase=phase, t0_ns=t0, t1_ns=t1))
    return BaselineReading(process.order.process, phase, t0, t1, readings), rows


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
