"""What the steps share: an engine process, each of its experiments, and the work that goes with its load; filled in
from step to step.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

import attrs

from llem.backends.base import Backend, Engine, Placement, Request
from llem.config.models import Experiment
from llem.devices.locks import Lock
from llem.devices.nvml import Nvml
from llem.errors import ExperimentFailed, LlemError
from llem.experiment.environment import Tenants
from llem.experiment.instruments import Instruments
from llem.experiment.serving.processes import Clients
from llem.experiment.serving.window import Probe
from llem.findings import Finding
from llem.meters.trace import TraceRow
from llem.models.resolve import resolve_model
from llem.models.spec import ModelSpec
from llem.models.tokenizer import Tokenizer, load_tokenizer
from llem.plugins.registry import Registry
from llem.protocol.events import Emit, Phase, Warned
from llem.protocol.order import WorkOrder
from llem.store.models import BaselineReading, RequestRow, Trial
from llem.store.store import Store
from llem.workloads.base import Workload

__all__ = ["EngineProcess", "Measured", "Session", "Work"]

#: After so many seconds the user is told what the loading of an engine waits for.
TOLD_AFTER_S = 10.0


@attrs.define(eq=False)
class Session:
    """One experiment in one engine process.

    Given at the start: id, process, experiment, model. The rest is filled in by the step that its comment names.
    """

    id: str
    process: EngineProcess
    experiment: Experiment
    model: ModelSpec
    findings: list[Finding] = attrs.field(factory=list)
    backend: Backend | None = None  # check
    work: Work | None = None  # check: what is done with the load that the experiment has
    workload: Workload | None = None  # record
    trials: list[Trial] = attrs.field(factory=list)  # record: those that are stored; trials
    begun: bool = False  # record
    cursor: int = 0  # next request of the workload's sequence

    # of the engine process

    @property
    def order(self) -> WorkOrder:
        """What the worker was told."""
        return self.process.order

    @property
    def store(self) -> Store:
        """Where results go."""
        return self.process.store

    @property
    def tenants(self) -> Tenants | None:
        """Who else is on the GPUs; None without any."""
        return self.process.tenants

    @property
    def live_engine(self) -> Engine:
        """The loaded engine."""
        if self.process.engine is None:
            raise LlemError("the engine is not loaded yet", code="bug")
        return self.process.engine

    @property
    def live_instruments(self) -> Instruments:
        """The opened instruments."""
        if self.process.instruments is None:
            raise LlemError("the meters are not open yet", code="bug")
        return self.process.instruments

    # of the experiment

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks of quality that are to be evaluated after the last trial."""
        return tuple(task for name, task in self.order.tasks if name == self.id)

    @property
    def live_work(self) -> Work:
        """What the experiment's load means for warm-up, calibration and trials."""
        if self.work is None:
            raise LlemError("the load is not checked yet", code="bug")
        return self.work

    def phase(self, name: str, seconds: float | None = None, **more: Any) -> None:
        """Tell which phase of this experiment begins and how long it should take."""
        self.process.phase(name, seconds, **more, id=self.id)

    def check_stop(self) -> None:
        """Raise ExperimentFailed (interrupted) once the worker is to stop."""
        self.process.check_stop()

    def next_requests(self, count: int) -> Sequence[Request]:
        """The next requests of the workload's sequence, made before anything is timed."""
        if self.workload is None:
            raise LlemError("the workload is not ready yet", code="bug")
        requests = self.workload.requests(self.cursor, count)
        self.cursor += count
        return requests

    def facts(self) -> Mapping[str, Any]:
        """What `engine-<process>.json` holds, schema version aside."""
        process, engine, instruments = self.process, self.live_engine, self.live_instruments
        architecture = engine.architecture()
        gpus = {gpu.uuid: gpu.name for gpu in process.nvml.gpus()} if process.nvml else {}
        return {
            "process": process.order.process,
            "worker": process.order.worker,
            "experiments": len(process.order.experiments),
            "environment": process.environment or "",
            "effective": dict(engine.effective_config()),
            "architecture": None if architecture is None else attrs.asdict(architecture),
            "device": {
                "device": process.placement.device,
                "gpus": list(process.placement.gpu_uuids),
                "names": [gpus.get(uuid) for uuid in process.placement.gpu_uuids],
            },
            "load_s": process.load_s,
            "keeps_prompts": engine.keeps_prompts(),
            "domains": [{"meter": meter, **attrs.asdict(domain)} for meter, domain in instruments.domains],
            "findings": [attrs.asdict(found) for found in (*process.findings, *self.findings)],
            "workload": dict(self.workload.describe()) if self.workload else {},
            **(self.work.facts() if self.work else {}),
        }


#: A trial, the trace of its meters, and its requests.
Measured: TypeAlias = tuple[Trial, Sequence[TraceRow], Sequence[RequestRow]]


