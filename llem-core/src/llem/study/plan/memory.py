"""How much GPU memory a point needs at least, from the sizes of its model. An estimate.

Pure, but for `this_gpu`, which looks at this machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from llem.backends.base import Holding
from llem.config.models import Experiment
from llem.errors import ConfigError, MachineError, Problem
from llem.models.shapes import parameter_count
from llem.models.spec import ModelSpec
from llem.workloads.base import Lognormal, Uniform

__all__ = [
    "MEMORY_BASIS",
    "GpuKind",
    "MemoryEstimate",
    "UnknownMemory",
    "estimate_memory",
    "gib",
    "parse_bytes",
    "refuse_too_large",
    "this_gpu",
]

GIB = 2**30
#: What the estimate is made of, for whoever reads it.
MEMORY_BASIS = (
    "weights, and the key-value cache of all requests in flight at their full length; activations and what the engine "
    "sets aside come on top"
)
_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


@attrs.frozen
class GpuKind:
    """What a study's GPUs are, where it is known: memory of each, and the name that NVML gives."""

    memory_bytes: int
    name: str | None = None


@attrs.frozen
class MemoryEstimate:
    """Bytes over all GPUs of a point, by the sizes of its model.

    Attributes:
        parameters: of the model.
        bits: of each parameter, at least.
        weight_bytes: parameters x bits / 8 x copies; what an engine adds to it (padding, buffers, activations) is not
            in it.
        certain: whether the engine holds at least that on its GPUs. Not where it may quantise or offload the weights.
        kv_bytes: key-value cache of all requests in flight at their full length, in the cache's number format; None
            where their number or length is not known. Engines that page make do with less.
        gpus: that share it.
        copies: whole models on them.
    """

    parameters: int
    bits: float
    weight_bytes: int
    certain: bool
    kv_bytes: int | None
    gpus: int
    copies: int = 1

    @property
    def total_bytes(self) -> int:
        """Weights and, where it is known, key-value cache."""
        return self.weight_bytes + (self.kv_bytes or 0)

    def document(self) -> Mapping[str, Any]:
        """As JSON values."""
        return attrs.asdict(self)


@attrs.frozen
class UnknownMemory:
    """Why there is no estimate for a point."""

    reason: str

    def document(self) -> Mapping[str, Any]:
        """As JSON values."""
        return {"unknown": self.reason}


def this_gpu() -> GpuKind | None:
    """The GPU with the most memory that this process may see; None where there is none, or none can be reached."""
    import contextlib

    from llem.devices.nvml import Nvml

    try:
        nvml = Nvml.open()
    except MachineError:  # no driver or no permission: nothing is known, which is no mistake of a plan
        return None
    with contextlib.closing(nvml):
        found = [GpuKind(gpu.memory_bytes, gpu.name) for gpu in nvml.gpus() if gpu.memory_bytes is not None]
    return max(found, key=lambda gpu: gpu.memory_bytes, default=None)


def estimate_memory(experiment: Experiment, model: ModelSpec, held: Holding) -> MemoryEstimate | UnknownMemory | None:
    """What a point needs; None for a backend that holds no model.

    Args:
        held: what the backend says. Where it leaves the bits of a parameter open, the dtype's are taken and nothing is
            certain.
    """
    sizes = model.config or {}
    parameters = parameter_count(sizes) if sizes else None
    dtype = _dtype(experiment, sizes)
    if held.weight_bits == 0:
        return None
    if held.unknown is not None:
        return UnknownMemory(held.unknown)
    if parameters is None:
        return UnknownMemory("the sizes of the model are not known before it is loaded")
    if dtype is None:
        return UnknownMemory("the model's own number format is not known before it is loaded")
    quantised = "quantization_config" in sizes  # its files hold less than the dtype says
    bits = 8.0 * _BYTES[dtype] if held.weight_bits is None else held.weight_bits
    cache_bits = 8.0 * _BYTES[dtype] if held.cache_bits is None else held.cache_bits
    tokens = _tokens_in_flight(experiment)
    return MemoryEstimate(
        parameters,
        bits,
        held.copies * int(parameters * bits / 8),
        held.weight_bits is not None and not quantised,
        None if tokens is None else int(_kv_elements_per_token(sizes) * tokens * cache_bits / 8),
        experiment.gpu_count or 1,
        held.copies,
    )


def refuse_too_large(estimate: MemoryEstimate, gpu: GpuKind) -> None:
    """Raise ConfigError where the weights alone are certain not to fit."""
    room = estimate.gpus * gpu.memory_bytes
    if not estimate.certain or estimate.weight_bytes <= room:
        return
    count = f"{estimate.parameters / 1e9:,.2f} billion parameters of {estimate.bits:g} bits"
    times = f"{estimate.copies} copies of " if estimate.copies > 1 else ""
    what = f"{times}{count} make {gib(estimate.weight_bytes)}"
    have = f"the GPU has {gib(room)}" if estimate.gpus == 1 else f"{estimate.gpus} GPUs have {gib(room)}"
    message = f"does not fit: {what}, estimated, and {have}"
    hint = "use more GPUs, fewer bits or a smaller model"
    raise ConfigError("the model does not fit", problems=(Problem("model", message, hint),), code="model_too_large")


def _dtype(experiment: Experiment, sizes: Mapping[str, Any]) -> str | None:
    named: str = experiment.dtype
    if named == "auto":
        named = str(sizes.get("dtype") or sizes.get("torch_dtype") or "").removeprefix("torch.")
    return named if named in _BYTES else None


def _kv_elements_per_token(sizes: Mapping[str, Any]) -> int:
    """Elements of the key-value cache of one token: keys and values, all layers."""
    heads = int(sizes["num_attention_heads"])
    size = int(sizes.get("head_dim") or int(sizes["hidden_size"]) // heads)
    return 2 * int(sizes["num_hidden_layers"]) * int(sizes.get("num_key_value_heads") or heads) * size


def _tokens_in_flight(experiment: Experiment) -> int | None:
    """Longest requests in flight at once, at their full length; None for arrivals that wait for nobody."""
    load = experiment.load
    requests = {"offline": "batch_size", "closed": "concurrency"}.get(load.kind)
    lengths = [_longest(getattr(experiment.workload, name, None)) for name in ("input_tokens", "output_tokens")]
    if requests is None or None in lengths:
        return None
    return int(getattr(load, requests)) * sum(length for length in lengths if length is not None)


def _longest(length: Any) -> int | None:
    if isinstance(length, Uniform):
        return length.high
    if isinstance(length, Lognormal):
        return length.max
    return length if isinstance(length, int) else None


def gib(count: int) -> str:
    """`15.0 GiB`; below a tenth of one in MiB."""
    return f"{count / GIB:,.1f} GiB" if count >= GIB / 10 else f"{count / 2**20:,.1f} MiB"


def parse_bytes(text: str) -> int:
    """Bytes from `80GiB` or `80 GB`. Raises ValueError, also without a unit: nobody knows which is meant."""
    squeezed = text.replace(" ", "").upper()
    digits = squeezed.rstrip("BKMGI")
    unit = squeezed[len(digits) :]
    try:
        amount = float(digits)
    except ValueError:
        amount = 0.0
    if 0 < amount < 1e18 and not unit:
        raise ValueError(f"{text!r} has no unit; write it as {digits}GiB or {digits}GB")
    if not 0 < amount < 1e18 or unit not in _UNITS:
        raise ValueError(f"{text!r} is no amount of memory; write it as 80GiB")
    return int(amount * _UNITS[unit])
