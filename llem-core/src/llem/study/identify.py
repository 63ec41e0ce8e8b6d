"""Which experiment a configuration is: its model, what its backend says of it, and its id. Loads no engine."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from llem.backends.check import check_backend
from llem.config.identity import experiment_id, file_settings
from llem.config.load import Resolved, to_document
from llem.config.models import Experiment
from llem.errors import ConfigError, Problem
from llem.models.resolve import resolve_model
from llem.models.spec import ModelSpec
from llem.plugins.registry import Registry

__all__ = ["Identified", "Identifier", "identify"]


@attrs.frozen
class Identified:
    """A configuration that its backend takes, its model, and its id."""

    id: str
    resolved: Resolved
    model: ModelSpec

    @property
    def experiment(self) -> Experiment:
        return self.resolved.experiment

    def document(self) -> Mapping[str, Any]:
        """What `experiment.json` holds."""
        names = ("name", "source", "weights", "fingerprint", "revision", "seed")
        return {
            "id": self.id,
            "config": to_document(self.experiment),
            "sources": dict(self.resolved.sources),
            "model": {name: getattr(self.model, name) for name in names},
        }


class Identifier:
    """Identifies many configurations; models and files are read once.

    Args:
        checked: ask the backends. `llem config check` does not: their classes need not import there.
        unmet: ask them although their engines are not installed.
    """

    def __init__(self, registry: Registry, *, checked: bool = True, unmet: bool = False) -> None:
        self._registry, self._checked, self._unmet = registry, checked, unmet
        self._model = functools.cache(resolve_model)
        self._content = functools.cache(_content_hash)

    def __call__(self, resolved: Resolved) -> Identified:
        """Raises ConfigError: no such model or file, or the backend refuses. Others as `check_backend`."""
        experiment = resolved.experiment
        model = self._model(experiment.model, revision=experiment.revision, seed=experiment.weights_seed)
        if self._checked:
            check_backend(experiment, model, self._registry, unmet=self._unmet)
        hashes = {path: self._content(path, name) for path, name in file_settings(experiment).items()}
        return Identified(experiment_id(experiment, model, hashes), resolved, model)


def identify(resolved: Resolved, registry: Registry) -> Identified:
    """As `Identifier`, for one configuration."""
    return Identifier(registry)(resolved)


def _content_hash(path: str, name: str) -> str:
    """SHA-256 of a file, or of a folder's file names and contents."""
    target = Path(name)
    if target.is_file():
        return hashlib.sha256(target.read_bytes()).hexdigest()
    if not target.is_dir():
        raise ConfigError("a file of the configuration is not there", problems=(Problem(path, f"no file {name}"),))
    found = hashlib.sha256()
    for file in sorted(part for part in target.rglob("*") if part.is_file()):
        found.update(str(file.relative_to(target)).encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()
