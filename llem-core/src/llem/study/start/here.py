"""What a first study can use on this machine: backends, GPUs, meters."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence

import attrs

from llem.backends.start import Start, start_of
from llem.config.load import ECHO
from llem.config.models import DEFAULT_METERS
from llem.devices.nvml import Gpu, Nvml
from llem.errors import LlemError
from llem.meters.rapl import RaplZone, rapl_zones
from llem.plugins.registry import Registry
from llem.study.plan.chosen import gpu_here, in_order

__all__ = ["Here", "look_here"]

#: The greatest shape that is offered for a GPU of at least so many GiB, weights and a cache of long batches included.
SHAPES = ((40, "shape:llama-3.1-8b"), (8, "shape:llama-3.2-1b"))
SMALL = "shape:tiny"


@attrs.frozen
class Here:
    """What is installed and present.

    Attributes:
        backends: each installed backend that runs a model, in the order in which llem takes them. Without any, the fake
            backend `echo` alone.
        stream: those of them that serve loads.
        gpus: the visible GPUs, as "NAME, 80 GiB"; empty where experiments run on the CPU.
        gpu_gib: memory of the smallest of them.
        meters: built-in meters that can be read here.
        modelled: whether `codecarbon` is installed, which models what no sensor measures.
        default: the backend that the user configuration names.
    """

    backends: Mapping[str, Start]
    stream: frozenset[str] = frozenset()
    gpus: tuple[str, ...] = ()
    gpu_gib: float = 0.0
    meters: tuple[str, ...] = ()
    modelled: bool = False
    default: str | None = None

    @property
    def able(self) -> tuple[str, ...]:
        """Backends that can run here by themselves."""
        return tuple(name for name, start in self.backends.items() if start.obstacle is None)

    @property
    def model(self) -> str:
        """A model that every installed backend can run here, and that needs no download."""
        return next((shape for gib, shape in SHAPES if self.gpus and self.gpu_gib >= gib), SMALL)

    def backend(self, *, streams: bool = False) -> str:
        """The default, else the first that can run here; of those that serve loads, if `streams` and there is one."""
        asked = () if self.default is None else (self.default,)
        names = [name for name in (*asked, *self.able) if name in self.backends]
        serving = [name for name in names if name in self.stream]
        found: list[str] = [*(serving if streams else ()), *names, *self.backends]
        return found[0]


def look_here(
    registry: Registry,
    default: str | None,
    model: str | None,
    *,
    gpu: Callable[[], bool] = gpu_here,
    gpus: Callable[[], Sequence[Gpu]] | None = None,
    zones: Callable[[], Sequence[RaplZone]] = rapl_zones,
) -> Here:
    """Ask plugins and the machine. No engine is imported, and what cannot be read counts as absent.

    Args:
        default: the backend of the user configuration.
        model: of the study, if one is named: how its weights may be held depends on it.
        gpu: whether experiments run on a GPU here.
        gpus, zones: what the machine has.
    """
    on_gpu = gpu()
    found = list((gpus or _gpus)()) if on_gpu else []
    names = in_order(registry.names("backend")) or [ECHO]
    sizes = [one.memory_bytes / 2**30 for one in found if one.memory_bytes is not None]
    here = Here(
        {},
        frozenset(n for n in names if registry.reference("backend", n).capabilities.get("stream") == "supported"),
        tuple(
            one.name + ("" if one.memory_bytes is None else f", {one.memory_bytes / 2**30:.0f} GiB") for one in found
        ),
        min(sizes, default=0.0),
        tuple(name for name in DEFAULT_METERS if (found if name == "nvml" else _readable(zones))),
        "codecarbon" in registry.names("meter") and not registry.reference("meter", "codecarbon").missing(),
        default,
    )
    starts = {n: start_of(registry.reference("backend", n), on_gpu, model or here.model) for n in names}
    return attrs.evolve(here, backends=starts)


def _gpus() -> list[Gpu]:
    try:
        with contextlib.closing(Nvml.open()) as nvml:
            return list(nvml.gpus())
    except LlemError:  # no driver: `llem doctor` says what to do
        return []


def _readable(zones: Callable[[], Sequence[RaplZone]]) -> bool:
    try:
        return any(zone.readable and not zone.trouble for zone in zones())
    except LlemError:  # `llem doctor` says why
        return False
