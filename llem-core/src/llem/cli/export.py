"""`llem export`: the results of a folder as one table."""

from __future__ import annotations

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
    "kind",
    type=click.Choice(["csv", "jsonl", "parquet"]),
    default="csv",
    show_default=True,
    help="Kind of file.",
)
@click.option("--all", "everything", is_flag=True, help="Also write columns that are empty for all experiments.")
@price_options
@click.option("-o", "--out", type=click.Path(), help="File to write.  [default: standard output]")
def export(folder: str, kind: str, everything: bool, out: str | None, prices: Prices | None) -> None:
    """Write the results of DIR as a table with one row for each experiment.

    Columns: id, the axes, outcome, trials, valid, publishable, findings (codes), error, backend, model, dtype, and for
    each metric its value, low and high (the 95 % interval), n, processes (engine processes), covers (what the interval
    covers) and reason. Energies also have scope and kind (measured or modelled). A value that was not measured is empty
    (null in JSON). Columns that are empty for all experiments are left out; with --all every study has the same
    columns. With prices, there are also metrics of cost and carbon, and the inputs in columns that begin with prices_.
    Parquet needs polars.
    """
    from llem.analysis.collection import Results
    from llem.reports.export import csv_text, jsonl_text, parquet_bytes, write_out
    from llem.store.store import Store

    columns = Results.open(Store.open(folder), prices).columns(everything=everything)
    if kind == "parquet":
        if out is None:
            raise click.UsageError("parquet cannot go to standard output; name a file with -o")
        write_out(out, parquet_bytes(columns))
        return
    lines = csv_text(columns) if kind == "csv" else jsonl_text(columns)
    if out is None:
        for line in lines:
            click.echo(line, nl=False)
        return
    write_out(out, "".join(lines).encode())
