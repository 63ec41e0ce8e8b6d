"""`llem show`: what a result folder holds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import click

from llem.cli.prices import price_options, with_inputs

if TYPE_CHECKING:
    from llem.analysis.prices import Prices
    from llem.store.store import Store

__all__ = ["show"]


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path())
@click.argument("experiment", metavar="[EXPERIMENT]", required=False)
@click.option("--by", "axis", metavar="AXIS", help="Show the effect of each value of this axis, all else equal.")
@click.option("--quality", is_flag=True, help="Show each task's scores against a reference, item by item.")
@click.option(
    "--reference",
    metavar="VALUE",
    help="With --by: compare with this value; with --quality: with this experiment.  [default: the file's first]",
)
@click.option(
    "--metric", "metrics", multiple=True, metavar="NAME", help="With --by, --quality or --plot: show this metric."
)
@click.option("--pairs", is_flag=True, help="With --by: show each pair of experiments.")
@click.option("--time", "spent", is_flag=True, help="Show where the wall clock of the study, or of EXPERIMENT, went.")
@click.option("--all", "everything", is_flag=True, help="Show one line for each experiment, however many there are.")
@click.option(
    "--plot", "plotted", is_flag=True,
    help="Plot the configurations in two metrics (--metric NAME twice: along x, then y), or the power of EXPERIMENT.",
)  # fmt: skip
@price_options
@click.option("--json", "as_json", is_flag=True, help="Print only the Result, as JSON; for several, a list.")
def show(
    folder: str,
    experiment: str | None,
    axis: str | None,
    quality: bool,
    reference: str | None,
    metrics: tuple[str, ...],
    pairs: bool,
    spent: bool,
    everything: bool,
    plotted: bool,
    as_json: bool,
    prices: Prices | None,
) -> None:
    """Print the result of EXPERIMENT. Without EXPERIMENT, print a table if DIR holds several results.

    The beginning of an id is enough for EXPERIMENT. If an experiment has not ended, llem computes its result from the
    trials in DIR. For more than 200 experiments llem prints a summary, or the whole table with --all.

    With prices, results also have what tokens and requests cost and emit; llem prints the inputs below.
    """
    from llem.store.store import Store

    if plotted:
        _plot(folder, experiment, metrics, prices, other=axis is not None or quality or pairs or spent or as_json)
        return
    if axis is None and (pairs or (not quality and (reference is not None or metrics))):
        belongs = (
            "--pairs belongs to --by AXIS, and --reference and --metric to --by AXIS or --quality (--metric to --plot)"
        )
        raise click.UsageError(belongs)
    if (axis is not None or quality) and experiment is not None:
        raise click.UsageError(f"{'--quality' if quality else '--by'} looks at all experiments; leave EXPERIMENT out")
    if axis is not None and spent:
        raise click.UsageError("--time has no axes; leave --by out")
    if quality and (axis is not None or spent):
        raise click.UsageError("--quality is a table of its own; leave --by and --time out")
    if prices is not None and (quality or spent):
        raise click.UsageError(f"{'--quality' if quality else '--time'} shows no amounts; leave the prices out")
    store = Store.open(folder)
    if spent:
        _time(store, None if experiment is None else store.find(experiment), as_json=as_json)
        return
    if quality:
        _quality(store, metrics, reference, as_json=as_json)
        return
    if axis is not None:
        _by_axis(store, axis, metrics, reference, prices, pairs=pairs, as_json=as_json)
        return
    names = (store.find(experiment),) if experiment else store.experiment_ids()
    if as_json:
        _json(store, names, prices, single=experiment is not None or len(names) == 1)
        return
    _print(store, names, prices, everything=everything)
    if store.busy():
        click.echo("note: `llem run` works in this folder; an experiment shown as `interrupted` may still be running")


def _plot(folder: str, experiment: str | None, metrics: Sequence[str], prices: Prices | None, *, other: bool) -> None:
    """Print the power of one experiment, or several in two metrics."""
    from llem.analysis.collection import Results
    from llem.analysis.recommend import metric_named
    from llem.reports.plot import render_trade_off
    from llem.reports.power import render_power
    from llem.reports.tradeoff import drawn_of
    from llem.store.store import Store

    if other:
        raise click.UsageError("--plot shows a plot alone; leave --by, --quality, --pairs, --time and --json out")
    if metrics and (experiment is not None or len(metrics) != 2 or metrics[0] == metrics[1]):
        raise click.UsageError("--plot takes two metrics, `--metric X --metric Y`; of one EXPERIMENT it takes none")
    store = Store.open(folder)
    names = (store.find(experiment),) if experiment else store.experiment_ids()
    if len(names) == 1 and not metrics:
        render_power(store, names[0])
        return
    results = Results.open(store, prices)
    asked = (metric_named(metrics[0]), metric_named(metrics[1])) if metrics else None
    render_trade_off(drawn_of(results, asked))


#: With more experiments than this, `llem show` prints a summary unless `--all` is given.
MANY = 200


def _print(store: Store, names: Sequence[str], prices: Prices | None, *, everything: bool) -> None:
    """One experiment at length, several as a table, very many as a summary."""
    from llem.analysis.collection import Results
    from llem.analysis.prices import gpus_in
    from llem.analysis.sides import workers_of
    from llem.reports.console import render_result
    from llem.reports.notes import study_notes
    from llem.reports.ratio_tables import render_summary
    from llem.reports.ratios import summary_view
    from llem.reports.tables import render_study
    from llem.reports.views import metrics_shown, study_view

    if not names:
        click.echo(f"{store.path} holds no experiment yet")
        return
    if len(names) == 1:
        [result] = Results(store, names, prices=prices).values()
        render_result(result, prices=prices, gpus=None if prices is None else gpus_in(store, names[0]))
        return
    study = store.study()
    if len(names) > MANY and not everything:
        listed = list(Results(store, names, prices=prices).overviews(metrics_shown("effects", prices=prices)))
        render_summary(summary_view(listed, study, partial(workers_of, store), prices))
        for note in study_notes(store):
            click.echo(note)
        return
    known = {name: number for number, name in enumerate(study.get("experiments", ()))}  # the order they ran in
    ordered = sorted(names, key=lambda name: known.get(name, len(known)))
    rows = Results(store, ordered, prices=prices).overviews(metrics_shown("study", "effects", "curve", prices=prices))
    render_study(study_view(rows, study, study_notes(store), prices))


def _json(store: Store, names: Sequence[str], prices: Prices | None, *, single: bool) -> None:
    """Print one document, or a list, one by one: only one of ten thousand results is in memory."""
    from textwrap import indent

    from llem.analysis.collection import Results
    from llem.analysis.prices import gpus_in
    from llem.store.files import dump, to_text

    texts = (
        to_text(with_inputs(dump(result), prices, None if prices is None else gpus_in(store, name)))
        for name, result in Results(store, names, prices=prices).items()
    )
    if single:
        click.echo(next(texts), nl=False)
        return
    before = "[\n"
    for text in texts:
        click.echo(before + indent(text.removesuffix("\n"), "  "), nl=False)
        before = ",\n"
    click.echo("[]" if before == "[\n" else "\n]")


def _time(store: Store, experiment: str | None, *, as_json: bool) -> None:
    from llem.analysis.wall_clock import time_spent

    spent = time_spent(store, experiment)
    if as_json:
        import attrs

        from llem.store.files import to_text

        click.echo(to_text(attrs.asdict(spent)), nl=False)
    else:
        from llem.reports.tables import render_time

        render_time(spent)


def _by_axis(
    store: Store,
    axis: str,
    metrics: tuple[str, ...],
    reference: str | None,
    prices: Prices | None,
    *,
    pairs: bool,
    as_json: bool,
) -> None:
    from llem.analysis.collection import Results
    from llem.analysis.ranking import only_fakes
    from llem.metrics.catalogue import PRICED, lower_is_better
    from llem.reports.notes import price_note
    from llem.reports.ratio_tables import render_ratios
    from llem.reports.ratios import FAKE, ratio_tables

    for metric in metrics:
        lower_is_better(metric)  # refuses a metric without a better direction
    results = Results.open(store, prices)
    ask = results.by_pair if pairs else results.by_axis
    found = ask(axis, metrics or None, reference)
    if as_json:
        import attrs

        from llem.store.files import to_text

        rows = [with_inputs(attrs.asdict(one), prices if one.metric in PRICED else None) for one in found]
        click.echo(to_text(rows), nl=False)
    elif not found:
        click.echo(f"nothing to compare: no two values of {axis} have valid results with these metrics")
    else:
        render_ratios(ratio_tables(found))
        if prices is not None:
            shown = {one.metric for one in found}
            click.echo(price_note(prices, results.overviews(shown)))
        if only_fakes(list(results.overviews(()))):
            click.echo(FAKE)


def _quality(store: Store, metrics: tuple[str, ...], reference: str | None, *, as_json: bool) -> None:
    from llem.analysis.collection import Results
    from llem.analysis.quality import unscored
    from llem.reports.quality import energies_of, energy_metrics, quality_tables
    from llem.reports.quality_tables import render_quality

    results = Results.open(store)
    found = results.quality(reference, metrics or None)
    rows = {row.id: row for row in results.overviews(energy_metrics(found))}
    if as_json:
        import attrs

        from llem.store.files import to_text

        click.echo(to_text([{**attrs.asdict(one), "energies": energies_of(one, rows)} for one in found]), nl=False)
        return
    render_quality(quality_tables(found, rows, store.study(), unscored(store)))
