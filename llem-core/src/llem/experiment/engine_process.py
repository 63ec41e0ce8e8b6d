"""One engine process: what the experiments that are measured with its engine have in common."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Iterable
from typing import Any

import attrs

from llem.backends.base import Engine, Placement
from llem.devices.locks import Lock
from llem.devices.nvml import Nvml
from llem.errors import ExperimentFailed
from llem.experiment.instruments import Instruments
from llem.experiment.serving.capacity import Probe
from llem.experiment.tenants import Tenants
from llem.findings import Finding
from llem.meters.trace import TraceRow
from llem.models.resolve import resolve_model
from llem.models.spec import ModelSpec
from llem.models.tokenizer import Tokenizer, load_tokenizer
from llem.plugins.registry import Registry
from llem.protocol.events import Emit, Phase
from llem.protocol.order import WorkOrder
from llem.store.models import BaselineReading
from llem.store.store import Store

__all__ = ["EngineProcess"]


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

    @property
    def runner(self) -> asyncio.Runner:
        """The owner of the one event loop of serving loads, which lives as long as the engine."""
        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner

    def phase(self, name: str, seconds: float | None = None, **more: Any) -> None:
        """Tell which phase begins and how long it should take."""
        self.emit(Phase(phase=name, seconds=seconds, **more))

    def check_stop(self) -> None:
        """Raise ExperimentFailed (interrupted) once the worker is to stop."""
        if self.stop.is_set():
            raise ExperimentFailed("stopped by the user", "go on with `--resume`", code="interrupted")

    def rest(self, seconds: float) -> None:
        """Do nothing, and wake at once when the worker is to stop."""
        self.stop.wait(seconds)
        self.check_stop()

    def holdings(self) -> Iterable[Any]:
        """What has to be closed, in the order of opening; close it in reverse: the engine first, then its loop."""
        held = (self.nvml, self.instruments, self._runner, self.engine)
        return [one for one in held if one is not None]
