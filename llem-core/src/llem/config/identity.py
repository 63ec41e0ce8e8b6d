"""One function that names an experiment: what changes execution changes the id, nothing else does.

In:  the model's content, the backend and its settings, dtype, device, number of GPUs, workload, load, sampling,
     warm-up, baseline, window length, token times, how phases are told apart where they are, whether code of the model
     may run.
Out: names and paths, the preset (its values are in), how often it is repeated and when it stops, which GPUs of a kind,
     the meters, which read and do not act, the objectives, which judge what was measured (they are in where the
     load is the greatest that keeps them), and the evaluation of quality, which comes when all is measured.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import attrs

from llem.config.arrival import GREATEST
from llem.config.models import Experiment

__all__ = [
    "EXECUTION",
    "NOT_EXECUTION",
    "THROUGH_MODEL",
    "experiment_id",
    "file_settings",
    "files",
    "fragment",
    "same",
    "unset",
]

#: Fields of Experiment that enter the id as they are; `gpus` enters as a number.
EXECUTION = (
    "backend",
    "baseline",
    "device",
    "dtype",
    "gpus",
    "load",
    "options",
    "phases",
    "sampling",
    "token_times",
    "trust_remote_code",
    "warmup",
    "window_s",
    "workload",
)
#: Fields that enter through the fingerprint of the model they lead to.
THROUGH_MODEL = ("model", "revision", "weights_seed")
#: Fields that do not.
NOT_EXECUTION = (
    "max_trials",
    "meter_options",
    "meters",
    "preset",
    "processes",
    "quality",
    "slo",
    "target_half_width",
    "trials",
)

#: Floats up to here hold every whole number exactly.
_EXACT = 2**53
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
#: Path and value of a setting that names a file, and whether it can name nothing else.
Named = tuple[str, str, bool]


class Fingerprinted(Protocol):
    """What is needed of a `llem.models.spec.ModelSpec`; a protocol, because models stand above config."""

    @property
    def fingerprint(self) -> str:
        """What names the model's content on any machine."""


def fragment(name: str, part: Any, contents: Mapping[str, str]) -> str:
    """The canonical JSON of one field of an experiment, with content in the place of names of files."""
    return _ENCODER.encode(_canonical(part, name, contents))


def experiment_id(
    experiment: Experiment,
    model: Fingerprinted,
    contents: Mapping[str, str] | None = None,
    write: Callable[[str, Any, Mapping[str, str]], str] = fragment,
) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of the canonical JSON of all that changes execution.

    Settings that are None are left out, so that a new optional setting leaves the ids of older experiments as they are.
    1 and 1.0 are the same number.

    Args:
        contents: hash of the content of files, by the paths that `file_settings` gives; it stands for the name.
        write: `fragment`, or what remembers its results.
    """
    parts = {name: getattr(experiment, name) for name in EXECUTION}
    parts["gpus"] = _gpu_count(experiment)
    if experiment.phases == "none":  # as it was before there was such a setting
        parts["phases"] = None
    if experiment.slo is not None and getattr(experiment.load, "request_rate", None) == GREATEST:
        parts["slo"] = {**experiment.slo.limits(), "attainment": experiment.slo.attainment}
    contents = {} if contents is None else contents
    written = {name: write(name, part, contents) for name, part in parts.items() if part is not None}
    written["model"] = _ENCODER.encode(model.fingerprint)
    text = ",".join(f'"{name}":{value}' for name, value in sorted(written.items()))
    return hashlib.sha256(f"{{{text}}}".encode()).hexdigest()[:16]


def file_settings(
    experiment: Experiment,
    is_file: Callable[[str], bool],
    fields: Iterable[str] = EXECUTION,
    look: Callable[[Any, str], Iterable[Named]] | None = None,
) -> Mapping[str, str]:
    """Settings whose value names a local file: path (`workload.path`, `options.adapter`) to that name.

    Args:
        is_file: whether a name is that of a file or folder; asked where it may as well be the name of something else.
        fields: of the experiment; by default those that belong to its identity.
        look: `files`, or what remembers its results.
    """
    look = look or files
    return {
        path: name
        for field in fields
        if _fields(part := getattr(experiment, field)) is not None
        for path, name, certain in look(part, field)
        if certain or is_file(name)
    }


def files(value: Any, path: str) -> list[Named]:
    """Every setting in what stands at a path that names a file."""
    found: list[Named] = []
    for field in _fields(value) or ():
        inner = getattr(value, field.name)
        kind = field.metadata.get("file")
        if isinstance(inner, str) and kind:
            found.append((f"{path}.{field.name}", inner, kind != "or id"))
        if isinstance(inner, tuple) and kind:
            below = f"{path}.{field.name}"
            found += ((f"{below}[{number}]", str(name), kind != "or id") for number, name in enumerate(inner))
        if _fields(inner) is not None:
            found += files(inner, f"{path}.{field.name}")
    return found


def _fields(value: Any) -> tuple[attrs.Attribute[Any], ...] | None:
    """The fields of an object; None where it is none of attrs."""
    cls: Any = type(value)
    return _fields_of(cls)


@functools.cache
def _fields_of(cls: Any) -> tuple[attrs.Attribute[Any], ...] | None:
    return attrs.fields(cls) if attrs.has(cls) else None


def _gpu_count(experiment: Experiment) -> int:
    """Which GPUs are used is the machine's matter; null means the first one."""
    if experiment.device == "cpu":
        return 0
    return 1 if experiment.gpu_count is None else experiment.gpu_count


def _canonical(value: Any, path: str, contents: Mapping[str, str]) -> Any:
    """JSON values with one spelling for each meaning. In free mappings None stays: it is not the same as absence."""
    if path in contents:
        return f"content {contents[path]}{os.path.splitext(str(value))[1].lower()}"  # the suffix decides the format
    if (known := _fields(value)) is not None:
        fields = ((field.name, getattr(value, field.name)) for field in known)
        return {name: _canonical(inner, f"{path}.{name}", contents) for name, inner in fields if inner is not None}
    if isinstance(value, Mapping):
        return {str(key): _canonical(inner, f"{path}.{key}", contents) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_canonical(inner, f"{path}[{index}]", contents) for index, inner in enumerate(value)]
    if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT:
        return int(value)
    return value


def same(one: Any, other: Any) -> bool:
    """Equal; True and 1 are not, nor False and 0."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def unset(section: Any, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a section that have their default, as the change that leaves them out."""
    return {name: None for name, default in defaults.items() if same(getattr(section, name), default)}
