"""The document of a report: all that the page draws, as JSON values.

`report_of` gives the head (`Report.head`) and, one by one, the details of each experiment (`Report.details`), so that
only one of a thousand is in memory. `llem.reports.page.html` lays both out. Keys of the head:

    format, llem, title, folder, axes, headings
    verdict       headline and lead (in words; empty where nothing is taken), sentences, outcome, choice, probability,
                  ties, contenders, limits, others, restsOn, warnings
    metrics       by name: label, heading, unit, better, group, doc, scoped, basis, divisor, scaledUnit
    columns       metrics that the table shows by default; plot: x and y of the trade-off
    experiments   id, name, label, configuration, values, state, valid, publishable, error, codes, trials, restsOn,
                  basis, and m: by metric the value with the ends of its interval, or the code of a reason
    reasons, findings   what codes mean
    effects, effectsNote · curves · quality, qualityNote · time, timeNote · notes · method, cite
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from llem import __version__
from llem.analysis.collection import Results
from llem.metrics.metric import Metric
from llem.reports.notes import study_notes
from llem.reports.page.contrasts import curves_of, effects_and_note, quality_of, time_of
from llem.reports.page.decision import verdict_of
from llem.reports.page.details import details
from llem.reports.page.experiments import (
    MANY,
    columns_of,
    described,
    experiments_of,
    findings_of,
    metrics_of,
    plot_of,
    reasons_of,
)
from llem.reports.page.gather import Gathered, gather
from llem.reports.page.method import cite, study_method
from llem.reports.views import study_view

__all__ = ["FORMAT", "Report", "document", "report_of"]

#: Version of the document; a page reads its own.
FORMAT = 1


@attrs.frozen
class Report:
    """The head of a report, and what gives the details of each experiment."""

    head: Mapping[str, Any]
    found: Gathered
    reference: str | None

    def details(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Id and details of each experiment, in the study's order; each is read when it is asked for."""
        for name in self.found.results:
            yield name, details(self.found, name, self.reference)


def report_of(results: Results, **asked: str | None) -> Report:
    """Read what a report of these results shows.

    Args:
        asked: `minimise`, `maximise`, `slo`, `quality`, `memory`, `power` and `reference`, as of `Results.recommend`.

    Raises:
        ConfigError, StoreError: an option is wrong, as of `Results.recommend`. What cannot be ranked raises nothing.
    """
    found = gather(results)
    head = document(found, asked)
    return Report(head, found, _reference(found, head["verdict"]["choice"]))


def document(found: Gathered, asked: Mapping[str, str | None]) -> dict[str, Any]:
    """The head of a report."""
    verdict = verdict_of(found, asked)
    needed = dict.fromkeys((verdict["objective"], *(one["metric"] for one in verdict["limits"])))
    metrics = metrics_of(found, needed)
    rows = experiments_of(found, metrics)
    effects, effects_note = effects_and_note(found)
    quality, quality_note = quality_of(found, asked.get("reference"))
    time, time_note = time_of(found)
    facts = found.facts
    return {
        "format": FORMAT,
        "llem": __version__,
        "title": found.title,
        "folder": found.folder,
        "axes": list(found.axes),
        "headings": dict(found.headings),
        "verdict": verdict,
        "metrics": described(metrics, found.rows),
        "columns": columns_of(found, metrics, needed),
        "plot": plot_of(metrics, verdict["objective"], [one["metric"] for one in verdict["limits"]]),
        "experiments": rows,
        "reasons": reasons_of(rows, (one["reason"] for one in quality)),
        "findings": findings_of(found.rows),
        "effects": effects,
        "effectsNote": effects_note,
        "curves": curves_of(found),
        "quality": quality,
        "qualityNote": quality_note,
        "time": time,
        "timeNote": time_note,
        "notes": list(_notes(found, metrics)),
        "method": list(study_method(found.study, found.rows, facts, len(found.results))),
        "cite": cite(found.title, found.study, found.rows, facts),
    }


def _reference(found: Gathered, choice: str | None) -> str | None:
    """What configurations are compared with: the study's reference, else the choice, else the first experiment."""
    named = found.study.get("reference")
    if isinstance(named, str) and named in found.results:
        return named
    return choice or next((row.id for row in found.rows), None)


def _notes(found: Gathered, metrics: Mapping[str, Metric]) -> Iterator[str]:
    """What holds for the table of experiments, and what the report leaves out."""
    yield from study_view(found.rows, found.study, study_notes(found.results.store), found.results.prices).notes
    if found.damaged:
        yield f"{len(found.damaged):,} of {len(found.results):,} experiments are damaged and have no figures here"
    if len(found.results) > MANY:
        yield (
            f"of more than {MANY} experiments this page has the metrics that llem shows by default, one power trace of "
            "the first trial of each, thinned more, and no distributions of latencies; `llem export` has all metrics"
        )