class Work(ABC):
    """Runs the requests of one experiment in one engine process, from the warm-up to the last trial.

    Attributes:
        sends: the requests are llem's own, from the experiment's workload.
    """

    sends: ClassVar[bool] = True

    @abstractmethod
    def warm_up(self) -> None:
        """A fixed amount of work, so that two configurations are warmed alike; what calibration needs is timed."""

    @abstractmethod
    def calibrate(self) -> Mapping[str, Any]:
        """Settle what a trial is, the same for all of them; figures for the event `calibrated`."""

    def settle(self) -> None:
        """Before a trial, after another experiment had the engine: bring it back to this one's work. Does nothing where
        a trial begins with more than enough of the work before its window."""
        return None

    @property
    def settle_s(self) -> float:
        """How long that should take, in seconds."""
        return 0.0

    @abstractmethod
    def trial(self, index: int) -> Measured:
        """Measure one window. Everything that can be made ready is ready before it opens."""

    def go_on(self) -> None:
        """After a trial is stored: raise what ends the experiment nevertheless. Mostly nothing does."""
        return None

    @property
    @abstractmethod
    def trial_s(self) -> float:
        """How long a trial should take, in seconds."""

    def facts(self) -> Mapping[str, Any]:
        """What was found out on the way and belongs to the engine's document; JSON values only."""
        return {}


@attrs.define(eq=False)
class EngineProcess:
    """Given at the start: order, placement, registry, store, emit, stop. The rest is filled in by the step that its
    comment names.
    """

    order: WorkOrder
    placement: Placement
    registry: Registry
    store: Store
    emit: Emit
    stop: threading.Event
    events_fd: int | None = None
    locks: Iterable[Lock] = ()  # of GPUs, where the launcher holds none
    findings: list[Finding] = attrs.field(factory=list)
    nvml: Nvml | None = None  # open_instruments
    instruments: Instruments | None = None  # open_instruments
    tenants: Tenants | None = None  # open_instruments
    engine: Engine | None = None  # load
    load_s: float | None = None  # load
    baseline: tuple[BaselineReading, list[TraceRow]] | None = None  # baseline_before
    after_s: float = 0.0  # baseline_before: how long the one after the trials will be, whichever experiment it is of
    environment: str | None = None  # record: hash of the stored environment
    current: str | None = None  # the experiment whose turn it is
    probes: list[tuple[object, Probe]] = attrs.field(factory=list)  # warm-up: what was probed, and what was found
    first_c: dict[str, int] | None = None  # pause: temperature of each GPU when the first trial began
    # a model's files and its tokenizer are read once for all experiments
    model: Callable[..., ModelSpec] = attrs.field(init=False, factory=lambda: functools.cache(resolve_model))
    tokenizer: Callable[..., Tokenizer | None] = attrs.field(
        init=False, factory=lambda: functools.cache(load_tokenizer)
    )
    _runner: asyncio.Runner | None = attrs.field(init=False, default=None)
    _clients: Clients | None = attrs.field(init=False, default=None)
    _waits: tuple[str, float] = attrs.field(init=False, default=("", 0.0))  # what loading waits for, for how long

    @property
    def runner(self) -> asyncio.Runner:
        """The owner of the one event loop of serving loads, which lives as long as the engine."""
        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner

    def clients(self) -> Clients | None:
        """The client processes of an engine that is a server; None for other engines."""
        reference = None if self.engine is None else self.engine.wire()
        if self._clients is None and reference is not None:
            self._clients = Clients(reference)
        return self._clients

    def phase(self, name: str, seconds: float | None = None, **more: Any) -> None:
        """Tell which phase begins and how long it should take."""
        self.emit(Phase(phase=name, seconds=seconds, **more))

    def check_stop(self) -> None:
        """Raise ExperimentFailed (interrupted) once the worker is to stop, StoreError (lease_lost) once it must."""
        self.store.leases.check()
        if self.stop.is_set():
            raise ExperimentFailed("stopped by the user", "go on with `--resume`", code="interrupted")

    def rest(self, seconds: float) -> None:
        """Do nothing, and wake at once when the worker is to stop."""
        self.stop.wait(seconds)
        self.check_stop()

    def wait(self, seconds: float, why: str) -> None:
        """`Backend.wait` in a worker: `rest`, and tell what is waited for once it has been the same for long."""
        self.rest(seconds)
        before, waited = self._waits
        waited = seconds + (waited if why == before else 0.0)
        self._waits = why, waited
        if waited - seconds < TOLD_AFTER_S <= waited:
            self.emit(Warned(message=why))
            self.phase("load")  # a phase lasts until the next event

    def holdings(self) -> Iterable[Any]:
        """What has to be closed, in the order of opening; close it in reverse: clients, engine, then their loop."""
        held = (self.nvml, self.instruments, self._runner, self.engine, self._clients)
        return [one for one in held if one is not None]
