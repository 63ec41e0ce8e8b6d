"""The written form of an experiment: what a study file holds, and what is stored beside a result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from llem.config.converter import unstructure
from llem.config.models import Experiment
from llem.config.words import got
from llem.errors import ConfigError, Problem, nearest

__all__ = ["experiment_values", "to_document"]

STUDY_KEYS = ("name", "base", "trials")
_FIELDS = frozenset(field.name for field in attrs.fields(Experiment))
NOT_YET = ("axes", "zip", "experiments", "exclude", "order", "quality", "include")


def experiment_values(document: Mapping[str, Any], file: str) -> Mapping[str, Any]:
    """The settings of the one experiment in a file: the file itself, or a study's `base` with the study's `trials`.

    Raises:
        ConfigError: the file asks for more than one experiment, or is a study with fields that no study has.
    """
    problems = [
        Problem(str(key), "this version runs one experiment per call", "remove it, and call once per configuration")
        for key in document
        if key in NOT_YET
    ]
    if "base" not in document and "name" not in document:
        values = document
    else:
        problems += _study_problems(document)
        base = document.get("base", {})
        values = dict(base) if isinstance(base, Mapping) else {}
        if "trials" in document:
            values["trials"] = document["trials"]
    if problems:
        raise ConfigError(f"invalid study in file {file}", problems=tuple(problems))
    return values


def _study_problems(document: Mapping[str, Any]) -> list[Problem]:
    problems = []
    for key in document:
        if key not in STUDY_KEYS and key not in NOT_YET:
            near = None if key in _FIELDS else nearest(str(key), (*STUDY_KEYS, *NOT_YET))
            hint = f"did you mean {near!r}?" if near else "settings of the experiment go under `base`"
            problems.append(Problem(str(key), "unknown field of a study", hint))
    name, base = document.get("name", ""), document.get("base", {})
    if not isinstance(name, str):
        problems.append(Problem("name", f"must be text, got {got(name)}"))
    if not isinstance(base, Mapping):
        problems.append(Problem("base", f"must be a section, got {got(base)}"))
    elif "trials" in base and "trials" in document:
        problems.append(Problem("trials", "stands both here and under `base`", "keep one of the two"))
    return problems


def to_document(experiment: Experiment) -> dict[str, Any]:
    """JSON values that `llem.config.load.resolve` turns into the same experiment again.

    Sections of the backend and of meters stand under their names, as a user writes them. Every field is there,
    defaults included.
    """
    document: dict[str, Any] = unstructure(experiment)
    options, meter_options = document.pop("options"), document.pop("meter_options")
    if options is not None:
        document[experiment.backend] = options
    return {**document, **meter_options}
