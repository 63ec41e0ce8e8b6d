"""What the steps of one experiment share: filled in from step to step, held in one place."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from llem.backends.base import Backend, Engine, Placement, Request
from llem.config.models import Experiment
from llem.errors import LlemError
from llem.experiment.host import Host
from llem.experiment.instruments import Instruments
from llem.experiment.order import WorkOrder
from llem.experiment.tenants import Tenants
from llem.experiment.work import Work
from llem.findings import Finding
from llem.models.spec import ModelSpec
from llem.results.models import Trial
from llem.results.store import Store
from llem.workloads.base import Workload

__all__ = ["Session"]


@attrs.define(eq=False)
class Session:
    """One experiment in one engine process.

    Given at the start: id, host, experiment, model. The rest is filled in by the step that its comment names.
    """

    id: str
    host: Host
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
        return self.host.order

    @property
    def store(self) -> Store:
        return self.host.store

    @property
    def stop(self) -> threading.Event:
        return self.host.stop

    @property
    def placement(self) -> Placement:
        return self.host.placement

    @property
    def instruments(self) -> Instruments | None:
        return self.host.instruments

    @property
    def tenants(self) -> Tenants | None:
        return self.host.tenants

    @property
    def live_engine(self) -> Engine:
        """The loaded engine."""
        if self.host.engine is None:
            raise LlemError("the engine is not loaded yet", code="bug")
        return self.host.engine

    @property
    def live_instruments(self) -> Instruments:
        """The opened instruments."""
        if self.host.instruments is None:
            raise LlemError("the meters are not open yet", code="bug")
        return self.host.instruments

    # of the experiment

    @property
    def live_work(self) -> Work:
        """What the experiment's load means for warm-up, calibration and trials."""
        if self.work is None:
            raise LlemError("the load is not checked yet", code="bug")
        return self.work

    def emit(self, event: Mapping[str, Any]) -> None:
        """Tell something of this experiment."""
        self.host.emit({**event, "id": self.id})

    def phase(self, name: str, seconds: float | None = None, **more: Any) -> None:
        """Tell which phase of this experiment begins and how long it should take."""
        self.host.phase(name, seconds, **more, id=self.id)

    def check_stop(self) -> None:
        """As of the host."""
        self.host.check_stop()

    def next_requests(self, count: int) -> Sequence[Request]:
        """The next requests of the workload's sequence, made before anything is timed."""
        if self.workload is None:
            raise LlemError("the workload is not ready yet", code="bug")
        requests = self.workload.requests(self.cursor, count)
        self.cursor += count
        return requests

    def facts(self) -> Mapping[str, Any]:
        """What `engine-<restart>.json` holds, schema version aside."""
        host, engine, instruments = self.host, self.live_engine, self.live_instruments
        architecture = engine.architecture()
        gpus = {gpu.uuid: gpu.name for gpu in host.nvml.gpus()} if host.nvml else {}
        return {
            "restart": host.order.restart,
            "worker": host.order.worker,
            "experiments": len(host.order.experiments),
            "environment": host.environment or "",
            "effective": dict(engine.effective_config()),
            "architecture": None if architecture is None else attrs.asdict(architecture),
            "device": {
                "device": host.placement.device,
                "gpus": list(host.placement.gpu_uuids),
                "names": [gpus.get(uuid) for uuid in host.placement.gpu_uuids],
            },
            "load_s": host.load_s,
            "domains": [{"meter": meter, **attrs.asdict(domain)} for meter, domain in instruments.domains],
            "findings": [attrs.asdict(found) for found in (*host.findings, *self.findings)],
            "workload": dict(self.workload.describe()) if self.workload else {},
            **(self.work.facts() if self.work else {}),
        }
