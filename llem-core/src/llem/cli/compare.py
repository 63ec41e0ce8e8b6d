"""`llem compare`: two experiments of a folder against each other."""

from __future__ import annotations

import click

__all__ = ["compare"]


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path())
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--metric", "metrics", multiple=True, metavar="NAME", help="Compare this metric.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparisons alone as JSON.")
def compare(folder: str, a: str, b: str, metrics: tuple[str, ...], as_json: bool) -> None:
    """Say how experiment B differs from A, metric by metric, and how probable it is that B is better.

    `llem show DIR` lists the ids; the beginning of an id is enough. If the trials took turns in one engine process,
    llem compares them pair by pair, otherwise by the means of engine processes. One metric is tested: energy per output
    token, or output tokens per second where there is no energy. For the others, Holm's method corrects the p-values.
    """
    from llem.analysis.collection import Results
    from llem.analysis.overview import overview_of
    from llem.metrics.catalogue import lower_is_better
    from llem.metrics.result import recompute
    from llem.reports.ratios import comparison_view
    from llem.store.store import Store

    for metric in metrics:
        lower_is_better(metric)  # refuses a metric without a better direction
    store = Store.open(folder)
    names = store.find(a), store.find(b)
    if names[0] == names[1]:
        raise click.UsageError(f"A and B are the same experiment, {names[0]}; `llem show {folder}` lists all")
    first, second = (overview_of(store.read_result(name) or recompute(store, name)) for name in names)
    view = comparison_view(first, second, Results.open(store).compare(*names, metrics or None))
    for warning in view.warnings:
        click.echo(f"warning: {warning}", err=True)
    if as_json:
        import attrs

        from llem.store.files import to_text

        click.echo(to_text([attrs.asdict(one) for one in view.rows]), nl=False)
        return
    from llem.reports.ratio_tables import render_comparison

    render_comparison(view)
