"""The procedure: visible tuples of small steps, of an engine process (before and after) and of each experiment."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Mapping

import attrs

from llem.backends.check import check_backend, check_placed
from llem.devices.nvml import Nvml
from llem.evaluators.check import check_quality
from llem.experiment.batches import Batches
from llem.experiment.environment import Tenants, environment_facts
from llem.experiment.instruments import Instruments
from llem.experiment.phases import baseline, calibrate, pause, warm_up
from llem.experiment.quality import quality
from llem.experiment.serving.work import Serving
from llem.experiment.session import EngineProcess, Session, Work
from llem.findings import finding
from llem.metrics.energies import output_energy
from llem.protocol.events import Loaded, TrialEnded
from llem.store.models import Trial

__all__ = ["AFTER", "BEFORE", "BEGIN", "begin", "check", "let_go", "record", "trial"]

#: What is done with each kind of load.
WORK: Mapping[str, Callable[[Session], Work]] = {
    "offline": Batches,
    "closed": Serving,
    "open": Serving,
    "replay": Serving,
}


def check(session: Session) -> None:
    """What the backend, and the evaluator, say of an experiment before anything is loaded."""
    check_quality(session.experiment, session.model, session.process.registry)
    session.findings += check_backend(session.experiment, session.model, session.process.registry)
    session.backend = session.process.registry.load("backend", session.experiment.backend)(session.experiment.options)
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
    process.engine = session.backend.load(session.experiment, session.model, process.placement)
    process.load_s = time.monotonic() - start
    process.emit(Loaded(load_s=process.load_s))
    if process.tenants is not None:
        process.tenants.engine_loaded(process.engine.pids())


def baseline_before(session: Session) -> None:
    """Idle, engine resident, before the first warm-up."""
    session.process.baseline = baseline(session.process, session.experiment.baseline, "before")


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
    workload_class = process.registry.load("workload", experiment.workload.kind)
    trusted = experiment.trust_remote_code
    tokenizer = process.tokenizer(session.model, trust_remote_code=trusted) if workload_class.needs_tokenizer else None
    session.workload = workload_class(experiment.workload, tokenizer, _vocabulary(session))
    if process.environment is None:
        process.environment = _environment(process)
    session.trials = list(process.store.trials(session.id))
    process.store.write_engine(session.id, session.facts())
    session.begun = True
    if process.baseline is not None:
        process.store.write_baseline(session.id, *process.baseline)


def _vocabulary(session: Session) -> int:
    architecture = session.live_engine.architecture()
    if architecture is not None:
        return architecture.vocab_size
    config = session.model.config or {}
    text = config.get("text_config", {})
    return int(config.get("vocab_size") or text.get("vocab_size") or 256)


def _environment(process: EngineProcess) -> str:
    facts, failures = environment_facts(process.registry, process.nvml, process.placement.gpu_uuids)
    for failure in failures:
        message = f"llem_environment of {failure.distribution}: {failure.error}"
        process.findings.append(finding("plugin_observer_failed", message))
    return process.store.write_environment(facts)


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
    process.emit(_trial_event(measured))


def _trial_event(trial: Trial) -> TrialEnded:
    energy = output_energy([trial])
    return TrialEnded(
        id=trial.experiment_id,
        trial=trial.index,
        t0_ns=trial.t0_ns,
        t1_ns=trial.t1_ns,
        duration_s=trial.duration_s,
        output_tokens_per_s=trial.output_tokens / trial.duration_s,
        energy_per_output_token_j=energy[0] if energy else None,
    )


def let_go(process: EngineProcess) -> None:
    """Each is closed whatever becomes of the others: the engine first, and then what it was held by."""
    with contextlib.ExitStack() as held:
        for lock in process.locks:
            held.callback(lock.let_go)
        for one in process.holdings():
            held.callback(one.close)
