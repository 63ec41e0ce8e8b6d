"""`llem show`: what a result folder holds."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from llem.cli.listing import Asked, print_all, print_one, print_plot
from llem.cli.prices import price_options, with_inputs
from llem.cli.terminal import echo

if TYPE_CHECKING:
    from llem.analysis.collection import Results
    from llem.analysis.prices import Prices
    from llem.store.store import Store

__all__ = ["show"]


@click.command(epilog="Example: llem show out/ --where dtype=bfloat16 --sort energy --top 5")
@click.argument("folder", metavar="DIR", type=click.Path())
@click.argument("experiment", metavar="[EXPERIMENT]", required=False)
@click.option(
    "--by",
    "axis",
    metavar="AXIS",
    help="Show the effect of each value of this axis, all else equal.  [default: a table of experiments]",
)
@click.option("--quality", is_flag=True, help="Show each task's scores against a reference, item by item.")
@click.option(
    "--reference",
    metavar="VALUE",
    help="With --by: compare with this value; with --quality: with this experiment.  [default: the file's first]",
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME",
    help="With --by, --quality or --plot: show this metric; may be repeated.  [default: energy and speed; all tasks]",
)
@click.option("--pairs", is_flag=True, help="With --by: show each pair of experiments.")
@click.option(
    "--where",
    "--filter",
    "wheres",
    multiple=True,
    metavar="CONDITION",
    help="Show only experiments with dtype=bfloat16, state!=done, load.batch_size>=8, valid=true or "
    "finding=interval_wide: an axis, a setting, a metric, backend, model, state, valid, publishable or finding. "
    "Several conditions must all hold; a|b is either.",
)
@click.option("--sort", metavar="METRIC|AXIS", help="Sort the table, the best first.  [default: the study's order]")
@click.option("--top", type=click.IntRange(min=1), metavar="N", help="Show only the first N.  [default: all]")
@click.option(
    "--columns",
    metavar="METRICS",
    help="Show these metrics, such as energy,memory,ttft_p99_s.  [default: energy, speed, memory, latency]",
)
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
    wheres: tuple[str, ...],
    sort: str | None,
    top: int | None,
    columns: str | None,
    spent: bool,
    everything: bool,
    plotted: bool,
    as_json: bool,
    prices: Prices | None,
) -> None:
    """Print the results in DIR as a table, or EXPERIMENT at length.

    The beginning of an id is enough for EXPERIMENT; so is @3 for the third line of the table, or what it alone sets,
    such as dtype=float16. A folder with one experiment shows that at length. If an experiment has not ended, llem
    computes its result from the trials in DIR. For more than 200 experiments llem prints a summary, or the whole table
    with --all.

    With prices, results also have what tokens and requests cost and emit; llem prints the inputs below.
    """
    from llem.store.store import Store

    if plotted:
        others = (axis is not None, quality, pairs, spent, as_json, wheres, sort, top, columns)
        if any(others):
            raise click.UsageError(
                "--plot shows a plot alone; leave --by, --quality, --pairs, --time, --json and options of tables out"
            )
        store = Store.open(folder)
        print_plot(store, None if experiment is None else _meant(store, experiment), metrics, prices)
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
    table = {"--where": wheres, "--sort": sort, "--top": top, "--columns": columns}
    if (given := [name for name, value in table.items() if value]) and (
        experiment is not None or axis is not None or quality or spent
    ):
        raise click.UsageError(f"{given[0]} belongs to the table of all experiments, with no EXPERIMENT and no --by")
    store = Store.open(folder)
    if spent:
        _time(store, None if experiment is None else _meant(store, experiment), as_json=as_json)
        return
    if quality:
        _quality(store, metrics, reference, as_json=as_json)
        return
    if axis is not None:
        _by_axis(store, axis, metrics, reference, prices, pairs=pairs, as_json=as_json)
        return
    if experiment is not None:
        print_one(store, _meant(store, experiment), prices, as_json=as_json)
        return
    print_all(store, Asked(wheres, sort, top, columns, everything), prices, as_json=as_json)


def _meant(store: Store, text: str) -> str:
    """The id of the experiment that is meant; the beginning of an id needs no result."""
    if "=" not in text and not text.startswith("@"):
        return store.find(text)
    from llem.analysis.collection import Results
    from llem.analysis.selection import find_one

    return find_one(Results.open(store), text)


def _time(store: Store, experiment: str | None, *, as_json: bool) -> None:
    from llem.analysis.wall_clock import time_spent

    spent = time_spent(store, experiment)
    if as_json:
        import attrs

        from llem.store.files import to_text

        echo(to_text(attrs.asdict(spent)), nl=False)
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
    from llem.cli.terminal import tell_damaged
    from llem.metrics.catalogue import PRICED, lower_is_better
    from llem.reports.notes import price_note
    from llem.reports.ratio_tables import render_ratios
    from llem.reports.ratios import FAKE, ratio_tables

    for metric in metrics:
        lower_is_better(metric)  # refuses a metric without a better direction
    results = Results.open(store, prices)
    ask = results.by_pair if pairs else results.by_axis
    found = ask(axis, metrics or None, reference)
    tell_damaged(results)
    if as_json:
        import attrs

        from llem.store.files import to_text

        rows = [with_inputs(attrs.asdict(one), prices if one.metric in PRICED else None) for one in found]
        echo(to_text(rows), nl=False)
    elif not any(one.ratio is not None or one.bases for one in found):
        for line in _why_unpaired(results, axis, metrics):
            echo(line)
    else:
        render_ratios(ratio_tables(found))
        if prices is not None:
            shown = {one.metric for one in found}
            echo(price_note(prices, results.overviews(shown)))
        if only_fakes(list(results.overviews(()))):
            echo(FAKE)


def _why_unpaired(results: Results, axis: str, metrics: tuple[str, ...]) -> Iterator[str]:
    """Why there is no pair, and what to do."""
    from llem.analysis.effects import find_axis
    from llem.analysis.unpaired import why_unpaired
    from llem.metrics.catalogue import shown

    path = find_axis(list(results.study.get("axes", ())), axis)
    names = list(metrics) or [metric.name for metric in shown("effects")]
    rows = list(results.overviews(names))
    config_of = functools.cache(lambda name: results.store.read_experiment(name)["config"])
    first, *rest = why_unpaired(results.study, rows, path, names, config_of)
    yield f"nothing to compare by {path}: {first}"
    yield from (f"  {line.replace(' DIR', f' {results.store.path}')}" for line in rest)


def _quality(store: Store, metrics: tuple[str, ...], reference: str | None, *, as_json: bool) -> None:
    from llem.analysis.collection import Results
    from llem.analysis.quality import unscored
    from llem.cli.terminal import tell_damaged
    from llem.reports.quality import energies_of, energy_metrics, quality_tables
    from llem.reports.quality_tables import render_quality

    results = Results.open(store)
    found = results.quality(reference, metrics or None)
    rows = {row.id: row for row in results.overviews(energy_metrics(found))}
    if as_json:
        import attrs

        from llem.store.files import to_text

        echo(to_text([{**attrs.asdict(one), "energies": energies_of(one, rows)} for one in found]), nl=False)
    else:
        render_quality(quality_tables(found, rows, store.study(), unscored(store, results.damaged)))
    tell_damaged(results)
