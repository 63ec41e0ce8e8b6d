"""What the steps of a procedure share: filled in from step to step, held in one place."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from llem.backends.base import Backend, Completion, Engine, Placement, Request
from llem.config.models import Experiment
from llem.devices.nvml import Nvml
from llem.errors import ExperimentFailed, LlemError
from llem.experiment.events import Emit
from llem.experiment.instruments import Instruments
from llem.experiment.order import WorkOrder
from llem.experiment.tenants import Tenants
from llem.findings import Finding
from llem.models.spec import ModelSpec
from llem.plugins.registry import Registry
from llem.results.store import Store
from llem.workloads.base import Workload

__all__ = ["Batch", "Session"]


@attrs.frozen
class Batch:
    """One batch as it ran: requests, completions, and monotonic times around the engine's call."""

    requests: Sequence[Request]
    completions: Sequence[Completion]
    start_ns: int
    end_ns: int


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
    batch_s: float = 0.0  # warm_up: time of one batch, the least of the last ones
    batches: int = 1  # calibrate: batches per window
    lead_batches: int = 0  # calibrate: batches before and after a window
    cursor: int = 0  # next request of the workload's sequence

    @property
    def live_engine(self) -> Engine:
        """The loaded engine."""
        if self.engine is None:
            raise LlemError("the engine is not loaded yet", code="bug")
        return self.engine

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

    def next_batches(self, count: int) -> list[Sequence[Request]]:
        """The next batches of the workload's sequence, made before anything is timed."""
        if self.workload is None:
            raise LlemError("the workload is not ready yet", code="bug")
        size = self.experiment.load.batch_size
        requests = self.workload.requests(self.cursor, size * count)
        self.cursor += size * count
        return [requests[i : i + size] for i in range(0, len(requests), size)]

    def run(self, requests: Sequence[Request]) -> Batch:
        """One call of the engine, timed."""
        engine, experiment = self.live_engine, self.experiment
        start = time.monotonic_ns()
        completions = engine.generate(requests, experiment.sampling, token_times=experiment.token_times)
        return Batch(requests, completions, start, time.monotonic_ns())

    def facts(self) -> Mapping[str, Any]:
        """What `engine-<restart>.json` holds, environment and schema version aside."""
        engine, instruments = self.live_engine, self.live_instruments
        architecture = engine.architecture()
        gpus = {gpu.uuid: gpu.name for gpu in self.nvml.gpus()} if self.nvml else {}
        return {
            "restart": self.order.restart,
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
        }
