"""`llem export`: the results of a folder for other programs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from llem.cli.prices import price_options

if TYPE_CHECKING:
    from llem.analysis.prices import Prices

__all__ = ["export"]


@click.command(epilog="Example: llem export out/ -o results.csv")
@click.argument("folder", metavar="DIR", type=click.Path())
@click.option(
    "--format",
    "asked",
    type=click.Choice(["csv", "jsonl", "parquet", "hf", "eee", "leaderboard"]),
    help="What to write.  [default: by the ending of FILE; CSV to standard output]",
)
@click.option("--all", "everything", is_flag=True, help="Also write columns that are empty for all experiments.")
@click.option(
    "--organisation",
    metavar="NAME",
    default="unknown",
    show_default=True,
    help="With --format eee: who publishes the records.",
)
@price_options
@click.option(
    "-o", "--out", type=click.Path(), metavar="FILE", help="File or folder to write.  [default: standard output]"
)
def export(
    folder: str, asked: str | None, everything: bool, organisation: str, out: str | None, prices: Prices | None
) -> None:
    """Write the results of DIR for other programs.

    A table (.csv, .jsonl, .parquet) has one row for each experiment. Columns: id, the axes, outcome, trials, valid,
    publishable, findings (codes), error, backend, model, dtype, and for each metric its value, low and high (the 95 %
    interval), n, processes (engine processes), covers (what the interval covers) and reason. Energies also have scope
    and kind (measured or modelled). A value that was not measured is empty (null in JSON). Columns that are empty for
    all experiments are left out; with --all every study has the same columns. With prices, there are also metrics of
    cost and carbon, and the inputs in columns that begin with prices_. Parquet needs polars.

    --format hf writes a folder that is a data set of Hugging Face, with its card; --format eee a folder of Every Eval
    Ever records; --format leaderboard one JSON file with ranks.
    """
    from llem.analysis.collection import Results
    from llem.cli.terminal import tell_damaged
    from llem.foreign.shown import visible
    from llem.reports.export import FOLDERS, format_of, text_of
    from llem.reports.export import export as write_export
    from llem.store.store import Store

    kind = format_of(out, asked)
    if out is None and kind == "parquet":
        raise click.UsageError("parquet cannot go to standard output; name a file with -o")
    if out is None and kind in FOLDERS:
        raise click.UsageError(f"{kind} is a folder; name one with -o")
    if prices is not None and kind in (*FOLDERS, "leaderboard"):
        raise click.UsageError(f"{kind} has no cost and no carbon, whose inputs are yours alone; leave the prices out")
    results = Results.open(Store.open(folder), prices)
    if out is not None:
        notes = write_export(results, out, kind, everything=everything, organisation=organisation)
    else:
        lines, notes = text_of(results, kind, everything=everything)
        terminal = sys.stdout.isatty()
        for line in lines:
            click.echo(visible(line) if terminal else line, nl=False)  # a file gets every character
    for note in notes:
        click.echo(visible(f"note: {note}"), err=True)
    tell_damaged(results)
