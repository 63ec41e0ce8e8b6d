"""Views of quality as plain data: a table for each score, with the energy of each configuration beside it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from llem.analysis.binary import POWER
from llem.analysis.contrast import PAIRED, PAIRED_BINARY, UNPAIRED, Contrast
from llem.analysis.overview import Overview, basis_of
from llem.analysis.quality_difference import ROUNDING, QualityDifference
from llem.metrics.metric import Basis
from llem.metrics.quality import SCORE
from llem.reports.configurations import configuration, varied
from llem.reports.figures import number, setting, two
from llem.store.models import Quantity

__all__ = [
    "QualityColumn",
    "QualityRow",
    "QualityTable",
    "difference_text",
    "energies_of",
    "energy_metrics",
    "quality_notes",
    "quality_tables",
    "ratio_text",
]

#: Energies beside a score: the metric (of a task: its beginning), and the heading.
HEADLINE = ("energy_per_output_token_j", "J/output token")
OF_TASK = (("energy_per_right_answer_j", "J/right answer"), ("quality_per_joule", "Σ score/J"))
#: So many values of an axis are listed where experiments share a row.
LISTED = 4


@attrs.frozen
class QualityColumn:
    """An energy beside the scores. `basis`: what all its values cover; None for none, or where they differ."""

    metric: str
    heading: str
    basis: Basis | None


@attrs.frozen
class QualityRow:
    """The experiments that share an evaluation.

    Attributes:
        values: what they set, in words, by axis; values that differ among them side by side.
        energies: by metric, those that have a value.
    """

    found: QualityDifference
    values: Mapping[str, str]
    energies: Mapping[str, tuple[Quantity, ...]]


@attrs.frozen
class QualityTable:
    """One score of all configurations.

    Attributes:
        axes: paths that vary; where no study says so, one column of configurations in words, named "".
        notes: what the figures are of, what was not compared and why, and which loss would not have been seen.
    """

    metric: str
    score: str
    axes: tuple[str, ...]
    columns: tuple[QualityColumn, ...]
    rows: tuple[QualityRow, ...]
    notes: tuple[str, ...]


def energy_metrics(found: Iterable[QualityDifference]) -> list[str]:
    """Names of the metrics that stand beside these scores."""
    tasks = dict.fromkeys(_task(row) for row in found)
    return [HEADLINE[0], *(f"{name}.{task}" for task in tasks for name, _ in OF_TASK)]


def _task(row: QualityDifference) -> str:
    return row.metric.removeprefix(SCORE)


def energies_of(one: QualityDifference, rows: Mapping[str, Overview]) -> dict[str, dict[str, Any]]:
    """The energies beside a score, as JSON values: by experiment and metric, those that have a value."""
    names = energy_metrics([one])
    return {
        name: {
            metric: attrs.asdict(found)
            for metric in names
            if (found := rows[name].metrics.get(metric)) is not None and found.value is not None
        }
        for name in one.experiments
        if name in rows
    }


def quality_tables(
    found: Sequence[QualityDifference],
    rows: Mapping[str, Overview],
    study: Mapping[str, Any],
    missing: Mapping[str, Sequence[str]] | None = None,
) -> list[QualityTable]:
    """A table for each score.

    Args:
        rows: overviews with the metrics of `energy_metrics`, by id, of those whose results can be read.
        study: study.json.
        missing: by metric, experiments that ask for the score and have none.
    """
    groups: dict[str, list[QualityDifference]] = {}
    for one in found:
        groups.setdefault(one.metric, []).append(one)
    tables = [_table(group, rows, study) for group in groups.values()]
    return [
        attrs.evolve(table, notes=(*table.notes, f"not scored yet: {', '.join(name[:8] for name in lacking)}"))
        if (lacking := (missing or {}).get(table.metric))
        else table
        for table in tables
    ]


def _table(found: Sequence[QualityDifference], rows: Mapping[str, Overview], study: Mapping[str, Any]) -> QualityTable:
    axes = varied(study, [name for one in found for name in one.experiments])
    points = study.get("points", {})
    metrics = {f"{name}.{_task(found[0])}": heading for name, heading in OF_TASK}
    made = [
        QualityRow(
            one,
            _values(one, axes, rows, {name: points.get(name, {}).get("values", {}) for name in one.experiments}),
            {name: _energies(one, name, rows) for name in (HEADLINE[0], *metrics)},
        )
        for one in found
    ]
    columns = tuple(_columns({HEADLINE[0]: HEADLINE[1], **metrics}, made))
    random = any(
        "quality_random_weights" in rows[name].codes for one in found for name in one.experiments if name in rows
    )
    notes = [*quality_notes(found), *_energy_notes(made, columns)]
    notes += ["weights are random: these scores say nothing about any model"] if random else []
    return QualityTable(found[0].metric, found[0].score, tuple(axes) or ("",), columns, tuple(made), tuple(notes))


def _values(
    one: QualityDifference, axes: Sequence[str], rows: Mapping[str, Overview], points: Mapping[str, Mapping[str, Any]]
) -> dict[str, str]:
    if not axes:
        known = next((rows[name] for name in one.experiments if name in rows), None)
        return {"": one.experiments[0] if known is None else configuration(known, load=len(one.experiments) == 1)}
    told = {axis: dict.fromkeys(setting(point[axis]) for point in points.values() if axis in point) for axis in axes}
    return {axis: _listed(list(values)) for axis, values in told.items()}


def _listed(values: Sequence[str]) -> str:
    return ", ".join(values if len(values) <= LISTED else (*values[: LISTED - 2], "…", values[-1]))


def _energies(one: QualityDifference, metric: str, rows: Mapping[str, Overview]) -> tuple[Quantity, ...]:
    quantities = (rows[name].metrics.get(metric) for name in one.experiments if name in rows)
    known = [quantity for quantity in quantities if quantity is not None and quantity.value is not None]
    return tuple(known) if metric == HEADLINE[0] else tuple(known[:1])  # the task's is one, of one evaluation


def _columns(headings: Mapping[str, str], rows: Sequence[QualityRow]) -> Iterator[QualityColumn]:
    """The headline, and of the task the first that some row has: they say the same in two ways."""
    made = []
    for metric, heading in headings.items():
        quantities = [quantity for row in rows for quantity in row.energies[metric]]
        bases = {basis_of(quantity) for quantity in quantities}
        if quantities:
            made.append(QualityColumn(metric, heading, bases.pop() if len(bases) == 1 else None))
    yield from (one for one in made if one.metric == HEADLINE[0])
    yield from [one for one in made if one.metric != HEADLINE[0]][:1]


def _energy_notes(rows: Sequence[QualityRow], columns: Sequence[QualityColumn]) -> Iterator[str]:
    for column in columns:
        if column.metric != HEADLINE[0]:
            yield (
                f"{column.heading}: of the evaluation and its own batches, not of the measured load; made once, "
                "without warm-up, so nothing says how sure it is"
            )
    for column in columns:
        bases = {basis_of(one): "" for row in rows for one in row.energies[column.metric]}
        if len(bases) > 1:
            told = ", ".join(str(basis) for basis in bases if basis is not None)
            yield f"{column.heading}: energies differ in what they cover ({told}) and are not to be compared"


# in words


def quality_notes(found: Sequence[QualityDifference]) -> Iterator[str]:
    """What the figures of one score are of."""
    compared = [(one, one.difference) for one in found if one.difference is not None]
    if compared:
        yield f"differences are to {compared[0][0].reference}; p is corrected for their number (Holm)"
        yield from _methods([difference for _, difference in compared])
    yield from _reasons(found)
    if rounding := [one.experiments[0][:8] for one in found if one.is_rounding]:
        yield f"{', '.join(rounding)}: differs by less than {ROUNDING:.2%}, as rounding alone makes it"
    yield (
        "±: 95 % interval over the items; another engine process, seeds of sampled answers and numerics that depend on "
        "the batch are not in it"
    )
    yield from _losses(found)


def _reasons(found: Iterable[QualityDifference]) -> Iterator[str]:
    """What is particular to some configurations, each said once."""
    told: dict[str, list[str]] = {}
    for one in found:
        difference, name = one.difference, one.experiments[0][:8]
        if difference is not None and difference.why:
            told.setdefault(f"{'unpaired: ' if difference.method == UNPAIRED else ''}{difference.why}", []).append(name)
        if one.why:
            told.setdefault(f"{'' if difference else 'not compared: '}{one.why}", []).append(name)
    for why, names in told.items():
        yield f"{', '.join(names)}: {why}"


def _methods(found: Sequence[Contrast]) -> Iterator[str]:
    methods = {(one.method, one.clusters < one.n) for one in found}
    if (PAIRED_BINARY, False) in methods:
        yield (
            "paired item by item: McNemar's exact test and Tango's interval, by the items lost and gained; they are "
            "two methods, and only p is corrected: an interval may leave out 0 where p is above 0.05"
        )
    if (PAIRED_BINARY, True) in methods:
        yield "paired item by item and clustered: McNemar's test and Tango's interval, with the clusters' design effect"
    if (PAIRED, False) in methods or (PAIRED, True) in methods:
        yield "paired item by item: Student's t over items, or over their clusters where they have some"


def _losses(found: Sequence[QualityDifference]) -> Iterator[str]:
    """Which loss would not have been seen."""
    compared = [one.difference for one in found if one.difference is not None]
    known = sorted(one.smallest_loss for one in compared if one.smallest_loss is not None)
    if known:
        ends = two(known[0]) if two(known[0]) == two(known[-1]) else f"{two(known[0])} to {two(known[-1])}"
        yield (
            f"smallest loss: found with {POWER * 100:g} % power at the 5 % level, before the correction; "
            f"a loss below it ({ends}) may be there unseen"
        )
    if any(one.smallest_loss is None and one.low is not None for one in compared):
        yield "smallest loss –: with so few items no loss would be found with that power"


def difference_text(found: Contrast) -> str:
    """The difference with its interval."""
    text = _with_interval(found.value, found.low, found.high)
    return f"+{text}" if found.value > 0 else text


def ratio_text(found: Contrast) -> str:
    """The ratio with its interval; "–" of a score that has none."""
    return "–" if found.ratio is None else _with_interval(found.ratio, found.ratio_low, found.ratio_high)


def _with_interval(value: float, low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return number(value)
    half = (high - low) / 2
    return f"{number(value, half)} [{number(low, half)}, {number(high, half)}]"
