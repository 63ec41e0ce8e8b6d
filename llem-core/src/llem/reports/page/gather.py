"""What a report is made of, read once: overviews of all experiments that have begun, and what is damaged of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from llem.analysis.collection import Results
from llem.analysis.overview import Overview
from llem.errors import LlemError
from llem.reports.figures import setting
from llem.reports.page.method import Facts, facts_of
from llem.reports.tables import headings, prefixes
from llem.reports.views import configuration, varied
from llem.store.store import Store

__all__ = ["Gathered", "gather", "significant"]

#: What of an engine's document says how was measured; the rest is long.
TOLD = ("device", "domains", "environment", "worker")


def significant(value: float | None) -> float | None:
    """Six significant digits: more than any interval leaves meaning in, and half as long in a file."""
    return None if value is None else float(f"{value:.6g}")


@attrs.frozen
class Gathered:
    """The experiments of a folder.

    Attributes:
        results: all that have begun, in the study's order, with the prices that were given.
        rows: overviews of those that can be read, with all metrics.
        damaged: what is wrong with the others, by id.
        facts: what the documents of engine processes say of how was measured.
        workers: by id, numbers of the workers that measured an experiment.
        environments: stored environments that can be read, by hash.
        short: the beginning of each id that is enough for `llem show`.
        axes: paths that vary, in the study's order. headings: of each, its shortest ending that is its own.
    """

    results: Results
    rows: tuple[Overview, ...]
    damaged: Mapping[str, str]
    facts: Facts
    workers: Mapping[str, frozenset[int]]
    environments: Mapping[str, Mapping[str, Any]]
    short: Mapping[str, str]
    axes: tuple[str, ...]
    headings: Mapping[str, str]

    @property
    def study(self) -> Mapping[str, Any]:
        """The study's document."""
        return self.results.study

    @property
    def folder(self) -> str:
        """Name of the folder, without where it lies on this machine."""
        return Path(self.results.store.path).resolve().name

    @property
    def title(self) -> str:
        """The study's name, else the folder's."""
        name = self.study.get("name")
        return name if isinstance(name, str) and name else self.folder

    def within(self, message: str) -> str:
        """A message in which files are named within the folder, without where that lies on this machine."""
        return _within(self.results.store, message)

    @property
    def readable(self) -> Results:
        """The experiments that can be read."""
        store, prices = self.results.store, self.results.prices
        return Results(store, [row.id for row in self.rows], prices=prices, study=self.study)

    def values(self, name: str) -> Mapping[str, Any]:
        """What an experiment sets, by path."""
        found: Mapping[str, Any] = self.study.get("points", {}).get(name, {}).get("values", {})
        return found

    def label(self, row: Overview) -> str:
        """What an experiment sets, in words; the configuration where it sets nothing."""
        values = self.values(row.id)
        words = [f"{self.headings[path]} {setting(values[path])}" for path in self.axes if path in values]
        return ", ".join(words) or configuration(row)


def gather(results: Results) -> Gathered:
    """Read the overview of each experiment of a folder. One that cannot be read is told, and ends nothing.

    Args:
        results: of the folder; also experiments that have no result yet are read.
    """
    store, study = results.store, results.study
    there = set(store.experiment_ids()) | set(store.result_ids())
    named = [name for name in dict.fromkeys(study.get("experiments", ())) if name in there]
    ids = [*named, *sorted(there - set(named))]
    everything = Results(store, ids, prices=results.prices, study=study)
    rows: list[Overview] = []
    damaged: dict[str, str] = {}
    for name in ids:
        try:
            rows += Results(store, [name], prices=results.prices, study=study).overviews()
        except LlemError as error:
            damaged[name] = _within(store, error.message)
    environments = _environments(store)
    documents = {row.id: _documents(store, row.id) for row in rows}
    told = [engine for _, engines in documents.values() for engine in engines]
    axes = varied(study, ids)
    return Gathered(
        everything,
        tuple(rows),
        damaged,
        facts_of([model for model, _ in documents.values()], told, environments),
        {name: _workers(engines) for name, (_, engines) in documents.items()},
        environments,
        prefixes(ids) if ids else {},
        tuple(axes),
        dict(zip(axes, headings(axes), strict=True)),
    )


def _within(store: Store, message: str) -> str:
    return message.replace(f"{store.path}/", "")


def _documents(store: Store, name: str) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    """The model of an experiment, and what its engines' documents say of how was measured; nothing of damaged ones,
    which the experiment's details tell."""
    try:
        model = {"model": store.read_experiment(name).get("model")}
        engines = store.engines(name)
    except LlemError:
        return {}, []
    return model, [{key: engine[key] for key in TOLD if key in engine} for engine in engines]


def _workers(engines: Sequence[Mapping[str, Any]]) -> frozenset[int]:
    return frozenset(engine["worker"] for engine in engines if engine.get("worker") is not None)


def _environments(store: Store) -> dict[str, Mapping[str, Any]]:
    made: dict[str, Mapping[str, Any]] = {}
    for path in sorted(store.path.glob("environments/*.json")):
        try:
            made[path.stem] = store.read_environment(path.stem)
        except LlemError:
            continue  # experiments that name it have no environment
    return made
