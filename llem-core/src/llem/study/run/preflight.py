"""What can be known to fail on this machine before anything is written or loaded."""

from __future__ import annotations

from typing import Any

from llem.backends.base import Placement
from llem.config.models import Experiment
from llem.errors import ConfigError, MachineError
from llem.experiment.placement import place
from llem.launchers.base import Launcher
from llem.meters.base import Meter, WindowMeter
from llem.plugins.registry import Registry
from llem.study.plan.study import Study

__all__ = ["check_study", "try_meter"]

#: What of an experiment has to do with this machine, beside the workload's kind.
_OF_THE_MACHINE = ("backend", "device", "gpus", "meters", "meter_options")


def check_study(study: Study, registry: Registry, launcher: Launcher) -> None:
    """Whether a study can run here; each engine, device and meter is tried once.

    What the launcher's workers do not share with this process is not tried here; the launcher checks the rest.

    Raises:
        UnknownPlugin, BrokenPlugin: a meter, a workload or a backend that cannot be used.
        MachineError: a required module or GPU is not there, a named meter cannot be read, or the study needs GPUs.
        ConfigError, MachineError: `parallel` asks for more workers than there can be; or as `Launcher.check`.
    """
    tried: set[str] = set()
    for one in study.experiments:
        experiment = one.experiment
        needed = repr([getattr(experiment, name) for name in _OF_THE_MACHINE] + [experiment.workload.kind])
        if needed in tried:
            continue
        tried.add(needed)
        if launcher.same_packages:
            _check_engine(experiment, registry)
        if launcher.same_machine:
            placement = _check_machine(experiment, registry)
            if not placement.gpu_uuids:
                _check_without_gpu(study)
    if study.file.parallel > 1 and not launcher.side_by_side:
        hint = "set `parallel: 1`, or use the launcher `process`"
        raise ConfigError(f"the launcher {launcher.name!r} runs one worker at a time", hint)
    launcher.check([one.experiment for one in study.experiments])


def _check_without_gpu(study: Study) -> None:
    """What a study whose experiments run on the CPU may not ask for."""
    parallel = study.file.parallel
    if parallel > 1:
        message = f"`parallel: {parallel}` needs a GPU for each worker, and experiments run on the CPU"
        raise MachineError(message, "set `parallel: 1`: workers that share a processor disturb each other", "no_gpu")
    if study.file.order.gap_until_c is not None:
        message = "`order.gap_until_c` waits for temperatures of GPUs, and experiments run on the CPU"
        raise MachineError(message, "pause by time with `order.gap_s`", "no_gpu")


def _check_engine(experiment: Experiment, registry: Registry) -> None:
    registry.load("backend", experiment.backend)


def _check_machine(experiment: Experiment, registry: Registry) -> Placement:
    registry.load("workload", experiment.workload.kind)
    placement = place(experiment)
    for name in experiment.meters or ():
        try_meter(registry.load("meter", name), experiment.meter_options.get(name), placement)
    return placement


def try_meter(meter_class: type[Meter], options: Any, placement: Placement) -> None:
    """Open and close a meter that the user named. A library that measures by itself may take seconds to open, and does
    so in the worker alone."""
    if issubclass(meter_class, WindowMeter):
        return
    meter = meter_class(options, placement.gpu_uuids)
    try:
        meter.open()
    finally:
        meter.close()
