"""What the steps of a procedure share: filled in from step to step, held in one place."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from llem.backends.base import Backend, Engine, Placement, Request
from llem.config.models import Experiment
from llem.devices.nvml import Nvml
from llem.errors import ExperimentFailed, LlemError
from llem.experiment.events import Emit
from llem.experiment.instruments import Instruments
from llem.experiment.order import WorkOrder
from llem.experiment.tenants import Tenants
from llem.experiment.work import Work
from llem.findings import Finding
from llem.models.spec import ModelSpec
from llem.plugins.registry import Registry
from llem.results.store import Store
from llem.workloads.base import Workload

__all__ = ["Session"]


@attrs.define
class Session:
    """One engine process working on one experiment.

    Given at the start: order, experiment, model, placement, registry, store, emit, stop. The rest is filled in by the
    step that its comment names.
    """

    order: WorkOrder
    experiment: Experiment
    model: ModelSpec
    placement: Placement
    registry: Registry
    store: Store
    emit: Emit
    stop: threading.Event
    events_fd: int | None = None
    findings: list[Finding] = attrs.field(factory=list)
    nvml: Nvml | None = None  # open_instruments
    instruments: Instruments | None = None  # open_instruments
    tenants: Tenants | None = None  # open_instruments
    backend: Backend | None = None  # check
    engine: Engine | None = None  # load
    load_s: float | None = None  # load
    workload: Workload | None = None  # load
    work: Work | None = None  # check: what is done with the load that the experiment has
    environment: str = ""  # record: hash of the stored environment
    cursor: int = 0  # next request of the workload's sequence

    @property
    def live_engine(self) -> Engine:
        """The loaded engine."""
        if self.engine is None:
            raise LlemError("the engine is not loaded yet", code="bug")
        return self.engine

    @property
    def live_work(self) -> Work:
        """What the experiment's load means for warm-up, calibration and trials."""
        if self.work is None:
            raise LlemError("the load is not checked yet", code="bug")
        return self.work

    @property
    def live_instruments(self) -> Instruments:
        """The opened instruments."""
        if self.instruments is None:
            raise LlemError("the meters are not open yet", code="bug")
        return self.instruments

    def phase(self, name: str, seconds: float | None = None, **more: Any) -> None:
        """Tell which phase begins and how long it should take."""
        self.emit({"event": "phase", "phase": name, "seconds": seconds, **more})

    def check_stop(self) -> None:
        """Raise ExperimentFailed (interrupted) once the user has asked to stop."""
        if self.stop.is_set():
            raise ExperimentFailed("stopped by the user", "run again to measure the rest", code="interrupted")

    def next_requests(self, count: int) -> Sequence[Request]:
        """The next requests of the workload's sequence, made before anything is timed."""
        if self.workload is None:
            raise LlemError("the workload is not ready yet", code="bug")
        requests = self.workload.requests(self.cursor, count)
        self.cursor += count
        return requests

    def facts(self) -> Mapping[str, Any]:
        """What `engine-<restart>.json` holds, schema version aside."""
        engine, instruments = self.live_engine, self.live_instruments
        architecture = engine.architecture()
        gpus = {gpu.uuid: gpu.name for gpu in self.nvml.gpus()} if self.nvml else {}
        return {
            "restart": self.order.restart,
            "environment": self.environment,
            "effective": dict(engine.effective_config()),
            "architecture": None if architecture is None else attrs.asdict(architecture),
            "device": {
                "device": self.placement.device,
                "gpus": list(self.placement.gpu_uuids),
                "names": [gpus.get(uuid) for uuid in self.placement.gpu_uuids],
            },
            "load_s": self.load_s,
            "domains": [{"meter": meter, **attrs.asdict(domain)} for meter, domain in instruments.domains],
            "findings": [attrs.asdict(found) for found in self.findings],
            "workload": dict(self.workload.describe()) if self.workload else {},
            **(self.work.facts() if self.work else {}),
        }
