"""What `llem show` prints of one experiment, of several as a table, and of very many as a summary."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from llem.cli.prices import with_inputs
from llem.cli.terminal import echo

if TYPE_CHECKING:
    from llem.analysis.prices import Prices
    from llem.store.store import Store

__all__ = ["Asked", "print_all", "print_one", "print_plot"]


class Asked(NamedTuple):
    """What is asked of the table of all experiments."""

    wheres: tuple[str, ...]
    sort: str | None
    top: int | None
    columns: str | None
    everything: bool

    @property
    def selects(self) -> bool:
        """Whether some of the experiments are asked for, or another order."""
        return bool(self.wheres or self.sort or self.top)


#: With more experiments than this, `llem show` prints a summary unless `--all` is given.
MANY = 200


def print_one(store: Store, name: str, prices: Prices | None, *, as_json: bool) -> None:
    """One experiment at length."""
    from llem.analysis.collection import Results
    from llem.analysis.prices import gpus_in
    from llem.reports.console import render_result

    if as_json:
        _json(store, [name], prices, single=True)
        return
    [result] = Results(store, [name], prices=prices).values()
    render_result(result, prices=prices, gpus=None if prices is None else gpus_in(store, name))


def print_plot(store: Store, name: str | None, metrics: Sequence[str], prices: Prices | None) -> None:
    """The power of one experiment, or several in two metrics."""
    from llem.analysis.collection import Results
    from llem.analysis.recommend import metric_named
    from llem.cli.terminal import tell_damaged
    from llem.reports.plot import render_trade_off
    from llem.reports.power import render_power
    from llem.reports.tradeoff import drawn_of

    if metrics and (name is not None or len(metrics) != 2 or metrics[0] == metrics[1]):
        raise click.UsageError("--plot takes two metrics, `--metric X --metric Y`; of one EXPERIMENT it takes none")
    names = store.experiment_ids() if name is None else [name]
    if len(names) == 1 and not metrics:
        render_power(store, names[0])
        return
    results = Results.open(store, prices)
    asked = (metric_named(metrics[0]), metric_named(metrics[1])) if metrics else None
    render_trade_off(drawn_of(results, asked))
    tell_damaged(results)


def print_all(store: Store, asked: Asked, prices: Prices | None, *, as_json: bool) -> None:
    """Several experiments as a table, very many as a summary; the only one of a folder at length."""
    from llem.reports.notes import began_note

    study, names = store.study(), store.experiment_ids()
    if len(names) == 1 and not (asked.selects or asked.columns):
        print_one(store, names[0], prices, as_json=as_json)
    elif not names and not as_json:
        echo(f"{store.path} holds no experiment yet")
    else:
        _several(store, study, names, asked, prices, as_json=as_json)
    if as_json:
        return
    if len(names) < 2:
        for note in began_note(store, study, names):
            echo(note)
    if store.busy():
        echo("note: `llem run` works in this folder; an experiment shown as `interrupted` may still be running")


def _several(
    store: Store, study: dict[str, Any], names: Sequence[str], asked: Asked, prices: Prices | None, *, as_json: bool
) -> None:
    from llem.analysis.collection import Results
    from llem.analysis.sides import workers_of
    from llem.cli.terminal import tell_damaged
    from llem.reports.notes import began_note, study_notes
    from llem.reports.ratio_tables import render_summary
    from llem.reports.ratios import summary_view
    from llem.reports.tables import render_study
    from llem.reports.views import metrics_shown, study_view

    known = {name: number for number, name in enumerate(study.get("experiments", ()))}  # the order they ran in
    ordered = sorted(names, key=lambda name: known.get(name, len(known)))
    results = Results(store, names if as_json and not asked.selects else ordered, prices=prices, study=study)
    shown, chosen = metrics_shown("study", "curve", "commands", prices=prices), None
    if asked.columns is not None:
        from llem.analysis.selection import metrics_named

        chosen = [results.metric_of(name) for name in metrics_named(asked.columns)]
        shown = [*shown, *(metric.name for metric in chosen)]
    notes = [*study_notes(store), *began_note(store, study, names)]
    if asked.selects:
        from llem.analysis.selection import Selection, conditions

        selection = Selection(conditions(asked.wheres), asked.sort, asked.top)
        rows = selection.of(results, shown)
        notes = [*selection.notes(len(rows), len(names)), *notes]
    elif as_json:
        _json(store, names, prices, single=len(names) == 1)
        return
    elif len(names) > MANY and not asked.everything:
        listed = list(results.overviews(metrics_shown("effects", prices=prices)))
        render_summary(summary_view(listed, study, partial(workers_of, store), prices))
        for note in notes:
            echo(note)
        tell_damaged(results)
        return
    else:
        rows = list(results.overviews(shown))
    if as_json:
        _json(store, [row.id for row in rows], prices, single=False)
    elif not rows:
        echo("\n".join(notes))
    else:
        render_study(study_view(rows, study, notes, prices, chosen))
    tell_damaged(results)


def _json(store: Store, names: Sequence[str], prices: Prices | None, *, single: bool) -> None:
    """Print one document, or a list, one by one: only one of ten thousand results is in memory."""
    from llem.analysis.collection import Results
    from llem.analysis.prices import gpus_in
    from llem.cli.terminal import tell_damaged
    from llem.store.convert import dump
    from llem.store.files import to_text

    results, indent = Results(store, names, prices=prices), "" if single else "  "

    def text_of(name: str) -> list[str]:
        gpus = None if prices is None else gpus_in(store, name)
        return [to_text(with_inputs(dump(results[name]), prices, gpus), indent)]

    texts = results.each(text_of)
    if single:
        echo(next(texts), nl=False)
        return
    before = "[\n  "
    for text in texts:
        echo(before + text.removesuffix("\n"), nl=False)
        before = ",\n  "
    echo("[]" if before == "[\n  " else "\n]")
    tell_damaged(results)
