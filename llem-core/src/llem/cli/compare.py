"""`llem compare`: two experiments of a folder against each other."""

from __future__ import annotations

import click

__all__ = ["compare"]


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path())
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--json", "as_json", is_flag=True, help="Print the comparisons alone as JSON.")
def compare(folder: str, a: str, b: str, as_json: bool) -> None:
    """Say how experiment B differs from A, metric by metric, and how probable it is that B is better.

    `llem show DIR` lists the ids; the beginning of an id is enough. If the trials took turns, llem compares them pair
    by pair, otherwise as independent samples. Holm's method corrects the p-values for the number of metrics.
    """
    from llem.analysis.compare import compare as compared
    from llem.analysis.compare import side_of
    from llem.analysis.overview import overview_of
    from llem.metrics.metric import Measured
    from llem.metrics.result import recompute
    from llem.reports.ratios import comparison_view
    from llem.store.store import Store

    store = Store.open(folder)
    names = store.find(a), store.find(b)
    if names[0] == names[1]:
        raise click.UsageError(f"A and B are the same experiment, {names[0]}; `llem show {folder}` lists all")
    first, second = (overview_of(store.read_result(name) or recompute(store, name)) for name in names)
    side_a, side_b = (side_of(Measured.read(store, name)) for name in names)
    view = comparison_view(first, second, compared(side_a, side_b))
    for warning in view.warnings:
        click.echo(f"warning: {warning}", err=True)
    if as_json:
        import attrs

        from llem.store.files import to_text

        click.echo(to_text([attrs.asdict(one) for one in view.rows]), nl=False)
        return
    from llem.reports.tables import render_comparison

    render_comparison(view)
