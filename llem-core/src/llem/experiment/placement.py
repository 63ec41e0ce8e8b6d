"""Which device an experiment runs on: resolved before anything is loaded, never changed silently afterwards."""

from __future__ import annotations

import os
from collections.abc import MutableMapping, Sequence

from llem.backends.base import Placement
from llem.config.models import Experiment
from llem.devices.nvml import Gpu, Nvml
from llem.errors import ConfigError, MachineError

__all__ = ["VISIBLE_DEVICES", "choose", "place", "restrict", "visible_gpus"]

VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES"


def place(experiment: Experiment) -> Placement:
    """Look at this machine's GPUs and choose. Raises MachineError when what was asked for is not there."""
    if experiment.device == "cpu" and not experiment.gpus:
        return Placement("cpu")
    try:
        nvml = Nvml.open()
    except MachineError:
        if experiment.device == "auto" and not experiment.gpus:
            return Placement("cpu")
        raise
    try:
        return choose(experiment, nvml.gpus(), os.environ.get(VISIBLE_DEVICES))
    finally:
        nvml.close()


def choose(experiment: Experiment, gpus: Sequence[Gpu], visible: str | None) -> Placement:
    """The device and GPUs for an experiment, given what NVML lists and `CUDA_VISIBLE_DEVICES`. Pure."""
    if experiment.device == "cpu":
        hint = "leave `gpus` out, or set `device: cuda`"
        raise MachineError("`device` is cpu, yet `gpus` names GPUs", hint, code="gpu_unused")
    allowed = visible_gpus(gpus, visible)
    if experiment.gpus:
        uuids = tuple(_find(wanted, gpus, allowed).uuid for wanted in experiment.gpus)
        if len(set(uuids)) < len(uuids):  # its energy would be counted twice
            raise ConfigError("`gpus` names a GPU twice", f"named: {', '.join(map(str, experiment.gpus))}")
        return Placement("cuda", uuids)
    if allowed:
        return Placement("cuda", (allowed[0].uuid,))
    if experiment.device == "auto":
        return Placement("cpu")
    raise MachineError("no GPU is visible to this process", "see `llem doctor`, or set `device: cpu`", code="no_gpu")


def visible_gpus(gpus: Sequence[Gpu], visible: str | None) -> list[Gpu]:
    """GPUs that `CUDA_VISIBLE_DEVICES` leaves, in its order; as CUDA does, what follows an unknown entry is hidden."""
    if visible is None:
        return list(gpus)
    found: list[Gpu] = []
    for entry in (part.strip() for part in visible.split(",")):
        match = [gpu for gpu in gpus if entry and (entry == str(gpu.index) or gpu.uuid.startswith(entry))]
        if not match:
            break
        found.append(match[0])
    return found


def _find(wanted: int | str, gpus: Sequence[Gpu], allowed: Sequence[Gpu]) -> Gpu:
    for gpu in gpus:
        if wanted == gpu.index or wanted == gpu.uuid:
            if gpu not in allowed:
                hint = "change CUDA_VISIBLE_DEVICES or `gpus`"
                raise MachineError(f"GPU {wanted} is hidden by CUDA_VISIBLE_DEVICES", hint, code="gpu_missing")
            return gpu
    there = ", ".join(f"{gpu.index} ({gpu.name}, {gpu.uuid})" for gpu in gpus) or "none"
    raise MachineError(f"GPU {wanted} is not there", f"GPUs of this machine: {there}", code="gpu_missing")


def restrict(placement: Placement, environment: MutableMapping[str, str]) -> None:
    """Let this process see the chosen GPUs alone, by UUID. Must run before the engine's library starts CUDA."""
    environment[VISIBLE_DEVICES] = ",".join(placement.gpu_uuids)
