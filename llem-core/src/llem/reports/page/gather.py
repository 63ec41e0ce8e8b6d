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
from llem.reports.tables import headings, prefixes
from llem.reports.views import configuration, varied

__all__ = ["Gathered", "gather", "significant"]


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
        short: the beginning of each id that is enough for `llem show`.
        axes: paths that vary, in the study's order. headings: of each, its shortest ending that is its own.
    """

    results: Results
    rows: tuple[Overview, ...]
    damaged: Mapping[str, str]
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
    rows, damaged = [], {}
    for name in ids:
        try:
            rows += Results(store, [name], prices=results.prices, study=study).overviews()
        except LlemError as error:
            damaged[name] = error.message
    axes = varied(study, ids)
    return Gathered(
        everything, tuple(rows), damaged, prefixes(ids) if ids else {}, tuple(axes), _headings(axes)
    )


def _headings(axes: Sequence[str]) -> dict[str, str]:
    return dict(zip(axes, headings(axes), strict=True))
