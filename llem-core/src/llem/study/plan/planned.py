"""The one form of an experiment until it is measured: a point with its configuration, its model, its id and its engine.

Loads no engine.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Callable, Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from llem.backends.base import Backend
from llem.backends.check import check_backend
from llem.backends.sharing import engine_settings
from llem.config.converter import unstructure
from llem.config.identity import experiment_id, file_settings, files, fragment
from llem.config.layers import leaves
from llem.config.load import Resolved, to_document
from llem.config.models import Experiment, Quality
from llem.config.said import Remembered
from llem.config.study.axes import Point
from llem.errors import ConfigError, Problem
from llem.evaluators.base import check_quality
from llem.foreign.files import regular
from llem.models.resolve import resolve_model
from llem.models.spec import ModelSpec
from llem.plugins.culprit import asking
from llem.plugins.registry import Registry
from llem.study.plan.memory import GpuKind, MemoryEstimate, UnknownMemory, estimate_memory, refuse_too_large

__all__ = ["Identifier", "PlannedExperiment", "joined"]

_NO_FILES: Mapping[str, str] = {}
#: What else is the same for all that one engine process measures.
_OF_THE_PROCESS = ("device", "gpus", "meters", "meter_options", "baseline")


@attrs.frozen
class PlannedExperiment:
    """An experiment of a study that its backend takes.

    Attributes:
        sources: where each value of the configuration came from, as of `Resolved`.
        point: what it sets in the study, and where that stands.
        engine: equal for experiments that can be measured with one engine, by one set of meters, on the same device.
        no_effect: settings, as `path=value`, that the backend says change nothing; they are not in the id.
        memory: what it needs on GPUs, or why that is not known; None where it uses none.
    """

    id: str
    experiment: Experiment
    sources: Mapping[str, str]
    model: ModelSpec
    point: Point
    engine: Hashable
    no_effect: tuple[str, ...] = ()
    memory: MemoryEstimate | UnknownMemory | None = None

    def document(self) -> dict[str, Any]:
        """What `experiment.json` holds."""
        names = ("name", "source", "weights", "fingerprint", "revision", "seed")
        return {
            "id": self.id,
            "config": to_document(self.experiment),
            "sources": dict(self.sources),
            "model": {name: getattr(self.model, name) for name in names},
        }


class Identifier:
    """Says which experiment a configuration is, for many of them; models and files are read once.

    Args:
        checked: ask the backends. `llem config check` does not: their classes need not import there.
        unmet: ask them although their engines are not installed.
        gpu: tells what the GPUs are, where it is known; asked once, and only if an experiment may run on one.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        checked: bool = True,
        unmet: bool = False,
        gpu: Callable[[], GpuKind | None] = lambda: None,
    ) -> None:
        self._registry, self._checked, self._unmet = registry, checked, unmet
        self.gpu = functools.cache(gpu)
        self._model = functools.cache(resolve_model)
        self._class = functools.cache(registry.load)
        self._content = functools.cache(_content_hash)
        self._files, self._fragment = Remembered(lambda part, path: files(part, path)), Remembered(fragment)
        self._shared = Remembered(lambda *parts: repr(list(parts)))
        self._engines: dict[tuple[str, str, Hashable], tuple[str, str, Hashable]] = {}
        self._workload = Remembered(self._workload_error)
        self._evaluations: dict[str, ConfigError | None] = {}

    def __call__(self, point: Point, resolved: Resolved) -> PlannedExperiment:
        """Raises ConfigError: no such model or file, the backend refuses, workload and load do not go together, or the
        weights are certain not to fit; BrokenCheck: the backend or the workload fails. Others as `check_backend`."""
        experiment = resolved.experiment
        model = self._model(experiment.model, revision=experiment.revision, seed=experiment.weights_seed)
        canonical, memory, engine = experiment, None, None
        if self._checked:
            check_backend(experiment, model, self._registry, unmet=self._unmet)
            backend: Backend = self._class("backend", experiment.backend, unmet=True)(experiment.options)
            with self._asking(experiment):
                model = backend.known(experiment, model)
                canonical = backend.canonical(experiment)
                own = backend.engine_key(canonical)
            if experiment.quality is not None:
                self._check_quality(experiment, model)
            memory = self._memory(experiment, model, backend)
            shared = self._shared(*(getattr(experiment, name) for name in _OF_THE_PROCESS))
            key = experiment.backend, shared, own
            engine = self._engines.setdefault(key, key)  # equal ones are one object
        named = file_settings(experiment, os.path.exists, look=self._files)
        hashes = {path: self._content(path, name) for path, name in named.items()}
        if self._checked and (wrong := self._workload(experiment.workload, experiment.load)) is not None:
            raise wrong
        dropped = () if canonical is experiment else tuple(_dropped(experiment, canonical))
        name = experiment_id(canonical, model, hashes or _NO_FILES, fragment if hashes else self._fragment)
        return PlannedExperiment(
            name, experiment, resolved.sources, model, point, name if engine is None else engine, dropped, memory
        )

    def _asking(self, experiment: Experiment) -> contextlib.AbstractContextManager[None]:
        """Within it the backend is asked."""
        return asking("backend", experiment.backend, self._registry)

    def _check_quality(self, experiment: Experiment, model: ModelSpec) -> None:
        """What the evaluator says of an engine and a section; asked once for all that is measured with the engine."""
        asked = repr((engine_settings(experiment), experiment.quality))
        if asked not in self._evaluations:
            self._evaluations[asked] = None
            try:
                check_quality(experiment, model, self._registry, unmet=self._unmet)
            except ConfigError as error:
                self._evaluations[asked] = error
        if (wrong := self._evaluations[asked]) is not None:
            raise wrong

    def _workload_error(self, workload: Any, load: Any) -> ConfigError | None:
        """Whether workload and load go together; a trace that is replayed is read once for all that have it."""
        made = self._class("workload", workload.kind, unmet=self._unmet)
        try:
            with asking("workload", workload.kind, self._registry):
                made.check(workload, load)
        except ConfigError as error:
            return error
        return None

    def _memory(
        self, experiment: Experiment, model: ModelSpec, backend: Backend
    ) -> MemoryEstimate | UnknownMemory | None:
        if experiment.device == "cpu":
            return None
        with self._asking(experiment):
            holding = backend.holding(experiment, model)
        estimate = estimate_memory(experiment, model, holding)
        if isinstance(estimate, MemoryEstimate) and (gpu := self.gpu()) is not None:
            refuse_too_large(estimate, gpu)
        return estimate


