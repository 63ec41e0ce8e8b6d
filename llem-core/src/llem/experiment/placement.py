"""Which device an experiment runs on: resolved before anything is loaded, never changed silently afterwards.

`device: auto` is the CPU where there is no GPU, or where `CUDA_VISIBLE_DEVICES` hides every GPU on purpose (`NONE`).
A list that names what is not there, a slice of a GPU (MIG), or a driver that does not answer is a mistake, and refused.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path

import attrs

from llem.backends.base import Placement
from llem.config.models import Experiment
from llem.devices.locks import Lock, gpu_lock, lock_gpus
from llem.devices.nvml import Gpu, Nvml
from llem.errors import ConfigError, MachineError

__all__ = ["VISIBLE_DEVICES", "Candidates", "among", "candidates", "given_devices", "hold", "place", "restrict"]

VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES"
#: Entries that hide every GPU on purpose: nothing, and what schedulers and container runtimes write for "no device".
NONE = frozenset(("", "none", "void", "nodevfiles"))
#: What opening a device file answers where a container or a scheduler withholds the device, or there is none behind it.
WITHHELD = (errno.EPERM, errno.ENXIO, errno.ENODEV, errno.ENOENT)


@attrs.frozen
class Candidates:
    """GPUs, by UUID, from which an experiment takes so many, the first that are free; none for the CPU."""

    uuids: tuple[str, ...] = ()
    count: int = 0

    @property
    def first(self) -> Placement:
        """Where it runs if nobody else has them."""
        return _placement(self.uuids[: self.count])

    @property
    def who(self) -> str:
        """The GPUs and who has them, by their own words."""
        names = [f"{uuid} ({gpu_lock(uuid).holder() or 'unknown holder'})" for uuid in self.uuids]
        if self.count == len(names):
            return " and ".join(names)
        return (f"{self.count} of " if self.count > 1 else "") + ", ".join(names)


def place(experiment: Experiment) -> Placement:
    """Where an experiment runs if nobody else has its GPUs. Raises as `candidates`."""
    return candidates(experiment).first


def candidates(experiment: Experiment, *, spread: bool = False) -> Candidates:
    """Look at this machine's GPUs.

    Args:
        spread: an experiment that needs one GPU may have any that is visible, not only the first.

    Raises:
        MachineError: what was asked for is not there, is a slice of a GPU, or cannot be told for want of a driver.
        ConfigError: `gpus` names a GPU twice.
    """
    if experiment.device == "cpu" and not experiment.gpus:
        return Candidates()
    visible = os.environ.get(VISIBLE_DEVICES)
    _refuse_slices(experiment, visible)
    try:
        nvml = Nvml.open()
    except MachineError as error:
        if experiment.device == "cuda" or experiment.gpus:
            raise
        _refuse_silent_cpu(visible, error.message)
        return Candidates()
    with contextlib.closing(nvml):
        gpus = nvml.gpus()
        if not gpus and experiment.device == "auto" and not experiment.gpus:
            _refuse_silent_cpu(visible, "the driver lists no GPU")
        return among(experiment, gpus, visible, spread=spread)


def _refuse_silent_cpu(visible: str | None, why: str) -> None:
    """Raise MachineError where no GPU can be reached, and yet `auto` may not mean the CPU: one is named, or given."""
    if visible is not None:
        if not _hides_all(visible):
            hint = "unset the variable, or set `device: cpu`; `llem doctor` shows what is there"
            raise MachineError(f"{VISIBLE_DEVICES} is {visible!r}, and {why}", hint, code="no_gpu")
    elif given := given_devices():
        hint = (
            "mend the driver (in a container, it needs the driver capability `utility`), "
            "or set `device: cpu`; `llem doctor` shows what is there"
        )
        raise MachineError(f"{given[0]} is there, and its GPU cannot be used: {why}", hint, code="no_gpu")


def given_devices(root: Path = Path("/dev")) -> list[Path]:
    """Device files of NVIDIA GPUs that this process was given: it may open them, or only lacks the permission."""
    return [path for path in sorted(root.glob("nvidia[0-9]*")) if _given(path)]


def _given(path: Path) -> bool:
    try:
        os.close(os.open(path, os.O_RDWR))
    except OSError as error:
        return error.errno not in WITHHELD
    return True


def among(
    experiment: Experiment, gpus: Sequence[Gpu], visible: str | None = None, *, spread: bool = False
) -> Candidates:
    """As `candidates`, given what NVML lists and `CUDA_VISIBLE_DEVICES`. Pure."""
    if experiment.device == "cpu":
        hint = "leave `gpus` out, or set `device: cuda`"
        raise MachineError("`device` is cpu, yet `gpus` asks for GPUs", hint, code="gpu_unused")
    _refuse_slices(experiment, visible)
    allowed = _visible_gpus(gpus, visible)
    uuids = tuple(gpu.uuid for gpu in allowed)
    if isinstance(experiment.gpus, int):
        if len(uuids) < experiment.gpus:
            there = f"visible: {', '.join(uuids) or 'none'}"
            what = f"`gpus` asks for {experiment.gpus} GPUs, and this process sees {len(uuids)}"
            raise MachineError(what, there, code="gpu_missing")
        return Candidates(uuids, experiment.gpus)
    if experiment.gpus:
        named = tuple(_find(wanted, gpus, allowed).uuid for wanted in experiment.gpus)
        if len(set(named)) < len(named):  # its energy would be counted twice
            raise ConfigError("`gpus` names a GPU twice", f"named: {', '.join(map(str, experiment.gpus))}")
        return Candidates(named, len(named))
    if uuids:
        return Candidates(uuids if spread else uuids[:1], 1)
    if visible is not None and not _hides_all(visible):
        there = ", ".join(f"{gpu.index} ({gpu.uuid})" for gpu in gpus) or "none"
        hint = f"GPUs of this machine: {there}; correct the variable, or unset it, or set `device: cpu`"
        message = f"{VISIBLE_DEVICES} is {visible!r}, and its first entry names no GPU of this machine"
        raise MachineError(message, hint, code="gpu_missing")
    if experiment.device == "auto":
        return Candidates()
    raise MachineError("no GPU is visible to this process", "see `llem doctor`, or set `device: cpu`", code="no_gpu")


def hold(experiment: Experiment, holder: str) -> tuple[Placement, Mapping[str, Lock]]:
    """Choose GPUs that are free and lock them, for a worker whose launcher could not: it runs on another machine.

    Any that are visible will do for an experiment that names none: what a cluster assigned to this job, or all there
    are on a node that other jobs share.

    Raises:
        MachineError: too few are free (gpu_busy), or as `candidates`.
        ConfigError: as `candidates`.
    """
    found = candidates(experiment, spread=True)
    locks = lock_gpus(found.uuids, found.count, holder)
    if locks is None:
        hint = "wait for it, or let the cluster assign GPUs that no other job has"
        raise MachineError(f"another study measures there: {found.who}", hint, "gpu_busy")
    return _placement(tuple(locks)), locks


def _placement(uuids: tuple[str, ...]) -> Placement:
    return Placement("cuda", uuids) if uuids else Placement("cpu")


def _refuse_slices(experiment: Experiment, visible: str | None) -> None:
    """Raise MachineError (mig) where the variable, or `gpus`, names a slice: `MIG-<uuid>`, `MIG-GPU-<uuid>/<g>/<c>`."""
    named = experiment.gpus if isinstance(experiment.gpus, tuple) else ()
    for what, entries in ((VISIBLE_DEVICES, (visible or "").split(",")), ("`gpus`", named)):
        for entry in (str(one).strip() for one in entries):
            if entry.casefold().startswith("mig"):
                hint = (
                    "the energy counter covers the whole GPU, not a slice: name a GPU without MIG "
                    "(`nvidia-smi -L` lists them), or set `device: cpu`"
                )
                raise MachineError(f"{what} names the MIG slice {entry}, which cannot be measured", hint, code="mig")


def _hides_all(visible: str) -> bool:
    """Whether a list hides every GPU on purpose: its first entry is none, or a negative number, as for CUDA."""
    first = visible.split(",")[0].strip().casefold()
    return first in NONE or first.startswith("-")


def _visible_gpus(gpus: Sequence[Gpu], visible: str | None) -> list[Gpu]:
    """GPUs that `CUDA_VISIBLE_DEVICES` leaves, in its order; as CUDA does, what follows an unknown entry is hidden.

    So is what follows a second mention, for which CUDA shows none at all.
    """
    if visible is None:
        return list(gpus)
    found: list[Gpu] = []
    for entry in (part.strip() for part in visible.split(",")):
        match = [gpu for gpu in gpus if entry and (entry == str(gpu.index) or gpu.uuid.startswith(entry))]
        if not match or match[0] in found:
            break
        found.append(match[0])
    return found


def _find(wanted: int | str, gpus: Sequence[Gpu], allowed: Sequence[Gpu]) -> Gpu:
    for gpu in gpus:
        if wanted == gpu.index or wanted == gpu.uuid:
            if gpu not in allowed:
                hint = "change CUDA_VISIBLE_DEVICES or `gpus`; a number there takes so many of those that are visible"
                raise MachineError(f"GPU {wanted} is hidden by CUDA_VISIBLE_DEVICES", hint, code="gpu_missing")
            return gpu
    there = ", ".join(f"{gpu.index} ({gpu.name}, {gpu.uuid})" for gpu in gpus) or "none"
    raise MachineError(f"GPU {wanted} is not there", f"GPUs of this machine: {there}", code="gpu_missing")


def restrict(placement: Placement, environment: MutableMapping[str, str]) -> None:
    """Let this process see the chosen GPUs alone, by UUID. Must run before the engine's library starts CUDA."""
    environment[VISIBLE_DEVICES] = ",".join(placement.gpu_uuids)
