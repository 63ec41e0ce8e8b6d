"""What is said of figures in words: what their intervals rest on, why some are missing, what was found. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from llem.analysis.overview import Overview
from llem.analysis.prices import Prices
from llem.analysis.reference import ReferenceRuns, reference_of
from llem.errors import StoreError
from llem.findings import REASONS
from llem.metrics.catalogue import metric_of
from llem.metrics.metric import Metric
from llem.reports.figures import p_value, two
from llem.store.evaluations import has_evaluations
from llem.store.models import Quantity
from llem.store.store import Store

__all__ = [
    "absence_notes",
    "absent",
    "began_note",
    "failure_notes",
    "findings_text",
    "interval_notes",
    "price_note",
    "reference_note",
    "reference_notes",
    "rests_on_text",
    "stated_notes",
    "study_notes",
]


def findings_text(codes: Mapping[str, int]) -> str:
    """Codes with how many experiments have them, as the end of a sentence; "" for none."""
    return "; findings: " + ", ".join(f"{code} {count:,}" for code, count in codes.items()) if codes else ""


def rests_on_text(found: Iterable[Quantity | None]) -> str:
    """What the intervals of these rest on, in words, each once; of the values where there is no interval."""
    known = [one for one in found if one is not None and one.value is not None]
    return "; ".join(dict.fromkeys(one.rests_on for one in [one for one in known if one.low is not None] or known))


def stated_notes(effective: Mapping[str, Any]) -> Iterator[str]:
    """What the tool that a metered command ran states itself, of each run, by its own names and in its own units.

    Args:
        effective: the effective configuration of a Result.
    """
    for run in effective.get("runs") or ():
        stated = run.get("stated") if isinstance(run, Mapping) else None
        if stated:
            told = ", ".join(f"{one['name']} {one['value']:.4g} {one['unit']}".rstrip() for one in stated)
            yield f"{run['tool']} itself states (trial {run['trial']}): {told}"


def interval_notes(rests_on: Mapping[str, str]) -> Iterator[str]:
    """What ± is, and that one engine process does not show what varies between processes."""
    found = set(filter(None, rests_on.values()))
    if not found:
        return
    window, alone = (any(words in one for one in found) for words in ("one window", "one process"))
    apart = "trials" if window else "engine processes"
    if len(found) > 1:
        rows = "of one window" if window else "of one process"
        without = f"; rows {rows} lack what varies between {apart}" if window or alone else ""
        yield f"±: 95 % interval, of the trials and engine processes in column n{without}"
    elif (only := found.pop()) in ("n = 1", "exact"):
        yield f"{only}: no interval"
    else:
        without = f"; what varies between {apart} is not in it" if window or alone else ""
        yield f"±: 95 % interval, {only}{without}"


def price_note(prices: Prices, rows: Iterable[Overview]) -> str:
    """What amounts were computed with, in a line: every input, the number of GPUs, and what their energy covers.

    Args:
        rows: overviews with any energy, and with their number of GPUs.
    """
    listed = list(rows)
    gpus = sorted({row.gpus for row in listed if row.gpus is not None})
    bases = sorted({str(row.basis) for row in listed if row.basis is not None})
    told = [f"prices: {prices}"]
    told += [f"GPUs counted: {' or '.join(map(str, gpus))}"] if gpus and prices.gpu_hour is not None else []
    told += [f"energy counted: {' or '.join(bases)}"] if bases and (prices.kwh or prices.grid_g_per_kwh) else []
    return "; ".join([*told, "idle time is not counted"])


def absent(rows: Sequence[Overview], metrics: Iterable[Metric]) -> dict[Metric, list[str]]:
    """Reasons why rows lack a metric, each once."""
    found: dict[Metric, list[str]] = {}
    for metric in metrics:
        quantities = (row.metrics.get(metric.name) for row in rows)
        reasons = [one.reason or "" for one in quantities if one is not None and one.value is None]
        if reasons:
            found[metric] = list(dict.fromkeys(reasons))
    return found


def absence_notes(lacking: Mapping[Metric, Sequence[str]]) -> Iterator[str]:
    """Why figures are missing, each reason once."""
    headings: dict[str, list[str]] = {}
    for metric, reasons in lacking.items():
        for reason in reasons:
            code = f" ({reason})" if len(reasons) > 1 else ""
            headings.setdefault(reason, []).append(f"{metric.heading or metric.label}{code}")
    yield from (f"– in {', '.join(names)}: {REASONS.get(reason, reason)}" for reason, names in headings.items())


#: So many ids are named in a note.
NAMED = 3


def failure_notes(rows: Iterable[Overview]) -> Iterator[str]:
    """Why experiments failed, each message once, with their ids."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.error:
            found.setdefault((row.outcome, row.error), []).append(row.id[:8])
    for (outcome, error), ids in found.items():
        more = f" and {len(ids) - NAMED:,} more" if len(ids) > NAMED else ""
        yield f"{outcome}: {error} ({', '.join(ids[:NAMED])}{more})"


def began_note(store: Store, study: Mapping[str, Any], began: Collection[str]) -> Iterator[str]:
    """How many experiments of a study have not begun, with the command that goes on; nothing where all have.

    Args:
        began: ids of experiments that are stored.
    """
    asked = [name for name in study.get("experiments", ()) if isinstance(name, str)]
    missing = sum(name not in began for name in asked)
    if not missing:
        return
    files = list(study.get("texts", {}))
    command = f"llem run {shlex.quote(files[0])}" if files else "llem run …"
    given = " with the options that were given then" if study.get("overrides") or not files else ""
    yield (
        f"{len(asked) - missing:,} of {len(asked):,} experiments began; to measure the rest: "
        f"`{command} -o {shlex.quote(str(store.path))} --resume`{given}"
    )


def study_notes(store: Store) -> Iterator[str]:
    """What stands below the table of a stored study: its reference, and where scores are, for which it has no room."""
    yield from reference_notes(store)
    if has_evaluations(store):
        yield "scores of quality, item by item: `llem show DIR --quality`"


def reference_notes(store: Store) -> Iterator[str]:
    """What the reference of a stored study shows, in a line; nothing without one. A damaged file is told."""
    try:
        runs = reference_of(store)
    except StoreError as error:
        yield f"reference: {error.message}"
        return
    if runs is not None:
        yield reference_note(runs)


#: From this p-value on a drift of the reference may be chance.
SURE = 0.05


def reference_note(runs: ReferenceRuns) -> str:
    """How much the engine processes of a study's reference differ, and whether they drift, in a line."""
    count, metric = len(runs.means), metric_of(runs.metric)
    of = f"{metric.heading or metric.label}{f' ({runs.basis})' if runs.basis else ''}"
    name = f"reference {runs.id[:8]}: {count}{f' of {runs.asked}' if count < runs.asked else ''} processes"
    if runs.sd is None or runs.drift is None:
        return f"{name}; two at least show what varies between them"
    scatter = "" if runs.sd_of_scatter is None else f", of which scatter of trials {two(runs.sd_of_scatter * 100)} %"
    p = "" if runs.p_value is None else f" (p {p_value(runs.p_value)})"
    sign = "+" if runs.drift > 0 else "−" if runs.drift < 0 else ""
    sure = runs.p_value is not None and runs.p_value < SURE
    changed = "; the machine may have changed while the study ran" if sure else ""
    return (
        f"{name}, sd between processes {two(runs.sd * 100)} %{scatter}, "
        f"drift {sign}{two(abs(runs.drift) * 100)} % from first to last{p}, in {of}{changed}"
    )
