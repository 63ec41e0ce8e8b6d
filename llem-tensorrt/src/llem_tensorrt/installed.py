"""What the installed TensorRT-LLM calls its arguments: versions differ, and a name it does not know is refused."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from llem.errors import ConfigError, MachineError, Problem, nearest
from llem_tensorrt.failures import load_failures

__all__ = ["arguments_class", "library", "llm_arguments", "made", "missing", "refuse_unknown", "sampling_arguments"]

#: Where the classes of nested arguments live, by the paths that its API stability files give.
ARGUMENTS = "tensorrt_llm.llmapi.llm_args"


def library() -> Any:
    """The module tensorrt_llm. Raises MachineError where it cannot be imported, or is no library but its stub."""
    try:
        module = importlib.import_module("tensorrt_llm")
    except ImportError as error:
        raise MachineError(
            f"tensorrt_llm cannot be imported: {error}",
            "install TensorRT-LLM by NVIDIA's guide (driver, CUDA toolkit, MPI)",
            code="requirement_missing",
        ) from error
    if not hasattr(module, "LLM"):
        raise MachineError(
            "tensorrt_llm has no LLM class, so it is not the library itself",
            "install the wheel that NVIDIA publishes, version 1.0 to 1.2",
            code="requirement_missing",
        )
    return module


def missing(module: str) -> bool:
    """Whether a module that an option needs cannot be found."""
    return importlib.util.find_spec(module) is None


def llm_arguments() -> frozenset[str]:
    """Names that LLM takes. Its own signature ends in `**kwargs`; the class behind it lists them."""
    return frozenset(arguments_class("TorchLlmArgs").model_fields)


def sampling_arguments() -> frozenset[str]:
    """Names that SamplingParams takes."""
    return frozenset(inspect.signature(library().SamplingParams).parameters)


def arguments_class(name: str) -> Any:
    """A class of nested arguments. Raises ConfigError where this version has none of that name."""
    found = getattr(importlib.import_module(ARGUMENTS), name, None)
    if found is None:
        raise ConfigError(f"TensorRT-LLM {_version()} has no {name}", "leave that section out, or use another version")
    return found


def made(name: str, path: str, values: Mapping[str, Any], renamed: Mapping[str, str] | None = None) -> Any:
    """An object of a class of nested arguments.

    Args:
        path: of the section, for messages.
        values: its settings; names that this version does not have are refused.
        renamed: old names to the ones that newer versions have.
    """
    cls = arguments_class(name)
    fields: Any = getattr(cls, "model_fields", None) or inspect.signature(cls).parameters
    new = {old: name for old, name in (renamed or {}).items() if old not in fields and name in fields}
    values = {new.get(setting, setting): value for setting, value in values.items()}
    refuse_unknown(values, fields, path)
    with load_failures(f"section {path}", path):
        return cls(**values)


def refuse_unknown(given: Iterable[str], known: Iterable[str], path: str) -> None:
    """Raise ConfigError, with a problem for each name in `given` that the installed version does not have."""
    names = set(known)
    problems = []
    for name in given:
        if name not in names:
            near = nearest(name, names)
            problems.append(
                Problem(
                    f"{path}.{name}",
                    f"is unknown to TensorRT-LLM {_version()}, which is installed",
                    f"did you mean {near!r}?" if near else "leave it out, or use a version that has it",
                )
            )
    if problems:
        raise ConfigError("the installed version does not have every option", problems=tuple(problems))


def _version() -> str:
    return str(getattr(library(), "__version__", "of unknown version"))
