"""What it takes to serve a load, as plain data: the cheapest fleet in sentences, a row for each, break-even. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import attrs

from llem.analysis.decision import Estimated, told
from llem.analysis.fleet import NO_PRICES, Served
from llem.analysis.serving import Serving
from llem.reports.figures import setting
from llem.reports.tables import prefixes
from llem.reports.verdict import Names, estimated, interval_text, listed, probability

__all__ = ["ServingView", "serving_cells", "serving_headings", "serving_view"]

#: From this share of draws on the greatest measured load keeps all limits, so that the capacity may be above it.
AT_LEAST = 0.5
#: What a comparison of two fleets is about, in words.
QUANTITIES = {
    "kwh_a_day": "energy a day",
    "money_a_day": "money a day",
    "energy_per_request_j": "energy per request",
    "money_per_request": "money per request",
}


@attrs.frozen
class ServingView:
    """What is shown of fleets that serve a load.

    Attributes:
        verdict: sentences, the cheapest first.
        axes: paths that vary over the configurations.
        rows: those that can serve the load, the cheapest first.
        below: who cannot serve it, break-even, what is not used, and notes, in sentences.
    """

    found: Serving
    verdict: tuple[str, ...]
    axes: tuple[str, ...]
    rows: tuple[Served, ...]
    names: Names
    below: tuple[str, ...]


def serving_view(found: Serving) -> ServingView:
    """The view of what `llem.analysis.serving.served` gives."""
    axes = _varied(found.rows)
    shown = prefixes([*(name for row in found.rows for name in row.experiments), *found.excluded])
    names = Names(shown | {row.id: _first(row, shown) for row in found.rows}, axes, {})
    able = tuple(row for row in found.rows if row.replicas is not None)
    return ServingView(
        found=found,
        verdict=tuple(_verdict(found, able, names)),
        axes=axes,
        rows=able,
        names=names,
        below=tuple(_below(found, names)),
    )


def _first(row: Served, shown: Mapping[str, str]) -> str:
    """A configuration by the first of its experiments, and how many more it has: it has no name that a user knows."""
    more = len(row.experiments) - 1
    return shown[row.experiments[0]] + (f" +{more}" if more else "")


def _varied(rows: Sequence[Served]) -> tuple[str, ...]:
    paths = dict.fromkeys(path for row in rows for path in row.values)
    return tuple(path for path in paths if len({repr(row.values.get(path)) for row in rows}) > 1)


def _verdict(found: Serving, able: Sequence[Served], names: Names) -> Iterator[str]:
    load = f"a load of {found.demand.text}"
    if not able:
        yield f"No configuration serves {load} within the limits" if found.limits else f"No configuration serves {load}"
        return
    first = able[0]
    gpus = f" on {_counted(first.gpus, 'GPU')}" if first.gpus else ""
    told_of = ", ".join(f"{path} {setting(first.values[path])}" for path in names.axes if path in first.values)
    yield f"For {load}: {_counted(first.replicas or 0, 'replica')} of {names.short[first.id]}{gpus}" + (
        f": {told_of}" if told_of else ""
    )
    yield f"  capacity of one: {_capacity(first)}{_ended(first)}"
    for words, one, unit in _daily(first):
        yield f"  {words}: {interval_text(one, unit)}" + (f" ({first.basis})" if unit == "kWh" and first.basis else "")
    if first.cheapest is not None and len(able) > 1:
        yield f"  {probability(first.cheapest)} that it costs the least of those that can serve the load"
    yield from (f"  {note}" for note in first.notes)


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _capacity(one: Served) -> str:
    least = "at least " if one.at_least >= AT_LEAST else ""
    return f"{least}{interval_text(one.capacity, 'request/s')}"


def _ended(one: Served) -> str:
    return f"; what ends it: {one.blocked_by}" if one.blocked_by and one.at_least < AT_LEAST else ""


def _daily(one: Served) -> Iterator[tuple[str, Estimated, str]]:
    parts = (
        ("energy a day", one.kwh_a_day, "kWh"),
        ("money a day", one.money_a_day, one.currency),
        ("emissions a day", one.gco2e_a_day, "gCO2e"),
    )
    yield from ((words, value, unit) for words, value, unit in parts if value is not None)


def _below(found: Serving, names: Names) -> Iterator[str]:
    for row in found.rows:
        if row.replicas is None:
            yield f"{names.short[row.id]} cannot serve it: {row.lacking.get('replicas', row.blocked_by)}"
    yield from _lacking(found.rows, names)
    for one in (*found.break_evens, *found.by_length):
        both = " or ".join(names.short.get(name, name) for name in (one.a, one.b))
        yield f"{both}, {QUANTITIES[one.quantity]}: {_named(one.words, names)}"
    reasons: dict[str, list[str]] = {}
    for name, why in found.excluded.items():
        reasons.setdefault(why, []).append(name)
    for why, ids in reasons.items():
        yield f"not used, {len(ids):,}: {why} ({listed(names, ids, 3)})"
    yield from (_named(note, names) for note in found.notes)


def _named(text: str, names: Names) -> str:
    """A sentence with ids in their short form."""
    for name, short in names.short.items():
        text = text.replace(name, short)
    return text


def _lacking(rows: Sequence[Served], names: Names) -> Iterator[str]:
    """Why figures are missing, each reason once."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for field, why in row.lacking.items():
            if field != "replicas" and why != NO_PRICES:  # then nobody asked for it
                reasons.setdefault((field, why), []).append(row.id)
    for (field, why), ids in reasons.items():
        yield f"no {QUANTITIES.get(field, 'emissions a day')}: {why} ({listed(names, ids, 3)})"


# cells and JSON


def serving_headings(view: ServingView) -> list[str]:
    """Of the figures, without id and axes; of an amount that no row has, none."""
    bases = {row.basis for row in view.rows if row.basis is not None}
    of = f" ({bases.pop()})" if len(bases) == 1 else ""
    currency = next((row.currency for row in view.rows if row.money_a_day is not None), "")
    return [
        "request/s of one",
        "replicas",
        "GPUs",
        *([f"kWh/day{of}"] if any(row.kwh_a_day for row in view.rows) else []),
        *([f"{currency}/day"] if currency else []),
        *(["gCO2e/day"] if any(row.gco2e_a_day for row in view.rows) else []),
        *(["P(cheapest)"] if any(row.cheapest is not None for row in view.rows) else []),
    ]


def serving_cells(view: ServingView, row: Served) -> Iterator[str]:
    """The figures of a row, one for each heading."""
    yield ("≥ " if row.at_least >= AT_LEAST else "") + estimated(row.capacity, "")
    median = row.replicas_median
    yield f"{row.replicas:,}" + (f" ({median:,} with 50 %)" if median not in (None, row.replicas) else "")
    yield "–" if row.gpus is None else f"{row.gpus:,}"
    for name in ("kwh_a_day", "money_a_day", "gco2e_a_day"):
        if any(getattr(one, name) for one in view.rows):
            one = getattr(row, name)
            yield "–" if one is None else estimated(one, "")
    if any(one.cheapest is not None for one in view.rows):
        yield "–" if row.cheapest is None else told(row.cheapest)
