"""`llem pareto`: the configurations of a folder that no other one beats in two metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from llem.cli.prices import price_options, with_inputs
from llem.cli.terminal import echo

if TYPE_CHECKING:
    from llem.analysis.prices import Prices

__all__ = ["pareto"]


@click.command(epilog="Example: llem pareto out/ energy ttft_p99_s")
@click.argument("folder", metavar="DIR", type=click.Path())
@click.argument("x", metavar="X")
@click.argument("y", metavar="Y")
@price_options
@click.option("--top", type=click.IntRange(min=1), default=20, show_default=True, help="So many rows of the table.")
@click.option("--json", "as_json", is_flag=True, help="Print the configurations alone, as JSON.")
def pareto(folder: str, x: str, y: str, top: int, as_json: bool, prices: Prices | None) -> None:
    """List the configurations of DIR that no other one dominates in the metrics X and Y, the best X first.

    One dominates another if it is better in both metrics. llem leaves out what another one dominates with a probability
    of 0.95 or more, and says of every other one how probably it is dominated, and by which. X and Y are names of
    metrics, or the short words of `llem recommend`: energy, energy_per_request, cost, carbon, latency, speed.
    """
    from llem.analysis.collection import Results
    from llem.analysis.recommend import metric_named
    from llem.cli.terminal import tell_damaged
    from llem.reports.front import front_document, front_view
    from llem.store.store import Store

    metrics = metric_named(x), metric_named(y)
    if metrics[0] == metrics[1]:
        raise click.UsageError(f"X and Y are the same metric, {metrics[0]}")
    results = Results.open(Store.open(folder), prices)
    view = front_view(results.pareto(*metrics), *metrics, count=len(results))
    tell_damaged(results)
    if as_json:
        from llem.store.files import to_text

        echo(to_text(with_inputs(front_document(view), prices)), nl=False)
        return
    from llem.reports.decision_tables import render_front

    render_front(view, top)
