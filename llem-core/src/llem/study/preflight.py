"""What can be known to fail before anything is written or loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from llem.backends.base import Placement
from llem.config.identity import experiment_id, file_settings
from llem.config.load import Resolved, to_document
from llem.errors import ConfigError, Problem
from llem.experiment.placement import place
from llem.experiment.procedure import check_backend
from llem.meters.base import Meter, WindowMeter
from llem.models.resolve import resolve_model
from llem.models.spec import ModelSpec
from llem.plugins.registry import Registry

__all__ = ["Planned", "plan_experiment"]


@attrs.frozen
class Planned:
    """An experiment that is ready to run: its identity and the document `experiment.json`."""

    id: str
    document: Mapping[str, Any]
    trials: int
    max_trials: int
    restarts: int


def plan_experiment(resolved: Resolved, registry: Registry) -> Planned:
    """Check the model, the backend, the devices and the meters that the user named.

    Raises:
        ConfigError: no such model, or the backend refuses the configuration.
        UnknownPlugin, BrokenPlugin: a meter or backend that cannot be used.
        MachineError: a required module or GPU is not there, or a named meter cannot be read.
    """
    experiment = resolved.experiment
    model = resolve_model(experiment.model, revision=experiment.revision, seed=experiment.weights_seed)
    check_backend(experiment, model, registry)
    registry.load("workload", experiment.workload.kind)
    placement = place(experiment)
    for name in experiment.meters or ():
        _try_meter(registry.load("meter", name), experiment.meter_options.get(name), placement)
    hashes = {path: _content_hash(path, name) for path, name in file_settings(experiment).items()}
    identity = experiment_id(experiment, model, hashes)
    document = {
        "id": identity,
        "config": to_document(experiment),
        "sources": dict(resolved.sources),
        "model": _model_document(model),
    }
    return Planned(identity, document, experiment.trials, experiment.max_trials, experiment.restarts)


def _try_meter(meter_class: type[Meter], options: Any, placement: Placement) -> None:
    """Open and close a meter that the user named. A library that measures by itself may take seconds to open, and does
    so in the worker alone."""
    if issubclass(meter_class, WindowMeter):
        return
    meter = meter_class(options, placement.gpu_uuids)
    try:
        meter.open()
    finally:
        meter.close()


def _model_document(model: ModelSpec) -> Mapping[str, Any]:
    names = ("name", "source", "weights", "fingerprint", "revision", "seed")
    return {name: getattr(model, name) for name in names}


def _content_hash(path: str, name: str) -> str:
    """SHA-256 of a file, or of a folder's file names and contents."""
    target = Path(name)
    if target.is_file():
        return hashlib.sha256(target.read_bytes()).hexdigest()
    if not target.is_dir():
        raise ConfigError("a file of the configuration is not there", problems=(Problem(path, f"no file {name}"),))
    found = hashlib.sha256()
    for file in sorted(part for part in target.rglob("*") if part.is_file()):
        found.update(str(file.relative_to(target)).encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()
