"""What can be known to fail on this machine before anything is written or loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from llem.backends.base import Placement
from llem.config.load import Resolved
from llem.config.models import Experiment
from llem.experiment.placement import place
from llem.meters.base import Meter, WindowMeter
from llem.plugins.registry import Registry
from llem.study.expand import Study
from llem.study.identify import Identified, identify

__all__ = ["Planned", "plan_experiment", "plan_study"]

#: What of an experiment has to do with this machine, beside the workload's kind.
_OF_THE_MACHINE = ("backend", "device", "gpus", "meters", "meter_options")


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
    identified = identify(resolved, registry)
    _check_machine(identified.experiment, registry)
    return _planned(identified)


def plan_study(study: Study, registry: Registry) -> list[Planned]:
    """The same for every experiment of a study, in running order; each engine, device and meter is tried once.

    Raises UnknownPlugin, BrokenPlugin and MachineError as `plan_experiment`.
    """
    tried: set[str] = set()
    for one in study.experiments:
        experiment = one.identified.experiment
        needed = repr([getattr(experiment, name) for name in _OF_THE_MACHINE] + [experiment.workload.kind])
        if needed not in tried:
            tried.add(needed)
            _check_machine(experiment, registry)
    return [_planned(one.identified) for one in study.experiments]


def _planned(identified: Identified) -> Planned:
    experiment = identified.experiment
    return Planned(identified.id, identified.document(), experiment.trials, experiment.max_trials, experiment.restarts)


def _check_machine(experiment: Experiment, registry: Registry) -> None:
    registry.load("backend", experiment.backend)
    registry.load("workload", experiment.workload.kind)
    placement = place(experiment)
    for name in experiment.meters or ():
        _try_meter(registry.load("meter", name), experiment.meter_options.get(name), placement)


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
