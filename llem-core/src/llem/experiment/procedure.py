"""The procedure of one experiment: a visible tuple of small steps."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence

from llem.backends.check import check_backend
from llem.devices.nvml import Nvml
from llem.experiment.batches import Batches
from llem.experiment.environment import environment_facts
from llem.experiment.instruments import Instruments
from llem.experiment.phases import baseline, calibrate, warm_up
from llem.experiment.serving import Serving
from llem.experiment.session import Session
from llem.experiment.tenants import Tenants
from llem.experiment.work import Work
from llem.findings import finding
from llem.models.tokenizer import load_tokenizer
from llem.results.energies import output_energy
from llem.results.models import Trial
from llem.results.statistics import relative_half_width

__all__ = ["STEPS", "WORK", "check_backend", "run_procedure"]

Step = Callable[[Session], None]

#: What is done with each kind of load.
WORK: Mapping[str, Callable[[Session], Work]] = {"offline": Batches, "closed": Serving, "open": Serving}


def check(session: Session) -> None:
    """What the backend says before anything is loaded."""
    session.findings += check_backend(session.experiment, session.model, session.registry)
    session.backend = session.registry.load("backend", session.experiment.backend)(session.experiment.options)
    session.work = WORK[session.experiment.load.kind](session)


def open_instruments(session: Session) -> None:
    """Open the meters first: a missing permission should cost a second, not the loading of a model."""
    uuids = session.placement.gpu_uuids
    if uuids:
        session.nvml = Nvml.open()
        session.tenants = Tenants.on(session.nvml, uuids)
    session.instruments = Instruments.open(session.experiment, session.registry, uuids, session.events_fd)
    session.findings += session.instruments.findings


def load(session: Session) -> None:
    """Load the engine, and make the workload ready with the model's tokenizer."""
    experiment, model = session.experiment, session.model
    session.phase("load")
    start = time.monotonic()
    if session.backend is None:
        check(session)
    assert session.backend is not None
    session.engine = session.backend.load(experiment, model, session.placement)
    session.load_s = time.monotonic() - start
    if session.tenants is not None:
        session.tenants.engine_loaded(session.engine.pids())
    workload_class = session.registry.load("workload", experiment.workload.kind)
    trusted = experiment.trust_remote_code
    tokenizer = load_tokenizer(model, trust_remote_code=trusted) if workload_class.needs_tokenizer else None
    session.workload = workload_class(experiment.workload, tokenizer, _vocabulary(session))


def _vocabulary(session: Session) -> int:
    architecture = session.live_engine.architecture()
    if architecture is not None:
        return architecture.vocab_size
    config = session.model.config or {}
    text = config.get("text_config", {})
    return int(config.get("vocab_size") or text.get("vocab_size") or 256)


def record(session: Session) -> None:
    """Store what the engine says it runs, and where."""
    known = len(session.registry.failures)
    facts = environment_facts(session.registry, session.nvml, session.placement.gpu_uuids)
    for failure in session.registry.failures[known:]:
        message = f"llem_environment of {failure.distribution}: {failure.error}"
        session.findings.append(finding("plugin_observer_failed", message))
    session.environment = session.store.write_environment(facts)
    session.store.write_engine(session.order.experiment_id, session.facts())


def baseline_before(session: Session) -> None:
    """Idle, engine resident, before the warm-up."""
    baseline(session, "before")


def trials(session: Session) -> None:
    """Trials until there are enough and the interval is narrow enough, each written as it ends."""
    order = session.order
    done: list[Trial] = []
    for number in range(order.max_trials):
        session.check_stop()
        index = order.first_trial + number
        session.phase("trial", session.live_work.trial_s, trial=index)
        trial, rows, requests = session.live_work.trial(index)
        session.store.write_trial(trial, rows, requests)
        done.append(trial)
        session.emit(_trial_event(trial))
        if number + 1 >= order.trials and _narrow(done, session.experiment.target_half_width):
            return


def _narrow(done: Sequence[Trial], target: float) -> bool:
    """Whether the headline's interval is as narrow as asked for: energy per output token, or time without energy."""
    values = output_energy(done) or [trial.duration_s / max(trial.output_tokens, 1) for trial in done]
    width = relative_half_width(values)
    return width is not None and width <= target


def _trial_event(trial: Trial) -> dict[str, object]:
    energy = output_energy([trial])
    return {
        "event": "trial",
        "trial": trial.index,
        "output_tokens_per_s": trial.output_tokens / trial.duration_s,
        "energy_per_output_token_j": energy[0] if energy else None,
        "duration_s": trial.duration_s,
    }


def baseline_after(session: Session) -> None:
    """Idle again, so that drift of the baseline shows."""
    baseline(session, "after")


STEPS: tuple[Step, ...] = (
    check,
    open_instruments,
    load,
    record,
    baseline_before,
    warm_up,
    calibrate,
    trials,
    baseline_after,
)


def run_procedure(session: Session) -> None:
    """All steps in order; what they opened is let go whatever happens."""
    try:
        for step in STEPS:
            step(session)
    finally:
        _let_go(session)


def _let_go(session: Session) -> None:
    """Each is closed whatever becomes of the others: the engine first, and then what it was held by."""
    with contextlib.ExitStack() as held:
        for one in (session.nvml, session.instruments, session.work, session.engine):
            if one is not None:
                held.callback(one.close)
