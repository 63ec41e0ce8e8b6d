"""`llem show`: what a result folder holds."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from llem.analysis.overview import Overview
    from llem.store.models import Result
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
@click.option("--metric", "metrics", multiple=True, metavar="NAME", help="With --by or --quality: show this metric.")
@click.option("--pairs", is_flag=True, help="With --by: show each pair of experiments.")
@click.option("--time", "spent", is_flag=True, help="Show where the wall clock of the study, or of EXPERIMENT, went.")
@click.option("--all", "everything", is_flag=True, help="Show one line for each experiment, however many there are.")
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
    as_json: bool,
) -> None:
    """Print the result of EXPERIMENT. Without EXPERIMENT, print a table if DIR holds several results.

    The beginning of an id is enough for EXPERIMENT. If an experiment has not ended, llem computes its result from the
    trials in DIR. For more than 200 experiments llem prints a summary, or the whole table with --all.
    """
    from llem.store.store import Store

    if axis is None and (pairs or (not quality and (reference is not None or metrics))):
        belongs = "--pairs belongs to --by AXIS, and --reference and --metric to --by AXIS or --quality"
        raise click.UsageError(belongs)
    if (axis is not None or quality) and experiment is not None:
        raise click.UsageError(f"{'--quality' if quality else '--by'} looks at all experiments; leave EXPERIMENT out")
    if axis is not None and spent:
        raise click.UsageError("--time has no axes; leave --by out")
    if quality and (axis is not None or spent):
        raise click.UsageError("--quality is a table of its own; leave --by and --time out")
    store = Store.open(folder)
    if spent:
        _time(store, None if experiment is None else store.find(experiment), as_json=as_json)
        return
    if quality:
        _quality(store, metrics, reference, as_json=as_json)
        return
    if axis is not None:
        _by_axis(store, axis, metrics, reference, pairs=pairs, as_json=as_json)
        return
    names = (store.find(experiment),) if experiment else store.experiment_ids()
    if as_json:
        _json(_results(store, names), single=experiment is not None or len(names) == 1)
        return
    _print(store, names, everything=everything)
    if store.busy():
        click.echo("note: `llem run` works in this folder; an experiment shown as `interrupted` may still be running")


#: With more experiments than this, `llem show` prints a summary unless `--all` is given.
MANY = 200


def _print(store: Store, names: Sequence[str], *, everything: bool) -> None:
    """One experiment at length, several as a table, very many as a summary."""
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
        [result] = _results(store, names)
        render_result(result)
        return
    study = store.study()
    if len(names) > MANY and not everything:
        listed = list(_overviews(store, names, metrics_shown("effects")))
        render_summary(summary_view(listed, study, partial(workers_of, store)))
        for note in study_notes(store):
            click.echo(note)
        return
    known = {name: number for number, name in enumerate(study.get("experiments", ()))}  # the order they ran in
    ordered = sorted(names, key=lambda name: known.get(name, len(known)))
    rows = _overviews(store, ordered, metrics_shown("study", "curve"))
    render_study(study_view(rows, study, study_notes(store)))


def _overviews(store: Store, names: Sequence[str], metrics: Collection[str]) -> Iterator[Overview]:
    """Overviews of stored results; results of experiments that have not ended are computed."""
    from llem.analysis.overview import overview_of, overviews
    from llem.metrics.result import recompute

    ended = set(store.result_ids())
    for name in names:
        if name in ended:
            yield from overviews(store, [name], metrics)
        else:
            yield overview_of(recompute(store, name), metrics)


def _results(store: Store, names: Sequence[str]) -> Iterator[Result]:
    from llem.metrics.result import recompute

    return (store.read_result(name) or recompute(store, name) for name in names)


def _json(results: Iterator[Result], *, single: bool) -> None:
    """Print one document, or a list, one by one: only one of ten thousand results is in memory."""
    from textwrap import indent

    from llem.store.files import dump, to_text

    if single:
        [result] = results
        click.echo(to_text(dump(result)), nl=False)
        return
    before = "[\n"
    for result in results:
        click.echo(before + indent(to_text(dump(result)).removesuffix("\n"), "  "), nl=False)
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
    store: Store, axis: str, metrics: tuple[str, ...], reference: str | None, *, pairs: bool, as_json: bool
) -> None:
    from llem.analysis.collection import Results
    from llem.analysis.ranking import only_fakes
    from llem.metrics.catalogue import lower_is_better
    from llem.reports.ratio_tables import render_ratios
    from llem.reports.ratios import FAKE, ratio_tables

    for metric in metrics:
        lower_is_better(metric)  # refuses a metric without a better direction
    results = Results.open(store)
    ask = results.by_pair if pairs else results.by_axis
    found = ask(axis, metrics or None, reference)
    if as_json:
        import attrs

        from llem.store.files import to_text

        click.echo(to_text([attrs.asdict(one) for one in found]), nl=False)
    elif not found:
        click.echo(f"nothing to compare: no two values of {axis} have valid results with these metrics")
    else:
        render_ratios(ratio_tables(found))
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
