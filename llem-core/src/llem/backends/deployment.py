"""How to launch a measured configuration without llem: what a backend's `deploy` function returns, and its words."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from llem.config.models import Experiment
from llem.models.spec import ModelSpec

__all__ = [
    "PLACEHOLDER",
    "Code",
    "Deployment",
    "call",
    "common_notes",
    "guarded",
    "served_model",
    "server_notes",
    "visible_gpus",
]

#: Stands for a model where random weights were measured.
PLACEHOLDER = "YOUR_MODEL"


@attrs.frozen
class Deployment:
    """How to launch one configuration.

    Attributes:
        shell: commands for a shell; None where the engine has no server.
        python: a program; None where none is of use.
        notes: every setting of the engine or of sampling that neither carries over, each with why, and what to know
            beside. Settings of the measurement alone (windows, warm-up, meters) are not among them.
    """

    shell: str | None = None
    python: str | None = None
    notes: tuple[str, ...] = ()


def served_model(model: ModelSpec) -> str:
    """What to launch: the model as it was named, or a placeholder for random weights."""
    return PLACEHOLDER if model.source == "shape" else model.path or model.name


def common_notes(experiment: Experiment, model: ModelSpec) -> tuple[str, ...]:
    """What is true of every engine: on random weights, and on end-of-sequence tokens."""
    notes = []
    if model.source == "shape":
        notes.append(
            f"model: {model.name} has random weights; put a model of the same architecture in place of {PLACEHOLDER}"
        )
    if experiment.sampling.ignore_eos:
        notes.append(
            "sampling.ignore_eos: llem made every answer its full length; left out, because an answer in use ends at "
            "its end"
        )
    return tuple(notes)


def server_notes(experiment: Experiment) -> tuple[str, ...]:
    """What a server does otherwise than a measurement of batches."""
    if experiment.load.kind != "offline":
        return ()
    size = experiment.load.batch_size
    return (f"load: measured in batches of {size}, one after the other; a server takes requests as they come",)


def visible_gpus(experiment: Experiment) -> str | None:
    """The value of CUDA_VISIBLE_DEVICES that chooses the same GPUs; None where none are named, or no GPU is used."""
    if experiment.device == "cpu" or not isinstance(experiment.gpus, tuple):
        return None
    return ",".join(map(str, experiment.gpus))


@attrs.frozen
class Code:
    """An expression of Python, as a value of an argument."""

    text: str


def call(name: str, arguments: Mapping[str, Any], first: Any = None) -> str:
    """A call in Python, as text: `first`, where there is one, and keyword arguments; several stand one a line.

    Values that are `Code` stand as they are.
    """
    words = [
        *([] if first is None else [_literal(first)]),
        *(f"{key}={_literal(one)}" for key, one in arguments.items()),
    ]
    if len(words) < 2:
        return f"{name}({''.join(words)})"
    return f"{name}(\n" + "".join(f"    {word},\n" for word in words) + ")"


def guarded(imports: Sequence[str], body: Sequence[str]) -> str:
    """A program whose body runs in the first process alone."""
    guard = 'if __name__ == "__main__":  # the engine starts processes that import this file'
    return "\n".join([*imports, "", guard, *(textwrap.indent(part, "    ") for part in body)])


def _literal(value: Any) -> str:
    """A value as Python writes it, in double quotes where that is the same text."""
    if isinstance(value, Code):
        return value.text
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_literal(key)}: {_literal(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return json.dumps(value, ensure_ascii=True) if isinstance(value, str) else repr(value)
