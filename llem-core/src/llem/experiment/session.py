"""What the steps of one experiment share: filled in from step to step, held in one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from llem.backends.base import Backend, Engine, Request
from llem.config.models import Experiment
from llem.errors import LlemError
from llem.experiment.engine_process import EngineProcess
from llem.experiment.instruments import Instruments
from llem.experiment.tenants import Tenants
from llem.experiment.work import Work
from llem.findings import Finding
from llem.models.spec import ModelSpec
from llem.protocol.order import WorkOrder
from llem.store.models import Trial
from llem.store.store import Store
from llem.workloads.base import Workload

__all__ = ["Session"]


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
            "domains": [{"meter": meter, **attrs.asdict(domain)} for meter, domain in instruments.domains],
            "findings": [attrs.asdict(found) for found in (*process.findings, *self.findings)],
            "workload": dict(self.workload.describe()) if self.workload else {},
            **(self.work.facts() if self.work else {}),
        }
