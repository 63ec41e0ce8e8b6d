"""`llem compare`: two experiments of a folder against each other."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from llem.cli.prices import price_options, with_inputs
from llem.cli.terminal import echo
from llem.errors import StoreError

if TYPE_CHECKING:
    from llem.analysis.prices import Prices
    from llem.analysis.quality_difference import QualityDifference
    from llem.reports.ratios import ComparisonView
    from llem.store.store import Store

__all__ = ["compare"]

#: Errors by which two experiments have no ratios, whatever their scores.
NO_RATIOS = ("too_few_trials", "energies_differ", "nothing_to_compare")


@click.command(epilog="Example: llem compare out/ dtype=float16 dtype=bfloat16")
@click.argument("folder", metavar="DIR", type=click.Path())
@click.argument("a", metavar="A")
@click.argument("b", metavar="B", required=False)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME",
    help="Compare this metric; may be repeated.  [default: energies, power, speeds]",
)
@price_options
@click.option("--json", "as_json", is_flag=True, help="Print the comparisons alone as JSON.")
def compare(folder: str, a: str, b: str | None, metrics: tuple[str, ...], as_json: bool, prices: Prices | None) -> None:
    """Say how experiment B differs from A, metric by metric, and how probable it is that B is better.

    A and B are beginnings of ids, @3 for the third line of `llem show DIR`, or what one experiment alone sets, such as
    dtype=float16. First llem names what differs between them: settings, workload, what the engine reports, GPUs and
    software. Memory and latencies stand below, with their intervals and without a test. If the trials took turns in one
    engine process, llem compares them pair by pair, otherwise by the means of engine processes. One metric is tested:
    energy per output token, or output tokens per second where there is no energy. For the others, Holm's method
    corrects the p-values. Scores that both have are compared item by item, below; Holm's method corrects them by
    themselves. They need no trials: where there are no ratios, llem says why and prints the scores. With prices, llem
    also compares what tokens cost and emit.
    """
    from llem.analysis.collection import Results
    from llem.analysis.selection import find_one
    from llem.metrics.catalogue import PRICED, lower_is_better
    from llem.metrics.quality import is_score
    from llem.store.store import Store

    for other in filter(None, (a, b)):
        if os.path.isfile(os.path.join(other, "study.json")):
            what = f"{other} is a folder of results, and A and B are experiments of one folder"
            raise click.UsageError(f"{what}: measure both as values of an axis of one study")
    if b is None:
        raise click.UsageError(f"missing argument B; `llem show {folder}` lists the experiments")
    for metric in metrics:
        lower_is_better(metric)  # refuses a metric without a better direction
    store = Store.open(folder)
    everything = Results.open(store)
    names = find_one(everything, a), find_one(everything, b)
    if names[0] == names[1]:
        raise click.UsageError(f"A and B are the same experiment, {names[0]}; `llem show {folder}` lists all")
    scores = [metric for metric in metrics if is_score(metric)]
    others = [metric for metric in metrics if metric not in scores]
    quality = _quality(store, names, scores or None) if scores or not metrics else []
    view, why = None, ""
    if others or not scores:
        try:
            view = _view(store, names, others or None, prices)
        except StoreError as error:
            if metrics or not quality or error.code not in NO_RATIOS:
                raise
            why = f"no ratios: {error.message}" + (f" ({error.hint})" if error.hint else "")
    for warning in () if view is None else view.warnings:
        echo(f"warning: {warning}", err=True)
    if why:
        echo(why, err=as_json)
    if as_json:
        import attrs

        from llem.store.files import to_text

        compared = () if view is None else view.rows
        rows = [with_inputs(attrs.asdict(one), prices if one.metric in PRICED else None) for one in compared]
        told = [attrs.asdict(one) for one in quality if names[1] in one.experiments]
        echo(to_text([*rows, *told]), nl=False)
        return
    from llem.reports.quality_tables import render_quality_of_two
    from llem.reports.ratio_tables import render_comparison

    if view is not None:
        render_comparison(view)
    if quality and (view is not None or why):
        echo()
    if quality:
        render_quality_of_two(quality, names[1])


def _view(store: Store, names: tuple[str, str], metrics: list[str] | None, prices: Prices | None) -> ComparisonView:
    from llem.analysis.collection import Results
    from llem.analysis.differing import differing
    from llem.cli.terminal import tell_damaged
    from llem.reports.ratios import comparison_view

    results = Results.open(store, prices)
    two = Results(store, names, prices=prices)
    compared = results.compare(*names, metrics)  # first: it raises for one of the two that cannot be read
    rows = list(two.overviews())
    for damage in two.damaged.values():
        raise damage
    tell_damaged(results)
    first, second = rows
    return comparison_view(first, second, compared, prices, differing(store, *two.values()))


def _quality(store: Store, names: tuple[str, str], tasks: list[str] | None) -> list[QualityDifference]:
    """The rows of the scores that both have, A's as the reference; those of one that A or B lacks are left out."""
    from llem.analysis.quality import quality_differences

    found = quality_differences(store, names, names[0], tasks, together=True)
    both = {one.metric for one in found if names[1] in one.experiments and one.reason != "no_reference"}
    if missing := [task for task in tasks or () if task not in both]:
        what = f"A and B do not both have the score {missing[0]!r}"
        raise StoreError(what, "`llem show DIR --quality` shows who has which", "nothing_to_compare")
    return [one for one in found if one.metric in both]
