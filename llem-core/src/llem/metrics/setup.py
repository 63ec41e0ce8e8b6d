"""The facts of one experiment that its metrics are computed with: its configuration, its device, its ceiling. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from llem.devices.peaks import peak_of
from llem.metrics.boundary import RateSearched
from llem.metrics.work import Ceiling
from llem.models.shapes import SHAPES
from llem.models.sizes import attention_windows
from llem.models.spec import Architecture

__all__ = ["Setup", "setup_of"]


@attrs.frozen
class Setup:
    """Facts of one experiment.

    Attributes:
        config: the resolved configuration.
        device: "cpu" or "cuda"; "" when no engine was loaded.
        architecture: sizes of the loaded model, complete enough to count work with; else None.
        ceiling: peak rates of all GPUs together, or None with `ceiling_reason`.
        power_limits: watts that may flow at most, by domain, where known.
        probes: what the capacity probe of each engine process found, where there was one.
        searches: what each engine process that looked for the greatest rate found.
        workload: what the workload says of itself, by its own names.
        keeps_prompts: whether the engine has a prefix cache; None where that is not known.
        salt: what a server's synthetic prompts were drawn with; "" for those of every run, None where no engine says.
        chunks_untold: requests are known by their first and last token alone, as a command's file may tell them.
    """

    config: Mapping[str, Any]
    device: str
    architecture: Architecture | None
    ceiling: Ceiling | None
    ceiling_reason: str | None
    power_limits: Mapping[str, float]
    probes: tuple[Mapping[str, float], ...] = ()
    searches: tuple[RateSearched, ...] = ()
    chunks_untold: bool = False
    workload: Mapping[str, Any] = attrs.field(factory=dict)
    keeps_prompts: bool | None = False
    salt: str | None = None

    @property
    def preset(self) -> str:
        return str(self.config.get("preset", ""))

    @property
    def processes(self) -> int:
        return int(self.config.get("processes", 1))

    @property
    def trials(self) -> int:
        """Trials that were asked for at least."""
        return int(self.config.get("trials", 1))

    @property
    def serving(self) -> bool:
        """Whether requests arrive by themselves: a closed or an open load."""
        return bool(self.config.get("load", {}).get("kind", "offline") != "offline")

    @property
    def runs_already(self) -> bool:
        """Whether the engine is a server that llem did not start, which may have met others."""
        options = self.config.get(str(self.config.get("backend")))
        return self.salt is not None and isinstance(options, Mapping) and not options.get("command")

    @property
    def metered(self) -> bool:
        """Whether a command ran, of whose requests llem knows what a file tells."""
        return bool(self.config.get("load", {}).get("kind") == "command")

    @property
    def token_times(self) -> bool:
        """Whether an offline load was slowed to time its tokens; a serving load streams them anyway."""
        return bool(self.config.get("token_times", False)) and not self.serving

    @property
    def target_half_width(self) -> float:
        return float(self.config.get("target_half_width", 0.01))

    @property
    def exact_output(self) -> bool:
        """Whether every request must yield exactly the tokens that were asked for."""
        return bool(self.config.get("sampling", {}).get("ignore_eos", True))


def _dtype(config: Mapping[str, Any], effective: Mapping[str, Any]) -> str:
    """The number format of the matrix products: what the engine says, else what was asked for."""
    dtype = str(effective.get("dtype") or config.get("dtype", "")).removeprefix("torch.")
    if dtype == "float32" and effective.get("float32_matmul_precision") in ("high", "medium"):
        return "tfloat32"
    return dtype


def _ceiling(engine: Mapping[str, Any], dtype: str) -> tuple[Ceiling | None, str | None]:
    device = engine.get("device", {})
    names = device.get("names", [])
    if device.get("device") != "cuda" or not names:
        return None, "no_gpu"
    peaks = [peak_of(name or "") for name in names]
    peak = peaks[0] if all(one == peaks[0] for one in peaks) else None
    ceiling = None if peak is None else Ceiling.of(peak, dtype, len(names))
    return ceiling, None if ceiling else "peak_unknown"


#: Whole numbers of bytes of unquantised weights; vLLM's copies of small ones add less than a percent.
WHOLE_BYTES, COPIES = (2, 4), 0.01
#: Model classes of which no layer has a window.
ENDLESS = ("LlamaForCausalLM",)


def _architecture(experiment: Mapping[str, Any], engine: Mapping[str, Any]) -> Architecture | None:
    """Sizes from engine-<process>.json, with what documents before schema 4 and other backends do not tell.

    Windows follow from a shape's configuration or a class without any; bytes read from weights that are not quantised;
    speculation from the effective configuration. Without windows there is no architecture to count with.
    """
    if not engine.get("architecture"):
        return None
    known, effective = Architecture(**engine["architecture"]), engine.get("effective") or {}
    windows = _windows(experiment, known, effective) if known.windows is None else known.windows
    if windows is None or not _is_whole(known, windows):
        return None
    unfit = known.unfit or ("speculative" if _drafts(effective) else None)
    read = _read_bytes(known) if known.read_bytes is None else known.read_bytes
    return attrs.evolve(known, windows=windows, unfit=unfit, read_bytes=read)


def _is_whole(known: Architecture, windows: Sequence[Sequence[int]]) -> bool:
    """Whether sizes are those of a model; a document may have been edited."""
    sizes = (known.parameters, known.layers, known.heads, known.head_dim, known.weight_bytes)
    return min(sizes) > 0 and all(len(pair) == 2 and min(pair) > 0 for pair in windows)


def _windows(
    experiment: Mapping[str, Any], known: Architecture, effective: Mapping[str, Any]
) -> tuple[tuple[int, int], ...] | None:
    name = str((experiment.get("model") or {}).get("name") or "")
    shape = SHAPES.get(name.removeprefix("shape:")) if name.startswith("shape:") else None
    if shape is not None:
        return attention_windows(shape.config, known.layers)
    told = [effective, *(effective.get("workers") or ())]
    classes = {str(one["model_class"]) for one in told if isinstance(one, Mapping) and one.get("model_class")}
    return () if classes and classes <= set(ENDLESS) else None


def _read_bytes(known: Architecture) -> int | None:
    """Bytes of the active weights, in proportion, where all weights have one width; None where they are quantised."""
    width = known.weight_bytes / known.parameters
    if known.experts > 1 or not any(whole <= width <= whole * (1 + COPIES) for whole in WHOLE_BYTES):
        return None
    return round(known.weight_bytes * min(1.0, known.active_parameters / known.parameters))


def _drafts(effective: Mapping[str, Any]) -> bool:
    """Whether the engine says that it speculates, as the backends of transformers, vLLM and TensorRT-LLM name it."""
    places = [place for place in (effective, effective.get("args")) if isinstance(place, Mapping)]
    return any(place.get(name) for place in places for name in ("speculation", "speculative_config"))


def setup_of(experiment: Mapping[str, Any], engines: Sequence[Mapping[str, Any]]) -> Setup:
    """Facts from experiment.json and the engine-<process>.json that exist."""
    config = experiment["config"]
    engine: Mapping[str, Any] = engines[0] if engines else {}
    ceiling, reason = _ceiling(engine, _dtype(config, engine.get("effective", {})))
    if ceiling and len({tuple(sorted(map(str, e.get("device", {}).get("names", ())))) for e in engines}) > 1:
        ceiling, reason = None, "several_kinds"
    limits = {d["name"]: d["power_limit_w"] for e in engines for d in e.get("domains", ()) if d.get("power_limit_w")}
    return Setup(
        config=config,
        device=engine.get("device", {}).get("device", ""),
        architecture=_architecture(experiment, engine),
        ceiling=ceiling,
        ceiling_reason=reason,
        power_limits=limits,
        workload=engine["workload"] if isinstance(engine.get("workload"), Mapping) else {},
        keeps_prompts=engine.get("keeps_prompts", False),
        salt=(engine.get("effective") or {}).get("salt"),
        probes=tuple(engine["probe"] for engine in engines if engine.get("probe")),
        searches=tuple(RateSearched.stored(one["rate_search"]) for one in engines if one.get("rate_search")),
        chunks_untold=any((one.get("effective") or {}).get("chunks_told") is False for one in engines),
    )
