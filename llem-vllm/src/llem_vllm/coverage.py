"""How each parameter of vLLM is reached; see `llem.backends.coverage`. Imports no vllm."""

from __future__ import annotations

from collections.abc import Mapping

from llem.backends.coverage import Coverage, Parameter, Reach
from llem_vllm.config import COMPILATION, ENGINE, SAMPLING, SPECULATIVE
from llem_vllm.inventory import bundled
from llem_vllm.names import OWNED_ENGINE, OWNED_SAMPLING, OWNED_SPECULATIVE

__all__ = ["parameters"]

#: Owner to its parameters that are options: name to the option.
TYPED: Mapping[str, Mapping[str, str]] = {
    "EngineArgs": {name: name for name in ENGINE},
    "SamplingParams": {name: name for name in SAMPLING},
    "CompilationConfig": {field: option for option, field in COMPILATION.items()}
    | {name: name for name in ("cudagraph_capture_sizes", "max_cudagraph_capture_size")},
    "SpeculativeConfig": {field: option for option, field in SPECULATIVE.items()},
}
OWNED: Mapping[str, Mapping[str, str]] = {
    "EngineArgs": OWNED_ENGINE,
    "SamplingParams": OWNED_SAMPLING,
    "SpeculativeConfig": OWNED_SPECULATIVE,
}
#: Owner to the section that takes its further parameters.
SECTIONS: Mapping[str, str] = {
    "EngineArgs": "extra",
    "SamplingParams": "extra_sampling",
    "CompilationConfig": "extra.compilation_config",
    "SpeculativeConfig": "extra.speculative_config",
}
#: Modes that llem does not measure.
REFUSED = ("runner", "convert")


def parameters() -> Coverage:
    """Every parameter of the bundled inventory."""
    known = bundled()
    listed = (_parameter(owner, name) for owner, names in known.fields.items() for name in names)
    return Coverage(f"vllm {known.version}", tuple(listed))


def _parameter(owner: str, name: str) -> Parameter:
    if name in TYPED[owner]:
        return Parameter(owner, name, "typed", f"`vllm.{TYPED[owner][name]}`")
    note = OWNED.get(owner, {}).get(name)
    if note is None:
        return Parameter(owner, name, "extra", f"`vllm.{SECTIONS[owner]}`")
    return Parameter(owner, name, _owned(name, note), note)


def _owned(name: str, note: str) -> Reach:
    """A note that names a setting says through what the parameter is set; any other says why llem decides it."""
    if name in REFUSED:
        return "refused"
    return "derived" if "set `" in note or "follow from `" in note or "follows from `" in note else "fixed"