def joined(first: PlannedExperiment, again: PlannedExperiment) -> PlannedExperiment:
    """An experiment that two points name, with the quality of both. Quality is no part of what is executed.

    Raises ConfigError: the same evaluator with other settings, or another evaluator. A result has one score of a task.
    """
    one, other = first.experiment.quality, again.experiment.quality
    if other is None or other == one:
        return first
    sources = dict(first.sources)
    if one is None:
        quality = other
        sources = {path: source for path, source in sources.items() if not _is_quality(path)}
        sources |= {path: source for path, source in again.sources.items() if _is_quality(path)}
    else:
        _refuse_other_terms(one, other, first.id)
        tasks = tuple(dict.fromkeys((*one.tasks, *other.tasks)))
        quality = attrs.evolve(one, tasks=tasks, force=one.force or other.force)
    return attrs.evolve(first, experiment=attrs.evolve(first.experiment, quality=quality), sources=sources)


def _is_quality(path: str) -> bool:
    return path.partition(".")[0] == "quality"


def _refuse_other_terms(one: Quality, other: Quality, name: str) -> None:
    was, now = (dict(leaves(unstructure(section))) for section in (one, other))
    problems = [
        Problem(
            f"quality.{path}",
            f"is {json.dumps(now.get(path), ensure_ascii=False)} here and "
            f"{json.dumps(was.get(path), ensure_ascii=False)} in a point that is the same experiment ({name}): points "
            "that differ in quality alone are measured and evaluated once",
            "keep one value; `--resume` with another one evaluates that too",
        )
        for path in dict.fromkeys((*was, *now))
        if path not in ("tasks", "force") and was.get(path) != now.get(path)
    ]
    if problems:
        raise ConfigError("points differ in their quality alone", problems=tuple(problems))


def _dropped(experiment: Experiment, canonical: Experiment) -> Iterator[str]:
    """What the canonical experiment says otherwise, as `path=value` of what was asked."""
    said, kept = (dict(leaves(to_document(one))) for one in (experiment, canonical))
    return (
        f"{path}={json.dumps(value, ensure_ascii=False)}" for path, value in said.items() if kept.get(path) != value
    )


def _content_hash(path: str, name: str) -> str:
    """SHA-256 of a file, or of a folder's file names and contents."""
    target = Path(name)
    if target.is_file():
        return _digest(target)
    if not target.is_dir():
        raise ConfigError("a file of the configuration is not there", problems=(Problem(path, f"no file {name}"),))
    found = hashlib.sha256()
    for file in sorted(part for part in target.rglob("*") if part.is_file()):
        found.update(str(file.relative_to(target)).encode() + b"\0" + bytes.fromhex(_digest(file)))
    return found.hexdigest()


def _digest(file: Path) -> str:
    with regular(file) as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
